"""C1 to C4, C23, C24: what becomes of an answer when its worker dies, is told to leave, or was only asleep."""

from dataclasses import replace
from pathlib import Path

import pytest
from celery import Celery
from django.conf import settings

from chat import failpoints, streams
from chat.models import Turn
from tests.chaos.conftest import begun, ended
from tests.conftest import wait_until
from tests.pages import Reply

LONG = {"tokens": 200, "rate": 100}
ENDLESS = {"tokens": 4000, "rate": 20}
WORDS = "The tide comes in, the tide goes out, and nobody has asked it to. " * 6
LOST, KEPT = "Interrupted: our worker went away.", " The text so far is kept."
NOT_YET_SENT = ("before_claim", "after_claim")
SENT = ("after_sent", "after_message_start", "mid_answer", "after_last_byte")


@pytest.fixture
def ring(product):
    """`ring(turn, 10)`: the bell for a turn, so many times, at the product's own broker."""
    celery = Celery("bell", set_as_current=False)
    celery.config_from_object(settings, namespace="CELERY")
    celery.conf.broker_url = product.redis_url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")

    def ring(turn: Turn, times: int) -> None:
        for _ in range(times):
            celery.send_task("chat.tasks.run_turn", [str(turn.id)], ignore_result=True)

    yield ring
    celery.close()


def said(process, *words: str) -> bool:
    """Whether a line of its log has all of these words."""
    return any(all(word in line for word in words) for line in process.log.read_text(errors="replace").splitlines())


def stream_of(product, turn: Turn) -> list:
    """What Redis has for the readers of a turn."""
    with product.redis() as client:
        return client.xrange(streams.key_of(turn.id))


def all_but_the_price(reply: Reply) -> Reply:
    return replace(reply, footer="")


def children_of(process) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        if parent == process.pid:
            found.append(int(stat.parent.name))
    return found


# --- C1: dead, at every place


@pytest.mark.parametrize("place", NOT_YET_SENT)
def test_c01_a_worker_killed_before_it_has_sent_anything(product, me, conversation, sandbox, posts, place):
    sandbox.enqueue(say="Forty-two.")
    doomed = product.worker_fails_at(place)

    turn = me.ask("What is the answer?", to=conversation)
    doomed.wait()
    product.start("worker")
    turn = ended(turn)

    reply = me.page(turn)
    assert (reply.status, reply.text, reply.ending) == ("done", "Forty-two.", "")
    assert turn.usage_records.get().confidence == "exact"
    assert posts() == 1


@pytest.mark.parametrize("place", SENT)
def test_c01_a_worker_killed_after_it_has_sent(product, me, conversation, sandbox, posts, place):
    sandbox.enqueue(**LONG)
    doomed = product.worker_fails_at(place)

    turn = me.ask("Tell me a long story", to=conversation)
    tab = me.watch(turn)
    doomed.wait()
    product.start("worker")
    turn = ended(turn)

    tab.wait()
    reply, has_text = me.page(turn), place in ("mid_answer", "after_last_byte")
    assert (reply.status, reply.ending) == ("interrupted", LOST + KEPT * has_text)
    assert "Try again" in reply.buttons
    assert bool(reply.text) == has_text
    assert turn.reply.html in tab.final
    record = turn.usage_records.get()
    assert (record.state, record.confidence) == ("settled", "estimated")
    assert posts() == (place != "after_sent")


def test_c01_a_worker_killed_in_the_transaction_that_ends_the_turn(product, me, conversation, sandbox, posts):
    sandbox.enqueue(say="Forty-two.")
    doomed = product.worker_fails_at("in_commit")

    turn = me.ask("What is the answer?", to=conversation)
    doomed.wait()
    turn = ended(turn)

    # Nothing of that transaction is there: neither the answer's end nor its price.
    assert me.page(turn).status == "interrupted"
    assert turn.usage_records.get().confidence == "estimated"
    assert posts() == 1


def test_c01_a_worker_killed_just_after_the_commit(product, me, conversation, sandbox, posts):
    sandbox.enqueue(say="Forty-two.")
    doomed = product.worker_fails_at("after_commit")

    turn = me.ask("What is the answer?", to=conversation)
    tab = me.watch(turn)
    doomed.wait()
    product.start("worker")

    # Nobody has told the tab: it finds the end in the database.
    assert "Forty-two." in tab.wait().final
    assert me.page(ended(turn)).status == "done"
    assert turn.usage_records.get().confidence == "exact"
    assert posts() == 1


def test_c01_every_place_is_one_of_these():
    assert set(failpoints.PLACES) == {*NOT_YET_SENT, *SENT, "in_commit", "after_commit"}


# --- C2: a child of it, dead


def test_c02_a_worker_has_no_child_that_could_die_alone(product, me, chats, sandbox):
    """Its answers are threads and one event loop in one process. Whatever dies, all of it dies, and that is C1."""
    sandbox.enqueue(say=WORDS, rate=50, times=3)
    turns = [begun(me.ask("Tell me about the tide", to=chat)) for chat in chats(3)]

    children = children_of(product["worker"])

    assert children == []
    assert {me.page(ended(turn)).text for turn in turns} == {WORDS.strip()}


# --- C3, C4: told to leave


def test_c03_a_deploy_of_the_worker_is_noticed_by_nobody(product, me, chats, sandbox, posts):
    sandbox.enqueue(say=WORDS, rate=50, times=6)
    *five, sixth = chats(6)
    old = product["worker"]
    turns = [me.ask("Tell me about the tide", to=chat) for chat in five]
    tabs = [me.watch(turn) for turn in turns]
    for turn in turns:
        begun(turn)
    product.claude.deafen()  # all five are in mid-answer for as long as it takes

    old.ask_to_leave()
    wait_until(lambda: said(old, "Warm shutdown"), "it did not hear that it should leave")
    turns.append(me.ask("Tell me about the tide", to=sixth))
    tabs.append(me.watch(turns[-1]))
    assert Turn.objects.live().count() == 6
    new = product.start("worker")
    product.claude.heal()

    for turn, tab in zip(turns, tabs, strict=True):
        turn = ended(turn)
        assert turn.reply.html in tab.wait().final
        assert (tab.breaks, me.page(turn).status, me.page(turn).text) == (0, "done", WORDS.strip())
        assert [record.confidence for record in turn.usage_records.all()] == ["exact"]
    old.wait(old.patience)
    assert new.is_alive
    assert posts() == 6


def test_c04_a_worker_that_takes_too_long_to_leave_is_killed(product, me, conversation, sandbox, posts):
    sandbox.enqueue(**ENDLESS)
    slow = product["worker"]
    turn = begun(me.ask("Tell me a story without end", to=conversation))
    tab = me.watch(turn)

    slow.ask_to_leave()
    wait_until(lambda: said(slow, "Warm shutdown"), "it did not hear that it should leave")
    assert slow.is_alive  # it waits for its answer; whoever stops it loses patience
    slow.kill()
    sandbox.enqueue(say="Forty-two.")
    product.start("worker")
    turn = ended(turn)

    reply = me.page(turn)
    assert (reply.status, reply.ending) == ("interrupted", LOST + KEPT)
    assert "Try again" in reply.buttons
    assert reply.text
    assert turn.reply.html in tab.wait().final
    assert turn.usage_records.get().confidence == "estimated"
    assert posts() == 1
    assert me.page(ended(me.retry(turn))).text == "Forty-two."


# --- C23: rung for again and again


@pytest.mark.smoke
def test_c23_ten_bells_for_one_turn_and_ten_after_its_end_are_one_answer(product, me, chats, sandbox, posts, ring):
    sandbox.enqueue(say="Forty-two.", times=2)
    one, other = chats(2)
    worker = product.worker_fails_at("before_claim:SIGSTOP")  # ten more lie there when the first is heard

    turn = me.ask("What is the answer?", to=one)
    wait_until(lambda: worker.is_frozen, "it did not get there")
    ring(turn, 10)
    worker.resume()
    turn = ended(turn)
    ring(turn, 10)
    last = ended(me.ask("What is the answer?", to=other))  # its bell stands behind all of the others

    assert me.page(turn).text == me.page(last).text == "Forty-two."
    assert turn.attempt == last.attempt == 1
    assert turn.usage_records.get().entries.filter(kind="charge").count() == 1
    assert posts() == 2


# --- C24: asleep for longer than its lease


def test_c24_a_worker_that_slept_past_its_lease_writes_nothing_when_it_wakes(product, me, conversation, sandbox, posts):
    sandbox.enqueue(**ENDLESS)
    zombie = product.worker_fails_at("mid_answer:SIGSTOP")
    turn = me.ask("Tell me a story without end", to=conversation)
    tab = me.watch(turn)

    turn = ended(turn)
    assert zombie.is_frozen
    tab.wait()
    shown, entries = me.page(turn), stream_of(product, turn)
    zombie.resume()
    wait_until(lambda: said(zombie, '"replaced"', str(turn.id)), "it did not notice that it was replaced")

    assert (shown.status, shown.ending) == ("interrupted", LOST + KEPT)
    assert turn.reply.html in tab.final
    assert all_but_the_price(me.page(turn)) == all_but_the_price(shown)
    assert stream_of(product, turn) == entries
    record = turn.usage_records.get()
    assert record.confidence == "estimated"
    assert record.entries.filter(kind="release").count() == record.entries.filter(kind="charge").count() == 1
    sandbox.wait_until_idle()
    assert sandbox.invoice[-1].ended == "client_left"
    assert posts() == 1


def test_c24_what_a_sleeping_worker_had_not_sent_another_one_sends_once(product, me, conversation, sandbox, posts):
    sandbox.enqueue(say="Forty-two.")
    zombie = product.worker_fails_at("after_claim:SIGSTOP")
    turn = me.ask("What is the answer?", to=conversation)
    tab = me.watch(turn)
    wait_until(lambda: zombie.is_frozen, "it did not get there")

    product.start("worker")
    turn = ended(turn)
    zombie.resume()
    wait_until(lambda: said(zombie, '"replaced"', str(turn.id)), "it did not notice that it was replaced")

    assert "Forty-two." in tab.wait().final
    assert me.page(turn).text == "Forty-two."
    assert turn.attempt == 2
    assert turn.usage_records.get().confidence == "exact"
    assert posts() == 1


def test_c24_a_worker_that_slept_before_its_post_is_cut_off_when_it_wakes(product, me, conversation, sandbox, posts):
    sandbox.enqueue(**ENDLESS)
    zombie = product.worker_fails_at("after_sent:SIGSTOP")
    turn = me.ask("Tell me a story without end", to=conversation)
    wait_until(lambda: zombie.is_frozen, "it did not get there")

    turn = ended(turn)
    shown = me.page(turn)
    zombie.resume()
    wait_until(lambda: said(zombie, '"replaced"', str(turn.id)), "it did not notice that it was replaced")

    assert (shown.status, shown.text) == ("interrupted", "")
    assert all_but_the_price(me.page(turn)) == all_but_the_price(shown)
    assert turn.usage_records.get().confidence == "estimated"
    sandbox.wait_until_idle()
    assert all(line.ended == "client_left" for line in sandbox.invoice)
    assert posts() <= 1


def test_c24_what_claude_wrote_while_a_worker_slept_is_booked_when_it_wakes(product, me, conversation, sandbox, posts):
    sandbox.enqueue(tokens=1900, rate=240)  # as fast as a model may be
    zombie = product.worker_fails_at("mid_answer:SIGSTOP")
    turn = ended(me.ask("Tell me a long story", to=conversation))
    shown = me.page(turn)
    guessed = turn.usage_records.get().cost

    sandbox.wait_until_idle(20)  # it was sent, and lies in the buffers of the wire
    zombie.resume()
    wait_until(lambda: said(zombie, '"replaced"', str(turn.id)), "it did not notice that it was replaced")

    [line], record = sandbox.invoice, turn.usage_records.get()
    assert guessed < line.cost_nanos <= record.cost <= record.held
    [correction] = record.entries.filter(kind="adjust")
    assert correction.amount == record.cost - guessed
    assert all_but_the_price(me.page(turn)) == all_but_the_price(shown)
    assert posts() == 1
