"""C14 to C16, C19 to C21: Claude says no, breaks off, or says what cannot be read. Silence is in test_silence.py."""

import re
from types import SimpleNamespace

import pytest

from chat.models import Alarm
from chat.sandbox import tokens
from tests.chaos.conftest import begun, ended
from tests.conftest import wait_until

ANSWER = "Forty-two."
TALE = "Once upon a time there was a chat that lost no answer & charged for none twice. " * 20
BROKE = "Interrupted: the connection to Claude broke. The text so far is kept, and what it cost is an estimate."


def notices(tab) -> list[str]:
    """What the reader was told to wait for, in that order."""
    found = [re.findall(r'hx-target="#notice-[^>]*>([^<]*)<', event.data) for event in list(tab.events)]
    return [words for each in found for words in each if words]


def on_one_line(text: str) -> str:
    return " ".join(text.split())


def calls(turn) -> list[tuple[str, str, bool]]:
    """State and confidence of each call, oldest first, and whether it cost anything."""
    records = turn.usage_records.order_by("admitted_at")
    return [(record.state, record.confidence, record.cost > 0) for record in records]


FREE, EXACT, ESTIMATE = ("void", "exact", False), ("settled", "exact", True), ("settled", "estimated", True)


@pytest.fixture
def broken_off(me, posts):
    """`broken_off(turn, tab)`: what was written is kept, is the same everywhere, and is charged by an estimate."""

    def broken_off(turn, tab) -> str:
        turn, reply = ended(turn), me.page(turn)
        broke = (
            BROKE if turn.reply.text else "Interrupted: the connection to Claude broke. What it cost is an estimate."
        )
        assert (reply.status, reply.ending) == ("interrupted", broke)
        assert reply.buttons == (["Continue", "Try again"] if turn.reply.text else ["Try again"])
        assert "estimated" in reply.footer
        assert reply.text == on_one_line(turn.reply.text)
        assert turn.reply.html in tab.wait().final
        assert calls(turn) == [ESTIMATE]
        assert posts() == 1
        return turn.reply.text

    return broken_off


# --- C14: Claude is busy


@pytest.mark.parametrize(
    ("refusal", "times"),
    [
        pytest.param({"status": "429", "retry_after": 2}, 1, id="429"),
        pytest.param({"status": "529", "retry_after": 2}, 2, id="529", marks=pytest.mark.smoke),
    ],
)
def test_c14_a_busy_claude_is_asked_again_and_the_reader_sees_it(me, conversation, sandbox, posts, refusal, times):
    sandbox.enqueue(**refusal, times=times)
    sandbox.enqueue(say=ANSWER)

    turn = me.ask("What is the answer?", to=conversation)
    tab = me.watch(turn).wait()

    said = [f"Claude is busy, trying again ({number} of 3)" for number in range(2, times + 2)]
    seen = [words for words in notices(tab) if "busy" in words]
    assert seen in (said, said[1:])  # whoever comes late sees how it stands, not how it stood
    assert said[-1] in seen
    assert ANSWER in tab.final
    assert (me.page(turn).status, me.page(turn).ending) == ("done", "")
    assert calls(turn) == [FREE] * times + [EXACT]
    assert posts() == times + 1


def test_c14_whoever_loads_the_page_meanwhile_sees_it_too(me, conversation, sandbox):
    sandbox.enqueue(status="529", retry_after=2)
    sandbox.enqueue(say=ANSWER)
    turn = me.ask("What is the answer?", to=conversation)
    wait_until(lambda: turn.usage_records.filter(state="void").exists(), "Claude was not asked")
    wait_until(lambda: turn.conversation.turns.exclude(checkpoint_id="").exists(), "no checkpoint was written")

    page = me.http.get(f"/conversations/{conversation.id}/").text

    ended(turn)
    assert re.search(rf'id="notice-{turn.id}"[^>]*>([^<]*)<', page)[1] == "Claude is busy, trying again (2 of 3)"


def test_c14_a_claude_that_stays_broken_is_given_up_after_three_tries_and_retry_works(me, conversation, sandbox, posts):
    sandbox.enqueue(status="500", retry_after=0.3, times=3)

    turn = ended(me.ask("What is the answer?", to=conversation))

    reply = me.page(turn)
    assert (reply.status, reply.text, reply.footer) == ("failed", "", "")
    assert (reply.ending, reply.buttons) == ("Claude had a fault. Nothing was charged.", ["Try again"])
    assert calls(turn) == [FREE] * 3
    assert posts() == 3

    sandbox.enqueue(say=ANSWER)
    again = ended(me.retry(turn))

    assert me.page(again).text == ANSWER
    assert calls(again) == [EXACT]


# --- C15, C16: Claude will not, however often it is asked


@pytest.mark.parametrize(
    ("status", "alarm"),
    [
        ("401", "provider_auth"),
        ("402", "provider_budget"),
        ("spend_limit", "provider_budget"),
        ("org_limit", "provider_budget"),
        ("workspace_limit", "provider_budget"),
    ],
)
def test_c15_where_the_service_is_closed_to_us_nobody_asks_again_and_the_administrators_know(
    me, conversation, sandbox, posts, status, alarm
):
    sandbox.enqueue(status=status)

    turn = ended(me.ask("What is the answer?", to=conversation))

    reply = me.page(turn)
    assert reply.status == "failed"
    assert reply.ending.startswith("The service is not available: ")
    assert reply.ending.endswith("The administrators have been told.")
    assert reply.buttons == ["Try again"]
    assert Alarm.objects.filter(kind=alarm).count() == 1
    assert calls(turn) == [FREE]
    assert posts() == 1


@pytest.mark.parametrize("status", ["413", "too_long"])
def test_c16_what_is_too_long_says_what_to_shorten_and_a_shorter_one_is_answered(
    me, conversation, sandbox, posts, status
):
    sandbox.enqueue(status=status)

    turn = ended(me.ask("A question that is far too long", to=conversation))

    reply = me.page(turn)
    assert reply.status == "failed"
    assert "too long for the model" in reply.ending
    assert reply.ending.endswith("Send a shorter message, or start a new chat.")
    assert calls(turn) == [FREE]
    assert posts() == 1

    # What was too long once would be too long again, with whatever follows it.
    sandbox.enqueue(say=ANSWER)
    shorter = ended(me.ask("A shorter one", to=conversation))

    assert me.page(shorter).text == ANSWER
    [asked] = sandbox.requests[-1]["body"]["messages"]
    assert asked["content"][0]["text"] == "A shorter one"


# --- C19: the connection breaks


@pytest.mark.parametrize("how", ["cut_at", "rst_at", "eof_at"])
def test_c19_an_answer_that_is_cut_off_keeps_its_text(me, conversation, sandbox, broken_off, how):
    sandbox.enqueue(say=TALE, rate=200, **{how: 60})
    turn = me.ask("Tell me a tale", to=conversation)

    kept = broken_off(turn, me.watch(turn))

    # A reset may take with it what was on its way.
    assert TALE.startswith(kept)
    assert kept or how == "rst_at"


def test_c19_an_answer_whose_end_was_never_said_is_not_taken_for_whole(me, conversation, sandbox, broken_off):
    sandbox.enqueue(say=TALE, no_delta=True)
    turn = me.ask("Tell me a tale", to=conversation)

    assert broken_off(turn, me.watch(turn)) == TALE


@pytest.mark.parametrize("way", ["closed", "reset", "gone"])
def test_c19_a_network_that_breaks_in_mid_answer_leaves_the_text(me, product, conversation, sandbox, broken_off, way):
    sandbox.enqueue(say=TALE, rate=20)
    turn = me.ask("Tell me a tale", to=conversation)
    tab = me.watch(turn)
    begun(turn)

    if way == "gone":
        product.claude.away()  # and nobody is there who would count the tokens
    else:
        product.claude.cut(reset=way == "reset")

    kept = broken_off(turn, tab)
    assert kept
    assert TALE.startswith(kept)


def test_c19_a_network_that_breaks_before_the_first_word_is_not_asked_again(
    me, product, conversation, sandbox, posts, broken_off
):
    sandbox.enqueue(hang=60)
    turn = me.ask("Tell me a tale", to=conversation)
    tab = me.watch(turn)
    wait_until(posts, "nothing was sent")

    product.claude.cut(reset=True)

    assert broken_off(turn, tab) == ""


def test_c19_a_refused_connection_is_made_again_and_nothing_is_billed_for_it(me, product, conversation, sandbox, posts):
    sandbox.enqueue(say=ANSWER)
    product.claude.away()

    turn = me.ask("What is the answer?", to=conversation)
    tab = me.watch(turn)
    wait_until(lambda: turn.usage_records.filter(state="void").exists(), "nobody tried")
    product.claude.heal()

    assert ANSWER in tab.wait().final
    assert "Claude is busy, trying again (2 of 3)" in notices(tab)
    assert calls(turn) in ([FREE, EXACT], [FREE, FREE, EXACT])
    assert posts() == 1


def test_c19_where_nobody_listens_three_tries_are_made_and_the_reader_is_told(me, product, conversation, sandbox):
    product.claude.away()

    turn = ended(me.ask("What is the answer?", to=conversation))

    reply = me.page(turn)
    assert (reply.status, reply.ending) == ("failed", "Claude could not be reached. Nothing was charged.")
    assert reply.buttons == ["Try again"]
    assert calls(turn) == [FREE] * 3
    assert not sandbox.requests


# --- C20: an error inside the stream


def test_c20_an_overload_before_the_first_word_is_asked_again(me, conversation, sandbox, posts):
    sandbox.enqueue(error_at=0)
    sandbox.enqueue(say=ANSWER)

    turn = me.ask("What is the answer?", to=conversation)
    tab = me.watch(turn).wait()

    assert "Claude is busy, trying again (2 of 3)" in notices(tab)
    assert ANSWER in tab.final
    assert calls(turn) == [FREE, EXACT]
    assert posts() == 2


def test_c20_an_overload_in_mid_answer_ends_it(me, conversation, sandbox, broken_off):
    sandbox.enqueue(say=TALE, rate=200, error_at=50)
    turn = me.ask("Tell me a tale", to=conversation)

    kept = broken_off(turn, me.watch(turn))

    assert kept
    assert TALE.startswith(kept)


# --- C21: what cannot be read, and what nobody has heard of


@pytest.mark.parametrize("what", ["bad_json_at", "bad_utf8_at"])
def test_c21_a_frame_that_cannot_be_read_ends_the_answer(me, conversation, sandbox, broken_off, what):
    """Bytes that are no UTF-8 as well: nobody is shown words that Claude may not have written."""
    sandbox.enqueue(say=TALE, rate=50, **{what: 15})
    turn = me.ask("Tell me a tale", to=conversation)

    kept = broken_off(turn, me.watch(turn))

    assert kept
    assert TALE.startswith(kept)


@pytest.mark.parametrize("oddity", ["unknown_event", "unknown_block", "one_byte"])
def test_c21_what_nobody_has_heard_of_does_not_end_an_answer(me, conversation, sandbox, posts, oddity):
    sandbox.enqueue(say=TALE, rate=5000, **{oddity: True})

    turn = me.ask("Tell me a tale", to=conversation)
    tab = me.watch(turn).wait()

    turn, reply = ended(turn), me.page(turn)
    assert (reply.status, reply.ending, turn.reply.text) == ("done", "", TALE)
    assert turn.reply.html in tab.final
    assert calls(turn) == [EXACT]
    assert posts() == 1


def test_c21_five_megabytes_in_one_event_arrive(me, conversation, sandbox, posts, monkeypatch):
    # They are more tokens than anybody asks for, so the sandbox has to be told that they are one.
    monkeypatch.setattr("chat.sandbox.plan.tokens", SimpleNamespace(split=tokens.split, count=lambda *of: 1))
    sandbox.enqueue(tokens=10, big_event=5_000_000)

    turn = me.ask("Tell me everything", to=conversation)
    tab = me.watch(turn).wait()

    turn = ended(turn)
    assert len(turn.reply.text) > 5_000_000
    assert turn.reply.html in tab.final
    assert me.page(turn).status == "done"
    assert calls(turn) == [EXACT]
    assert posts() == 1
