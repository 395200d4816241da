"""What is left when a process dies: real worker processes, killed with -9; the sweeper; lost bells."""

import os
import signal
import subprocess
import sys
import uuid
from datetime import timedelta

import pytest
from celery import current_app
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from chat import doorbell, spend, sweeper
from chat.models import Turn, UsageRecord
from chat.pricing import Terms
from chat.sweeper import Sweeper
from tests import environment
from tests.conftest import over, streams_in, wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

QUEUE = "killed"  # apart from the queue of the worker that other tests share


@pytest.fixture
def doomed(transactional_db):
    """A worker process of its own, on a queue of its own; `doomed()` starts one."""
    processes = []

    def start() -> subprocess.Popen:
        name = connection.settings_dict["NAME"]
        url = environment.postgres_named(name) if environment.on_postgres else f"sqlite:///{name}"
        command = [sys.executable, "-m", "celery", "-A", "config", "worker", "-P", "threads", "-c", "4", "-Q", QUEUE]
        processes.append(
            subprocess.Popen(
                [*command, "--without-gossip", "--without-mingle", "-l", "WARNING"],
                cwd=settings.BASE_DIR,
                env={**os.environ, "DATABASE_URL": url},
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def nobody_hears(monkeypatch):
    """The bell is rung in vain: the test plays the workers itself."""
    monkeypatch.setattr(doorbell, "ring", lambda turn_id: True)


def begin(conversation, text="Tell me a long story") -> Turn:
    return conversation.start_turn(text, uuid.uuid4())


def ring(turn) -> None:
    current_app.send_task("chat.tasks.run_turn", [str(turn.id)], queue=QUEUE)


def expire(turn) -> None:
    """Its worker has not been heard of for a while."""
    Turn.objects.filter(id=turn.id).update(lease_until=Now() - timedelta(seconds=1))


def swept(turn) -> Turn:
    broom = Sweeper()

    def ended() -> bool:
        broom.sweep()
        return not Turn.objects.live().filter(id=turn.id).exists()

    wait_until(ended, "the sweeper did not end the turn")
    return over(turn)


def test_a_worker_killed_in_mid_answer_leaves_the_text_and_an_honest_bill(doomed, conversation, sandbox):
    sandbox.enqueue(tokens=4000, rate=50)
    worker, turn = doomed(), begin(conversation)
    ring(turn)
    wait_until(lambda: Turn.objects.filter(id=turn.id).exclude(checkpoint_text="").exists(), "no text arrived", 40)

    os.killpg(worker.pid, signal.SIGKILL)
    turn = swept(turn)

    assert (turn.state, turn.error) == (Turn.State.INTERRUPTED, "worker_lost")
    assert turn.reply.text
    record = turn.usage_records.get()
    sandbox.wait_until_idle()
    line = sandbox.invoice[-1]
    assert line.cost_nanos <= record.cost <= record.held
    assert (record.state, record.confidence) == ("settled", "estimated")
    assert len(streams_in(sandbox)) == 1


def test_a_worker_killed_in_silent_thinking_is_never_billed_too_low(doomed, conversation, sandbox):
    sandbox.enqueue(tokens=10, thinking=4000, rate=50)
    worker, turn = doomed(), begin(conversation)
    ring(turn)
    wait_until(lambda: UsageRecord.objects.filter(turn=turn).exclude(usage={}).exists(), "Claude did not begin", 40)

    os.killpg(worker.pid, signal.SIGKILL)
    turn = swept(turn)

    record = turn.usage_records.get()
    sandbox.wait_until_idle()
    assert sandbox.invoice[-1].cost_nanos <= record.cost <= record.held


def test_a_turn_whose_worker_died_before_sending_is_asked_again(conversation, sandbox, worker):
    turn = begin(conversation)
    Turn.objects.claim(turn.id)
    expire(turn)

    Sweeper().sweep()

    turn = over(turn)
    assert turn.state == Turn.State.DONE
    assert turn.attempt == 2
    assert len(streams_in(sandbox)) == 1


def test_a_turn_that_kills_every_worker_is_not_tried_for_ever(conversation, nobody_hears):
    turn = begin(conversation)
    for _ in range(5):
        assert Turn.objects.claim(turn.id)
        expire(turn)
        Sweeper().sweep()

    assert over(turn).state == Turn.State.INTERRUPTED


def test_a_bell_that_nobody_heard_is_rung_again(conversation, sandbox, worker):
    turn = begin(conversation)

    turn = swept(turn)

    assert turn.state == Turn.State.DONE


def test_ten_bells_for_one_turn_are_one_answer(conversation, sandbox, worker):
    sandbox.enqueue(tokens=20, rate=100)
    turn = begin(conversation)

    for _ in range(10):
        doorbell.ring(turn.id)

    assert over(turn).attempt == 1
    doorbell.ring(turn.id)
    assert len(streams_in(sandbox)) == 1


def test_a_worker_that_was_replaced_can_neither_send_nor_write(conversation, nobody_hears):
    turn = begin(conversation)
    old = Turn.objects.claim(turn.id)
    expire(turn)
    Sweeper().sweep()
    new = Turn.objects.claim(turn.id)

    with pytest.raises(spend.Replaced):
        spend.admit(spend.Call(old.user, "reply", old.model, Terms(100), 1000, turn=old))

    assert Turn.objects.held_by(old).update(checkpoint_text="late") == 0
    assert Turn.objects.held_by(new).update(state=Turn.State.STOPPED, lease_until=None) == 1


def test_two_sweepers_at_once_settle_once(conversation, sandbox, alice):
    turn = begin(conversation)
    claimed = Turn.objects.claim(turn.id)
    record = spend.admit(spend.Call(alice, "reply", turn.model, Terms(100), 1000, turn=claimed))
    expire(turn)

    Sweeper().sweep()
    Sweeper().sweep()

    record.refresh_from_db()
    assert record.state == "settled"
    assert 0 < record.cost <= record.held
    assert record.entries.filter(kind="charge").count() == 1


def test_the_sweeper_ends_calls_that_no_turn_accounts_for(conversation, alice, monkeypatch):
    monkeypatch.setattr(sweeper, "SIDE_CALL_SECONDS", 0)
    record = spend.admit(
        spend.Call(alice, "title", "claude-haiku-5-5", Terms(100), 40, conversation_id=conversation.id)
    )

    wait_until(lambda: Sweeper().sweep() or not UsageRecord.objects.filter(state="sent").exists(), "still open")

    record.refresh_from_db()
    assert record.state == "settled"


def test_a_conversation_deleted_in_mid_answer_keeps_its_cost(send, browse, alice, conversation, sandbox, worker):
    sandbox.enqueue(tokens=2000, rate=100)
    send("Tell me a long story")
    wait_until(lambda: Turn.objects.exclude(checkpoint_text="").exists(), "no text arrived")

    browse(alice).post(f"/conversations/{conversation.id}/deletion/")

    wait_until(lambda: UsageRecord.objects.filter(state="settled").exists(), "the call was not settled")
    sandbox.wait_until_idle()
    record = UsageRecord.objects.get(purpose="reply")
    assert record.turn is None
    assert sandbox.invoice[-1].cost_nanos <= record.cost <= record.held
