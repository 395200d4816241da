"""Putting money aside for a call before it is sent: in every budget that applies, or in none.

The conditional UPDATE in `_hold` is what makes overspending impossible, whatever runs at the same time; everything
before it only finds out how much fits.
"""

import uuid
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from chat import catalogue, pricing
from chat.budgets import (
    EVERYONE,
    Account,
    Standing,
    accounts_for,
    enter_the_books,
    groups_of,
    open_period,
    standings,
)
from chat.models import BudgetPeriod, LedgerEntry, Price, Turn, UsageRecord, User
from chat.prepared import Prepared
from chat.pricing import Terms
from chat.spend.entries import entries

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
        """Whether an exact count of the prompt cannot help: not even a fraction of our bound would fit, which is all
        that its text has. How little a file has, nobody knows."""
        terms = self.call.terms
        terms = replace(terms, input_bound=(terms.input_bound - terms.of_files) // MOST_BYTES_PER_TOKEN)
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


def quote(call: Call) -> tuple[int, int]:
    """`max_tokens` and the nano-dollars that `hold` would put aside now. Raises as it does. A look without a lock."""
    try:
        price, now = current_price(call.model)
        numbers, groups = price.numbers(), groups_of(call.user.pk)
        accounts = accounts_for(call.user.pk, groups, now)
        try:
            periods = _periods(accounts, _keys(call.user.pk, groups), now, locked=False)
        except _NotOpened:
            periods = [_as_period(standing) for standing in standings(call.user, now)]
        max_tokens = _fitting(call, numbers, accounts, periods)
        return max_tokens, pricing.worst_case(numbers, call.terms, max_tokens)
    except pricing.Unpriced as what:
        raise Unpriceable(call.model) from what


def current_price(model: str) -> tuple[Price, datetime]:
    """The usable price of a model or of what its alias stands for, and the database's time. Raises Unpriceable."""
    found: list[Any] = _prices(catalogue.find(model).id)
    if not found or not found[0].is_usable:
        raise Unpriceable(model)
    return found[0], found[0].now


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
    LedgerEntry.objects.bulk_create(entries(record, periods, LedgerEntry.Kind.HOLD, worst))
    return record


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
    del rest["input_bound"], rest["of_files"]
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
    return periods, _fitting(call, numbers, accounts, periods)


def _fitting(call: Call, numbers: dict, accounts: list[Account], periods: list[BudgetPeriod]) -> int:
    """The `max_tokens` that fit into all of the periods. Raises OverBudget."""
    tightest = min((period for period in periods if period.limit is not None), key=_left, default=None)
    if tightest is None:
        return call.wanted_tokens
    max_tokens = min(call.wanted_tokens, pricing.affordable_tokens(numbers, call.terms, _left(tightest)))
    if max_tokens < call.least:
        [account] = [a for a in accounts if (a.key, a.period) == (tightest.account, tightest.period)]
        raise OverBudget(account, tightest, call, numbers)
    return max_tokens


def _as_period(standing: Standing) -> BudgetPeriod:
    """How an account stands whose row may not have been made yet; never to be saved."""
    account = standing.account
    row = BudgetPeriod(account=account.key, period=account.period, start=account.start, end=account.end)
    row.limit, row.spent, row.held = account.limit, standing.spent, standing.held
    return row


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


def _left(period: BudgetPeriod) -> int:
    return period.left or 0
