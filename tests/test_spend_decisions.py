"""What administrators decide on the spend page: every request once, every act in their log."""

import html
import re
from datetime import date, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from chat import asking, budgets, limits, spend
from chat.models import Budget, BudgetRequest, User
from chat.money import LARGEST, NANO, nano
from tests.books import HELD, admit, at_once, paris

pytestmark = pytest.mark.django_db

PAGE = "/admin/spend/"


@pytest.fixture
def wish(alice):
    """`wish("5")`: Alice asks for five dollars on the tightest of her limits."""

    def wish(dollars: str = "5", *, until: date | None = None, of: str = "", by: User = alice) -> BudgetRequest:
        offered = [limit for limit in limits.askable(by) if limit.account.startswith(of)]
        return asking.ask(by, offered[0], nano(dollars), "The report", until or timezone.localdate())

    return wish


@pytest.fixture
def decide(browse, ada):
    """`decide(asked, "grant")`: Ada presses the button and sees the page after it."""

    def decide(asked: BudgetRequest, verb: str, *, by: User = ada, **fields):
        return browse(by).post(f"{PAGE}requests/{asked.pk}/{verb}/", fields, follow=True)

    return decide


def words_of(response) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def buttons_of(response) -> list[str]:
    found = re.findall(r"<button[^>]*>\s*([^<]+?)\s*</button>", response.content.decode())
    return [name for name in found if name in {"Grant", "Decline", "Undo"}]


def limit_of(user: User, key: str = "user") -> tuple[int | None, str]:
    [account] = [account for account in budgets.accounts_of(user, timezone.now()) if account.key.startswith(key)]
    return account.limit, account.period


def fresh(asked: BudgetRequest) -> BudgetRequest:
    return BudgetRequest.objects.get(pk=asked.pk)


# --- The requests on the page


def test_an_open_request_says_who_how_much_why_until_when_and_how_the_limit_stands(browse, ada, alice, limit, wish):
    limit(alice, "10", period="day")
    wish("5", until=date(timezone.localdate().year + 1, 1, 2))

    shown = words_of(browse(ada).get(PAGE))

    assert f"alice asks for $5.00 more, until 2 January {timezone.localdate().year + 1} The report" in shown
    assert "A personal limit: $0.00 used of $10.00 a day, resets on" in shown


def test_without_requests_nothing_is_said_about_them(browse, ada):
    assert 'id="requests"' not in browse(ada).get(PAGE).content.decode()


def test_what_people_write_is_shown_as_text(browse, ada, alice, limit):
    limit(alice, "10")
    asking.ask(alice, limits.askable(alice)[0], 1, "<script>alert(1)</script>", timezone.localdate())

    body = browse(ada).get(PAGE).content.decode()

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body
    assert "<script>alert(1)" not in body


# --- Granted

CASES = [("user", "10", "month"), ("user", "10", "day"), ("group", "30", "week"), ("everyone", "500", "month")]


@pytest.mark.parametrize(("key", "dollars", "period"), CASES)
def test_a_grant_is_the_limit_in_force_plus_what_was_asked_until_the_last_day(
    alice, ada, wish, decide, key, dollars, period
):
    team = Group.objects.create(name="Research")
    alice.groups.add(team)
    kind = "personal" if key == "user" else "pot"
    whose = {"user": {"user": alice}, "group": {"group": team}, "everyone": {}}[key]
    Budget.objects.create(kind=kind, limit=nano(dollars), period=period, **whose)
    asked = wish("5", of=key, until=date(2030, 6, 30))

    response = decide(asked, "grant")

    asked, budget = fresh(asked), Budget.objects.latest("pk")
    assert (asked.state, asked.decided_by, asked.budget) == ("granted", ada, budget)
    assert (budget.kind, budget.limit, budget.period, budget.mode) == (kind, nano(dollars) + nano("5"), period, "block")
    assert (budget.user, budget.group) == (whose.get("user"), whose.get("group"))
    assert (budget.valid_until, budget.set_by_self) == (paris(2030, 7, 1), False)
    assert limit_of(alice, key) == (nano(dollars) + nano("5"), period)
    assert "Granted: the limit is $" in words_of(response)


@pytest.mark.parametrize("of", ["everyone", "the team", "nobody"])
def test_a_person_without_a_limit_of_their_own_is_raised_alone(alice, bob, wish, decide, of):
    team = Group.objects.create(name="Research")
    for person in (alice, bob):
        person.groups.add(team)
    Budget.objects.all().delete()
    if of != "nobody":
        Budget.objects.create(limit=nano("10"), group=team if of == "the team" else None)
    before = 0 if of == "nobody" else nano("10")

    decide(wish("5"), "grant")

    assert limit_of(alice) == (before + nano("5"), "month")
    assert limit_of(bob) == (before, "month")


def test_a_second_raise_builds_on_the_one_that_is_running(alice, limit, wish, decide):
    limit(alice, "10")
    decide(wish("5", until=date(2030, 1, 31)), "grant")

    decide(wish("3", until=date(2030, 1, 15)), "grant")

    assert limit_of(alice)[0] == nano("18")


def test_a_limit_of_ones_own_neither_grows_nor_is_built_on(alice, limit, wish, decide):
    limit(alice, "10")
    limit(alice, "2", set_by_self=True)

    decide(wish("5"), "grant")

    assert Budget.objects.latest("pk").limit == nano("15")
    assert limit_of(alice)[0] == nano("2")


def test_the_largest_amount_that_the_books_can_hold_is_not_passed(alice, limit, wish, decide):
    limit(alice, str(LARGEST - 1))

    decide(wish("5"), "grant")

    assert limit_of(alice)[0] == LARGEST * NANO


@pytest.mark.django_db(transaction=True)
def test_after_a_grant_the_next_question_is_answered(ask, sandbox, worker, alice, limit, wish, decide):
    limit(alice, "0.000001")
    assert ask("Too dear").error == "over_budget"
    sandbox.enqueue(say="Forty-two.")
    decide(wish("5"), "grant")

    turn = ask("And now?")

    assert (turn.state, turn.reply.text) == ("done", "Forty-two.")


@pytest.mark.django_db(transaction=True)
def test_after_the_raise_of_a_pot_the_next_question_is_answered(ask, sandbox, worker, alice, wish, decide):
    Budget.objects.create(kind="pot", limit=1)
    assert ask("Too dear").detail["source"] == "the pot of everyone"
    sandbox.enqueue(say="Forty-two.")
    decide(wish("5", of="everyone"), "grant")

    assert ask("And now?").reply.text == "Forty-two."


@pytest.mark.parametrize("key", ["user", "everyone"])
def test_the_old_limit_holds_again_exactly_at_midnight(alice, limit_nano, wish, decide, clock, key):
    if key == "user":
        limit_nano(alice, 0)
    else:
        Budget.objects.create(kind="pot", limit=0)
    last = timezone.localdate() + timedelta(days=10)
    decide(wish("5", of=key, until=last), "grant")
    midnight = paris(last.year, last.month, last.day) + timedelta(days=1)

    clock(midnight - timedelta(seconds=1))
    in_time = admit(alice)
    clock(midnight)
    with pytest.raises(spend.OverBudget) as refusal:
        admit(alice)

    assert in_time.held == HELD
    assert refusal.value.account.limit == 0
    spend.void(in_time)


@pytest.mark.parametrize(("last", "hours"), [(date(2027, 3, 28), 23), (date(2027, 10, 31), 25)])
def test_a_last_day_on_which_the_clocks_change_ends_at_local_midnight(last, hours):
    before = limits.end_of(last - timedelta(days=1))

    assert (limits.end_of(last) - before).total_seconds() in {24 * 3600}  # wall clock: the same zone on both sides
    assert limits.end_of(last).timestamp() - before.timestamp() == hours * 3600
    assert limits.last_day(limits.end_of(last)) == last


# --- What cannot be granted


def over(asked):
    BudgetRequest.objects.update(until=timezone.localdate() - timedelta(days=1))
    return "which is over. Decline it."


def left_the_team(asked):
    asked.user.groups.clear()
    return "no longer holds for them. Decline it."


def only_warns_now(asked):
    Budget.objects.filter(kind="pot").update(mode="warn")
    return "no longer holds for them. Decline it."


def other_period(asked):
    Budget.objects.filter(kind="pot").update(period="day")
    return "no longer holds for them. Decline it."


@pytest.mark.parametrize("change", [over, left_the_team, only_warns_now, other_period])
def test_what_makes_no_sense_any_more_is_not_granted_and_can_be_declined(browse, ada, alice, wish, decide, change):
    team = Group.objects.create(name="Research")
    alice.groups.add(team)
    Budget.objects.create(kind="pot", group=team, limit=nano("1"))
    asked = wish("5", of="group")
    words = change(asked)
    before = Budget.objects.count()

    assert buttons_of(browse(ada).get(PAGE)) == ["Decline"]
    assert words in words_of(decide(asked, "grant"))

    assert (fresh(asked).state, fresh(asked).decided_at, Budget.objects.count()) == ("open", None, before)
    decide(asked, "decline")
    assert fresh(asked).state == "declined"


# --- Declined, and decided once


def test_a_declined_request_changes_no_limit(alice, ada, limit, wish, decide):
    limit(alice, "10")
    asked = wish("5")

    response = decide(asked, "decline")

    assert (fresh(asked).state, fresh(asked).decided_by, fresh(asked).budget) == ("declined", ada, None)
    assert limit_of(alice)[0] == nano("10")
    assert "Declined: $5.00 more for alice." in words_of(response)


@pytest.mark.parametrize("first", ["grant", "decline"])
@pytest.mark.parametrize("second", ["grant", "decline"])
def test_the_second_administrator_is_told_what_the_first_decided(alice, limit, wish, decide, first, second):
    limit(alice, "10")
    asked = wish("5")
    decide(asked, first)
    budgets_before = Budget.objects.count()

    response = decide(asked, second)

    state = {"grant": "granted", "decline": "declined"}[first]
    assert f"This request is not open any more: {state} by ada." in words_of(response)
    assert fresh(asked).state == state
    assert Budget.objects.count() == budgets_before


def test_a_request_that_was_taken_back_cannot_be_granted(alice, limit, wish, decide):
    limit(alice, "10")
    asked = wish("5")
    asking.withdraw(asked)

    response = decide(asked, "grant")

    assert "This request is not open any more: taken back." in words_of(response)
    assert limit_of(alice)[0] == nano("10")


@pytest.mark.django_db(transaction=True)
def test_of_ten_administrators_at_once_one_decides(alice, ada, limit, wish):
    limit(alice, "10")
    asked = wish("5")

    def act(number: int):
        try:
            return (asking.grant if number % 2 else asking.decline)(fresh(asked), ada) or "declined"
        except asking.NotPossible as told:
            return told

    results = at_once(10, act)

    decided = [result for result in results if not isinstance(result, asking.NotPossible)]
    assert len(decided) == 1
    assert LogEntry.objects.count() == 1
    assert limit_of(alice)[0] == (nano("10") if decided == ["declined"] else nano("15"))


@pytest.mark.django_db(transaction=True)
def test_raises_of_one_pot_granted_at_the_same_time_add_up(ada):
    Budget.objects.create(kind="pot", limit=nano("10"))
    people = [User.objects.create_user(f"person-{number}") for number in range(6)]
    wishes = [
        asking.ask(person, limits.askable(person)[0], nano("1"), "Because", timezone.localdate()) for person in people
    ]

    at_once(6, lambda number: asking.grant(wishes[number], ada))

    assert limit_of(people[0], "everyone")[0] == nano("16")


# --- Undone


@pytest.mark.parametrize("verb", ["grant", "decline"])
def test_undo_opens_the_request_again_and_takes_the_raise_away(alice, limit, wish, decide, verb):
    limit(alice, "10")
    asked = wish("5")
    assert buttons_of(decide(asked, verb)) == ["Undo"]
    BudgetRequest.objects.update(decision_mailed_at=timezone.now(), dismissed_at=timezone.now())

    response = decide(asked, "undo", state=fresh(asked).state)

    again = fresh(asked)
    assert (again.state, again.decided_by, again.decided_at, again.budget) == ("open", None, None, None)
    assert (again.decision_mailed_at, again.dismissed_at) == (None, None)
    assert limit_of(alice)[0] == nano("10")
    assert Budget.objects.filter(user=alice).count() == 1
    assert buttons_of(response) == ["Grant", "Decline"]


def test_a_raise_on_which_another_one_builds_is_not_undone(alice, limit, wish, decide):
    limit(alice, "10")
    first = wish("5")
    decide(first, "grant")
    second = wish("3")
    decide(second, "grant")

    response = decide(first, "undo", state="granted")

    assert "A later raise of the same limit builds on this one. Undo that one first." in words_of(response)
    assert (fresh(first).state, limit_of(alice)[0]) == ("granted", nano("18"))
    decide(second, "undo", state="granted")
    asking.withdraw(second)
    decide(first, "undo", state="granted")
    assert limit_of(alice)[0] == nano("10")


def test_a_raise_of_somebody_else_is_no_hindrance(alice, bob, limit, wish, decide):
    limit(alice, "10")
    limit(bob, "10")
    first = wish("5")
    decide(first, "grant")
    decide(wish("3", by=bob), "grant")

    decide(first, "undo", state="granted")

    assert (limit_of(alice)[0], limit_of(bob)[0]) == (nano("10"), nano("13"))


def test_who_has_asked_again_meanwhile_has_one_open_request(alice, limit, wish, decide):
    limit(alice, "10")
    first = wish("5")
    decide(first, "decline")
    second = wish("2")

    response = decide(first, "undo", state="declined")

    assert "Meanwhile alice has asked again. Decide about that request." in words_of(response)
    assert (fresh(first).state, fresh(second).state) == ("declined", "open")


@pytest.mark.parametrize("seen", ["granted", "open", "", "withdrawn"])
def test_a_decision_that_is_not_the_one_on_the_page_is_not_undone(alice, limit, wish, decide, seen):
    limit(alice, "10")
    asked = wish("5")
    decide(asked, "decline")

    response = decide(asked, "undo", state=seen)

    assert "This request was decided anew since you looked at it." in words_of(response)
    assert fresh(asked).state == "declined"


@pytest.mark.parametrize("state", ["open", "withdrawn"])
def test_only_a_decision_can_be_undone(alice, ada, limit, wish, state):
    limit(alice, "10")
    asked = wish("5")
    BudgetRequest.objects.update(state=state)

    with pytest.raises(asking.NotPossible):
        asking.undo(fresh(asked), ada)

    assert fresh(asked).state == state


def test_what_was_for_a_time_that_is_over_is_not_undone(browse, ada, alice, limit, wish, decide):
    limit(alice, "10")
    asked = wish("5")
    decide(asked, "decline")
    BudgetRequest.objects.update(until=timezone.localdate() - timedelta(days=1))

    assert buttons_of(browse(ada).get(PAGE)) == []
    assert "which is over." in words_of(decide(asked, "undo", state="declined"))
    assert fresh(asked).state == "declined"


@pytest.mark.django_db(transaction=True)
def test_of_ten_who_undo_at_once_one_does(alice, ada, limit, wish):
    limit(alice, "10")
    asked = wish("5")
    asking.grant(asked, ada)
    seen = fresh(asked)

    def undo(_: int):
        try:
            return asking.undo(seen, ada)
        except asking.NotPossible as told:
            return told

    results = at_once(10, undo)

    assert results.count(None) == 1
    assert (fresh(asked).state, limit_of(alice)[0]) == ("open", nano("10"))


def test_a_raise_that_was_deleted_by_hand_can_be_decided_anew(alice, limit, wish, decide):
    limit(alice, "10")
    asked = wish("5")
    decide(asked, "grant")
    Budget.objects.latest("pk").delete()

    decide(asked, "undo", state="granted")

    assert fresh(asked).state == "open"


def test_decisions_are_listed_for_seven_days(browse, ada, alice, limit, wish, decide):
    limit(alice, "10")
    asked = wish("5")
    decide(asked, "decline")
    client = browse(ada)
    assert "Decided lately (1) Declined: $5.00 more for alice until" in words_of(client.get(PAGE))

    BudgetRequest.objects.filter(pk=asked.pk).update(decided_at=timezone.now() - timedelta(days=8))

    assert "Decided lately" not in words_of(client.get(PAGE))


# --- Who may


def test_who_may_only_look_sees_requests_without_buttons(browse, alice, clerk, limit, wish):
    limit(alice, "10")
    wish("5")

    response = browse(clerk("view_usagerecord")).get(PAGE)

    assert "alice asks for $5.00 more" in words_of(response)
    assert buttons_of(response) == []
    assert "change" not in re.findall(r">(\w+)</a>", response.content.decode())


@pytest.mark.parametrize("permissions", [(), ("view_usagerecord",), ("change_budget",)], ids=str)
def test_staff_without_both_rights_decide_nothing(browse, alice, ada, clerk, limit, wish, permissions):
    limit(alice, "10")
    asked = wish("5")
    client = browse(clerk(*permissions))
    before = list(Budget.objects.values())

    paths = [f"requests/{asked.pk}/{verb}/" for verb in ("grant", "decline", "undo")] + [f"people/{alice.pk}/limit/"]
    statuses = {
        client.post(PAGE + path, {"limit": "99", "period": "month", "state": "open"}).status_code for path in paths
    }

    assert statuses == {403}
    assert fresh(asked).state == "open"
    assert list(Budget.objects.values()) == before
    assert not LogEntry.objects.exists()


def test_a_right_that_was_taken_away_is_gone_at_the_next_press(browse, alice, clerk, limit, wish):
    limit(alice, "10")
    asked = wish("5")
    decider = clerk("view_usagerecord", "change_budget")
    client = browse(decider)
    assert buttons_of(client.get(PAGE)) == ["Grant", "Decline"]

    decider.user_permissions.clear()

    assert client.post(f"{PAGE}requests/{asked.pk}/grant/").status_code == 403
    assert fresh(asked).state == "open"


def test_people_who_are_not_staff_are_sent_to_the_sign_in(browse, alice, limit, wish):
    limit(alice, "10")
    asked = wish("5")

    response = browse(alice).post(f"{PAGE}requests/{asked.pk}/grant/")

    assert (response.status_code, fresh(asked).state) == (302, "open")
    assert response["Location"].startswith("/admin/login/")


def test_a_decision_needs_the_token_of_the_page(ada, alice, limit, wish):
    limit(alice, "10")
    asked = wish("5")
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)

    for path in (f"requests/{asked.pk}/grant/", f"people/{alice.pk}/limit/"):
        assert client.post(PAGE + path, {"limit": "99", "period": "month"}).status_code == 403

    assert fresh(asked).state == "open"


# --- A person's limit from their row


def test_the_form_opens_in_the_row_of_one_person(browse, ada, alice, bob, limit):
    limit(alice, "12.50", period="week")

    response = browse(ada).get(PAGE, {"limit": alice.pk})

    body = response.content.decode()
    assert body.count('class="spend__limit"') == 1
    assert "Limit of alice. Now $12.50 a week: a personal limit." in words_of(response)
    assert 'value="12.5"' in body


@pytest.mark.parametrize("chosen", ["", "999999", "-1", "1e9", "x" * 5_000, "\x00", "٣"])
def test_a_strange_choice_opens_nothing(browse, ada, chosen):
    response = browse(ada).get(PAGE, {"limit": chosen})

    assert response.status_code == 200
    assert 'class="spend__limit"' not in response.content.decode()


def test_a_lasting_limit_is_set_and_set_again_in_one_row(browse, ada, alice):
    client, path = browse(ada), f"{PAGE}people/{alice.pk}/limit/"

    client.post(path, {"limit": "12", "period": "week", "until": ""})
    response = client.post(path, {"limit": "8.5", "period": "day", "until": ""}, follow=True)

    budget = Budget.objects.get(user=alice)
    assert (budget.limit, budget.period, budget.mode, budget.valid_until) == (nano("8.5"), "day", "block", None)
    assert limit_of(alice) == (nano("8.5"), "day")
    assert "The limit of alice is set: $8.50 a day. Now $8.50 a day holds: a personal limit." in words_of(response)


def test_of_several_lasting_ones_the_one_that_holds_is_changed(browse, ada, alice, limit):
    limit(alice, "1")
    limit(alice, "2", mode="warn")

    browse(ada).post(f"{PAGE}people/{alice.pk}/limit/", {"limit": "3", "period": "month", "until": ""})

    assert limit_of(alice)[0] == nano("3")


def test_a_limit_until_a_day_leaves_the_lasting_one_for_afterwards(browse, ada, alice, limit, clock):
    lasting = limit(alice, "0")
    last = timezone.localdate() + timedelta(days=2)

    response = browse(ada).post(
        f"{PAGE}people/{alice.pk}/limit/", {"limit": "40", "period": "month", "until": last.isoformat()}, follow=True
    )

    assert f"Now $40.00 a month until {limits.day_words(last)} holds" in words_of(response)
    assert limit_of(alice)[0] == nano("40")
    lasting.refresh_from_db()
    assert lasting.limit == 0
    clock(limits.end_of(last))
    with pytest.raises(spend.OverBudget):
        admit(alice)


def test_a_lasting_limit_set_while_a_raise_runs_says_which_one_holds(browse, ada, alice, limit, wish, decide):
    limit(alice, "10")
    decide(wish("5"), "grant")

    response = browse(ada).post(f"{PAGE}people/{alice.pk}/limit/", {"limit": "2", "period": "month"}, follow=True)

    today = limits.day_words(timezone.localdate())
    assert f"set: $2.00 a month. Now $15.00 a month until {today} holds" in words_of(response)


def test_a_removed_limit_gives_way_to_the_next_one_and_spares_ones_own(browse, ada, alice, bob, limit, wish, decide):
    limit(alice, "10")
    limit(alice, "3", period="day", set_by_self=True)
    limit(bob, "10")
    decide(wish("5"), "grant")

    response = browse(ada).post(f"{PAGE}people/{alice.pk}/limit/", {"remove": "yes"}, follow=True)

    words = "The personal limit of alice is removed. Now $20.00 a month holds: the limit for everyone."
    assert words in words_of(response)
    assert [budget.set_by_self for budget in Budget.objects.filter(user=alice)] == [True]
    assert limit_of(bob)[0] == nano("10")
    assert BudgetRequest.objects.get().state == "granted"


WRONG = [
    ({"limit": "-1"}, "Write an amount zero or more, of at most $1,000,000."),
    ({"limit": ""}, "Write an amount."),
    ({"period": "year"}, "Choose a day, a week or a month."),
    ({"until": "2020-01-01"}, "This day is over."),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG, ids=str)
def test_a_wrong_limit_is_said_in_the_row_and_what_was_typed_stays(browse, ada, alice, wrong, words):
    typed = {"limit": "7.25", "period": "week", "until": "", **wrong}

    response = browse(ada).post(f"{PAGE}people/{alice.pk}/limit/", typed)

    body = response.content.decode()
    assert response.status_code == 422
    assert words in words_of(response)
    assert f'value="{typed["limit"]}"' in body
    assert not Budget.objects.filter(user=alice).exists()


# --- The log of the administrators


def test_every_decision_is_in_the_log_with_its_figures_and_without_a_persons_words(
    browse, ada, alice, limit, wish, decide
):
    limit(alice, "10")
    asked = wish("5", until=date(2030, 1, 31))
    for verb, state in (("grant", ""), ("undo", "granted"), ("decline", ""), ("undo", "declined")):
        decide(asked, verb, state=state)
    for fields in ({"limit": "7", "period": "day"}, {"limit": "6", "period": "day"}, {"remove": "yes"}):
        browse(ada).post(f"{PAGE}people/{alice.pk}/limit/", fields)

    log = list(LogEntry.objects.order_by("pk").values_list("user__username", "action_flag", "change_message"))

    key = f"user:{alice.pk}"
    assert log == [
        ("ada", 2, f"Granted, of {key}: $15.00 a month until 31 January 2030"),
        ("ada", 2, "Taken back: granted"),
        ("ada", 2, f"Declined, of {key}: $5.00 more"),
        ("ada", 2, "Taken back: declined"),
        ("ada", 2, "Limit of alice set to $7.00 a day"),
        ("ada", 2, "Limit of alice set to $6.00 a day"),
        ("ada", 3, "Limit of alice removed: $6.00 a day"),
    ]
    assert not LogEntry.objects.filter(object_repr__contains="report").exists()


def test_what_was_not_decided_is_not_in_the_log(alice, limit, wish, decide):
    limit(alice, "10")
    asked = wish("5")
    asking.withdraw(asked)

    for verb in ("grant", "decline", "undo"):
        decide(asked, verb, state="withdrawn")

    assert not LogEntry.objects.exists()
