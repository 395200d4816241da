"""Every way in which an answer can end has words of its own on the page, and a bill that is right (C22, C28)."""

import threading
import uuid

import pytest
from django.db import connection

from chat import tasks, titles
from chat.models import Alarm, BudgetPeriod, Price, Turn, UsageRecord
from chat.models.conversation import first_words
from tests.conftest import over, streams_in, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

QUESTION = "How do tides work in the North Sea?"


@pytest.fixture
def stop(browse, alice):
    """Somebody presses Stop: each time from a tab of its own."""
    return lambda turn, **headers: browse(alice, **headers).post(f"/turns/{turn.id}/stop/")


@pytest.fixture
def entitle():
    """What the background worker does for a new conversation."""
    return lambda conversation: titles.write(conversation.id)


@pytest.fixture
def untitled(conversation):
    """A conversation with its first question, whose answer was stopped before anything was sent."""
    turn = conversation.start_turn(QUESTION, uuid.uuid4())
    Turn.objects.filter(id=turn.id).stop()
    conversation.refresh_from_db()
    assert conversation.title == first_words(QUESTION)
    return conversation


def lines_for(sandbox, turn) -> list:
    ids = set(turn.usage_records.values_list("request_id", flat=True))
    return [line for line in sandbox.invoice if line.request_id in ids]


# --- What Claude says about its end


@pytest.mark.parametrize(
    ("scenario", "words", "buttons"),
    [
        ({"say": "Forty-two."}, "", []),
        ({"tokens": 8_100, "rate": 100_000}, "reached its length limit", ["Continue"]),
        ({"thinking": 8_100, "rate": 100_000}, "still thinking when it reached its length limit", []),
        ({"stop": "refusal"}, "Claude declined to answer", []),
        ({"tokens": 40, "stop": "refusal_mid"}, "Claude declined to answer", []),
        ({"stop": "model_context_window_exceeded"}, "filled the model's memory", ["Summarise the older turns"]),
        ({"stop": "something_new"}, "a reason that Tally does not know yet", ["Continue"]),
        ({"stop": "end_empty"}, "ended without a word", ["Try again"]),
    ],
    ids=lambda value: str(value.get("stop", "")) if isinstance(value, dict) else "",
)
def test_every_stop_reason_has_its_own_words_and_the_exact_bill(ask, sandbox, worker, page, scenario, words, buttons):
    sandbox.enqueue(**scenario)

    turn = ask(effort="quick")

    shown = page(turn)
    assert (shown.status, shown.buttons) == ("done", buttons)
    assert words in shown.ending
    assert bool(words) == bool(shown.ending)
    record = turn.usage_records.get()
    assert (record.state, record.confidence) == ("settled", "exact")
    assert record.cost == sum(line.cost_nanos for line in lines_for(sandbox, turn))


def test_continue_after_a_cut_asks_for_the_rest_once(ask, send, sandbox, worker, page, browse, alice):
    sandbox.enqueue(tokens=8_100, rate=100_000)
    turn = ask(effort="quick")
    sandbox.enqueue(match="Please continue", say="And that is all.")  # and not the title
    button = {"text": "Please continue exactly where you stopped.", "client_id": uuid.uuid5(turn.id, "continue")}
    assert str(button["client_id"]) in browse(alice).get(f"/conversations/{turn.conversation_id}/").content.decode()

    send(**button)
    rest = over(Turn.objects.latest("created_at"))
    send(**button)

    assert page(rest).text == "And that is all."
    assert Turn.objects.count() == 2
    assert streams_in(sandbox)[-1]["messages"][1]["content"] == [{"type": "text", "text": turn.reply.text}]


def test_an_answer_that_was_made_to_fit_says_so(ask, sandbox, worker, limit, alice, page):
    limit(alice, "0.003")
    sandbox.enqueue(tokens=8_000, rate=100_000)

    turn = ask(model="claude-haiku-5-5", effort="quick")

    shown, record = page(turn), turn.usage_records.get()
    assert shown.ending == "The answer was cut to fit your budget."
    assert shown.buttons == ["Continue"]
    assert f"Made to fit your budget: at most {record.max_tokens:,} tokens" in shown.footer
    assert streams_in(sandbox)[0]["max_tokens"] == record.max_tokens == record.output_tokens < 8_000


def test_a_refusal_before_the_first_word_is_free(ask, sandbox, worker, page):
    sandbox.enqueue(stop="refusal")

    turn = ask()

    assert turn.usage_records.get().cost == sandbox.invoice[0].cost_nanos == 0
    assert not UsageRecord.objects.filter(cost__gt=0, purpose="reply").exists()
    assert "$0.00" in page(turn).footer


def test_a_refusal_in_mid_answer_is_billed_and_neither_text_nor_question_lives_on(ask, sandbox, worker, page):
    sandbox.enqueue(tokens=40, stop="refusal_mid")
    refused = ask("A question that is refused")
    sandbox.enqueue(say="Yes.")

    ask("Another question")

    assert refused.reply.content == []
    assert page(refused).text == ""
    assert refused.usage_records.get().cost == lines_for(sandbox, refused)[0].cost_nanos > 0
    asked = [message["content"][0]["text"] for message in streams_in(sandbox)[-1]["messages"]]
    assert asked == ["Another question"]


def test_a_pause_is_continued_by_itself_and_every_call_is_billed(ask, sandbox, worker, page):
    sandbox.enqueue(tokens=10, stop="pause_turn")
    sandbox.enqueue(say="Now it is finished.")

    turn = ask()

    assert page(turn).ending == ""
    assert turn.reply.text.endswith("Now it is finished.")
    assert [r.state for r in turn.usage_records.all()] == ["settled", "settled"]
    assert sum(r.cost for r in turn.usage_records.all()) == sum(line.cost_nanos for line in lines_for(sandbox, turn))
    first, second = streams_in(sandbox)
    assert [m["role"] for m in second["messages"]] == ["user", "assistant"]
    assert second["messages"][0] == first["messages"][0]


def test_an_answer_that_pauses_for_ever_is_left_to_the_reader(ask, sandbox, worker, page):
    sandbox.enqueue(tokens=10, stop="pause_turn", times=9)

    turn = ask()

    shown = page(turn)
    assert shown.ending == "Claude paused before it was finished."
    assert shown.buttons == ["Continue"]
    assert len(streams_in(sandbox)) == turn.usage_records.filter(state="settled").count() == 5


def test_a_fault_of_ours_is_said_and_what_was_sent_is_booked(ask, sandbox, worker, page, monkeypatch):
    def fail(*args) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("chat.claude.client.Claude._take", fail)

    turn = ask()

    shown, record = page(turn), turn.usage_records.get()
    assert (shown.status, shown.buttons) == ("failed", ["Try again"])
    assert shown.ending.startswith("Something went wrong on our side. What you wrote is kept.")
    assert (record.state, record.confidence) == ("settled", "estimated")
    sandbox.wait_until_idle()
    assert 0 < sum(line.cost_nanos for line in lines_for(sandbox, turn)) <= record.cost <= record.held


# --- Stop


def test_a_queued_turn_is_stopped_before_anything_is_sent(send, sandbox, stop, page, monkeypatch, worker):
    monkeypatch.setattr("chat.doorbell.ring", lambda turn_id: True)
    send("Hello")
    turn = Turn.objects.get()

    stop(turn)

    tasks.run_turn(str(turn.id))  # its bell rings too late
    shown = page(turn)
    assert (shown.status, shown.ending) == ("stopped", "Stopped.")
    assert not streams_in(sandbox)
    assert not UsageRecord.objects.exclude(state="void").exists()


def test_stop_before_the_first_token_hangs_up_and_books_the_question(send, sandbox, worker, stop, page, alice):
    sandbox.enqueue(ttft=30_000)
    send("Hello")
    turn = Turn.objects.get()
    wait_until(lambda: streams_in(sandbox), "nothing was sent")

    stop(turn)

    turn = over(turn)
    assert (page(turn).status, turn.reply.text) == ("stopped", "")
    sandbox.wait_until_idle()
    record, [line] = turn.usage_records.get(), sandbox.invoice
    assert line.ended == "client_left"
    assert 0 < line.cost_nanos <= record.cost <= record.held
    assert BudgetPeriod.objects.get(account=f"user:{alice.pk}").held == 0


def test_stop_twice_and_from_two_tabs_is_one_stop(send, sandbox, worker, stop):
    sandbox.enqueue(tokens=2_000, rate=50)
    send("Hello")
    turn = Turn.objects.get()
    wait_until(lambda: streams_in(sandbox), "nothing was sent")

    answers = [stop(turn), stop(turn, **{"HX-Request": "true"}), stop(turn)]

    turn = over(turn)
    assert [answer.status_code for answer in answers] == [302, 204, 302]
    assert turn.state == Turn.State.STOPPED
    assert turn.usage_records.get().entries.filter(kind="charge").count() == 1


def test_stop_after_the_end_changes_nothing(ask, sandbox, worker, stop, page):
    sandbox.enqueue(say="Forty-two.")
    turn = ask()
    before = Turn.objects.values().get(id=turn.id)

    assert stop(turn).status_code == 302

    assert Turn.objects.values().get(id=turn.id) == before
    assert page(turn).text == "Forty-two."


def test_retry_pressed_twice_is_one_turn_and_the_old_answer_stays(ask, sandbox, worker, browse, alice, page):
    sandbox.enqueue(status="401")
    failed = ask()
    assert page(failed).buttons == ["Try again"]
    sandbox.enqueue(say="Here it is.")

    for client in (browse(alice), browse(alice, **{"HX-Request": "true"})):
        assert client.post(f"/turns/{failed.id}/retries/").status_code in (200, 302)

    again = over(Turn.objects.exclude(id=failed.id).get())
    assert page(again).text == "Here it is."
    assert again.question_id == failed.question_id
    assert len(streams_in(sandbox)) == 2


# --- The title, which is a call of its own


def test_without_money_for_a_title_the_first_words_stay(untitled, entitle, limit, alice, sandbox, settings):
    settings.TITLE_MODEL = "claude-fable-5-2"
    limit(alice, "0.01")

    entitle(untitled)

    untitled.refresh_from_db()
    assert untitled.title == first_words(QUESTION)
    assert not sandbox.requests
    assert not UsageRecord.objects.exclude(state="void").exists()


@pytest.mark.parametrize(
    ("scenario", "state"),
    [
        ({"status": "500"}, "void"),
        ({"tokens": 20, "cut_at": 5}, "settled"),
    ],
    ids=["500", "cut"],
)
def test_a_title_that_fails_is_billed_honestly_and_the_first_words_stay(untitled, entitle, sandbox, scenario, state):
    sandbox.enqueue(**scenario)

    entitle(untitled)

    untitled.refresh_from_db()
    assert untitled.title == first_words(QUESTION)
    record = UsageRecord.objects.get(purpose="title")
    billed = sum(line.cost_nanos for line in sandbox.invoice)
    assert record.state == state
    assert len(sandbox.requests) == 1
    assert billed <= record.cost <= (record.held if billed else 0)


def test_a_title_that_is_ordered_twice_is_written_once(untitled, entitle, sandbox):
    sandbox.enqueue(say="Tides of the North Sea")

    entitle(untitled)
    entitle(untitled)

    untitled.refresh_from_db()
    assert untitled.title == "Tides of the North Sea"
    assert len(sandbox.requests) == UsageRecord.objects.count() == 1


def test_a_title_that_a_person_gives_meanwhile_stays(untitled, entitle, sandbox, browse, alice):
    sandbox.enqueue(say="Tides of the North Sea", ttft=1_500)
    writing = threading.Thread(target=lambda: (entitle(untitled), connection.close()))
    writing.start()
    wait_until(lambda: sandbox.requests, "no title was asked for")

    browse(alice).post(f"/conversations/{untitled.id}/settings/", {"title": "Mine", "system_prompt": ""})
    assert UsageRecord.objects.get().state == "sent", "the rename has to come first for this test to mean anything"
    writing.join()

    untitled.refresh_from_db()
    assert untitled.title == "Mine"
    assert UsageRecord.objects.get().cost == sandbox.invoice[0].cost_nanos


def test_a_title_whose_model_has_no_price_is_not_asked_for_and_an_admin_is_told(
    untitled, entitle, sandbox, monkeypatch
):
    monkeypatch.setattr(Price, "is_usable", False)

    entitle(untitled)

    assert not sandbox.requests
    assert Alarm.objects.values_list("kind", "subject").get() == ("no_price", "claude-haiku-5-5")


def test_a_title_that_claude_declines_costs_nothing(untitled, entitle, sandbox):
    sandbox.enqueue(stop="refusal")

    entitle(untitled)

    record = UsageRecord.objects.get(purpose="title")
    assert (record.stop_reason, record.confidence, record.cost) == ("refusal", "exact", 0)
    assert sum(line.cost_nanos for line in sandbox.invoice) == 0
    untitled.refresh_from_db()
    assert untitled.title == first_words(QUESTION)
