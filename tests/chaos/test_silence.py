"""C17, C18: Claude says nothing, or nothing more."""

import pytest

from tests.chaos.conftest import begun, ended
from tests.chaos.test_provider import ESTIMATE, TALE, calls
from tests.conftest import wait_until

PATIENCE = 4  # seconds that this worker gives Claude; in production it is a minute
STALLED = "Interrupted: Claude stopped writing. The text so far is kept, and what it cost is an estimate."


@pytest.fixture(scope="module", autouse=True)
def _impatient_worker(_product):
    _product.heal()
    _product["worker"].leave()
    worker = _product.start("worker", NO_PROGRESS_SECONDS=str(PATIENCE))
    yield
    worker.leave()


def test_c17_no_answer_at_all_is_a_failure_and_only_the_reader_asks_again(me, conversation, sandbox, posts):
    sandbox.enqueue(hang=60)

    turn = me.ask("What is the answer?", to=conversation)
    tab = me.watch(turn).wait()

    turn, reply = ended(turn), me.page(turn)
    assert (reply.status, reply.text) == ("failed", "")
    assert reply.ending == "Claude did not answer in time. What it cost is an estimate."
    assert reply.buttons == ["Try again"]
    assert reply.ending in tab.final
    record = turn.usage_records.get()
    assert calls(turn) == [ESTIMATE]
    # Nobody has said how many tokens the question has, so it is charged by their bound.
    assert record.prompt_tokens >= len("What is the answer?")
    assert posts() == 1


def test_c18_an_answer_that_stops_in_the_middle_is_interrupted(me, chats, sandbox, posts):
    silences = {
        "stalls": {"say": TALE, "stall_at": 50},
        "only pings": {"say": TALE, "ping_forever_at": 50},
        "thinks for ever": {"say": TALE, "thinking": 50, "stall_at": 20},
    }
    for words, scenario in silences.items():
        sandbox.enqueue(match=words, **scenario)

    turns = [me.ask(words, to=chat) for words, chat in zip(silences, chats(3), strict=True)]
    tabs = [me.watch(turn).wait() for turn in turns]

    for words, turn, tab in zip(silences, turns, tabs, strict=True):
        turn, reply = ended(turn), me.page(turn)
        stalled = STALLED if turn.reply.text else "Interrupted: Claude stopped writing. What it cost is an estimate."
        assert (reply.status, reply.ending) == ("interrupted", stalled)
        assert reply.buttons == (["Continue", "Try again"] if turn.reply.text else ["Try again"])
        assert "estimated" in reply.footer
        assert TALE.startswith(turn.reply.text)
        assert bool(turn.reply.text) == (words != "thinks for ever")
        assert turn.reply.html in tab.final
        assert calls(turn) == [ESTIMATE]
    assert posts() == 3


def test_c18_a_network_that_swallows_everything_is_a_silence_too(me, product, conversation, sandbox, posts):
    sandbox.enqueue(say=TALE, rate=20)
    turn = me.ask("Tell me a tale", to=conversation)
    tab = me.watch(turn)
    begun(turn)

    product.claude.deafen()
    wait_until(lambda: sandbox.invoice, "the worker did not hang up")
    product.claude.heal()  # whoever counts the tokens is to be heard

    turn = ended(turn)
    reply = me.page(turn)
    assert (reply.status, reply.ending) == ("interrupted", STALLED)
    assert TALE.startswith(turn.reply.text)
    assert turn.reply.html in tab.wait().final
    assert calls(turn) == [ESTIMATE]
    assert posts() == 1
