"""The only door to money: hold for a call, send it, settle it, void it, adjust it.

Every function is one transaction (or a part of the caller's). The order of locks is always: turn, usage
record, budget periods by account; so two of them wait for each other, but never in a circle.

`hold` and `admit` put aside the worst case of a call in every budget that applies, or in none. The conditional
UPDATE in `_hold` is what makes overspending impossible, whatever runs at the same time; everything before it
only finds out how much fits.
"""

import uuid
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from chat import catalogue, pricing
from chat.budgets import EVERYONE, Account, accounts_for, enter_the_books, groups_of, open_period, periods_with
from chat.models import BudgetPeriod, LedgerEntry, Price, Turn, UsageRecord, User
from chat.prepared import Prepared
from chat.pricing import Terms, Usage

# An answer that may not have this many tokens would be cut before it says anything.
LEAST_TOKENS = 512
# Our bound counts bytes, and only a text of blanks has more of them in a token: no count would bring it down further.
MOST_BYTES_PER_TOKEN = 16


class Replaced(Exception):
    """Another worker holds the turn now, or the sweeper has ended it: leave without a word."""


class Unpriceable(Exception):
    """The model has no usable price, so nothing may be sent to it."""


class OverBudget(Exception):
    """Not even a short answer fits. `account` is the budget that is in the way, `left` its nano-dollars."""

    def __init__(self, account: Account, period: BudgetPeriod, call: "Call", numbers: dict):
        self.account, self.period, self.call, self.numbers = account, period, call, numbers
        self.left = period.left or 0

    @property
    def is_certain(self) -> bool:
        """Whether an exact count of the prompt cannot help: not even a fraction of our bound would fit."""
        terms = replace(self.call.terms, input_bound=self.call.terms.input_bound // MOST_BYTES_PER_TOKEN)
        return pricing.worst_case(self.numbers, terms, self.call.least) > self.left


@dataclass(frozen=True)
class Call:
    """What is about to be sent to the provider, in tokens. `terms` bound what its prompt can be billed as."""

    user: User
    purpose: str
    model: str
    terms: Terms
    wanted_tokens: int
    least_tokens: int = LEAST_TOKENS
    turn: Turn | None = None
    conversation_id: uuid.UUID | None = None
    attempt: int = 1

    @property
    def least(self) -> int:
        return min(self.least_tokens, self.wanted_tokens)


def admit(call: Call) -> UsageRecord:
    """Hold the worst case of a call and write its record as sent. POST only after this has been committed.

    `max_tokens` of the record is what fits: at most what was wanted, at least `least_tokens`. Raises Replaced,
    Unpriceable or OverBudget, and then nothing has been written.
    """
    return _opened(call, UsageRecord.State.SENT)


def hold(call: Call) -> UsageRecord:
    """The same for a turn that waits for a worker: its money is put aside, and whoever claims the turn may `send`.

    For the transaction that makes the turn. A turn that ends without having been sent has to be voided.
    """
    return _opened(call, UsageRecord.State.HELD)


@transaction.atomic
def send(record: UsageRecord, turn: Turn) -> UsageRecord:
    """Write a held call as sent by this attempt. POST only after this has been committed. Raises Replaced."""
    if not Turn.objects.held_by(turn).update(state=Turn.State.RUNNING):
        raise Replaced
    held = UsageRecord.objects.filter(id=record.id, state=UsageRecord.State.HELD)
    if not held.update(state=UsageRecord.State.SENT, attempt=turn.attempt, sent_at=Now()):
        raise Replaced
    record.state, record.attempt = UsageRecord.State.SENT, turn.attempt
    record.sent_at = timezone.now()  # the row has the database's; here it only says that there is one
    return record


def foresee(call: Call) -> OverBudget | None:
    """Whether a call would be refused now. A look without a lock: where it says None, `hold` and `admit` decide."""
    try:
        price, now = current_price(call.model)
        _room(call, price.numbers(), groups_of(call.user.pk), now, locked=False)
    except OverBudget as over:
        return over
    except (Unpriceable, _NotOpened):
        pass
    return None


def _opened(call: Call, state: str) -> UsageRecord:
    while True:
        try:
            return _open(call, state)
        except _NotOpened as first_use:
            for account in first_use.accounts:
                open_period(account)
        except pricing.Unpriced as what:
            raise Unpriceable(call.model) from what


@transaction.atomic
def _open(call: Call, state: str) -> UsageRecord:
    sent = state == UsageRecord.State.SENT
    if sent and call.turn and not Turn.objects.held_by(call.turn).update(state=Turn.State.RUNNING):
        raise Replaced
    enter_the_books()
    price, now = current_price(call.model)
    numbers, groups = price.numbers(), groups_of(call.user.pk)
    periods, max_tokens = _room(call, numbers, groups, now)
    worst = pricing.worst_case(numbers, call.terms, max_tokens)
    record = UsageRecord.objects.create(
        user=call.user,
        group_id=groups[0] if groups else None,
        conversation_id=call.turn.conversation_id if call.turn else call.conversation_id,
        turn=call.turn,
        purpose=call.purpose,
        attempt=call.turn.attempt if call.turn else call.attempt,
        model=price.model,
        price=price,
        price_numbers=numbers,
        input_bound=call.terms.input_bound,
        terms=_rest_of(call.terms),
        max_tokens=max_tokens,
        fitted=max_tokens < call.wanted_tokens,
        held=worst,
        state=state,
        admitted_at=now,
        sent_at=now if sent else None,
    )
    for period in periods:
        _hold(period, worst)
    LedgerEntry.objects.bulk_create(_entries(record, periods, LedgerEntry.Kind.HOLD, worst))
    return record


def current_price(model: str) -> tuple[Price, datetime]:
    """The usable price of a model or of what its alias stands for, and the database's time. Raises Unpriceable."""
    found: list[Any] = _prices(catalogue.find(model).id)
    if not found or not found[0].is_usable:
        raise Unpriceable(model)
    return found[0], found[0].now


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
        [entry] = _entries(row, [period], LedgerEntry.Kind.ADJUST, amount, number, **why)
        if period not in held_in:
            entry.record = None  # the period was opened later, and has the call's cost in its opening sum
        entry.save()


_prices = Prepared(
    lambda model: Price.objects.annotate(now=Now()).in_force(model, Now())[:1], Price._meta.get_field("model")
)


def _current(keys: list, now) -> QuerySet[BudgetPeriod]:
    current = BudgetPeriod.objects.filter(account__in=keys, start__lte=now, end__gt=now)
    return current.order_by("account", "period")


_OF_PERIODS = BudgetPeriod._meta.get_field("account"), BudgetPeriod._meta.get_field("start")
_current_periods = Prepared(_current, *_OF_PERIODS)
_current_periods_locked = Prepared(lambda keys, now: _current(keys, now).select_for_update(), *_OF_PERIODS)


class _NotOpened(Exception):
    """Accounts are used for the first time in their period. Opening may have to wait for other calls to settle, which
    nobody should do who holds locks on other periods: hence another transaction."""

    def __init__(self, accounts: list[Account]):
        self.accounts = accounts


def _rest_of(terms: Terms) -> dict:
    rest = asdict(terms)
    del rest["input_bound"]
    return rest


def _keys(user_id: int, groups: list[int]) -> list[str]:
    """Every account in which a person's calls are counted, whether a limit holds there today or not."""
    return [f"user:{user_id}", *(f"group:{group}" for group in groups), EVERYONE]


def _room(
    call: Call, numbers: dict, groups: list[int], now: datetime, *, locked: bool = True
) -> tuple[list[BudgetPeriod], int]:
    """The periods that a call is counted in, and the `max_tokens` that fit into all of them. Raises OverBudget."""
    accounts = accounts_for(call.user.pk, groups, now)
    periods = _periods(accounts, _keys(call.user.pk, groups), now, locked=locked)
    tightest = min((period for period in periods if period.limit is not None), key=_left, default=None)
    if tightest is None:
        return periods, call.wanted_tokens
    max_tokens = min(call.wanted_tokens, pricing.affordable_tokens(numbers, call.terms, _left(tightest)))
    if max_tokens < call.least:
        [account] = [a for a in accounts if (a.key, a.period) == (tightest.account, tightest.period)]
        raise OverBudget(account, tightest, call, numbers)
    return periods, max_tokens


def _periods(accounts: list[Account], keys: list[str], now: datetime, *, locked: bool = True) -> list[BudgetPeriod]:
    """The period rows that a call is counted in, in their order, with today's limits on them.

    A row whose limit has been taken away goes on counting: the limit may come back before the period is over.
    """
    periods = (_current_periods_locked if locked else _current_periods)(keys, now)
    limits = {(account.key, account.period): account for account in accounts}
    missing = set(limits) - {(period.account, period.period) for period in periods}
    if missing:
        raise _NotOpened([limits[key] for key in sorted(missing)])
    for period in periods:
        account = limits.get((period.account, period.period))
        period.limit = account.limit if account else None
        period.warn_limit = account.warn_limit if account else None
    return periods


def _hold(period: BudgetPeriod, amount: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE chat_budgetperiod SET "limit" = %(limit)s, warn_limit = %(warn_limit)s, held = held + %(amount)s
            WHERE id = %(id)s AND (%(limit)s IS NULL OR spent + held + %(amount)s <= %(limit)s)""",
            {"id": period.id, "limit": period.limit, "warn_limit": period.warn_limit, "amount": amount},
        )
        if not cursor.rowcount:
            raise AssertionError(f"{period} was changed under its lock")


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
    entries = _entries(record, periods, LedgerEntry.Kind.RELEASE, -record.held)
    if cost:
        entries += _entries(record, periods, LedgerEntry.Kind.CHARGE, cost)
    LedgerEntry.objects.bulk_create(entries)
    for name, value in {**columns, "state": state}.items():
        setattr(record, name, value)
    return True


def _entries(record, periods, kind, amount: int, number: int = 0, **why) -> list[LedgerEntry]:
    suffix = f":{number}" if number else ""
    return [
        LedgerEntry(
            kind=kind,
            amount=amount,
            key=f"{kind}:{record.id}:{period.id}{suffix}",
            period=period,
            record=record,
            **why,
        )
        for period in periods
    ]


def _left(period: BudgetPeriod) -> int:
    return period.left or 0
