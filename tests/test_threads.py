"""A thread of a thousand messages opens like one of ten, and nothing of it is out of reach."""

import re
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chat.claude import request_for
from chat.models import Conversation, Message, Turn
from chat.thread import SHOWN
from tests.talk import say, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(browse, alice):
    return browse(alice)


@pytest.fixture
def long(conversation):
    """Alice's conversation after so many messages: `ids = long(1000)`."""

    def long(messages: int) -> list[str]:
        said, turns, leaf = [], [], None
        for number in range(messages // 2):
            question = Message(conversation=conversation, parent=leaf, role="user")
            leaf = reply = Message(conversation=conversation, parent=question, role="assistant")
            for message, words in (question, f"Question {number}?"), (reply, f"Answer {number}."):
                message.write(text(words))
            said += [question, reply]
            done = {"state": Turn.State.DONE, "model": conversation.model, "effort": "quick", "client_id": uuid.uuid4()}
            who = {"conversation": conversation, "user": conversation.owner}
            turns.append(Turn(question=question, reply=reply, **who, **done))
        Message.objects.bulk_create(said)
        Turn.objects.bulk_create(turns)
        Conversation.objects.filter(id=conversation.id).update(active_leaf=leaf)
        conversation.refresh_from_db()
        return [str(message.id) for message in said]

    return long


def ids(response) -> list[str]:
    """The messages of a page, in their order."""
    return re.findall(r'<article [^>]*id="message-([^"]+)"', response.content.decode())


def link(response, words: str) -> str | None:
    found = re.search(rf'<a [^>]*href="([^"]+)"[^>]*>{words}</a>', response.content.decode())
    return found[1].replace("&amp;", "&") if found else None


def queries(act) -> int:
    with CaptureQueriesContext(connection) as captured:
        act()
    return len(captured)


def test_a_short_thread_is_shown_whole(long, client, conversation):
    said = long(SHOWN)

    page = client.get(f"/conversations/{conversation.id}/")

    assert ids(page) == said
    assert link(page, "Show earlier messages") is None


def test_of_a_long_thread_the_newest_are_shown_and_the_page_stays_small(long, client, conversation):
    said = long(1000)

    page = client.get(f"/conversations/{conversation.id}/")

    assert ids(page) == said[-SHOWN:]
    assert f"<span>{1000 - SHOWN} more</span>" in page.content.decode()
    assert 'id="aside"' not in page.content.decode()
    assert len(page.content) < 75_000


@pytest.mark.parametrize("by", ["link", "htmx"])
def test_from_link_to_link_every_message_is_found_once(long, browse, alice, conversation, by):
    said = long(150)
    headers = {"HX-Request": "true"} if by == "htmx" else {}
    page = browse(alice).get(f"/conversations/{conversation.id}/")
    found = ids(page)

    while earlier := link(page, "Show earlier messages"):
        page = browse(alice, **headers).get(earlier)
        assert ("<html" in page.content.decode()) == (by == "link")
        found = ids(page) + found

    assert found == said


def test_earlier_messages_say_where_they_are_and_lead_back(long, client, conversation):
    long(100)
    page = client.get(f"/conversations/{conversation.id}/")

    earlier = client.get(link(page, "Show earlier messages"))

    assert "You are looking at earlier messages." in earlier.content.decode()
    assert 'id="aside"' in earlier.content.decode()
    assert link(earlier, "Go to the newest") == f"/conversations/{conversation.id}/"
    assert ids(client.get(link(earlier, "Show later messages"))) == ids(page)


def test_a_link_to_an_early_message_shows_it_with_what_is_around_it(long, client, conversation):
    said = long(1000)

    page = client.get(f"/conversations/{conversation.id}/?message={said[500]}")

    assert said[500] in ids(page)[5:15]
    assert len(ids(page)) == SHOWN
    assert link(page, "Show earlier messages")
    assert link(page, "Show later messages")


def test_a_link_to_one_of_the_newest_messages_is_the_page_itself(long, client, conversation):
    said = long(100)

    page = client.get(f"/conversations/{conversation.id}/?message={said[-3]}")

    assert ids(page) == said[-SHOWN:]
    assert 'id="aside"' not in page.content.decode()


def test_on_another_branch_earlier_messages_are_those_of_that_branch(client, conversation):
    root = say(conversation, "A beginning?", "The first.").question
    for number in range(60):
        say(conversation, f"More {number}?", "More.")
    old = [str(message.id) for message in conversation.branch()]
    conversation.start_turn("A new beginning?", uuid.uuid4(), instead_of=root)
    Turn.objects.live().update(state="stopped")

    page = client.get(f"/conversations/{conversation.id}/?message={old[-1]}")
    found = ids(page)
    while earlier := link(page, "Show earlier messages"):
        page = client.get(earlier)
        found = ids(page) + found

    assert found == old
    assert link(page, "Show later messages")


@pytest.mark.parametrize("wrong", ["nonsense", "", str(uuid.uuid4()), "\x00"])
@pytest.mark.parametrize("name", ["message", "before", "after"])
def test_an_address_that_names_nothing_shows_the_newest(long, client, conversation, name, wrong):
    said = long(60)

    page = client.get(f"/conversations/{conversation.id}/", {name: wrong})

    assert ids(page) == said[-SHOWN:]


def test_a_message_of_somebody_else_is_not_shown(long, client, conversation, bob):
    said = long(4)
    secret = say(bob.conversations.create(model=conversation.model), "Secret?", "Secret.")

    for name in ("message", "before", "after"):
        page = client.get(f"/conversations/{conversation.id}/", {name: secret.question_id})

        assert ids(page) == said
        assert "Secret" not in page.content.decode()


def test_a_thousand_messages_take_no_more_queries_than_four(long, browse, alice, client, conversation):
    other = alice.conversations.create(model=conversation.model)
    say(other, "One?", "One.")
    say(other, "Two?", "Two.")
    long(1000)

    few, many = (queries(lambda chat=chat: client.get(f"/conversations/{chat.id}/")) for chat in (other, conversation))

    assert many == few


def test_claude_is_sent_all_of_a_thousand_messages_in_as_many_queries_as_four(long, alice, conversation):
    short = alice.conversations.create(model=conversation.model)
    say(short, "One?", "One.")
    say(short, "Two?", "Two.")
    long(1000)
    turns = [say(short, "And?"), say(conversation, "And?")]

    few, many = (queries(lambda turn=turn: request_for(turn)) for turn in turns)

    assert len(request_for(turns[1]).messages) == 1001
    assert many == few


def test_a_branch_is_read_without_what_stands_beside_it(conversation):
    first = say(conversation, "One?", "One.")
    with_one = queries(lambda: conversation.branch())
    for _ in range(50):
        conversation.start_turn("Two?", uuid.uuid4(), instead_of=first.question)
        Turn.objects.live().update(state="stopped")

    with CaptureQueriesContext(connection) as captured:
        branch = conversation.branch()

    assert [message.text for message in branch] == ["Two?", ""]
    assert len(captured) == with_one == 2
    assert "content" not in captured[0]["sql"]
