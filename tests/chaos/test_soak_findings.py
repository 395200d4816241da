"""What the soak has found, each as short as it can be said."""

import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
import redis

from chat.models import Conversation, Turn
from chat.sweeper import Sweeper
from tests import environment
from tests.chaos.conftest import ended
from tests.conftest import wait_until

BEFORE = " ".join(f"before{n}" for n in range(40)) + " "
AFTER = " ".join(f"after{n}" for n in range(40))


@pytest.fixture
def left_alone(conversation):
    """A conversation whose turns nobody carries; afterwards they are over."""
    yield conversation
    conversation.turns.update(state=Turn.State.DONE)


@pytest.fixture
def slow_to_publish(product):
    """`slow_to_publish("2")`: the worker gathers live text for so many seconds."""

    def slow_to_publish(seconds: str) -> None:
        product.end("worker")
        product.start("worker", GATHER_SECONDS=seconds)

    yield slow_to_publish
    product.end("worker")


def test_a_question_sent_while_the_last_answer_ends_is_asked(left_alone, monkeypatch):
    before = left_alone.start_turn("The last one", uuid.uuid4())

    def ends_before_we_look(self) -> None:
        Turn.objects.filter(id=before.id).update(state=Turn.State.DONE)

    monkeypatch.setattr(Conversation, "live_turn", property(ends_before_we_look))
    turn = left_alone.start_turn("The next one", uuid.uuid4())

    assert turn.is_new
    assert turn.question.parent_id == before.reply_id


def test_an_estimate_covers_what_was_on_its_way_to_us(product, me, conversation, sandbox):
    sandbox.enqueue(tokens=200, rate=200, cut_at=20, after=100)

    turn = ended(me.ask("Tell me a story", to=conversation))

    [line] = sandbox.invoice
    assert line.cost_nanos <= turn.usage_records.get().cost


def test_an_estimate_covers_what_claude_wrote_to_a_worker_that_slept(product, me, conversation, sandbox):
    sandbox.enqueue(tokens=2500, rate=240)
    asleep = product.worker_fails_at("mid_answer:SIGSTOP")

    turn = ended(me.ask("Tell me a long story", to=conversation))
    sandbox.wait_until_idle(30)
    asleep.resume()

    [line] = sandbox.invoice
    wait_until(lambda: turn.usage_records.get().cost >= line.cost_nanos, "the estimate is too low")
    assert turn.usage_records.get().cost <= turn.usage_records.get().held


def test_a_question_that_waited_long_is_rung_for_soon_after_redis_lost_its_bells(left_alone, monkeypatch):
    turn = left_alone.start_turn("What is the answer?", uuid.uuid4())
    Turn.objects.filter(id=turn.id).update(created_at=turn.created_at - timedelta(minutes=1))
    clock, sweeper = SimpleNamespace(seconds=0), Sweeper()
    monkeypatch.setattr("chat.sweeper.time", SimpleNamespace(monotonic=lambda: clock.seconds))

    def sweep_for(seconds: int) -> None:
        for _ in range(seconds):
            clock.seconds += 1
            sweeper.sweep()

    with redis.Redis.from_url(environment.redis_url) as broker:
        sweep_for(17)
        broker.flushall()
        sweep_for(3)

        assert broker.llen("chat") > 0


def test_the_text_before_a_pause_is_whole_while_the_text_after_it_comes(slow_to_publish, me, conversation, sandbox):
    sandbox.enqueue(say=BEFORE, rate=2000, stop="pause_turn")
    sandbox.enqueue(say=AFTER, rate=2000, stall_at=6)
    slow_to_publish("2")

    turn = me.ask("Tell me a story", to=conversation)
    wait_until(lambda: "after0" in Turn.objects.get(id=turn.id).checkpoint_text, "nothing came after the pause")
    me.stop(turn)

    assert Turn.objects.get(id=turn.id).checkpoint_text.startswith(BEFORE)
    ended(turn)


def test_the_text_before_a_pause_is_whole_while_claude_is_silent(slow_to_publish, me, conversation, sandbox):
    sandbox.enqueue(say=BEFORE, rate=2000, stop="pause_turn")
    sandbox.enqueue(say=AFTER, hang=8)
    slow_to_publish("1")

    turn = me.ask("Tell me a story", to=conversation)
    wait_until(lambda: turn.usage_records.filter(stop_reason="pause_turn").exists(), "it did not pause")

    wait_until(lambda: Turn.objects.get(id=turn.id).checkpoint_text == BEFORE, "words are missing", 5)
    me.stop(turn)
    ended(turn)
