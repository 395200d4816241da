"""Asking for more: in the words of one's own limits, once at a time, and taken back as long as nobody has answered."""

import html
import re
from datetime import date, timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.utils import timezone

from chat import asking, limits, spend
from chat.endings import ending_of
from chat.models import Budget, BudgetRequest, Turn
from chat.money import nano, spoken
from tests.books import COST, HELD, admit, at_once, spent_call

pytestmark = pytest.mark.django_db

PAGE = "/spend/requests/"
HTMX = {"HX-Request": "true"}


def words_of(response) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def choices_of(response) -> dict[str, bool]:
    """The limits that the page offers, and which of them is chosen."""
    found = re.findall(
        r'<input type="radio" name="limit" value="([^"]+)" required (checked)?', response.content.decode()
    )
    return {name: bool(checked) for name, checked in found}


@pytest.fixture
def team(alice) -> Group:
    team = Group.objects.create(name="Research")
    alice.groups.add(team)
    return team


@pytest.fixture
def fields(alice):
    """What Alice types; `fields(amount="0")`."""

    def fields(**changed) -> dict:
        until = timezone.localdate() + timedelta(days=3)
        typed = {"limit": f"user:{alice.pk} month", "amount": "5", "reason": "The report", "until": until.isoformat()}
        return {**typed, **changed}

    return fields


@pytest.fixture
def asked(alice, limit) -> BudgetRequest:
    limit(alice, "10")
    return asking.ask(alice, limits.askable(alice)[0], nano("5"), "The report", timezone.localdate())


# --- The page


def test_a_request_says_who_how_much_why_until_when_and_which_limit(browse, alice, limit, fields):
    limit(alice, "10")
    until = timezone.localdate() + timedelta(days=3)

    response = browse(alice).post(PAGE, fields())

    assert (response.status_code, response["Location"]) == (302, PAGE)
    asked = BudgetRequest.objects.get()
    assert (asked.user, asked.account, asked.period) == (alice, f"user:{alice.pk}", "month")
    assert (asked.amount, asked.reason, asked.until, asked.state) == (nano("5"), "The report", until, "open")


def test_each_limit_that_applies_is_offered_with_how_it_stands(browse, alice, bob, limit, team):
    limit(alice, "10", period="week")
    limit(bob, "99")
    Budget.objects.create(kind="pot", group=team, limit=nano("30"))
    Budget.objects.create(kind="pot", group=Group.objects.create(name="Elsewhere"), limit=nano("77"))
    Budget.objects.create(kind="pot", limit=nano("500"), mode="warn")
    spent_call(alice)
    held = admit(alice)

    response = browse(alice).get(PAGE)

    figures = f"{spoken(COST)} used, {spoken(HELD)} held"
    assert set(choices_of(response)) == {f"user:{alice.pk} week", f"group:{team.pk} month"}
    assert f"A personal limit {figures} of $10.00 a week, resets on" in words_of(response)
    assert f"The pot of Research {figures} of $30.00 a month, resets on" in words_of(response)
    spend.void(held)


@pytest.mark.parametrize("account", ["group", "user", "everyone", "user:999999", "", "<script>"])
def test_the_limit_of_the_refusal_is_chosen_and_a_strange_one_is_not_offered(browse, alice, limit, team, account):
    limit(alice, "10")
    Budget.objects.create(kind="pot", group=team, limit=nano("5"))
    known = {"group": f"group:{team.pk}", "user": f"user:{alice.pk}"}

    response = browse(alice).get(PAGE, {"account": known.get(account, account)})

    tightest = f"group:{team.pk} month"
    [chosen] = [name for name, is_chosen in choices_of(response).items() if is_chosen]
    assert chosen == (f"user:{alice.pk} month" if account == "user" else tightest)
    assert set(choices_of(response)) == {f"user:{alice.pk} month", tightest}


@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_the_proposed_last_day_is_the_end_of_the_limits_period(browse, alice, limit, period):
    limit(alice, "10", period=period)
    [limit_now] = limits.askable(alice)

    response = browse(alice).get(PAGE)

    last = limits.last_day(limit_now.resets_at)
    assert f'value="{last.isoformat()}"' in response.content.decode()
    assert limits.end_of(last) == limit_now.resets_at


def test_the_limit_of_everybody_is_asked_about_as_ones_own(browse, alice):
    response = browse(alice).get(PAGE)

    assert set(choices_of(response)) == {f"user:{alice.pk} month"}
    assert "The limit for everyone" in words_of(response)


def test_a_limit_set_by_oneself_is_not_asked_about_but_pointed_out(browse, alice, limit):
    limit(alice, "10")
    limit(alice, "1", period="day", set_by_self=True)

    response = browse(alice).get(PAGE)

    assert set(choices_of(response)) == {f"user:{alice.pk} month"}
    assert "Your own limit of $1.00 a day counts beside these." in words_of(response)


def test_somebody_whom_nothing_stops_is_told_so(browse, alice, limit):
    limit(alice, "10", mode="warn")

    response = browse(alice).get(PAGE)

    assert choices_of(response) == {}
    assert "No administrator's limit stops you, so there is nothing to ask for." in words_of(response)


# --- What is wrong is said where it is wrong, and what was typed stays

TOO_LONG = "x" * 1_001
WRONG = [
    ({"amount": ""}, "amount", "Write an amount."),
    ({"amount": "much"}, "amount", "Write an amount in dollars, for example 5 or 2.50."),
    ({"amount": "0"}, "amount", "Write an amount above zero, of at most $1,000,000."),
    ({"amount": "-3"}, "amount", "Write an amount above zero"),
    ({"amount": "1000001"}, "amount", "of at most $1,000,000."),
    ({"amount": "NaN"}, "amount", "Write an amount in dollars"),
    ({"amount": "1e30"}, "amount", "digits"),
    ({"reason": " \n "}, "reason", "Say what it is for."),
    ({"reason": TOO_LONG}, "reason", "Say it in at most 1000 characters; these are 1001."),
    ({"until": ""}, "until", "Choose a day."),
    ({"until": "soon"}, "until", "Write a day as year-month-day"),
    ({"until": "2020-01-01"}, "until", "This day is over."),
    ({"until": "2999-01-01"}, "until", "Choose a day within a year from now."),
    ({"limit": ""}, "limit", "Choose a limit."),
    ({"limit": "everyone month"}, "limit", "This is not a limit of yours."),
]


@pytest.mark.parametrize(("wrong", "field", "words"), WRONG, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("htmx", [False, True], ids=["page", "htmx"])
def test_a_wrong_field_is_named_and_what_was_typed_stays(browse, alice, limit, fields, wrong, field, words, htmx):
    limit(alice, "10")
    typed = fields(**{"reason": "Because <b>I</b> must", **wrong})

    response = browse(alice, **(HTMX if htmx else {})).post(PAGE, typed)

    body = response.content.decode()
    assert response.status_code == 422
    assert words in html.unescape(re.search(rf'id="{field}-error"[^>]*>(.*?)</p>', body)[1])
    assert body.count("errorlist") == 1
    assert html.escape(typed["reason"].strip()) in body
    assert field == "amount" or 'value="5"' in body
    assert ("<html" in body) != htmx
    assert not BudgetRequest.objects.exists()


def test_a_dollar_sign_and_cents_are_understood(browse, alice, limit, fields):
    limit(alice, "10")

    browse(alice).post(PAGE, fields(amount=" $2.50 "))

    assert BudgetRequest.objects.get().amount == nano("2.50")


@pytest.mark.parametrize("whose", ["bob's limit", "another team's pot", "everyone's pot that only warns", "own limit"])
def test_a_limit_that_is_not_ones_own_to_ask_about_is_refused(browse, alice, bob, limit, fields, whose):
    limit(alice, "10")
    limit(bob, "10")
    limit(alice, "1", period="day", set_by_self=True)
    elsewhere = Group.objects.create(name="Elsewhere")
    Budget.objects.create(kind="pot", group=elsewhere, limit=nano("5"))
    Budget.objects.create(kind="pot", limit=nano("5"), mode="warn")
    names = {
        "bob's limit": f"user:{bob.pk} month",
        "another team's pot": f"group:{elsewhere.pk} month",
        "everyone's pot that only warns": "everyone month",
        "own limit": f"user:{alice.pk} day",
    }

    response = browse(alice).post(PAGE, fields(limit=names[whose]))

    assert response.status_code == 422
    assert "This is not a limit of yours." in words_of(response)
    assert not BudgetRequest.objects.exists()


def test_nobody_can_be_asked_for_in_anothers_name(browse, alice, bob, limit, fields):
    limit(alice, "10")

    browse(alice).post(PAGE, fields(user=bob.pk, state="granted", decided_by=alice.pk))

    asked = BudgetRequest.objects.get()
    assert (asked.user, asked.state, asked.decided_by) == (alice, "open", None)


# --- One at a time


def test_an_open_request_is_shown_in_place_of_the_form(browse, alice, asked):
    response = browse(alice).get(PAGE)

    assert "Waiting for an answer $5.00 more on the personal limit, until" in words_of(response)
    assert "Take it back" in words_of(response)
    assert choices_of(response) == {}


@pytest.mark.parametrize("htmx", [False, True], ids=["page", "htmx"])
def test_a_second_request_is_refused_with_words_and_its_text_stays(browse, alice, asked, fields, htmx):
    response = browse(alice, **(HTMX if htmx else {})).post(PAGE, fields(reason="From another tab"))

    assert response.status_code == 409
    assert "You have asked already. Take that request back to change it." in words_of(response)
    assert "From another tab" in words_of(response)
    assert BudgetRequest.objects.get() == asked


@pytest.mark.django_db(transaction=True)
def test_of_ten_clicks_at_once_one_asks(alice, limit):
    limit(alice, "10")
    [which] = limits.askable(alice)

    def ask(number: int):
        try:
            return asking.ask(alice, which, nano("5"), f"Click {number}", date(2030, 1, 1))
        except asking.AlreadyAsked as refusal:
            return refusal

    results = at_once(10, ask)

    assert sum(isinstance(result, BudgetRequest) for result in results) == 1
    assert BudgetRequest.objects.count() == 1


def test_the_database_too_has_one_open_request_per_person(alice, asked):
    with pytest.raises(IntegrityError), transaction.atomic():
        alice.budget_requests.create(account="everyone", amount=1, reason="Again", until=date(2030, 1, 1))

    assert BudgetRequest.objects.get() == asked


# --- Taken back


@pytest.mark.parametrize("htmx", [False, True], ids=["page", "htmx"])
def test_a_request_taken_back_makes_room_for_another(browse, alice, asked, fields, htmx):
    client = browse(alice, **(HTMX if htmx else {}))

    response = client.post(f"{PAGE}{asked.pk}/withdrawal/")

    asked.refresh_from_db()
    assert asked.state == "withdrawn"
    page = client.get(PAGE) if not htmx else response
    assert "Taken back" in words_of(page)
    assert choices_of(page)
    client.post(PAGE, fields(amount="2"))
    assert BudgetRequest.objects.get(state="open").amount == nano("2")


@pytest.mark.parametrize("state", ["granted", "declined", "withdrawn"])
@pytest.mark.parametrize("htmx", [False, True], ids=["page", "htmx"])
def test_what_was_answered_meanwhile_cannot_be_taken_back_and_one_is_told(browse, alice, asked, state, htmx):
    BudgetRequest.objects.update(state=state)
    client = browse(alice, **(HTMX if htmx else {}))

    response = client.post(f"{PAGE}{asked.pk}/withdrawal/", follow=True)

    asked.refresh_from_db()
    assert asked.state == state
    assert f"This request is not open any more: {asked.get_state_display().lower()}." in words_of(response)


def test_a_stranger_cannot_take_back_anothers_request(browse, bob, ada, asked):
    for person in (bob, ada):
        assert browse(person).post(f"{PAGE}{asked.pk}/withdrawal/").status_code == 404

    asked.refresh_from_db()
    assert asked.state == "open"


def test_nobody_sees_anothers_requests(browse, bob, ada, asked):
    for person in (bob, ada):
        assert "The report" not in words_of(browse(person).get(PAGE))


def test_earlier_requests_are_listed_with_their_ends(browse, alice, ada, asked):
    asking.decline(asked, ada)

    response = browse(alice).get(PAGE)

    assert "Earlier requests $5.00 more on the personal limit until" in words_of(response)
    assert f"Declined on {timezone.localdate().day} " in words_of(response)
    assert choices_of(response)


# --- The way from a refusal


@pytest.mark.parametrize("account", ["user:7", "group:3", "everyone", None])
def test_a_refusal_in_the_chat_leads_to_asking_about_the_limit_that_was_in_the_way(
    browse, alice, conversation, account
):
    detail = {"spent": 9, "held": 0, "limit": 10, "left": 1, "period_words": "this month", "fits": []}
    detail |= {"source": "a personal limit", "resets": "1 December"} | ({"account": account} if account else {})
    asked = conversation.start_turn("Hello", "01890000-0000-7000-8000-000000000001")
    Turn.objects.filter(id=asked.id).update(state="failed", error="over_budget", detail=detail)

    body = browse(alice).get(conversation.get_absolute_url()).content.decode()

    [address] = re.findall(r'<a class="button button--small" href="([^"]+)">Ask for more</a>', body)
    assert address == (f"{PAGE}?account={account.replace(':', '%3A')}" if account else PAGE)
    assert browse(alice).get(address).status_code == 200
    assert ending_of(Turn.objects.get(id=asked.id)).action == "ask"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("tight", ["user", "everyone"])
def test_a_real_refusal_names_the_account_that_the_page_then_chooses(ask, worker, browse, alice, limit, tight):
    limit(alice, "0.000001" if tight == "user" else "10")
    Budget.objects.create(kind="pot", limit=nano("0.000001" if tight == "everyone" else "10"))
    turn = ask("Too dear")
    client = browse(alice)

    body = client.get(turn.conversation.get_absolute_url()).content.decode()
    [address] = re.findall(r'<a class="button button--small" href="([^"]+)">Ask for more</a>', body)

    [chosen] = [name for name, is_chosen in choices_of(client.get(address)).items() if is_chosen]
    assert chosen == (f"user:{alice.pk} month" if tight == "user" else "everyone month")


def test_other_failures_offer_no_more_money(browse, alice, conversation):
    asked = conversation.start_turn("Hello", "01890000-0000-7000-8000-000000000001")
    Turn.objects.filter(id=asked.id).update(state="failed", error="busy")

    assert "Ask for more" not in browse(alice).get(conversation.get_absolute_url()).content.decode()


def test_ones_own_page_leads_to_asking(browse, alice):
    assert f'href="{PAGE}"' in browse(alice).get("/spend/").content.decode()


def test_the_page_asks_the_database_as_often_for_fifty_requests_as_for_one(
    browse, alice, team, asked, django_assert_max_num_queries
):
    client = browse(alice)
    BudgetRequest.objects.update(state="declined", account=f"group:{team.pk}")
    for number in range(50):
        alice.budget_requests.create(
            account=f"group:{team.pk}", amount=1, reason=str(number), until=date(2030, 1, 1), state="withdrawn"
        )

    with django_assert_max_num_queries(20):
        client.get(PAGE)
