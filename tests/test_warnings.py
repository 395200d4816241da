"""At 80 and at 100 per cent of a limit: who is told in the chat, when, how often, and in which words."""

import re
import uuid
from datetime import date, timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chat import warnings
from chat.models import Budget, BudgetPeriod, BudgetRequest, BudgetWarning
from chat.money import nano
from chat.views import turns
from chat.warnings import note_crossings
from tests.books import COST, at_once, row, spent_call

pytestmark = pytest.mark.django_db

LEFT = re.compile(r"\bleft\b|remain", re.IGNORECASE)


@pytest.fixture
def told(browse):
    """What the chat says above the composer: `told(alice)`."""

    def told(person, path: str = "/conversations/") -> str:
        page = browse(person).get(path).content.decode()
        return page.partition('id="notices"')[2].partition('id="composer"')[0]

    return told


def noted() -> list[int]:
    """The percentages that are still to be told."""
    note_crossings()
    return sorted(BudgetWarning.objects.filter(mailed_at=None).values_list("percent", flat=True))


@pytest.mark.parametrize(
    ("dollars", "percents"),
    [("79.99", []), ("79.999999999", []), ("80", [80]), ("99.999999999", [80]), ("100", [100]), ("104", [100])],
)
@pytest.mark.parametrize("mode", ["block", "warn"])
def test_eighty_per_cent_warn_and_a_nano_dollar_less_does_not(used, dollars, percents, mode):
    used(dollars, of="100", mode=mode)

    assert noted() == percents


def test_the_call_that_reaches_eighty_per_cent_warns(alice, limit_nano):
    limit_nano(alice, 5 * COST)
    for _ in range(3):
        spent_call(alice, bound=50, wanted=200)
    before = noted()

    spent_call(alice, bound=50, wanted=200)

    assert before == []
    assert noted() == [80]


@pytest.mark.parametrize("limit", [1, 3, 7, 9, 11, 10**9 + 1, 9 * 10**18])
def test_the_database_and_python_draw_the_same_line_to_the_nano_dollar(used, limit):
    least = -(-80 * limit // 100)
    period = used("1", of="1")
    at = BudgetPeriod.objects.filter(pk=period.pk)

    at.update(limit=limit, spent=least - 1)
    below = noted()
    at.update(spent=least)

    assert below == []
    assert noted() == [100 if least >= limit else 80]


@pytest.mark.parametrize("mode", ["block", "warn"])
def test_a_limit_of_zero_never_warns(used, mode):
    used("5", of="0", mode=mode)

    assert noted() == []


def test_an_account_without_a_limit_never_warns(used):
    used("5", of="1")
    BudgetPeriod.objects.update(limit=None, warn_limit=None)

    assert noted() == []


def test_each_threshold_is_noted_once_a_period_whoever_asks(used):
    used("85", of="100")
    for _ in range(3):
        note_crossings()
    assert noted() == [80]

    used("100", of="100")
    for _ in range(3):
        note_crossings()

    assert BudgetWarning.objects.count() == 2


def test_the_limit_that_stops_and_the_one_that_warns_are_noted_apart(used):
    used("85", of="100")
    BudgetPeriod.objects.update(warn_limit=nano("50"))

    note_crossings()

    found = BudgetWarning.objects.filter(mailed_at=None).order_by("mode").values_list("mode", "percent")
    assert list(found) == [("block", 80), ("warn", 100)]


def test_where_all_is_used_at_once_only_that_is_told(used, alice):
    used("100", of="100")

    assert noted() == [100]
    [notice] = warnings.shown_to(alice)
    assert "100 %" in notice.words
    assert not BudgetWarning.objects.filter(percent=80, dismissed_at=None).exists()


def test_the_warning_at_a_hundred_replaces_the_one_at_eighty(used, alice):
    used("85", of="100")
    note_crossings()
    used("100", of="100")

    note_crossings()

    assert [notice.refused for notice in warnings.shown_to(alice)] == [True]


def test_a_raise_does_not_warn_twice(used):
    used("100", of="100")
    note_crossings()
    used("100", of="1000")
    assert noted() == [100]

    used("850", of="1000")

    assert noted() == [100]
    assert BudgetWarning.objects.count() == 2


def test_a_new_period_warns_again(used):
    period = used("85", of="100")
    note_crossings()
    BudgetPeriod.objects.filter(pk=period.pk).update(start=F("start") - timedelta(40), end=F("end") - timedelta(40))
    later = BudgetPeriod.objects.create(
        account=period.account, period="month", start=period.start, end=period.end, limit=100, spent=85
    )

    note_crossings()

    assert BudgetWarning.objects.filter(period=later).count() == 1
    later.warnings.all().delete()
    later.delete()


@pytest.mark.parametrize(("ended", "percents"), [(timedelta(hours=23), [80]), (timedelta(hours=25), [])])
def test_a_period_that_ended_yesterday_is_still_told_of_and_an_older_one_is_not(used, alice, ended, percents):
    period = used("85", of="100")
    BudgetPeriod.objects.filter(pk=period.pk).update(start=timezone.now() - timedelta(40), end=timezone.now() - ended)

    assert noted() == percents
    assert warnings.shown_to(alice) == []


@pytest.mark.django_db(transaction=True)
def test_two_sweepers_at_once_note_one_warning(used):
    used("100", of="100")

    at_once(8, lambda number: note_crossings())

    assert BudgetWarning.objects.count() == 2
    assert noted() == [100]


def test_one_account_can_be_looked_at_alone(used, alice, bob):
    used("85", of="100")
    spent_call(bob)
    of_bob = row(f"user:{bob.pk}")
    BudgetPeriod.objects.filter(pk=of_bob.pk).update(limit=of_bob.spent)

    note_crossings(f"user:{alice.pk}")

    assert list(BudgetWarning.objects.values_list("period__account", flat=True)) == [f"user:{alice.pk}"]


def test_looking_for_crossings_is_one_statement_when_there_is_nothing_new(used, django_assert_num_queries):
    used("85", of="100")
    note_crossings()

    with django_assert_num_queries(1):
        note_crossings()


def test_looking_for_crossings_goes_by_the_end_of_periods(used):
    """However many periods are over: they are never read."""
    used("1", of="100")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")  # a table of one row would be read whole
    with CaptureQueriesContext(
        connection,
    ) as captured:
        note_crossings()
    [query] = captured

    with connection.cursor() as cursor:
        cursor.execute(("EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN ") + query["sql"])
        plan = str(cursor.fetchall())

    assert "budget_period_by_end" in plan


# In the chat


def test_the_chat_says_what_was_used_of_which_limit_and_when_it_starts_again(used, alice, told, conversation):
    Budget.objects.create(user=alice, limit=nano("25"))
    period = used("20.50", of="25")
    note_crossings()

    words = told(alice, conversation.get_absolute_url())

    assert (
        "You have used 82 % of your limit: $20.50 of $25.00 this month (a personal limit). It starts again on "
        f"1 {timezone.localtime(period.end):%B}." in words
    )
    assert f"/spend/warnings/{BudgetWarning.objects.get().pk}/dismissal/" in words
    assert "Ask for more" not in words


def test_when_all_is_used_the_chat_says_what_that_means_and_how_to_ask_for_more(used, alice, told):
    Budget.objects.create(user=alice, limit=nano("25"))
    used("25", of="25")
    note_crossings()

    words = told(alice)

    assert "Until then new questions are refused; everything can still be read." in words
    assert '<a href="/spend/requests/">Ask for more</a>' in words


def test_a_limit_that_only_warns_says_that_nothing_stops(used, alice):
    used("25", of="25", mode="warn")
    note_crossings()

    [notice] = warnings.shown_to(alice)

    assert "nothing stops" in notice.words
    assert not notice.refused


@pytest.mark.parametrize(("period", "words"), [("day", "today"), ("week", "this week"), ("month", "this month")])
def test_a_warning_names_its_period(used, alice, period, words):
    found = used("20", of="25")
    BudgetPeriod.objects.filter(pk=found.pk).update(period=period)
    note_crossings()

    [notice] = warnings.shown_to(alice)

    assert f"$20.00 of $25.00 {words}." in notice.words


def test_a_warning_that_a_raise_made_untrue_is_not_shown_any_more(used, alice, told):
    budget = Budget.objects.create(user=alice, limit=nano("25"))
    used("25", of="25")
    note_crossings()
    before = told(alice)
    budget.limit = nano("100")
    budget.save()

    after = told(alice)

    assert "You have used" in before
    assert "You have used" not in after


def test_the_chat_of_somebody_else_says_nothing(used, bob, told):
    used("25", of="25")
    note_crossings()

    assert "used" not in told(bob)


def test_members_of_a_pot_see_nothing_of_its_warnings(used, alice, told):
    team = Group.objects.create(name="Editors")
    alice.groups.add(team)
    Budget.objects.create(group=team, kind="pot", limit=nano("100"))
    spent_call(alice)
    used("100", of="100", account=f"group:{team.pk}")
    note_crossings()

    assert BudgetWarning.objects.filter(percent=100).exists()
    assert "used" not in told(alice)


def test_the_end_of_a_stream_brings_the_warning(used, alice, conversation):
    turn = conversation.start_turn("Hello", uuid.uuid4())
    turn.state = "stopped"
    turn.save(update_fields=["state"])
    Budget.objects.create(user=alice, limit=nano("25"))
    used("20.50", of="25")
    note_crossings()

    end = turns.settled(turn, "a-token")

    assert 'hx-target="#notices"' in end
    assert "You have used 82 %" in end


def test_dismissed_a_warning_stays_away(used, alice, browse, told, conversation):
    used("85", of="100")
    note_crossings()
    client = browse(alice)
    path = f"/spend/warnings/{BudgetWarning.objects.get().pk}/dismissal/"

    response = client.post(path, {"next": conversation.get_absolute_url()})

    assert response["Location"] == conversation.get_absolute_url()
    note_crossings()
    assert "You have used" not in told(alice)
    assert client.post(path, headers={"HX-Request": "true"}).content == b""


@pytest.mark.parametrize("next_page", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_a_dismissal_never_leads_away_from_the_site(used, alice, browse, next_page):
    used("85", of="100")
    note_crossings()

    response = browse(alice).post(f"/spend/warnings/{BudgetWarning.objects.get().pk}/dismissal/", {"next": next_page})

    assert response["Location"] == "/conversations/"


def test_nobody_can_dismiss_what_somebody_else_has_to_see(used, bob, ada, browse, alice):
    used("85", of="100")
    note_crossings()
    request = _decided(alice, ada)
    paths = [
        f"/spend/warnings/{BudgetWarning.objects.get().pk}/dismissal/",
        f"/spend/requests/{request.pk}/dismissal/",
    ]

    statuses = {browse(person).post(path).status_code for person in (bob, ada) for path in paths}

    assert statuses == {404}
    assert not BudgetWarning.objects.exclude(dismissed_at=None).exists()
    assert not BudgetRequest.objects.exclude(dismissed_at=None).exists()


def test_warnings_and_decisions_cost_the_chat_one_query_each(used, alice, ada, browse, conversation):
    used("85", of="100")
    note_crossings()
    _decided(alice, ada)

    with CaptureQueriesContext(connection) as captured:
        browse(alice).get(conversation.get_absolute_url())

    tables = [query["sql"] for query in captured]
    assert sum("chat_budgetwarning" in sql for sql in tables) == 1
    assert sum("chat_budgetrequest" in sql for sql in tables) == 1


# What was decided


def _decided(alice, ada, state="granted", **fields) -> BudgetRequest:
    fields = {"amount": nano("10"), "reason": "Because of the fair", "until": timezone.localdate(), **fields}
    return alice.budget_requests.create(
        account=f"user:{alice.pk}", state=state, decided_by=ada, decided_at=timezone.now(), **fields
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("granted", "ada granted you $10.00 more until 1 July 2199."),
        ("declined", "ada declined your request for $10.00 more."),
    ],
)
def test_the_chat_says_what_was_decided_until_it_is_dismissed(alice, ada, browse, told, state, words):
    request = _decided(alice, ada, state, until=date(2199, 7, 1))
    before = told(alice)

    browse(alice).post(f"/spend/requests/{request.pk}/dismissal/")

    assert words in before
    assert words not in told(alice)


def test_a_decision_without_a_decider_and_with_one_who_has_a_full_name(alice, ada):
    ada.first_name, ada.last_name = "Ada", "Lovelace"
    ada.save()
    assert warnings.decision_words(_decided(alice, ada)).startswith("Ada Lovelace granted you")

    assert warnings.decision_words(_decided(alice, None)).startswith("An administrator granted you")


@pytest.mark.parametrize("state", ["open", "withdrawn"])
def test_an_undecided_request_is_no_news_and_cannot_be_dismissed(alice, browse, told, state):
    request = _decided(alice, None, state)

    assert "$10.00" not in told(alice)
    assert browse(alice).post(f"/spend/requests/{request.pk}/dismissal/").status_code == 404


def test_a_raise_that_is_over_is_no_news_any_more(alice, ada):
    _decided(alice, ada, until=timezone.localdate() - timedelta(days=1))

    assert warnings.decisions_shown_to(alice) == []


# Words


def test_every_threshold_text_says_used_and_nothing_that_can_be_read_as_left(used, alice):
    team = Group.objects.create(name="Editors")
    texts = []
    for dollars in ("20", "25", "26"):
        for mode in ("block", "warn"):
            period = used(dollars, of="25", mode=mode)
            for percent in (80, 100):
                warning = BudgetWarning(period=period, mode=mode, percent=percent, limit=0, spent=0)
                texts += [warnings.words(warning), warnings.words(warning, "a personal limit")]
                for account in (f"group:{team.pk}", "group:0", "everyone"):
                    period.account = account
                    texts.append(warnings.pot_words(warning))

    assert len(texts) == 60
    assert all("used" in text for text in texts)
    assert not any(LEFT.search(text) for text in texts)
