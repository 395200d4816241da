"""Summaries: asked for by a person, or written before an answer that needs one; charged once, and never in the way."""

import json
import uuid
from datetime import timedelta

import pytest
from django.conf import settings as configured
from django.db import IntegrityError, connection
from django.db.models.functions import Now

from chat import doorbell, spend, submission, summaries, window
from chat.claude import bound_of, request_for
from chat.engine import Run
from chat.models import Draft, LedgerEntry, Message, Summary, Turn, UsageRecord
from chat.sweeper import Sweeper
from tests.books import HAIKU, SONNET, at_once
from tests.conftest import over, wait_until
from tests.talk import ENGLISH, OLD, book, counted, say

pytestmark = pytest.mark.django_db(transaction=True)

TRANSCRIPT = "<transcript>"
WORDS = "The person plans a journey to Lisbon in May."


@pytest.fixture
def silent(monkeypatch):
    """Bells are rung in vain: the test plays the workers itself."""
    monkeypatch.setattr(doorbell, "begin", lambda *arguments, **ids: True)


@pytest.fixture
def long(conversation):
    """Seven exchanges: three of them are older than what is kept."""
    for number in range(7):
        say(conversation, f"Question {number} about Lisbon?", f"Answer {number}. {ENGLISH}")
    return conversation


@pytest.fixture
def full(conversation, settings):
    """A conversation that fills more of its model's window than it may, though it is small: the window is smaller."""
    for number in range(7):
        say(conversation, f"Question {number}?", f"Answer {number}. {ENGLISH}", model=OLD)
    settings.SUMMARISE_AT_PERCENT, settings.MODELS = 1, [SONNET, OLD]
    return conversation


def press(browse, conversation, **fields):
    return browse(conversation.owner).post(f"/conversations/{conversation.id}/summaries/", fields)


def ended(conversation) -> Summary:
    """The newest summary, once it is over."""
    wait_until(lambda: not conversation.summaries.live().exists(), "the summary did not end")
    return conversation.summaries.select_related("record", "successor").last()


def summary_calls(conversation):
    return UsageRecord.objects.filter(conversation=conversation, purpose="summary")


def messages_of(request: dict) -> list[dict]:
    return request["body"]["messages"]


# --- By hand


def test_older_turns_are_summarised_and_the_newest_stay(worker, sandbox, browse, long):
    sandbox.enqueue(match=TRANSCRIPT, say=WORDS)

    response = press(browse, long)
    summary = ended(long)

    assert response.status_code == 302
    assert (summary.state, summary.text) == ("done", WORDS)
    assert summary.last.text.startswith("Answer 2.")
    [sent] = sandbox.requests
    transcript = messages_of(sent)[0]["content"]
    assert "Question 0" in transcript
    assert "Answer 2" in transcript
    assert "Question 3" not in transcript
    assert "Lisbon" not in sent["body"]["system"]  # what people and models wrote is never a part of the system


def test_it_is_charged_once_exactly_as_billed(worker, sandbox, browse, long):
    press(browse, long)
    press(browse, long)
    summary = ended(long)

    [line] = sandbox.invoice
    [record] = summary_calls(long)
    assert summary.record == record
    assert (record.cost, record.confidence, record.model) == (line.cost_nanos, "exact", HAIKU)
    assert record.held >= record.cost


def test_after_it_claude_reads_the_summary_and_the_newest_messages(worker, sandbox, browse, long, ask):
    sandbox.enqueue(match=TRANSCRIPT, say=WORDS)
    before = counted(request_for(unsaved(long)))
    press(browse, long)
    ended(long)

    turn = ask("And now?", to=long)

    sent = messages_of(sandbox.requests[-1])
    assert [message["role"] for message in sent] == ["user", "assistant"] * 4 + ["user"]
    assert WORDS in sent[0]["content"][0]["text"]
    assert sent[0]["content"][1]["text"] == "Question 3 about Lisbon?"
    record = turn.usage_records.get(purpose="reply")
    assert record.prompt_tokens < 0.7 * before
    assert record.cost == sandbox.invoice[-1].cost_nanos
    assert turn.summary_read == long.summaries.get().id


def unsaved(conversation) -> Turn:
    conversation.refresh_from_db()
    leaf = conversation.active_leaf_id
    text = {"role": "user", "parent_id": leaf, "text": "?", "content": [{"type": "text", "text": "?"}]}
    question = Message(conversation=conversation, **text)
    return Turn(conversation=conversation, user=conversation.owner, question=question, model=SONNET, effort="balanced")


def test_the_cached_beginning_stays_the_same_from_then_on(worker, sandbox, browse, long, ask):
    press(browse, long)
    ended(long)

    ask("One more?", to=long)
    ask("And another?", to=long)

    first, second = sandbox.invoice[-2:]
    assert second.cache_read >= first.cache_write_5m > 0


def test_the_messages_themselves_are_sent_again_when_the_person_says_so_and_back(worker, sandbox, browse, long):
    press(browse, long)
    summary = ended(long)
    use = f"/summaries/{summary.id}/use/"

    browse(long.owner).post(use, {"in_use": "0"})
    without = request_for(unsaved(long))
    browse(long.owner).post(use, {"in_use": "1"})
    again = request_for(unsaved(long))

    assert (without.summary, len(without.messages)) == (None, 15)
    assert (again.summary, len(again.messages)) == (summary.id, 9)


def test_what_was_summarised_before_is_not_paid_for_again(worker, sandbox, browse, long):
    press(browse, long)
    summary = ended(long)
    Summary.objects.update(in_use=False)

    press(browse, long)

    summary.refresh_from_db()
    assert summary.in_use
    assert summary_calls(long).count() == 1


def test_the_next_summary_stands_on_the_one_before(worker, sandbox, browse, long):
    sandbox.enqueue(match=TRANSCRIPT, say=WORDS)
    press(browse, long)
    ended(long)
    for number in range(7, 12):
        say(long, f"Question {number}?", ENGLISH)

    long.refresh_from_db()
    press(browse, long)
    ended(long)

    transcript = messages_of(sandbox.requests[-1])[0]["content"]
    assert WORDS in transcript
    assert "Question 0" not in transcript
    assert "Question 7?" in transcript
    assert request_for(unsaved(long)).summary == long.summaries.last().id


def test_another_branch_has_its_own_messages(worker, sandbox, browse, long):
    press(browse, long)
    ended(long)
    second = long.messages.filter(role="user").order_by("id")[1]

    elsewhere = long.start_turn("Another way?", uuid.uuid4(), instead_of=second)
    request = request_for(elsewhere)

    assert request.summary is None
    assert [message["role"] for message in request.messages] == ["user", "assistant", "user"]
    submission.stop(Turn.objects.filter(id=elsewhere.id))


def test_a_short_conversation_has_nothing_to_summarise_and_says_so(browse, conversation):
    say(conversation, "Hello?", "Yes.")

    response = press(browse, conversation)

    assert response.status_code == 409
    assert "There is nothing older to summarise here yet." in response.content.decode()
    assert not summary_calls(conversation).exists()


def test_two_tabs_pressing_at_once_are_one_summary(silent, browse, long):
    at_once(4, lambda number: press(browse, long))

    assert long.summaries.count() == 1


def test_the_database_allows_one_at_work_per_conversation(long):
    last = long.messages.filter(role="assistant").first()
    long.summaries.create(last=last)

    with pytest.raises(IntegrityError):
        long.summaries.create(last=last, state="writing")

    long.summaries.all().delete()


def test_ten_bells_for_one_summary_are_one_call(silent, sandbox, browse, long):
    press(browse, long)
    summary = long.summaries.get()

    at_once(10, lambda number: play(summary))

    assert len(sandbox.invoice) == 1
    assert ended(long).state == "done"


def play(summary: Summary) -> None:
    """A worker hears the bell."""
    from chat.tasks import write_summary

    write_summary(str(summary.id))
    connection.close()


# --- When it does not work


def test_without_money_it_says_so_and_nothing_is_sent(worker, sandbox, browse, long, limit):
    limit(long.owner, "0.0001")

    press(browse, long)
    summary = ended(long)

    assert (summary.state, summary.error) == ("failed", "over_budget")
    assert "this month" in page(browse, long)
    assert sandbox.requests == []


def page(browse, conversation) -> str:
    return browse(conversation.owner).get(f"/conversations/{conversation.id}/").content.decode()


@pytest.mark.parametrize(
    ("fault", "error", "is_charged"),
    [
        ({"status": "529"}, "busy", False),
        ({"stop": "refusal"}, "refusal", False),
        ({"stop": "end_empty"}, "empty", True),
        ({"tokens": 6_000, "rate": 100_000}, "unfinished", True),
        ({"cut_at": 5, "tokens": 40}, "cut", True),
        ({"bad_json_at": 5, "tokens": 40}, "cut", True),
    ],
)
def test_a_summary_that_breaks_changes_nothing_and_is_charged_as_far_as_it_went(
    worker, sandbox, browse, long, fault, error, is_charged
):
    sandbox.enqueue(match=TRANSCRIPT, **fault)

    press(browse, long)
    summary = ended(long)

    assert (summary.state, summary.error) == ("failed", error)
    assert summaries.FAILURES.get(error, summaries.FAILED) in page(browse, long)
    assert request_for(unsaved(long)).summary is None
    [record] = summary_calls(long)
    billed = sum(line.cost_nanos for line in sandbox.invoice)
    assert bool(record.cost) == is_charged
    assert record.held >= record.cost >= billed


def test_a_summary_that_broke_is_charged_once_by_its_worker_who_was_there_all_the_time(silent, sandbox, browse, long):
    sandbox.enqueue(match=TRANSCRIPT, tokens=60, rate=60, cut_at=50)
    press(browse, long)

    play(long.summaries.get())

    [record] = summary_calls(long)
    entries = LedgerEntry.objects.filter(record=record)
    assert {entry.kind for entry in entries} == {"hold", "release", "charge"}
    assert record.cost == sum(entry.amount for entry in entries.filter(kind="charge"))


def test_a_summary_that_is_stopped_costs_what_was_used_by_then_and_changes_nothing(worker, sandbox, browse, long):
    sandbox.enqueue(match=TRANSCRIPT, tokens=40, stall_at=5)
    press(browse, long)
    wait_until(lambda: summary_calls(long).filter(state="sent").exists(), "it was not begun")

    browse(long.owner).post(f"/summaries/{long.summaries.get().id}/stop/")
    sandbox.wait_until_idle()
    wait_until(lambda: summary_calls(long).get().state == "settled", "it was not charged")

    [summary], [record] = long.summaries.all(), summary_calls(long)
    assert (summary.state, summary.error, summary.text) == ("failed", "stopped", "")
    assert record.confidence == "estimated"
    assert record.held >= record.cost >= sum(line.cost_nanos for line in sandbox.invoice) > 0
    assert "Stopped. Your messages are sent as before." in page(browse, long)
    assert request_for(unsaved(long)).summary is None


def test_a_summary_that_is_stopped_before_it_is_begun_costs_nothing(silent, sandbox, browse, long):
    press(browse, long)
    summary = long.summaries.get()

    browse(long.owner).post(f"/summaries/{summary.id}/stop/")
    summaries.write(summary.id)

    assert long.summaries.get().error == "stopped"
    assert not summary_calls(long).exists()
    assert sandbox.invoice == []


def test_a_worker_that_died_in_between_is_charged_once_and_the_person_may_try_again(
    silent, sandbox, browse, long, monkeypatch
):
    class Died(BaseException):
        pass

    def die(*args):
        raise Died

    press(browse, long)
    monkeypatch.setattr(summaries, "_keep", die)
    with pytest.raises(Died):
        summaries.write(long.summaries.get().id)
    monkeypatch.undo()
    long_ago = Now() - timedelta(seconds=300)
    summary_calls(long).update(sent_at=long_ago)
    Summary.objects.update(begun_at=long_ago)

    Sweeper().sweep()
    Sweeper().sweep()

    [summary], [record] = long.summaries.all(), summary_calls(long)
    assert (summary.state, summary.error) == ("failed", "worker_lost")
    assert (record.state, record.confidence) == ("settled", "estimated")
    assert record.held >= record.cost >= sandbox.invoice[0].cost_nanos
    assert "Try again." in page(browse, long)


def test_what_nobody_begins_is_given_up(silent, browse, long):
    press(browse, long)
    Summary.objects.update(created_at=Now() - timedelta(seconds=300))

    Sweeper().sweep()

    assert long.summaries.get().error == "unheard"
    assert not summary_calls(long).exists()


def test_without_a_broker_it_says_so_at_once(browse, long, monkeypatch):
    monkeypatch.setattr(doorbell, "begin", lambda *arguments, **ids: False)

    press(browse, long)

    assert long.summaries.get().error == "unheard"


def test_a_deleted_conversation_takes_its_summary_along_and_not_its_money(silent, sandbox, browse, long, monkeypatch):
    press(browse, long)
    summary, keep = long.summaries.get(), summaries._keep

    def deleted_meanwhile(*args):
        long.delete()
        return keep(*args)

    monkeypatch.setattr(summaries, "_keep", deleted_meanwhile)
    summaries.write(summary.id)

    assert not Summary.objects.exists()
    record = UsageRecord.objects.get(purpose="summary")
    assert (record.state, record.confidence, record.cost) == ("settled", "exact", sandbox.invoice[0].cost_nanos)


# --- Before an answer


def test_a_window_that_is_too_full_is_summarised_before_the_answer(worker, sandbox, full, ask):
    turn = ask("And now?", to=full)

    summary = full.summaries.get()
    assert (summary.automatic, summary.state) == (True, "done")
    assert turn.state == "done"
    assert turn.summary_read == summary.id
    first, second = sandbox.requests[:2]
    assert TRANSCRIPT in messages_of(first)[0]["content"]
    assert summary.text in messages_of(second)[0]["content"][0]["text"]
    assert messages_of(second)[-1]["content"][0]["text"] == "And now?"
    assert [record.cost for record in summary_calls(full)] == [sandbox.invoice[0].cost_nanos]


def test_the_reader_is_told_that_older_turns_are_summarised(worker, sandbox, full, send, monkeypatch):
    said = []
    monkeypatch.setattr(Run, "say", lambda run, notice: said.append(notice))

    send("And now?", to=full)
    over(Turn.objects.latest("created_at"))

    assert said == ["Summarising the older turns", "Thinking"]


@pytest.mark.parametrize("fault", [{"status": "529"}, {"cut_at": 3, "tokens": 40}, {"stop": "refusal"}])
def test_without_a_summary_the_answer_comes_all_the_same(worker, sandbox, full, ask, fault):
    sandbox.enqueue(match=TRANSCRIPT, **fault)

    turn = ask("And now?", to=full)

    assert turn.state == "done"
    assert turn.summary_read is None
    assert len(messages_of(sandbox.requests[1])) == 15
    assert full.summaries.get().state == "failed"


def test_without_money_for_both_the_answer_comes_first(worker, sandbox, full, ask, monkeypatch):
    monkeypatch.setattr(summaries, "_admit", refuse)

    turn = ask("And now?", to=full)

    assert turn.state == "done"
    assert not summary_calls(full).exists()


def refuse(conversation, request):
    raise spend.Unpriceable(request.model)


def test_zero_means_never(worker, sandbox, full, ask, settings):
    settings.SUMMARISE_AT_PERCENT = 0

    ask("And now?", to=full)

    assert not full.summaries.exists()


def test_stop_works_while_the_older_turns_are_summarised(worker, sandbox, full, send):
    sandbox.enqueue(match=TRANSCRIPT, tokens=40, stall_at=5)
    send("And now?", to=full)
    turn = Turn.objects.latest("created_at")
    wait_until(lambda: summary_calls(full).filter(state="sent").exists(), "it was not begun")

    submission.stop(Turn.objects.filter(id=turn.id))
    turn = over(turn)
    sandbox.wait_until_idle()

    assert turn.state == "stopped"
    assert ended(full).error == "stopped"
    [record] = summary_calls(full)
    assert record.held >= record.cost >= sandbox.invoice[0].cost_nanos
    assert not turn.usage_records.exclude(state="void").exists()


def test_a_turn_that_is_asked_twice_is_summarised_once(worker, sandbox, full, ask):
    first = ask("And now?", to=full)
    full.refresh_from_db()
    again = submission.ask_again(full, first.question, uuid.uuid4())

    over(again)

    assert summary_calls(full).count() == 1


def test_a_new_chat_begins_with_all_that_was_said_or_not_at_all(silent, browse, long, monkeypatch):
    newest = long.branch()[-1]
    monkeypatch.setattr(window, "READS_PERCENT", 0.2)  # as if it were a chat of many windows

    refused = press(browse, long, begins="chat")

    assert refused.status_code == 409
    assert "too long to be summarised at once. Summarise its older turns first" in refused.content.decode()
    assert not long.summaries.exists()
    long.summaries.create(last=long.branch()[-3], state="done", text="We spoke of Lisbon.")
    press(browse, long, begins="chat")
    assert long.summaries.get(begins_a_chat=True).last == newest


# The transport's advice about large bodies would be an error here.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_a_prompt_beyond_the_window_is_answered_after_a_summary(worker, sandbox, conversation, ask, settings):
    settings.MODELS = [SONNET, OLD]
    for number in range(6):
        say(conversation, f"Question {number}?", "word " * 45_000, model=OLD)
    settings.SUMMARISE_AT_PERCENT = 0
    refused = ask("And now?", model=OLD)
    settings.SUMMARISE_AT_PERCENT = 75

    turn = ask("And now?", model=OLD)

    assert refused.error == "too_large"
    assert turn.state == "done"
    assert len(messages_of(sandbox.requests[-1])) < 13


# --- The bound


def test_a_count_from_before_the_summary_says_nothing_about_what_is_sent_after_it(conversation):
    for number in range(6):
        book(say(conversation, f"{number}?", "Yes."), prompt=2, output=1)
    last = conversation.messages.filter(role="assistant").order_by("id")[1]
    conversation.summaries.create(last=last, text="word " * 2_000, state="done")

    turn = unsaved(conversation)
    request = request_for(turn)

    assert counted(request) <= bound_of(request, turn)


def test_a_count_with_the_summary_stands_for_what_comes_after(conversation):
    for number in range(6):
        say(conversation, f"{number}?", "word " * 1_000)
    last = conversation.messages.filter(role="assistant").order_by("id")[1]
    summary = conversation.summaries.create(last=last, text="Short.", state="done")
    known = say(conversation, "Known?", "Yes.")
    book(known, prompt=9_000, output=2)
    Turn.objects.filter(id=known.id).update(summary_read=summary.id)

    turn = unsaved(conversation)
    with_it = bound_of(request_for(turn), turn)
    Summary.objects.update(in_use=False)

    assert 9_000 < with_it < 9_600
    assert bound_of(request_for(turn), turn) > 25_000


def test_no_answer_is_billed_more_than_was_held_whatever_is_summarised(worker, sandbox, browse, long, ask):
    for step in ("ask", "press", "ask", "off", "ask", "on", "ask", "ask", "press", "ask"):
        long.refresh_from_db()
        match step:
            case "ask":
                ask("Go on, at length.", to=long)
            case "press":
                press(browse, long)
                ended(long)
            case _:
                Summary.objects.update(in_use=step == "on")

    lines = {line.request_id: line.cost_nanos for line in sandbox.invoice}
    for record in UsageRecord.objects.filter(conversation=long, state="settled").exclude(request_id=""):
        assert record.cost == lines.get(record.request_id, record.cost) <= record.held


# --- A new chat


def test_a_new_chat_begins_with_the_summary_where_it_can_be_changed(worker, sandbox, browse, long):
    sandbox.enqueue(match=TRANSCRIPT, say=WORDS)

    press(browse, long, begins="chat")
    summary = ended(long)

    new = summary.successor
    draft = Draft.objects.get(conversation=new)
    assert new.owner == long.owner
    assert new.messages.count() == 0
    assert f"> {WORDS}" in draft.text
    assert f"&gt; {WORDS}" in page(browse, new)
    assert "Question 6" in messages_of(sandbox.requests[0])[0]["content"]
    assert request_for(unsaved(long)).summary is None
    assert str(long.id) in page(browse, new)


def test_whoever_waits_is_led_to_the_new_chat(worker, sandbox, browse, long):
    press(browse, long, begins="chat")
    summary = ended(long)

    response = browse(long.owner).get(f"/summaries/{summary.id}/", headers={"HX-Request": "true"})

    assert response["HX-Redirect"] == summary.successor.get_absolute_url()
    assert summary.successor.get_absolute_url() in page(browse, long)


# --- The page


def test_the_page_shows_what_claude_reads_and_what_it_cost(worker, sandbox, browse, long):
    sandbox.enqueue(match=TRANSCRIPT, say=f"{WORDS} <img src=x onerror=alert(1)>")
    press(browse, long)
    summary = ended(long)

    shown = page(browse, long)

    assert f'id="summary-{summary.id}"' in shown
    assert "Older messages summarised for Claude" in shown
    assert WORDS in shown
    assert "<img src=x" not in shown
    assert "Question 0 about Lisbon?" in shown  # what was said stays readable


def test_a_question_that_claude_does_not_read_any_more_says_so(worker, sandbox, browse, ask, conversation):
    ask("[[sandbox stop=refusal]] Something forbidden")
    refused = page(browse, conversation)
    ask("Something else")

    assert "Claude does not read this question any more." in refused
    assert "forbidden" not in str(messages_of(sandbox.requests[-1]))


@pytest.mark.parametrize("scenario", ["status=413", "stop=model_context_window_exceeded"])
def test_a_conversation_that_is_too_long_offers_a_summary_at_the_place(
    worker, sandbox, browse, ask, conversation, scenario
):
    ask(f"[[sandbox {scenario}]] Go on")

    shown = page(browse, conversation)

    assert "Summarise the older turns and try again" in shown
    assert f'formaction="/conversations/{conversation.id}/summaries/"' in shown


def test_a_page_that_waits_hears_nothing_until_it_is_over(silent, browse, long):
    press(browse, long)
    summary = long.summaries.get()
    waiting = browse(long.owner).get(f"/summaries/{summary.id}/", headers={"HX-Request": "true"})
    summaries.write(summary.id)
    done = browse(long.owner).get(f"/summaries/{summary.id}/", headers={"HX-Request": "true"})

    assert waiting.status_code == 204
    assert f"#message-{summary.last_id}" in done.content.decode()
    assert json.loads(done["HX-Trigger"]) == {"foresee": {"target": "body"}}


def test_the_setting_names_the_model_that_writes_them(worker, sandbox, browse, long, settings):
    settings.SUMMARY_MODEL = OLD

    press(browse, long)
    ended(long)

    assert sandbox.requests[0]["body"]["model"] == OLD
    assert configured.SUMMARY_MODEL == OLD
