"""A cost put right by an administrator: an entry of its own, with who and why, and never twice by accident."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group

from chat import spend
from chat.models import Budget, LedgerEntry, UsageRecord, User
from chat.money import dollars, nano
from chat.pricing import Usage
from tests.books import COST, HELD, USED, admit, at_once, row, spent_call

pytestmark = pytest.mark.django_db

REASON = "Not on the invoice of November"


@pytest.fixture
def estimated(alice) -> UsageRecord:
    """A call of Alice's that was cut: its cost is an estimate."""
    record = admit(alice)
    spend.settle(record, USED, exact=False, request_id="req_cut")
    return record


@pytest.fixture
def correct(browse, ada):
    """Ada corrects a call: `correct(record, "0.5")`. She has just opened the page, unless `seen` says what she saw."""

    def correct(record: UsageRecord, dollars: str = "", *, by: User | None = None, seen: int | None = None, **fields):
        if seen is None:
            seen = UsageRecord.objects.get(id=record.id).cost
        return browse(by or ada).post(page(record), {"seen": seen, "cost": dollars, "reason": REASON, **fields})

    return correct


def page(record: UsageRecord) -> str:
    return f"/admin/spend/calls/{record.id}/correction/"


def adjustments():
    return LedgerEntry.objects.filter(kind="adjust")


def cost_of(record: UsageRecord) -> int:
    return UsageRecord.objects.get(id=record.id).cost


# --- What it does


@pytest.mark.parametrize("true_cost", [1, COST - 1, COST + 1, HELD, 5 * HELD])
def test_the_difference_becomes_an_entry_and_nothing_else_changes(true_cost, alice, ada, estimated, correct):
    before = list(estimated.entries.order_by("id").values())

    response = correct(estimated, f"{dollars(true_cost):f}")

    assert (response.status_code, response["Location"]) == (302, page(estimated))
    assert cost_of(estimated) == row(f"user:{alice.pk}").spent == true_cost
    [entry] = adjustments()
    assert (entry.amount, entry.reason, entry.actor) == (true_cost - COST, REASON, f"user:{ada.pk}")
    assert list(estimated.entries.order_by("id").values())[:-1] == before


def test_every_account_that_the_call_was_counted_in_is_corrected(alice, correct):
    team = Group.objects.create(name="Research")
    alice.groups.add(team)
    Budget.objects.create(kind=Budget.Kind.POT, group=team, limit=nano("100"))
    Budget.objects.create(kind=Budget.Kind.POT, limit=nano("100"))
    record = spent_call(alice)

    correct(record, "0.001")

    assert {account: row(account).spent for account in (f"user:{alice.pk}", f"group:{team.pk}", "everyone")} == {
        f"user:{alice.pk}": nano("0.001"),
        f"group:{team.pk}": nano("0.001"),
        "everyone": nano("0.001"),
    }
    assert adjustments().count() == 3


def test_writing_off_needs_no_figure(alice, estimated, correct):
    response = correct(estimated, "", write_off="Write off")

    assert response.status_code == 302
    assert (cost_of(estimated), row(f"user:{alice.pk}").spent) == (0, 0)


def test_an_exact_call_can_be_corrected_too(alice, correct):
    record = spent_call(alice)

    correct(record, "0.5")

    assert cost_of(record) == nano("0.5")


def test_a_call_can_be_corrected_again(estimated, correct):
    for amount in ("0.5", "0.25", "0", "0.75"):
        correct(estimated, amount)

    assert cost_of(estimated) == nano("0.75")
    assert [entry.amount for entry in adjustments().order_by("id")] == [
        nano("0.5") - COST,
        nano("-0.25"),
        nano("-0.25"),
        nano("0.75"),
    ]


def test_the_call_of_somebody_who_left_can_be_corrected(alice, browse, ada, estimated, correct):
    alice.delete()

    correct(estimated, "0")

    shown = browse(ada).get(page(estimated)).content.decode()
    assert cost_of(estimated) == 0
    assert "People who left" in shown
    assert "somebody who left" in shown


def test_the_admin_s_own_history_says_who_did_it(ada, estimated, correct):
    correct(estimated, "0.5")

    [line] = LogEntry.objects.filter(object_id=str(estimated.id))
    assert line.user == ada
    assert line.change_message == "Cost corrected from $0.0021 to $0.5."


# --- What it does not


def test_the_same_cost_again_writes_nothing(estimated, browse, ada):
    fields = {"seen": COST, "cost": f"{dollars(COST):f}", "reason": REASON}

    response = browse(ada).post(page(estimated), fields, follow=True)

    assert "Nothing was written: that is what this call costs already." in response.content.decode()
    assert not adjustments().exists()
    assert not LogEntry.objects.exists()


def test_a_double_click_corrects_once(estimated, correct):
    first, second = (correct(estimated, "0.5", seen=COST) for _ in range(2))

    assert (first.status_code, second.status_code) == (302, 409)
    assert adjustments().count() == 1


def test_who_saw_an_older_cost_is_told_and_nothing_is_written(estimated, correct):
    correct(estimated, "0.5")

    late = correct(estimated, "0.25", seen=COST, reason="My own reason")

    assert late.status_code == 409
    assert "Nothing was written: this call costs $0.5 now." in late.content.decode()
    assert "My own reason" in late.content.decode()
    assert cost_of(estimated) == nano("0.5")
    # The page that says so was made for the new cost: whoever insists may.
    insisting = correct(estimated, "0.25", seen=late.context["form"]["seen"].value())
    assert insisting.status_code == 302
    assert cost_of(estimated) == nano("0.25")


@pytest.mark.django_db(transaction=True)
def test_of_many_administrators_at_the_same_instant_one_corrects(alice, ada, browse, correct):
    record = spent_call(alice)
    clients = [browse(ada) for _ in range(8)]

    answers = at_once(
        8, lambda n: clients[n].post(page(record), {"seen": COST, "cost": f"0.{n + 1}", "reason": REASON}).status_code
    )

    assert sorted(answers) == [302] + 7 * [409]
    assert adjustments().count() == LogEntry.objects.count() == 1
    assert cost_of(record) == row(f"user:{alice.pk}").spent == nano(f"0.{answers.index(302) + 1}")


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": ""},
        {"reason": "   "},
        {"reason": "x" * 301},
        {"reason": "a\0b"},
        {"cost": ""},
        {"cost": "-0.01"},
        {"cost": "-0.01", "write_off": "", "reason": ""},
        {"cost": "much"},
        {"cost": "NaN"},
        {"cost": "1e30"},
        {"cost": "1000001"},
        {"cost": "0.0000000001"},
        {"seen": ""},
        {"seen": "some"},
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(fields, estimated, browse, ada):
    response = browse(ada).post(page(estimated), {"seen": COST, "cost": "0.5", "reason": REASON, **fields})

    assert response.status_code == 422
    assert "Nothing was written yet" in response.content.decode()
    assert not adjustments().exists()


def test_a_call_that_runs_or_was_not_billed_cannot_be_corrected(alice, browse, ada, correct):
    running, unbilled = admit(alice), admit(alice)
    spend.void(unbilled)

    for record in (running, unbilled):
        assert "Only a settled call can be corrected" in browse(ada).get(page(record)).content.decode()
        assert correct(record, "0.5").status_code == 409

    assert not adjustments().exists()
    spend.void(running)


# --- What the page shows, and to whom


def test_the_page_has_the_figures_of_the_call(alice, browse, ada, correct):
    record = admit(alice)
    used = Usage(input=11, cache_write_5m=22, cache_write_1h=33, cache_read=44, output=5_555)
    facts = {"stop_reason": "max_tokens", "request_id": "req_1", "message_id": "msg_1", "duration_ms": 2_500}
    spend.settle(record, used, exact=True, **facts)
    correct(record, "0.5")

    shown = browse(ada).get(page(record)).content.decode()

    for figure in ("11", "22", "33", "44", "5,555", "$2 per million", "$10 per million", "$0.01025", "$0.5"):
        assert f">{figure}<" in shown
    for words in ("alice", "after 2.5 s", "max_tokens", "req_1", "msg_1", "correction", REASON):
        assert words in shown
    assert [(line["actor"], line["reason"]) for line in browse(ada).get(page(record)).context["history"]][-1] == (
        "ada",
        REASON,
    )


def test_the_page_has_no_word_of_the_chat(alice, browse, ada):
    chat = alice.conversations.create(model="claude-sonnet-5-5", title="canary-of-the-title")
    record = spent_call(alice, conversation_id=chat.id)

    shown = browse(ada).get(page(record)).content.decode()

    assert "canary" not in shown
    assert str(chat.id) not in shown


def test_what_somebody_wrote_as_a_reason_is_only_text(estimated, correct, browse, ada):
    correct(estimated, "0.5", reason="<script>alert(1)</script>")

    assert "&lt;script&gt;" in browse(ada).get(page(estimated)).content.decode()


@pytest.mark.parametrize(("rights", "status"), [((), 403), (("view_usagerecord",), 403), (("add_ledgerentry",), 200)])
def test_only_who_may_add_to_the_ledger_may_correct(rights, status, clerk, browse, estimated, correct):
    person = clerk(*rights)

    assert browse(person).get(page(estimated)).status_code == status
    assert correct(estimated, "0.5", by=person).status_code == (302 if status == 200 else 403)
    assert adjustments().count() == (status == 200)


def test_people_who_are_not_staff_are_sent_away(alice, browse, estimated, correct):
    assert browse(alice).get(page(estimated)).status_code == 302
    assert correct(estimated, "0", by=alice)["Location"].startswith("/admin/login/")
    assert not adjustments().exists()


def test_a_call_that_is_not_there_is_not_found(browse, ada):
    assert browse(ada).get("/admin/spend/calls/00000000-0000-7000-8000-000000000000/correction/").status_code == 404


def test_the_estimated_calls_are_a_list_that_leads_to_their_corrections(alice, browse, ada, clerk, estimated):
    exact, running = spent_call(alice), admit(alice)
    client = browse(ada)

    listed = client.get("/admin/chat/usagerecord/?confidence__exact=estimated").content.decode()
    everything = client.get("/admin/chat/usagerecord/").content.decode()
    one = client.get(f"/admin/chat/usagerecord/{estimated.id}/change/").content.decode()

    assert page(estimated) in listed
    assert page(exact) not in listed
    assert page(exact) in everything
    assert page(running) not in everything
    assert page(estimated) in one
    onlooker = browse(clerk("view_usagerecord"))
    for path in ("/admin/chat/usagerecord/", f"/admin/chat/usagerecord/{estimated.id}/change/"):
        assert "/correction/" not in onlooker.get(path).content.decode()
    spend.void(running)
