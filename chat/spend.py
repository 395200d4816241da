"""The only door to money: admit a call, settle it, void it, adjust it.

Every function is one transaction (or a part of the caller's). The order of locks is always: turn, usage
record, budget periods by account; so two of them wait for each other, but never in a circle.

`admit` holds the worst case of a call in every budget that applies, or in none. The conditional UPDATE in
`_hold` is what makes overspending impossible, whatever runs at the same time; everything before it only
finds out how much fits.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from chat import catalogue, pricing
from chat.budgets import EVERYONE, Account, accounts_for, enter_the_books, groups_of, open_period, periods_with
from chat.models import BudgetPeriod, LedgerEntry, Price, Turn, UsageRecord, User
from chat.pricing import Usage

# An answer that may not have this many tokens would be cut before it says anything.
LEAST_TOKENS = 512


class Replaced(Exception):
    """Another worker holds the turn now, or the sweeper has ended it: leave without a word."""


class Unpriceable(Exception):
    """The model has no usable price, so nothing may be sent to it."""


class OverBudget(Exception):
    """Not even a short answer fits. `account` is the budget that is in the way, `left` its nano-dollars."""

    def __init__(self, account: Account, period: BudgetPeriod, input_bound: int):
        self.account, self.period, self.input_bound = account, period, input_bound
        self.left = period.left or 0


@dataclass(frozen=True)
class Call:
    """What is about to be sent to the provider. Token counts; `input_bound` cannot be exceeded by the prompt."""

    user: User
    purpose: str
    model: str
    input_bound: int
    wanted_tokens: int
    least_tokens: int = LEAST_TOKENS
    turn: Turn | None = None
    conversation_id: uuid.UUID | None = None
    attempt: int = 1


def admit(call: Call) -> UsageRecord:
    """Hold the worst case of a call and write its record as sent. POST only after this has been committed.

    `max_tokens` of the record is what fits: at most what was wanted, at least `least_tokens`. Raises Replaced,
    Unpriceable or OverBudget, and then nothing has been written.
    """
    while True:
        try:
            return _admit(call)
        except _NotOpened as first_use:
            for account in first_use.accounts:
                open_period(account)


@transaction.atomic
def _admit(call: Call) -> UsageRecord:
    if call.turn and not Turn.objects.held_by(call.turn).update(state=Turn.State.RUNNING):
        raise Replaced
    enter_the_books()
    price, now = current_price(call.model)
    numbers = price.numbers()
    groups = groups_of(call.user.pk)
    accounts = accounts_for(call.user.pk, groups, now)
    periods = _locked_periods(accounts, _keys(call.user.pk, groups), now)
    tightest = min((period for period in periods if period.limit is not None), key=_left, default=None)
    max_tokens = call.wanted_tokens
    if tightest is not None:
        max_tokens = min(max_tokens, pricing.affordable_tokens(numbers, call.input_bound, _left(tightest)))
    if tightest is not None and max_tokens < min(call.least_tokens, call.wanted_tokens):
        [account] = [a for a in accounts if (a.key, a.period) == (tightest.account, tightest.period)]
        raise OverBudget(account, tightest, call.input_bound)
    worst = pricing.worst_case(numbers, call.input_bound, max_tokens)
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
        input_bound=call.input_bound,
        max_tokens=max_tokens,
        fitted=max_tokens < call.wanted_tokens,
        held=worst,
        sent_at=now,
    )
    for period in periods:
        _hold(period, worst)
    LedgerEntry.objects.bulk_create(_entries(record, periods, LedgerEntry.Kind.HOLD, worst))
    return record


def current_price(model: str) -> tuple[Price, datetime]:
    """The usable price of a model or of what its alias stands for, and the database's time. Raises Unpriceable."""
    price = Price.objects.annotate(now=Now()).current(catalogue.find(model).id, Now())
    if price is None or not price.is_usable:
        raise Unpriceable(model)
    return price, price.now


@transaction.atomic
def settle(record: UsageRecord, used: Usage, *, exact: bool, cost: int | None = None, **facts) -> bool:
    """Charge what a call cost and release its hold. False if that had been done before: then nothing happens.

    An estimated cost never exceeds the hold. `facts` are further columns of the record (stop_reason, …).
    """
    if cost is None:
        cost = pricing.cost(record.price_numbers, used)
    if not exact:
        cost = min(cost, record.held)
    columns = {
        "cost": cost,
        "input_tokens": used.input,
        "cache_write_5m_tokens": used.cache_write_5m,
        "cache_write_1h_tokens": used.cache_write_1h,
        "cache_read_tokens": used.cache_read,
        "output_tokens": used.output,
        "thinking_tokens": used.thinking,
        "searches": used.searches,
        "confidence": UsageRecord.Confidence.EXACT if exact else UsageRecord.Confidence.ESTIMATED,
        **facts,
    }
    return _close(record, UsageRecord.State.SETTLED, cost, columns)


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
    if not start:
        return Usage(cache_write_5m=record.input_bound, output=output)
    return Usage.read({**start, "output_tokens": output})


@transaction.atomic
def adjust(record: UsageRecord, amount: int, *, actor: User, reason: str) -> None:
    """Correct a settled call by an entry of its own: `amount` nano-dollars are added to its cost (or taken off).

    Raises ValueError when the cost would fall below zero or when the call is still running.
    """
    row = UsageRecord.objects.select_for_update().get(id=record.id)
    if row.state != UsageRecord.State.SETTLED or row.cost + amount < 0:
        raise ValueError("Only a settled call can be corrected, and not to below zero.")
    UsageRecord.objects.filter(id=row.id).update(cost=F("cost") + amount)
    number = LedgerEntry.objects.filter(key__startswith=f"adjust:{row.id}:").count()
    held_in = set(BudgetPeriod.objects.filter(entries__record=row, entries__kind="hold"))
    why = {"actor": f"user:{actor.pk}", "reason": reason}
    for period in sorted(held_in | set(periods_with(row)), key=lambda period: (period.account, period.period)):
        BudgetPeriod.objects.filter(id=period.id).update(spent=F("spent") + amount)
        [entry] = _entries(row, [period], LedgerEntry.Kind.ADJUST, amount, number, **why)
        if period not in held_in:
            entry.record = None  # the period was opened later, and has the call's cost in its opening sum
        entry.save()


class _NotOpened(Exception):
    """Accounts are used for the first time in their period. Opening may have to wait for other calls to settle, which
    nobody should do who holds locks on other periods: hence another transaction."""

    def __init__(self, accounts: list[Account]):
        self.accounts = accounts


def _keys(user_id: int, groups: list[int]) -> list[str]:
    """Every account in which a person's calls are counted, whether a limit holds there today or not."""
    return [f"user:{user_id}", *(f"group:{group}" for group in groups), EVERYONE]


def _locked_periods(accounts: list[Account], keys: list[str], now: datetime) -> list[BudgetPeriod]:
    """The period rows that a call is counted in, in their order, locked, with today's limits on them.

    A row whose limit has been taken away goes on counting: the limit may come back before the period is over.
    """
    rows = BudgetPeriod.objects.filter(account__in=keys, start__lte=now, end__gt=now)
    periods = list(rows.select_for_update().order_by("account", "period"))
    limits = {(account.key, account.period): account for account in accounts}
    missing = set(limits) - {(period.account, period.period) for period in periods}
    if missing:
        raise _NotOpened([limits[key] for key in sorted(missing)])
    for period in periods:
        account = limits.get((period.account, period.period))
        period.limit = account.limit if account else None
    return periods


def _hold(period: BudgetPeriod, amount: int) -> None:
    row = BudgetPeriod.objects.filter(id=period.id)
    if period.limit is not None:
        row = row.filter(held__lte=period.limit - amount - F("spent"))
    if not row.update(limit=period.limit, held=F("held") + amount):
        raise AssertionError(f"{period} was changed under its lock")


def _close(record: UsageRecord, state: str, cost: int, columns: dict) -> bool:
    closed = UsageRecord.objects.filter(id=record.id, state=UsageRecord.State.SENT).update(
        state=state, settled_at=Now(), **columns
    )
    if not closed:
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
