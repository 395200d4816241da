"""Live text: what a reader gets, whenever they come, whatever Redis forgets."""

import re
from urllib.parse import quote

import pytest
import redis
from django.conf import settings

from chat import rendering
from chat.models import Turn
from chat.streams import START, EntryId, Hub
from tests.conftest import over, streams_in, wait_until
from tests.sse import Event, Reader

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("worker")]

ANSWER = "# Tides\n\nThe **moon** pulls.\n\n- high\n- low\n\n```python\nprint('tide')\n```\n\nThat is all, *really*.\n"


@pytest.fixture
def follow(site, browse, alice):
    """Open the stream of a turn as Alice's browser does."""
    readers = []

    def follow(turn, after="0-0", last_id="") -> Reader:
        readers.append(Reader(site, f"/turns/{turn.id}/stream/?after={after}", browse(alice), last_id=last_id))
        return readers[-1]

    yield follow
    for reader in readers:
        reader.close()


@pytest.fixture
def begin(send, sandbox):
    """Alice asks, and the answer begins: at 50 tokens a second."""

    def begin(text=ANSWER, **scenario) -> Turn:
        sandbox.enqueue(say=text, rate=50, **scenario)
        send("How do tides work?")
        return Turn.objects.get()

    return begin


class Page:
    """What stands in the two places of a running answer, after the events that came."""

    def __init__(self):
        self.done = self.open = ""

    def take(self, event: Event) -> None:
        partial = r'<hx-partial hx-target="#(done|open)-[^"]+" hx-swap="(\w+)[^"]*">(.*?)</hx-partial>'
        for place, swap, html in re.findall(partial, event.data, re.DOTALL):
            setattr(self, place, getattr(self, place) + html if swap == "beforeend" else html)

    def shows_a_beginning(self) -> bool:
        """Exactly what some first part of the answer looks like: no block twice, none left out."""
        shown = self.done + self.open
        return any(shown == rendering.render(ANSWER[:end]) for end in range(20, len(ANSWER) + 1))


def read(reader: Reader, page: Page, *, events: int | None = None) -> list[Event]:
    """Read until `done`, or some events."""
    seen = []
    for event in reader:
        if event.name == "done":
            break
        page.take(event)
        seen.append(event)
        if len(seen) == events:
            break
    return seen


def test_the_pieces_that_arrive_are_the_answer_as_it_is_stored(begin, follow):
    turn, page = begin(), Page()

    events = read(follow(turn), page)

    turn = over(turn)
    assert turn.reply.text == ANSWER
    assert len(events) > 5
    assert page.shows_a_beginning()
    assert turn.reply.html in events[-1].data


def test_a_reader_who_was_cut_off_gets_exactly_the_rest(begin, follow):
    turn, page = begin(), Page()
    first = follow(turn)
    seen = read(first, page, events=4)
    first.close()

    rest = read(follow(turn, last_id=seen[-1].id), page)

    assert page.shows_a_beginning()
    assert over(turn).reply.html in rest[-1].data
    assert not {event.id for event in seen} & {event.id for event in rest[:-1]}


def test_a_page_loaded_in_the_middle_goes_on_from_its_checkpoint(begin, follow, browse, alice):
    turn = begin()
    wait_until(lambda: Turn.objects.exclude(checkpoint_text="").exists(), "no checkpoint")
    html = browse(alice).get(f"/conversations/{turn.conversation_id}/").content.decode()
    after = re.search(r'hx-sse:connect="[^"]*after=([^"]+)"', html)[1]
    page = Page()
    page.done = re.search(rf'<div id="done-{turn.id}">(.*?)</div>\s*<div class="message__open"', html, re.DOTALL)[1]

    events = read(follow(turn, after=after), page)

    assert page.shows_a_beginning()
    assert over(turn).reply.html in events[-1].data


def test_an_answer_that_is_over_comes_at_once_and_whole(begin, follow, sandbox):
    turn = over(begin())

    events = read(follow(turn), Page())

    assert len(events) == 1
    assert turn.reply.html in events[0].data


def test_following_never_asks_claude(begin, follow, sandbox):
    turn = over(begin())
    asked = len(streams_in(sandbox))

    for _ in range(3):
        read(follow(turn), Page())

    assert len(streams_in(sandbox)) == asked == 1


def test_redis_emptied_in_mid_answer_loses_nothing(begin, follow):
    turn, page = begin(), Page()
    reader = follow(turn)
    read(reader, page, events=4)

    redis.Redis.from_url(settings.REDIS_URL).flushall()
    events = read(reader, page)

    assert over(turn).reply.text == ANSWER
    assert over(turn).reply.html in events[-1].data


def test_a_reader_who_comes_after_redis_was_emptied_sees_the_checkpoint_and_the_end(begin, follow):
    turn = begin(ANSWER + "word " * 200)  # long enough for a reader who comes late
    wait_until(lambda: Turn.objects.exclude(checkpoint_text="").exists(), "no checkpoint")
    redis.Redis.from_url(settings.REDIS_URL).flushall()
    page = Page()

    events = read(follow(turn), page)

    assert page.done.startswith("<h")
    assert over(turn).reply.html in events[-1].data


def test_thirty_readers_do_not_have_a_connection_to_redis_each(begin, follow):
    turn = begin("word " * 200)
    client = redis.Redis.from_url(settings.REDIS_URL)
    read(follow(turn), Page(), events=1)
    before = len(client.client_list())

    readers = [follow(turn) for _ in range(30)]
    for reader in readers:
        read(reader, Page(), events=1)

    assert len(client.client_list()) <= before + Hub.PLACES < before + 30
    over(turn)


@pytest.mark.parametrize("after", ["", "1", "1-x", "-1-1", "1-99999999999999999999", "9999999999-1", "1-1\n", "١-١"])
def test_an_id_that_redis_would_refuse_means_from_the_beginning(after, begin, follow):
    turn, page = begin(), Page()

    read(follow(turn, after=quote(after)), page)

    assert EntryId.read(after) == START
    assert page.shows_a_beginning()
    over(turn)
