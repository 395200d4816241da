"""What the tests of the money room share: calls to admit, threads that start together, damage that is undone."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

from django.db import connection, transaction
from django.db.models import F
from hypothesis import HealthCheck, settings

from chat import spend
from chat.models import BudgetPeriod, UsageRecord, User
from chat.pricing import Terms, Usage

# The same examples in every run: a red suite is red for everybody.
bounded = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
few = settings(bounded, max_examples=30)  # where every example writes to the database

SONNET, HAIKU, OPUS = "claude-sonnet-5-5", "claude-haiku-5-5", "claude-opus-5-5"
# A call of `call`: 100 tokens at $2.50 (cache write) and 1,000 at $10 a million, in nano-dollars.
HELD = 100 * 2_500 + 1_000 * 10_000
# What `Usage(input=50, output=200)` costs on the same model.
USED, COST = Usage(input=50, output=200), 50 * 2_000 + 200 * 10_000


def call(user: User, *, bound: int = 100, wanted: int = 1_000, least: int | None = None, **fields) -> spend.Call:
    """A call that would hold HELD; nothing less than all of it will do unless `least` says so."""
    fields = {"purpose": UsageRecord.Purpose.SUMMARY, "model": SONNET, **fields}
    return spend.Call(
        user=user,
        terms=Terms(input_bound=bound),
        wanted_tokens=wanted,
        least_tokens=wanted if least is None else least,
        **fields,
    )


def admit(user: User, **fields) -> UsageRecord:
    return spend.admit(call(user, **fields))


def spent_call(user: User, **fields) -> UsageRecord:
    """A call that is over and cost COST."""
    record = admit(user, **fields)
    spend.settle(record, USED, exact=True)
    return record


def row(account: str, period: str = "month") -> BudgetPeriod:
    """The newest period of an account."""
    return BudgetPeriod.objects.filter(account=account, period=period).latest("start")


def paris(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo("Europe/Paris"))


def at_once(count: int, act: Callable) -> list:
    """Run `act(number)` in so many threads, released at the same instant. What each returned or raised, in order."""
    barrier = threading.Barrier(count)

    def run(number: int):
        barrier.wait()
        try:
            return act(number)
        except spend.OverBudget as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@contextmanager
def never_over_a_limit() -> Iterator[None]:
    """Another thread looks at every row of every budget, over and over, for as long as the block runs."""
    over, looks, done = [], [], threading.Event()

    def look() -> None:
        try:
            while not done.is_set() or not looks:
                over.extend(BudgetPeriod.objects.filter(limit__lt=F("spent") + F("held")).values())
                looks.append(1)
                done.wait(0.002)
        finally:
            connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert over == []


@contextmanager
def undone() -> Iterator[None]:
    """Whatever happens to the database inside is rolled back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
