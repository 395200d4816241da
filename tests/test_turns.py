"""A turn from Send to the end, through the page, a real Celery worker, the real SDK and the sandbox over HTTP."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from chat import doorbell, pricing, spend
from chat.claude import request_for, terms_of
from chat.models import BudgetPeriod, Conversation, Turn, UsageRecord
from chat.money import dollars
from tests.conftest import over, streams_in, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("worker")]


def test_a_question_is_answered_and_its_cost_is_in_the_books(ask, sandbox, alice):
    sandbox.enqueue(say="Forty-two.")

    turn = ask("What is the answer?")

    assert turn.state == Turn.State.DONE
    assert turn.reply.text == "Forty-two."
    record = turn.usage_records.get()
    invoiced = next(line for line in sandbox.invoice if line.message_id == record.message_id)
    assert record.cost == invoiced.cost_nanos > 0
    assert record.confidence == "exact"
    assert record.request_id == invoiced.request_id
    # The title is a call of its own, which may still be held for a moment.
    wait_until(lambda: BudgetPeriod.objects.get(account=f"user:{alice.pk}").held == 0, "money is still held")


def test_a_double_submit_is_one_turn_and_one_call(send, sandbox, conversation):
    client_id = uuid.uuid4()

    send("Hello", client_id)
    send("Hello", client_id)

    over(Turn.objects.get())
    assert conversation.messages.count() == 2
    assert len([r for r in sandbox.requests if r["body"]["max_tokens"] > 1000]) == 1


def test_a_first_question_sent_six_times_at_the_same_instant_is_one_conversation(browse, alice):
    fields = {"text": "Hello", "client_id": uuid.uuid4()}
    clients = [browse(alice) for _ in range(6)]
    together = threading.Barrier(len(clients))

    def press(client):
        try:
            together.wait(10)
            return client.post("/conversations/", fields)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(clients)) as pool:
        responses = list(pool.map(press, clients))

    turn = over(Turn.objects.get())
    assert {response.url for response in responses} == {f"/conversations/{turn.conversation_id}/"}
    assert alice.conversations.count() == 1


def test_the_whole_branch_is_sent_each_time_with_caching(ask, sandbox):
    sandbox.enqueue(say="First answer.")
    ask("First question")

    ask("Second question")

    body = streams_in(sandbox)[-1]
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [{"type": "text", "text": "First answer."}]
    assert body["cache_control"] == {"type": "ephemeral"}
    assert "temperature" not in body


def test_the_title_comes_from_the_cheapest_model_as_a_call_of_its_own(ask, conversation, sandbox):
    turn = ask("How do tides work in the North Sea?")

    named = Conversation.objects.filter(id=conversation.id).exclude(title=turn.question.text)
    wait_until(named.exists, "no title was written")
    title = UsageRecord.objects.get(purpose="title")
    assert (title.model, title.state) == ("claude-haiku-5-5", "settled")
    assert title.cost > 0


@pytest.mark.parametrize(
    ("directive", "state", "text", "error"),
    [
        ({"stop": "refusal"}, "done", "", ""),
        ({"tokens": 50, "cut_at": 10}, "interrupted", "some", "cut"),
        ({"tokens": 50, "eof_at": 10}, "interrupted", "some", "cut"),
        ({"tokens": 50, "error_at": 10}, "interrupted", "some", "cut"),
        ({"tokens": 50, "bad_json_at": 10}, "interrupted", "some", "cut"),
        ({"tokens": 50, "rst_at": 10}, "interrupted", "some", "cut"),
        ({"status": "401"}, "failed", "", "provider_auth"),
        ({"status": "400"}, "failed", "", "bad_request"),
        ({"status": "413"}, "failed", "", "too_large"),
        ({"status": "spend_limit"}, "failed", "", "provider_budget"),
    ],
)
def test_every_bad_end_keeps_the_text_and_charges_what_was_used(ask, sandbox, directive, state, text, error):
    sandbox.enqueue(**directive)

    turn = ask("Hello")

    assert (turn.state, turn.error) == (state, error)
    assert bool(turn.reply.text) == bool(text)
    record = turn.usage_records.get()
    sandbox.wait_until_idle()
    invoiced = sum(line.cost_nanos for line in sandbox.invoice if line.request_id == record.request_id)
    assert invoiced <= record.cost <= record.held
    assert record.state == ("void" if state == "failed" else "settled")


def test_a_busy_claude_is_asked_again_and_billed_once(ask, sandbox):
    sandbox.enqueue(status="529", times=2, retry_after=0)

    turn = ask("Hello")

    assert turn.state == Turn.State.DONE
    assert [r.state for r in turn.usage_records.order_by("admitted_at")] == ["void", "void", "settled"]
    assert sum(r.cost for r in turn.usage_records.all()) == sandbox.invoice[0].cost_nanos


def test_after_three_busy_answers_the_reader_is_told_and_nothing_is_charged(ask, sandbox):
    sandbox.enqueue(status="529", times=3, retry_after=0)

    turn = ask("Hello")

    assert (turn.state, turn.error) == (Turn.State.FAILED, "busy")
    assert not UsageRecord.objects.exclude(state="void").exists()


def test_fifty_turns_at_once_with_money_for_ten_make_ten_calls(alice, limit, sandbox):
    sandbox.enqueue(times=10, tokens=20, ttft=50_000)  # nothing is paid back while they are rung for
    turns = [
        alice.conversations.create(model="claude-sonnet-5-5", effort="quick").start_turn("Hello", uuid.uuid4())
        for _ in range(50)
    ]
    limit(alice, str(dollars(10 * _hold_for(turns[0]))))

    for turn in turns:
        doorbell.ring(turn.id)
    wait_until(lambda: Turn.objects.filter(error="over_budget").count() == 40, "forty were not refused")
    wait_until(lambda: len(streams_in(sandbox)) == 10, "Claude was not asked ten times")
    sandbox.skip(50)

    turns = [over(turn) for turn in turns]
    assert sum(turn.state == "done" for turn in turns) == 10
    assert len(streams_in(sandbox)) == 10


def _hold_for(turn) -> int:
    request = request_for(turn)
    price, _ = spend.current_price(turn.model)
    return pricing.worst_case(price.numbers(), terms_of(request, turn), request.wanted_tokens)


def test_stop_in_mid_answer_keeps_the_text_closes_the_connection_and_books_it(send, browse, alice, sandbox):
    sandbox.enqueue(tokens=2000, rate=50)
    send("Tell me a long story")
    turn = Turn.objects.get()
    wait_until(lambda: Turn.objects.exclude(checkpoint_text="").exists(), "no text arrived")

    browse(alice).post(f"/turns/{turn.id}/stop/")

    turn = over(turn)
    assert turn.state == Turn.State.STOPPED
    assert turn.reply.text
    record = turn.usage_records.get()
    sandbox.wait_until_idle()
    line = sandbox.invoice[-1]
    assert line.ended == "client_left"
    assert line.cost_nanos <= record.cost <= record.held
    assert record.confidence == "estimated"
