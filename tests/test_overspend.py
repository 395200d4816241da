"""No budget is passed, whatever runs at the same time, in whatever order and on whatever side of midnight."""

import itertools
import threading
from datetime import UTC, timedelta

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from chat import audit, spend
from chat.models import Budget, BudgetPeriod, UsageRecord
from chat.money import nano
from chat.pricing import Usage
from chat.spend import admission
from tests.books import (
    COST,
    HELD,
    SONNET,
    USED,
    admit,
    at_once,
    few,
    never_over_a_limit,
    paris,
    row,
    spent_call,
)
from tests.conftest import wait_until

pytestmark = pytest.mark.django_db


# --- At the same time


@pytest.mark.django_db(transaction=True)
def test_forty_calls_at_once_with_money_for_seven_are_seven_calls(alice, limit_nano):
    limit_nano(alice, 7 * HELD + HELD // 2)

    with never_over_a_limit():
        records = at_once(40, lambda _: admit(alice))

    admitted = [record for record in records if isinstance(record, UsageRecord)]
    assert len(admitted) == UsageRecord.objects.count() == 7
    assert row(f"user:{alice.pk}").held == 7 * HELD
    for record in admitted:
        spend.void(record)


@pytest.mark.django_db(transaction=True)
def test_forty_calls_at_once_that_also_end_never_pass_the_limit(alice, limit_nano):
    budget = limit_nano(alice, 7 * HELD)

    def one(number: int) -> UsageRecord:
        record = admit(alice, least=512)
        if number % 4:
            spend.settle(record, Usage(input=100, output=min(record.max_tokens, 25 * number)), exact=True)
        else:
            spend.void(record)
        return record

    with never_over_a_limit():
        records = at_once(40, one)

    admitted = [record for record in records if isinstance(record, UsageRecord)]
    period = row(f"user:{alice.pk}")
    assert period.held == 0
    assert period.spent == sum(record.cost for record in admitted) <= budget.limit


@pytest.mark.django_db(transaction=True)
def test_each_ones_limit_and_the_pot_of_all_hold_at_the_same_time(alice, bob, limit_nano):
    limit_nano(alice, 3 * HELD)
    limit_nano(bob, 50 * HELD)
    Budget.objects.create(kind="pot", limit=8 * HELD)
    people = [alice, bob]

    with never_over_a_limit():
        records = at_once(40, lambda number: admit(people[number % 2]))

    admitted = [record for record in records if isinstance(record, UsageRecord)]
    of_alice = sum(record.user_id == alice.pk for record in admitted)
    assert len(admitted) == 8
    assert of_alice <= 3
    assert row("everyone").held == 8 * HELD
    assert row(f"user:{alice.pk}").held == of_alice * HELD
    for record in admitted:
        assert record.entries.filter(kind="hold").count() == 2
        spend.void(record)


def test_money_that_went_away_after_the_look_at_a_budget_cannot_be_held(alice, limit_nano, monkeypatch):
    limit_nano(alice, HELD)
    look = admission._periods

    def look_too_early(*args, **kwargs):
        periods = look(*args, **kwargs)
        BudgetPeriod.objects.update(spent=1)
        return periods

    monkeypatch.setattr(admission, "_periods", look_too_early)

    with pytest.raises(AssertionError, match="changed under its lock"):
        admit(alice)

    assert not UsageRecord.objects.exists()
    assert row(f"user:{alice.pk}").spent == 0


@pytest.mark.django_db(transaction=True)
def test_a_call_that_thirty_settle_at_once_is_charged_once(alice):
    record = admit(alice)

    done = at_once(30, lambda number: spend.void(record) if number % 3 == 0 else spend.settle(record, USED, exact=True))

    record.refresh_from_db()
    assert sum(done) == 1
    assert record.entries.filter(kind="release").count() == 1
    assert row(f"user:{alice.pk}").spent == record.cost in (0, COST)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("sqlite" in connection.vendor, reason="SQLite has one writer: no call is under way beside another")
def test_a_pot_that_opens_while_another_persons_call_is_being_admitted_counts_it(alice, bob):
    def a_pot_is_set_and_bob_asks():
        try:
            Budget.objects.create(kind="pot", limit=nano("5"))
            asked.append(admit(bob))
        finally:
            connection.close()

    asked: list = []
    beside = threading.Thread(target=a_pot_is_set_and_bob_asks)
    with transaction.atomic():
        running = admit(alice)
        beside.start()
        wait_until(lambda: Budget.objects.filter(kind="pot").exists(), "no pot was set")
    beside.join(20)
    [of_bob] = asked

    held = row("everyone").held
    for record in (running, of_bob):
        spend.void(record)
    assert held == 2 * HELD


# --- Periods roll over


def test_a_call_across_midnight_is_charged_to_the_month_in_which_it_began(alice, clock):
    clock(paris(2026, 11, 30, 23, 59, 59))
    late = admit(alice)
    clock(paris(2026, 12, 1))
    early = admit(alice)

    spend.settle(late, USED, exact=True)
    spend.void(early)

    november, december = BudgetPeriod.objects.filter(account=f"user:{alice.pk}").order_by("start")
    assert (november.start, november.end) == (paris(2026, 11, 1), december.start)
    assert (november.spent, november.held) == (COST, 0)
    assert (december.spent, december.held) == (0, 0)


def test_a_call_never_counts_in_a_month_that_has_not_begun(alice, clock):
    clock(paris(2026, 12, 1))
    spent_call(alice)
    clock(paris(2026, 11, 30, 12))

    spent_call(alice)

    november, december = BudgetPeriod.objects.filter(account=f"user:{alice.pk}").order_by("start")
    assert (november.spent, december.spent) == (COST, COST)


def test_a_correction_goes_into_the_month_of_its_call(alice, ada, clock):
    clock(paris(2026, 11, 30, 12))
    record = spent_call(alice)
    clock(paris(2026, 12, 5))
    spent_call(alice)

    spend.adjust(record, -COST, actor=ada, reason="Written off")

    november, december = BudgetPeriod.objects.filter(account=f"user:{alice.pk}").order_by("start")
    assert (november.spent, december.spent) == (0, COST)


def test_a_used_up_budget_is_whole_again_exactly_at_midnight(alice, clock, limit_nano):
    limit_nano(alice, HELD, period="day")
    clock(paris(2026, 11, 23, 9))
    spent_call(alice)
    clock(paris(2026, 11, 23, 23, 59, 59))
    with pytest.raises(spend.OverBudget) as refusal:
        admit(alice)

    clock(paris(2026, 11, 24))

    assert refusal.value.account.end == paris(2026, 11, 24)
    assert spend.void(admit(alice))


@pytest.mark.parametrize(
    ("day", "hours"), [(paris(2026, 10, 25), 25), (paris(2026, 3, 29), 23), (paris(2026, 11, 23), 24)]
)
def test_a_day_of_23_or_25_hours_is_one_budget_to_its_last_minute(alice, clock, limit, day, hours):
    limit(alice, "5", period="day")
    length = timedelta(hours=hours)
    start = day.astimezone(UTC)

    for moment in (start, start + length / 2, start + length - timedelta(seconds=1), start + length):
        clock(moment)
        spent_call(alice)

    counts = [period.entries.filter(kind="charge").count() for period in BudgetPeriod.objects.order_by("start")]
    assert counts == [3, 1]


def test_the_database_says_what_time_it_is(monkeypatch):
    monkeypatch.setattr("django.utils.timezone.now", lambda: paris(1999, 1, 1))

    price, now = spend.current_price(SONNET)

    assert price.model == SONNET
    assert now.year >= 2026


# --- Anything, in any order


@few
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["admit", "settle", "estimate", "void", "adjust", "pot", "day", "lower"]),
            st.integers(0, 2_000),
        ),
        max_size=14,
    )
)
def test_whatever_happens_in_whatever_order_no_hold_passes_a_limit_and_the_books_agree(alice, bob, ada, limit, steps):
    people, records = itertools.cycle([alice, bob]), [None]
    with transaction.atomic():
        limit(alice, "0.04")
        for step, number in steps:
            record = records[number % len(records)]
            match step:
                case "admit":
                    before = {period.pk: period.spent + period.held for period in BudgetPeriod.objects.all()}
                    try:
                        records.append(admit(next(people), wanted=1 + number, least=1))
                    except spend.OverBudget:
                        continue
                    for period in BudgetPeriod.objects.exclude(limit=None):
                        used = period.spent + period.held
                        assert used <= period.limit or used == before[period.pk]
                case "settle" if record:
                    spend.settle(record, Usage(input=number % 100, output=number % record.max_tokens), exact=True)
                case "estimate" if record:
                    spend.settle(record, spend.estimate(record, {}, number, 0), exact=False)
                case "void" if record:
                    spend.void(record)
                case "adjust" if record and record.state == "settled":
                    spend.adjust(record, number, actor=ada, reason="Found later")
                case "pot":
                    Budget.objects.create(kind="pot", limit=number * HELD // 100)
                case "day":
                    limit(alice, "0.03", period="day", set_by_self=True)
                case "lower":
                    limit(bob, "0.00001")
            assert audit.problems() == []
        transaction.set_rollback(True)
