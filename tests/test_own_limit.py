"""My spend shows every limit that holds for me and which one won; a limit of my own I set and remove myself."""

import html
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from chat import budgets, limits, spend
from chat.models import Budget
from chat.money import nano, spoken
from tests.books import COST, HELD, admit, at_once, spent_call

pytestmark = pytest.mark.django_db

PATH = "/spend/limit/"


def words_of(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


@pytest.fixture
def shown(browse, alice):
    """`shown()`: the lines of the list of limits on Alice's page, and what is said about those that do not count."""

    def shown() -> tuple[list[str], str]:
        body = browse(alice).get("/spend/").content.decode()
        section = re.search(r'<section aria-labelledby="limits">(.*?)<form', body, re.DOTALL)[1]
        lines = [words_of(line) for line in re.findall(r'<li class="limit">(.*?)</li>', section, re.DOTALL)]
        passed_over = re.search(r'<p class="field__help">(.*?)</p>', section, re.DOTALL)
        return lines, words_of(passed_over[1]) if passed_over else ""

    return shown


@pytest.fixture
def team(alice) -> Group:
    team = Group.objects.create(name="Research")
    alice.groups.add(team)
    return team


def typed(**changed) -> dict:
    return {"limit": "5", "period": "day", "mode": "block", **changed}


# --- Every limit that applies


def test_every_limit_is_listed_with_its_source_figures_reset_and_what_it_does(alice, limit, team, shown):
    limit(alice, "10", period="week")
    limit(alice, "3", set_by_self=True, mode="warn", period="day")
    Budget.objects.create(kind="pot", group=team, limit=nano("30"))
    Budget.objects.create(kind="pot", limit=nano("500"), mode="warn")
    spent_call(alice)
    held = admit(alice)

    lines, _ = shown()

    figures = f"{spoken(COST)} used, {spoken(HELD)} held"
    resets = {s.period: f"resets on {budgets.day_words(s.resets_at)}" for s in budgets.standings(alice)}
    assert [re.sub(r" \d+ % ", " ", line) for line in lines] == [
        f"A personal limit Stops new questions {figures} of $10.00 a week · {resets['week']}",
        f"Your own limit Only warns {figures} of $3.00 a day · {resets['day']}",
        f"The pot of everyone Only warns {figures} of $500.00 a month · {resets['month']}",
        f"The pot of Research Stops new questions {figures} of $30.00 a month · {resets['month']}",
    ]
    spend.void(held)


def test_two_limits_of_one_account_and_period_are_both_listed(alice, limit, shown):
    limit(alice, "10")
    limit(alice, "3", set_by_self=True)
    limit(alice, "2", set_by_self=True, mode="warn")

    lines, _ = shown()

    assert [re.search(r"of (\$[\d.]+) a month", line)[1] for line in lines] == ["$10.00", "$3.00", "$2.00"]


def test_the_most_specific_personal_limit_won_and_the_page_says_over_which(alice, limit, team, shown):
    limit(alice, "10")
    Budget.objects.create(group=team, limit=nano("15"))

    lines, passed_over = shown()

    assert [line.partition(" Stops")[0] for line in lines] == ["A personal limit"]
    assert "Do not count for you: the limit for everyone, $20.00 a month;" in passed_over
    assert "the limit for members of Research, $15.00 a month." in passed_over
    assert "Of several the most specific wins" in passed_over


@pytest.mark.parametrize("kind", ["personal", "pot"])
def test_a_temporary_limit_says_until_when_it_holds_instead_of_the_lasting_one(alice, shown, kind):
    whose = {"user": alice} if kind == "personal" else {}
    Budget.objects.create(kind=kind, limit=nano("10"), **whose)
    last = timezone.localdate() + timedelta(days=2)
    Budget.objects.create(kind=kind, limit=nano("25"), valid_until=limits.end_of(last), **whose)

    lines, passed_over = shown()

    [line] = [line for line in lines if "$25.00" in line]
    assert f"until {limits.day_words(last)}" in line
    assert not any("$10.00" in line for line in lines)
    assert "$10.00 a month" in passed_over


def test_what_is_over_or_another_persons_is_not_there(alice, bob, limit, shown):
    limit(alice, "11", valid_until=timezone.now() - timedelta(seconds=1))
    limit(bob, "12")
    Budget.objects.create(kind="pot", group=Group.objects.create(name="Elsewhere"), limit=nano("13"))

    lines, passed_over = shown()

    assert [line.partition(" Stops")[0] for line in lines] == ["The limit for everyone"]
    assert passed_over == ""


def test_without_any_limit_set_the_page_says_that_nothing_may_be_spent(shown):
    Budget.objects.all().delete()

    [line], _ = shown()

    assert line.startswith("Nobody has set a limit for you yet Stops new questions")
    assert "$0.00 used of $0.00 a month" in line


def test_the_limits_listed_are_those_that_calls_are_held_to(alice, limit, team):
    limit(alice, "10", period="week")
    limit(alice, "7", period="week", set_by_self=True)
    limit(alice, "6", period="day", set_by_self=True, mode="warn")
    Budget.objects.create(kind="pot", group=team, limit=nano("30"))
    Budget.objects.create(kind="pot", group=team, limit=nano("20"))
    Budget.objects.create(kind="pot", limit=nano("500"), valid_until=timezone.now() + timedelta(days=1))

    counting = [limit for limit in limits.of(alice) if limit.counts]

    for account in budgets.accounts_of(alice, timezone.now()):
        mine = [limit for limit in counting if (limit.account, limit.period) == (account.key, account.period)]
        assert min((limit.limit for limit in mine if limit.blocks), default=None) == account.limit
        assert min((limit.limit for limit in mine if not limit.blocks), default=None) == account.warn_limit


def test_the_figure_on_top_is_the_tightest_of_what_stops(browse, alice, limit):
    limit(alice, "10")
    Budget.objects.create(kind="pot", limit=nano("4"), period="day")
    Budget.objects.create(kind="pot", limit=nano("1"), period="week", mode="warn")

    words = words_of(browse(alice).get("/spend/").content.decode())

    assert "$4.00 left of $4.00 a day" in words
    assert "comes from the pot of everyone." in words


# --- A limit of one's own


def test_a_limit_set_for_oneself_stops_oneself_and_nobody_else(browse, alice, bob, limit):
    limit(alice, "10")

    response = browse(alice).post(PATH, typed(limit="0.000001"))

    assert (response.status_code, response["Location"]) == (302, "/spend/")
    budget = Budget.objects.get(set_by_self=True)
    assert (budget.user, budget.kind, budget.limit, budget.period) == (alice, "personal", 1_000, "day")
    with pytest.raises(spend.OverBudget) as refusal:
        admit(alice)
    assert refusal.value.account.source == "your own limit"
    spend.void(admit(bob))


def test_it_counts_beside_the_limit_of_the_administrators_and_never_in_its_place(browse, alice, limit_nano):
    limit_nano(alice, HELD - 1)

    browse(alice).post(PATH, typed(limit="1000"))

    with pytest.raises(spend.OverBudget) as refusal:
        admit(alice)
    assert refusal.value.account.source == "a personal limit"


def test_one_that_only_warns_stops_nothing(browse, alice):
    browse(alice).post(PATH, typed(limit="0", mode="warn"))

    spend.void(admit(alice))


def test_it_is_raised_by_oneself_at_any_time_even_when_it_is_used_up(browse, alice):
    client = browse(alice)
    client.post(PATH, typed(limit="0"))
    with pytest.raises(spend.OverBudget):
        admit(alice)

    response = client.post(PATH, typed(limit="8", period="week"), follow=True)

    assert "Your own limit stops you at $8.00 a week." in words_of(response.content.decode())
    assert Budget.objects.get(set_by_self=True).limit == nano("8")
    spend.void(admit(alice))


def test_it_is_removed_by_oneself_and_nothing_else_goes_with_it(browse, alice, bob, limit):
    limit(alice, "10")
    limit(alice, "1", set_by_self=True)
    limit(bob, "1", set_by_self=True)
    client = browse(alice)
    assert ">Remove</button>" in client.get("/spend/").content.decode()

    client.post(PATH, {"remove": "yes"})

    assert [budget.limit for budget in Budget.objects.filter(user=alice)] == [nano("10")]
    assert Budget.objects.filter(user=bob).exists()
    assert ">Remove</button>" not in client.get("/spend/").content.decode()


def test_the_form_shows_what_is_set_and_says_that_it_can_be_changed_at_any_time(browse, alice, limit):
    limit(alice, "2.5", period="week", mode="warn", set_by_self=True)

    body = browse(alice).get("/spend/").content.decode()

    assert 'value="2.5"' in body
    assert '<option value="week" selected>' in body
    assert '<option value="warn" selected>' in body
    assert "You can raise or remove it whenever you like." in words_of(body)


@pytest.mark.django_db(transaction=True)
def test_of_ten_clicks_at_once_one_limit_remains(alice):
    at_once(10, lambda number: limits.limit_oneself(alice, nano("5"), "day", "block"))

    assert Budget.objects.filter(set_by_self=True).count() == 1


WRONG = [
    ({"limit": ""}, "Write an amount."),
    ({"limit": "plenty"}, "Write an amount in dollars, for example 5 or 2.50."),
    ({"limit": "-1"}, "Write an amount zero or more, of at most $1,000,000."),
    ({"limit": "2000000"}, "Write an amount zero or more, of at most $1,000,000."),
    ({"period": "year"}, "Choose a day, a week or a month."),
    ({"mode": "pray"}, "Choose to block or to warn."),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG, ids=str)
def test_what_is_wrong_is_said_and_what_was_typed_stays(browse, alice, wrong, words):
    response = browse(alice).post(PATH, {**typed(limit="7.25"), **wrong})

    body = response.content.decode()
    assert response.status_code == 422
    assert words in words_of(body)
    assert f'value="{wrong.get("limit", "7.25")}"' in body
    assert not Budget.objects.filter(user=alice).exists()


def test_nobody_limits_anybody_else(browse, alice, bob):
    browse(alice).post(PATH, typed(user=bob.pk, user_id=bob.pk, set_by_self=""))

    assert Budget.objects.get(user__isnull=False).user == alice
    assert Budget.objects.get(user__isnull=False).set_by_self
