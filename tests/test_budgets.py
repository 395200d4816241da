"""Which limits hold for a person, and how a period opens."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.utils import timezone

from chat import budgets, setup, spend
from chat.models import Budget, BudgetPeriod, LedgerEntry
from chat.money import nano
from chat.spend import admission
from tests.books import COST, HELD, admit, at_once, paris, row, spent_call

pytestmark = pytest.mark.django_db

NOW = paris(2026, 11, 23, 12)


@pytest.fixture
def team(alice) -> Group:
    group = Group.objects.create(name="Editors")
    alice.groups.add(group)
    return group


@pytest.fixture
def budget():
    """`budget("5", group=team)`: a personal limit in dollars a month unless the fields say otherwise."""

    def budget(dollars: str, **fields) -> Budget:
        return Budget.objects.create(limit=nano(dollars), **fields)

    return budget


@pytest.fixture
def limits(alice):
    """What Alice has to fit into: {(account, period): dollars or None}."""

    def limits(at=NOW) -> dict:
        accounts = budgets.accounts_of(alice, at)
        return {(a.key.partition(":")[0], a.period): a.limit and a.limit / 10**9 for a in accounts}

    return limits


def test_everyone_has_the_limit_for_everyone_by_themself(alice, bob):
    [of_alice], [of_bob] = budgets.accounts_of(alice, NOW), budgets.accounts_of(bob, NOW)

    assert of_alice.key != of_bob.key
    assert of_alice.limit == of_bob.limit == nano("20")
    assert of_alice.source == "the limit for everyone"
    assert (of_alice.start, of_alice.end) == (paris(2026, 11, 1), paris(2026, 12, 1))


def test_a_team_comes_before_everyone_and_a_person_before_the_team(budget, limits, team, alice):
    budget("3", group=team)
    assert limits() == {("user", "month"): 3}

    budget("7", user=alice)
    assert limits() == {("user", "month"): 7}


def test_the_winner_brings_its_own_period(budget, limits, alice):
    budget("1", user=alice, period="day")

    assert limits() == {("user", "day"): 1}


def test_of_two_limits_alike_the_newer_counts(budget, limits, alice):
    budget("7", user=alice)
    budget("2", user=alice)

    assert limits() == {("user", "month"): 2}


def test_a_limit_of_another_person_or_team_is_nothing_to_alice(budget, limits, bob):
    budget("1", user=bob)
    budget("1", group=Group.objects.create(name="Others"))
    budget("1", group=Group.objects.get(name="Others"), kind="pot")

    assert limits() == {("user", "month"): 20}


def test_a_raise_counts_until_its_date_and_then_the_old_limit_again(budget, limits, alice):
    budget("5", user=alice)
    budget("50", user=alice, valid_until=paris(2026, 12, 1))
    budget("6", user=alice)

    assert limits(paris(2026, 11, 30, 23, 59, 59)) == {("user", "month"): 50}
    assert limits(paris(2026, 12, 1)) == {("user", "month"): 6}


@pytest.mark.parametrize(("own", "counts"), [("2", 2), ("80", 20)])
def test_of_ones_own_limit_and_the_given_one_the_stricter_counts(budget, limits, alice, own, counts):
    budget(own, user=alice, set_by_self=True)

    assert limits() == {("user", "month"): counts}


def test_ones_own_limit_of_another_period_counts_beside_the_given_one(budget, limits, alice):
    budget("2", user=alice, set_by_self=True, period="week")

    assert limits() == {("user", "month"): 20, ("user", "week"): 2}


def test_ones_own_limit_does_not_undo_the_one_for_everyone(budget, limits, alice):
    budget("90", user=alice, set_by_self=True, mode="warn")

    assert limits() == {("user", "month"): 20}


def test_pots_of_the_team_and_of_everyone_count_beside_the_personal_limit(budget, limits, team):
    budget("100", group=team, kind="pot")
    budget("500", kind="pot")

    assert limits() == {("everyone", "month"): 500, ("group", "month"): 100, ("user", "month"): 20}


def test_a_budget_that_only_warns_has_no_limit_but_counts(budget, limits, team):
    budget("1", group=team, kind="pot", mode="warn")

    assert limits() == {("group", "month"): None, ("user", "month"): 20}


def test_accounts_come_in_one_order_for_all_so_that_nobody_waits_in_a_circle(budget, alice, team):
    budget("9", kind="pot")
    budget("9", group=team, kind="pot", period="day")
    budget("9", user=alice, set_by_self=True, period="day")

    keys = [(account.key, account.period) for account in budgets.accounts_of(alice, NOW)]

    assert keys == sorted(keys)
    assert len(keys) == 4


def test_without_any_limit_nobody_may_spend_anything(alice):
    Budget.objects.all().delete()

    with pytest.raises(spend.OverBudget) as refusal:
        admit(alice)
    assert refusal.value.account.limit == 0
    assert refusal.value.account.source == "no limit is set"


def test_the_limit_for_everyone_is_made_once():
    setup.ensure_a_limit()
    setup.ensure_a_limit()

    assert Budget.objects.get().source_words == "the limit for everyone"


def test_a_second_limit_for_everyone_does_not_stop_the_next_migration(budget):
    budget("30")

    setup.ensure_a_limit()

    assert Budget.objects.count() == 2


@pytest.mark.parametrize(
    "fields",
    [{"limit": -1}, {"kind": "pot", "user": "alice"}, {"set_by_self": True}, {"user": "alice", "group": "team"}],
)
def test_the_database_refuses_a_budget_that_makes_no_sense(fields, alice, team):
    people = {"alice": alice, "team": team}
    fields = {name: people.get(value, value) for name, value in fields.items()}

    with pytest.raises(IntegrityError), transaction.atomic():
        Budget.objects.create(**{"limit": 1, **fields})


def test_a_limit_set_in_mid_period_counts_what_was_spent_and_what_is_running(budget, alice):
    spent_call(alice)
    spent_call(alice)
    running = admit(alice)
    budget("1", user=alice, period="day")

    new = admit(alice)

    today = row(f"user:{alice.pk}", "day")
    assert (today.spent, today.held) == (2 * COST, 2 * HELD)
    assert today.entries.get(kind="adjust").reason == "Spent in this period before the limit was set"
    for record in (running, new):
        spend.void(record)
    today.refresh_from_db()
    assert (today.spent, today.held) == (2 * COST, 0)


def test_what_was_spent_before_can_use_up_a_new_limit(budget, alice):
    spent_call(alice)
    budget("0.001", user=alice, period="day")

    with pytest.raises(spend.OverBudget) as refusal:
        admit(alice)

    assert refusal.value.left == 0


def test_a_new_pot_counts_what_everyone_in_it_spent(budget, alice, bob, team):
    spent_call(alice)
    spent_call(bob)
    budget("5", group=team, kind="pot")
    budget("9", kind="pot")

    spent_call(alice)

    assert row(f"group:{team.pk}").spent == 2 * COST
    assert row("everyone").spent == 3 * COST


def test_a_new_pot_counts_what_a_member_of_two_teams_spent(budget, alice, team):
    second = Group.objects.create(name="Writers")
    alice.groups.add(second)
    spent_call(alice)
    budget("5", group=second, kind="pot")

    spent_call(alice)

    assert row(f"group:{second.pk}").spent == 2 * COST


def test_what_was_spent_before_the_period_is_not_in_it(budget, alice, monkeypatch):
    price, now = spend.current_price("claude-sonnet-5-5")
    monkeypatch.setattr(admission, "current_price", lambda model: (price, now - timedelta(days=40)))
    spent_call(alice)
    monkeypatch.undo()

    spent_call(alice)

    assert row(f"user:{alice.pk}").spent == COST
    assert BudgetPeriod.objects.filter(account=f"user:{alice.pk}").count() == 2


def test_a_changed_limit_keeps_the_period_and_what_is_in_it(budget, alice):
    first = budget("1", user=alice)
    spent_call(alice)
    first.limit = nano("2")
    first.save(update_fields=["limit"])

    spent_call(alice)

    [period] = BudgetPeriod.objects.filter(account=f"user:{alice.pk}")
    assert (period.limit, period.spent) == (nano("2"), 2 * COST)


def test_lowering_a_limit_lets_a_running_call_end_and_refuses_the_next(budget, alice):
    limit = budget("1", user=alice)
    running = admit(alice)
    limit.limit = 1
    limit.save(update_fields=["limit"])

    with pytest.raises(spend.OverBudget):
        admit(alice)

    assert spend.void(running)


@pytest.mark.django_db(transaction=True)
def test_a_period_that_twenty_open_at_once_is_opened_once(budget, alice):
    spent_call(alice)
    running = admit(alice)
    budget("1", user=alice, period="day")
    budget("9", kind="pot", period="week")

    records = at_once(20, lambda _: admit(alice))

    for account, period in ((f"user:{alice.pk}", "day"), ("everyone", "week")):
        opened = row(account, period)
        assert (opened.spent, opened.held) == (COST, 21 * HELD)
        assert opened.entries.filter(kind=LedgerEntry.Kind.ADJUST).count() == 1
    for record in [*records, running]:
        spend.void(record)


def test_standings_are_the_same_before_and_after_a_period_is_opened(budget, alice):
    spent_call(alice)
    running = admit(alice)
    budget("1", user=alice, period="day")
    before = budgets.standings(alice)

    budgets.open_period(before[0].account)

    assert budgets.standings(alice) == before
    assert (before[0].spent, before[0].held, before[0].left) == (COST, HELD, nano("1") - COST - HELD)
    spend.void(running)


def test_the_tightest_limit_comes_first(budget, alice):
    budget("0.5", kind="pot")
    budget("3", user=alice, set_by_self=True, period="week")

    assert [standing.limit for standing in budgets.standings(alice)] == [nano("0.5"), nano("3"), nano("20")]


def test_the_chat_shows_the_limit_that_will_be_reached_first_also_if_it_is_a_pot(budget, alice, browse):
    own = browse(alice).get("/conversations/").content.decode()
    budget("0.5", kind="pot")
    pot = browse(alice).get("/conversations/").content.decode()

    assert "$20.00 left of $20.00 ·" in own
    assert "$0.50 left of $0.50 in the pot of everyone ·" in pot


def test_a_person_whose_limit_only_warns_has_no_limit_to_reach(budget, alice):
    budget("1", user=alice, mode="warn")

    assert [standing.limit for standing in budgets.standings(alice)] == [None]
    assert budgets.personal_standings([alice], timezone.now()) == {}


def test_the_standings_of_many_are_those_of_each(budget, alice, bob, ada, team):
    spent_call(alice)
    budget("3", group=team)
    budget("1", user=bob, period="day")
    budget("2", user=alice, set_by_self=True, period="week")
    now = timezone.now()

    found = budgets.personal_standings([alice, bob, ada], now)

    assert found == {person.pk: tightest(person, now) for person in (alice, bob, ada)}


def tightest(person, now):
    return next(standing for standing in budgets.standings(person, now) if standing.account.is_personal)


@pytest.mark.parametrize(
    "have_asked",
    [
        True,
        False,
    ],
)
def test_the_standings_of_many_take_as_many_queries_as_those_of_one(
    alice, bob, ada, have_asked, django_assert_max_num_queries
):
    people = [alice, bob, ada]
    if have_asked:
        for person in people:
            spent_call(person)

    with django_assert_max_num_queries(4):
        assert len(budgets.personal_standings(people, timezone.now())) == 3


@pytest.mark.parametrize(
    ("spent", "percent"), [(0, 0), (999, 9), (9_999, 99), (10_000, 100), (10_001, 100), (10**9, 999)]
)
def test_percent_used_says_100_only_when_all_of_it_is_used(alice, spent, percent):
    account = budgets.Account("user:1", "month", NOW, NOW, 10_000, "")

    assert budgets.Standing(account, spent, 0).percent_used == percent


def test_what_is_left_is_never_below_zero(alice):
    account = budgets.Account("user:1", "month", NOW, NOW, 100, "")

    assert budgets.Standing(account, 70, 60).left == 0
    assert budgets.Standing(account, 30, 60).left == 10


def test_the_day_of_the_reset_is_said_in_the_organisations_time_zone(settings):
    settings.TIME_ZONE = "Pacific/Auckland"

    assert budgets.day_words(paris(2026, 11, 30, 13)) == "1 December"
