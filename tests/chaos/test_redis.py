"""C6 to C9: Redis killed, emptied, hung, full or gone. The typing may pause; nothing else may be noticed."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from chat.models import Turn
from tests.chaos.conftest import begun
from tests.chaos.people import Watcher
from tests.chaos.product import Product
from tests.conftest import wait_until

STORY = " ".join(f"word{n}" for n in range(120))
SHORT = "Forty-two."
# More than the web process has threads.
AT_ONCE = 20


@contextmanager
def full(product: Product) -> Iterator[None]:
    """Redis has no room for anything new."""
    with product.redis() as client:
        client.config_set("maxmemory", "1mb")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


@contextmanager
def hung(product: Product) -> Iterator[None]:
    product["redis"].pause()
    try:
        yield
    finally:
        product["redis"].resume()


def grows(tab: Watcher) -> None:
    """Wait until the tab has been told more than it has now."""
    before = len(tab.events)
    wait_until(lambda: len(tab.events) > before or tab.ended.is_set(), "the page got no more of the text")
    assert not tab.ended.is_set(), "it ended before it grew"


@pytest.mark.smoke
def test_c06_questions_that_waited_in_a_redis_that_died_are_answered(product, me, chats, sandbox, posts, whole):
    sandbox.enqueue(say=SHORT, times=5)
    product["worker"].pause()
    turns = [me.ask("What is the answer?", to=chat) for chat in chats(5)]

    product["redis"].kill()
    product.start("redis")
    product["worker"].resume()

    for turn in turns:
        whole(turn, SHORT)
    assert posts() == 5


def test_c07_a_stream_goes_on_after_redis_was_emptied(product, me, chats, sandbox, posts, whole):
    sandbox.enqueue(say=STORY, rate=60)
    first, second = chats(2)
    turn = me.ask("Tell me a story", to=first)
    tab = me.watch(turn)
    begun(turn)

    product.redis().flushall()
    late = me.watch(turn)
    grows(tab)

    whole(turn, STORY, tab, late)
    # Celery's own keys are gone too, and the next bell is heard all the same.
    sandbox.enqueue(say=SHORT)
    again = me.ask("What is the answer?", to=second)
    whole(again, SHORT)
    assert tab.breaks == 0
    assert posts() == 2


def test_c08_twenty_questions_at_once_are_taken_in_four_seconds_while_redis_hangs(
    product, me, chats, sandbox, posts, whole
):
    sandbox.enqueue(say=SHORT, times=AT_ONCE)

    def send(conversation) -> tuple[int, float]:
        began = time.monotonic()
        response = me.send("What is the answer?", to=conversation)
        return response.status_code, time.monotonic() - began

    with hung(product), ThreadPoolExecutor(AT_ONCE) as together:
        sent = list(together.map(send, chats(AT_ONCE)))

    assert {status for status, _ in sent} == {200}
    assert max(seconds for _, seconds in sent) < 4
    for turn in Turn.objects.all():
        whole(turn, SHORT)
    assert posts() == AT_ONCE


def test_c08_answers_end_right_while_redis_hangs(product, me, chats, sandbox, posts, whole):
    sandbox.enqueue(say=STORY, rate=40, times=8)
    turns = [me.ask("Tell me a story", to=chat) for chat in chats(8)]
    tabs = [me.watch(turn) for turn in turns]
    for turn in turns:
        begun(turn)

    with hung(product):
        # From the checkpoint in the database.
        assert "word0 word1" in me.http.get(turns[0].conversation.get_absolute_url()).text
        for turn, tab in zip(turns, tabs, strict=True):
            whole(turn, STORY, tab)

    assert posts() == 8


def test_c08_without_any_redis_the_page_gets_its_text_from_the_checkpoint(product, me, chats, sandbox, posts, whole):
    sandbox.enqueue(say=STORY, rate=40, match="story")
    sandbox.enqueue(say=SHORT, match="answer")
    first, second = chats(2)
    turn = me.ask("Tell me a story", to=first)
    tab = me.watch(turn)
    begun(turn)

    product["redis"].kill()
    late = me.watch(turn)
    grows(tab)
    began = time.monotonic()
    waiting = me.ask("What is the answer?", to=second)
    took = time.monotonic() - began

    whole(turn, STORY, tab, late)
    assert took < 4
    assert me.page(waiting).status == "queued"
    assert len(late.events) > 1
    product.start("redis")
    whole(waiting, SHORT)
    assert posts() == 2


def test_c09_redis_without_room_stops_the_typing_and_nothing_else(product, me, chats, sandbox, posts, whole):
    sandbox.enqueue(say=STORY, rate=40, match="story")
    sandbox.enqueue(say=SHORT, times=3, match="answer")
    first, *others = chats(4)
    turn = me.ask("Tell me a story", to=first)
    tab = me.watch(turn)
    begun(turn)
    product["worker"].pause()  # so that it finds bells in a Redis in which it can note nothing about them
    waiting = [me.ask("What is the answer?", to=chat) for chat in others[:2]]

    with full(product):
        product["worker"].resume()
        waiting.append(me.ask("What is the answer?", to=others[2]))
        whole(turn, STORY, tab)

    for question in waiting:
        whole(question, SHORT)
    assert product["worker"].is_alive
    assert posts() == 4
