"""C25 to C28, C30: people who click twice, send from two tabs, press Stop, or all want the last of the money."""

import asyncio
import re
import time
import uuid

import httpx2
import pytest

from chat.models import Turn, UsageRecord
from chat.views.messages import BUSY, REUSED
from tests.books import SONNET, at_once, never_over_a_limit, row
from tests.chaos.conftest import begun, ended
from tests.conftest import wait_until
from tests.pages import composer_error, composer_text
from tests.test_submission import pressed_together as pressed_together
from tests.test_submission import price_of

ENDLESS = {"tokens": 4000, "rate": 20}
WORDS = "The tide comes in, the tide goes out, and nobody has asked it to. " * 6
HTMX = {"HX-Request": "true"}


def messages_in(response: httpx2.Response) -> list[str]:
    return re.findall(r'<article [^>]*id="message-([0-9a-f-]{36})"', response.text)


def assert_settled_once(turn: Turn) -> UsageRecord:
    """One call, closed once, and its end is that of the turn."""
    record = turn.usage_records.get()
    assert record.entries.filter(kind="release").values("period").distinct().count() == 1
    assert record.entries.filter(kind="release").count() == 1
    assert record.entries.filter(kind="charge").count() == (record.cost > 0)
    assert (record.confidence == "exact") == (turn.state == Turn.State.DONE)
    return record


# --- C25 to C27: the same again


def test_c25_twenty_copies_of_one_post_are_one_turn(product, me, conversation, sandbox, posts):
    sandbox.enqueue(say="Forty-two.")
    client_id = uuid.uuid4()

    def press(_=None) -> httpx2.Response:
        return me.send("What is the answer?", to=conversation, client_id=client_id)

    responses = at_once(20, press)
    turn = ended(conversation.turns.get())
    from_history = press()  # the back button, and Send once more

    assert {response.status_code for response in [*responses, from_history]} == {200}
    shown = [str(turn.question_id), str(turn.reply_id)]
    assert [messages_in(response) for response in [*responses, from_history]] == 21 * [shown]
    assert "Forty-two." in from_history.text
    assert me.page(turn).text == "Forty-two."
    assert_settled_once(turn)
    assert conversation.messages.count() == 2
    assert posts() == 1


def test_c25_twenty_copies_of_a_first_question_are_one_conversation(product, me, alice, posts):
    fields = {"text": "What is the answer?", "client_id": str(uuid.uuid4())}

    responses = at_once(20, lambda _: me.http.post("/conversations/", data=fields, headers=HTMX))

    turn = ended(alice.turns.get())
    assert {response.headers["HX-Redirect"] for response in responses} == {turn.conversation.get_absolute_url()}
    assert alice.conversations.count() == 1
    titles = UsageRecord.objects.filter(purpose="title", state="settled")
    wait_until(lambda: titles.count() == 1, "there is no title")
    assert posts() == 1


def test_c26_the_same_form_with_another_text_is_refused_in_words(product, me, chats, sandbox, posts):
    sandbox.enqueue(say="Forty-two.")
    client_id = uuid.uuid4()
    one, other = chats(2)
    turn = ended(me.ask("What is the answer?", to=one, client_id=client_id))

    changed = me.send("What is the question?", to=one, client_id=client_id)
    elsewhere = me.send("What is the answer?", to=other, client_id=client_id)

    assert (changed.status_code, composer_error(changed.text)) == (409, REUSED)
    assert (elsewhere.status_code, composer_error(elsewhere.text)) == (409, REUSED)
    assert me.page(turn).text == "Forty-two."
    assert (one.messages.count(), other.messages.count()) == (2, 0)
    assert posts() == 1


def test_c27_of_two_tabs_that_send_at_once_one_is_told_to_wait_and_keeps_its_text(
    product, me, person, alice, conversation, posts
):
    tabs = [me, person(alice)]
    worker = product.worker_fails_at("before_claim:SIGSTOP")  # no answer is there before the second question

    responses = at_once(2, lambda number: tabs[number].send(f"Question {number}", to=conversation))
    plain = {"text": "A third one", "client_id": str(uuid.uuid4())}
    without_htmx = me.http.post(f"/conversations/{conversation.id}/messages/", data=plain)
    wait_until(lambda: worker.is_frozen, "it did not get there")
    worker.resume()
    turn = ended(conversation.turns.get())

    accepted, refused = sorted(responses, key=lambda response: response.status_code)
    assert (accepted.status_code, refused.status_code, without_htmx.status_code) == (200, 409, 409)
    assert composer_error(refused.text) == composer_error(without_htmx.text) == BUSY
    assert composer_text(without_htmx.text) == "A third one"
    assert_settled_once(turn)
    assert posts() == 1
    assert ended(me.ask("A third one", to=conversation, client_id=plain["client_id"])).state == Turn.State.DONE


# --- C28: Stop


@pytest.mark.smoke
def test_c28_what_is_stopped_before_a_worker_has_it_is_never_sent(product, me, chats, alice, sandbox, posts):
    sandbox.enqueue(say="Forty-two.")
    one, other = chats(2)
    worker = product.worker_fails_at("before_claim:SIGSTOP")
    turn = me.ask("Tell me a story without end", to=one)
    tab = me.watch(turn)
    wait_until(lambda: worker.is_frozen, "it did not get there")

    response = me.stop(turn)
    tab.wait()
    worker.resume()
    ended(me.ask("What is the answer?", to=other))

    reply = me.page(turn)
    assert (response.status_code, reply.status, reply.text) == (204, "stopped", "")
    assert "Stopped" in reply.ending
    assert "Stopped" in tab.final
    assert (turn.usage_records.get().state, turn.usage_records.get().cost) == ("void", 0)
    assert posts() == 1


def test_c28_an_answer_that_two_tabs_stop_twice_is_stopped_once(
    product, me, person, alice, conversation, sandbox, posts
):
    sandbox.enqueue(**ENDLESS)
    tabs = [me, person(alice)]
    turn = begun(me.ask("Tell me a story without end", to=conversation))
    watchers = [tab.watch(turn) for tab in tabs]

    responses = at_once(4, lambda number: tabs[number % 2].stop(turn))
    turn = ended(turn)

    assert [response.status_code for response in responses] == [204] * 4
    assert all(turn.reply.html in watcher.wait().final for watcher in watchers)
    reply = me.page(turn)
    assert reply.status == "stopped"
    assert reply.text
    assert_settled_once(turn)
    sandbox.wait_until_idle()
    assert sandbox.invoice[-1].ended == "client_left"
    assert me.stop(turn).status_code == 204
    assert me.page(turn) == reply
    assert posts() == 1


@pytest.mark.parametrize("place", ["after_last_byte", "in_commit", "after_commit"])
def test_c28_stop_at_the_instant_of_the_end_is_one_or_the_other(product, me, conversation, sandbox, posts, place):
    sandbox.enqueue(say="Forty-two.")
    worker = product.worker_fails_at(f"{place}:SIGSTOP")
    turn = me.ask("What is the answer?", to=conversation)
    tab = me.watch(turn)
    wait_until(lambda: worker.is_frozen, "it did not get there")

    def stop_or_go_on(number: int):
        # In mid-transaction the database lets nobody else write: Stop waits there until the worker goes on.
        return me.stop(turn) if number else (time.sleep(0.2), worker.resume())

    _, response = at_once(2, stop_or_go_on)
    turn = ended(turn)

    assert response.status_code == 204
    assert turn.state in (Turn.State.DONE, Turn.State.STOPPED)
    assert_settled_once(turn)
    tab.wait()
    assert me.page(turn).status == turn.state
    assert posts() == 1


def test_c28_stops_that_race_with_the_end_are_settled_once_each(product, me, chats, sandbox, posts):
    for number in range(8):
        sandbox.enqueue(f"story {number}", tokens=10 * (number + 1), rate=20)
    turns = [me.ask(f"Tell me story {number}", to=chat) for number, chat in enumerate(chats(8))]
    wait_until(lambda: Turn.objects.filter(state=Turn.State.DONE).count() >= 3, "they do not end")

    # Some have ended, some are in mid-answer, and the next one ends now.
    responses = at_once(8, lambda number: me.stop(turns[number]))

    assert {response.status_code for response in responses} == {204}
    for turn in map(ended, turns):
        assert turn.state in (Turn.State.DONE, Turn.State.STOPPED)
        assert_settled_once(turn)
        assert ("Stopped" in me.page(turn).ending) == (turn.state == Turn.State.STOPPED)
    assert posts() == 8


# --- C30: a budget at which everybody pulls


def test_c30_two_hundred_questions_at_once_with_money_for_fifty_are_fifty_answers(
    product, me, alice, limit_nano, sandbox, posts
):
    named = {"title": "Named", "model": SONNET, "effort": "quick"}
    conversations = [alice.conversations.create(**named) for _ in range(200)]
    limit_nano(alice, 50 * price_of(conversations[0]))
    sandbox.enqueue(say="Forty-two.", times=50)
    cookies = {"sessionid": me.session.cookies["sessionid"].value}

    with never_over_a_limit():
        product.claude.deafen()  # nothing is paid back while they press
        pages = asyncio.run(pressed_together(product.site, conversations, cookies))
        product.claude.heal()
        turns = [ended(turn, 60) for turn in Turn.objects.all()]

    refused = [page for page in pages if "does not hold this answer" in page]
    done = [turn for turn in turns if turn.state == Turn.State.DONE]
    assert (len(done), len(refused)) == (50, 150)
    assert sum(turn.error == "over_budget" for turn in turns) == 150
    assert {turn.reply.text for turn in done} == {"Forty-two."}
    assert {assert_settled_once(turn).confidence for turn in done} == {"exact"}
    assert row(f"user:{alice.pk}").held == 0
    assert posts() == 50
