"""What a call has cost, or that it cost nothing: the way out of what was held for it."""

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from chat import pricing
from chat.budgets import periods_with
from chat.models import BudgetPeriod, LedgerEntry, UsageRecord, User
from chat.pricing import Terms, Usage
from chat.spend.entries import entries


@transaction.atomic
def settle(record: UsageRecord, used: Usage, *, exact: bool, cost: int | None = None, **facts) -> bool:
    """Charge what a call cost and release its hold. False if that had been done before: then nothing happens.

    An estimated cost never exceeds the hold. `facts` are further columns of the record (stop_reason, …).
    """
    cost = _cost(record, used, exact, cost)
    return _close(record, UsageRecord.State.SETTLED, cost, {"cost": cost, **_columns(used, exact=exact), **facts})


@transaction.atomic
def settle_again(record: UsageRecord, used: Usage, *, exact: bool, cost: int | None = None, **facts) -> bool:
    """Correct an estimate of the sweeper's by what the call's own worker knows, who has come back. As `settle`.

    False if that is not better: if somebody has corrected it, or if it is another estimate and a lower one.
    """
    row = UsageRecord.objects.select_for_update().get(id=record.id)
    is_estimate = row.state == UsageRecord.State.SETTLED and row.confidence == UsageRecord.Confidence.ESTIMATED
    cost = _cost(row, used, exact, cost)
    if not is_estimate or (cost <= row.cost and not exact) or _corrections(row).exists():
        return False
    if cost != row.cost:
        adjust(row, cost - row.cost, actor=None, reason="The worker had only been asleep, and knew more of the call.")
    UsageRecord.objects.filter(id=row.id).update(**_columns(used, exact=exact), **facts)
    return True


@transaction.atomic
def void(record: UsageRecord, **facts) -> bool:
    """Release the hold of a call that cannot have been billed. False if the call was closed before."""
    return _close(record, UsageRecord.State.VOID, 0, facts)


def estimate(record: UsageRecord, start: dict, visible_tokens: int, hidden_seconds: float) -> Usage:
    """The usage of a call whose end was not seen: never less than was used, as far as one can know.

    `start` is the usage of `message_start` (empty if that was not seen either), `visible_tokens` a bound of the
    text that arrived, `hidden_seconds` all the time in which the model may have written what we did not see.
    """
    output = min(record.max_tokens, visible_tokens + pricing.hidden_tokens(hidden_seconds))
    return pricing.unfinished(record.price_numbers, terms_of(record), output, start)


def usage_of(record: UsageRecord, raw: dict) -> Usage:
    """The provider's usage object, read under the terms of the call."""
    return Usage.read(raw, ttl=terms_of(record).ttl)


def terms_of(record: UsageRecord) -> Terms:
    """Under which terms a call was admitted."""
    return Terms(input_bound=record.input_bound, **record.terms)


@transaction.atomic
def adjust(record: UsageRecord, amount: int, *, actor: User | None, reason: str) -> None:
    """Correct a settled call by an entry of its own: `amount` nano-dollars are added to its cost (or taken off).

    Without an `actor` Tally does it itself. Raises ValueError when the cost would fall below zero or when the call is
    still running.
    """
    row = UsageRecord.objects.select_for_update().get(id=record.id)
    if row.state != UsageRecord.State.SETTLED or row.cost + amount < 0:
        raise ValueError("Only a settled call can be corrected, and not to below zero.")
    UsageRecord.objects.filter(id=row.id).update(cost=F("cost") + amount)
    number = _corrections(row).count()
    held_in = set(BudgetPeriod.objects.filter(entries__record=row, entries__kind="hold"))
    why = {"actor": f"user:{actor.pk}" if actor else "", "reason": reason}
    for period in sorted(held_in | set(periods_with(row)), key=lambda period: (period.account, period.period)):
        BudgetPeriod.objects.filter(id=period.id).update(spent=F("spent") + amount)
        [entry] = entries(row, [period], LedgerEntry.Kind.ADJUST, amount, number, **why)
        if period not in held_in:
            entry.record = None  # the period was opened later, and has the call's cost in its opening sum
        entry.save()


def _close(record: UsageRecord, state: str, cost: int, columns: dict) -> bool:
    # Only what was sent can cost something: a hold whose call never left is void.
    open_states = UsageRecord.OPEN if state == UsageRecord.State.VOID else [UsageRecord.State.SENT]
    still_open = UsageRecord.objects.filter(id=record.id, state__in=open_states)
    if not still_open.update(state=state, settled_at=Now(), **columns):
        return False
    periods = list(
        BudgetPeriod.objects.filter(entries__record=record, entries__kind="hold").order_by("account", "period")
    )
    for period in periods:
        BudgetPeriod.objects.filter(id=period.id).update(held=F("held") - record.held, spent=F("spent") + cost)
    made = entries(record, periods, LedgerEntry.Kind.RELEASE, -record.held)
    if cost:
        made += entries(record, periods, LedgerEntry.Kind.CHARGE, cost)
    LedgerEntry.objects.bulk_create(made)
    for name, value in {**columns, "state": state}.items():
        setattr(record, name, value)
    return True


def _columns(used: Usage, *, exact: bool) -> dict:
    return {
        "input_tokens": used.input,
        "cache_write_5m_tokens": used.cache_write_5m,
        "cache_write_1h_tokens": used.cache_write_1h,
        "cache_read_tokens": used.cache_read,
        "output_tokens": used.output,
        "thinking_tokens": used.thinking,
        "searches": used.searches,
        "unknown_tokens": used.unknown,
        "confidence": UsageRecord.Confidence.EXACT if exact else UsageRecord.Confidence.ESTIMATED,
    }


def _cost(record: UsageRecord, used: Usage, exact: bool, cost: int | None) -> int:
    """The cost that is given, or else that of the tokens; an estimated one never exceeds the hold."""
    if cost is None:
        cost = pricing.cost(record.price_numbers, used)
    return cost if exact else min(cost, record.held)


def _corrections(record: UsageRecord) -> QuerySet[LedgerEntry]:
    # By their keys: an entry in a period that was opened later does not name its call.
    return LedgerEntry.objects.filter(key__startswith=f"adjust:{record.id}:")
