"""C1 to C4, C23, C24: what becomes of an answer when its worker dies, is told to leave, or was only asleep."""

import pytest

from chat import failpoints
from tests.chaos.conftest import ended

LONG = {"tokens": 200, "rate": 100}
NOT_YET_SENT = ("before_claim", "after_claim")
SENT = ("after_sent", "after_message_start", "mid_answer", "after_last_byte")


@pytest.fixture
def dies_at(product):
    """`dies_at("after_sent")`: the only worker is one that will die there."""

    def dies_at(place: str):
        product["worker"].leave()
        return product.start("worker", FAIL_AT=place, SANDBOX="True")

    return dies_at


@pytest.mark.parametrize("place", NOT_YET_SENT)
def test_c01_a_worker_killed_before_it_has_sent_anything(product, dies_at, me, conversation, sandbox, posts, place):
    sandbox.enqueue(say="Forty-two.")
    doomed = dies_at(place)

    turn = me.ask("What is the answer?", to=conversation)
    doomed.wait()
    product.start("worker")
    turn = ended(turn)

    reply = me.page(turn)
    assert (reply.status, reply.text, reply.ending) == ("done", "Forty-two.", "")
    assert turn.usage_records.get().confidence == "exact"
    assert posts() == 1


@pytest.mark.parametrize("place", SENT)
def test_c01_a_worker_killed_after_it_has_sent(product, dies_at, me, conversation, sandbox, posts, place):
    sandbox.enqueue(**LONG)
    doomed = dies_at(place)

    turn = me.ask("Tell me a long story", to=conversation)
    tab = me.watch(turn)
    doomed.wait()
    product.start("worker")
    turn = ended(turn)

    tab.wait()
    reply = me.page(turn)
    assert reply.status == "interrupted"
    assert reply.ending == "Interrupted: our worker went away. The text so far is kept."
    assert reply.buttons == ["Retry"]
    assert bool(reply.text) == (place in ("mid_answer", "after_last_byte"))
    assert turn.reply.html in tab.final
    record = turn.usage_records.get()
    assert (record.state, record.confidence) == ("settled", "estimated")
    assert posts() == (place != "after_sent")


def test_c01_a_worker_killed_in_the_transaction_that_ends_the_turn(product, dies_at, me, conversation, sandbox, posts):
    sandbox.enqueue(say="Forty-two.")
    doomed = dies_at("in_commit")

    turn = me.ask("What is the answer?", to=conversation)
    doomed.wait()
    product.start("worker")
    turn = ended(turn)

    # Nothing of that transaction is there: neither the answer's end nor its price.
    assert me.page(turn).status == "interrupted"
    assert turn.usage_records.get().confidence == "estimated"
    assert posts() == 1


def test_c01_a_worker_killed_just_after_the_commit(product, dies_at, me, conversation, sandbox, posts):
    sandbox.enqueue(say="Forty-two.")
    doomed = dies_at("after_commit")

    turn = me.ask("What is the answer?", to=conversation)
    tab = me.watch(turn)
    doomed.wait()

    # Nobody has told the tab: it finds the end in the database.
    assert "Forty-two." in tab.wait().final
    assert me.page(ended(turn)).status == "done"
    assert turn.usage_records.get().confidence == "exact"
    assert posts() == 1


def test_c01_every_place_is_one_of_these():
    assert set(failpoints.PLACES) == {*NOT_YET_SENT, *SENT, "in_commit", "after_commit"}
