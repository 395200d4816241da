"""What stands on the screen, in real Chromium, whatever happens to the processes behind it: to the last character what
the database has, and that is what Claude said. And C39: however an answer is cut on its way, it is the same page.
"""

import hashlib
import re

import pytest
from playwright.sync_api import Page, expect

from chat import rendering
from chat.models import Turn
from local.ports import LOOPBACK
from tests.browser.conftest import Watched
from tests.browser.screen import answer, send, shown_and_stored
from tests.chaos.conftest import ended
from tests.chaos.people import Watcher
from tests.chaos.proxy import Proxy

PATIENCE = 40_000  # milliseconds
# Everything that comes apart badly: a fence, a table, links, entities, families of emoji, right-to-left text.
RICH = """# Tides & *moons*

See [the table](https://example.com/?a=1&b=2 "of &copy; tides") or <https://example.com/>, fish &amp; chips &#128169;.

```html
<p>fish &amp; chips</p>
```

| Model | Input |
|---|--:|
| 👩‍💻 👨‍👩‍👧‍👦 🏴󠁧󠁢󠁳󠁣󠁴󠁿 | $2 |

1. שלום
   - `é` and e\u0301

"""
STORY = RICH + " ".join(f"word{n}" for n in range(90))
BROKEN = ("ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "htmx:sse:error")


@pytest.fixture
def tab(product, chromium, alice):
    """`tab(conversation)`: Alice's browser there. A connection that breaks may be complained about, nothing else."""
    opened: list[Watched] = []

    def tab(conversation, port: int = product.port) -> Page:
        watched = Watched(chromium, f"http://{LOOPBACK}:{port}", alice, {})
        opened.append(watched)
        for words in BROKEN:
            watched.page.forgive(words)
        watched.page.goto(conversation.get_absolute_url())
        return watched.page

    yield tab
    complaints = [complaint for watched in opened for complaint in watched.end()]
    assert complaints == []


@pytest.fixture
def wire(product):
    """Between the browser and the web process."""
    with Proxy((LOOPBACK, product.port)) as wire:
        yield wire


def goes_on(page: Page) -> None:
    """Wait until there is more on the screen than now; it may not be the end that brings it."""
    before = len(answer(page).inner_text())
    page.wait_for_function(
        """before => {
            const answer = [...document.querySelectorAll('[data-role="assistant"]')].at(-1);
            return answer.innerText.length > before && answer.dataset.status !== "done";
        }""",
        arg=before,
        timeout=PATIENCE,
    )


def shows_what_was_said(page: Page, said: str) -> None:
    """Screen, database and Claude have the same answer, by hash."""
    expect(answer(page)).to_have_attribute("data-status", "done", timeout=PATIENCE)
    stored = ended(Turn.objects.get()).reply.text
    shown, rendered = shown_and_stored(page, stored)
    assert fingerprint(stored) == fingerprint(said)
    assert fingerprint(shown) == fingerprint(rendered)


def fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def begin(tab, wire, conversation, sandbox):
    """A tab in which an answer is being written, over a wire that can be cut."""

    def begin() -> Page:
        sandbox.enqueue(say=STORY, rate=50)
        page = tab(conversation, wire.port)
        send(page, "Tell me about tides")
        expect(answer(page)).to_contain_text("Tides", timeout=PATIENCE)
        return page

    return begin


@pytest.mark.browser
@pytest.mark.parametrize("end", [pytest.param("killed", marks=pytest.mark.smoke), "told to leave"])
def test_c05_the_screen_goes_on_by_itself_after_the_web_process_was(product, begin, posts, end):
    page = begin()

    if end == "killed":
        product["web"].kill()
    else:
        product["web"].leave()
    product.start("web")

    # Without a reload. Where the start takes longer than the answer, it is the end that comes.
    shows_what_was_said(page, STORY)
    assert posts() == 1


@pytest.mark.browser
def test_c07_the_screen_goes_on_after_redis_was_emptied(product, begin, posts):
    page = begin()

    product.redis().flushall()

    goes_on(page)
    shows_what_was_said(page, STORY)
    assert posts() == 1


@pytest.mark.browser
def test_c08_the_screen_goes_on_while_redis_is_gone(product, begin, posts):
    page = begin()

    product["redis"].kill()

    goes_on(page)
    shows_what_was_said(page, STORY)
    assert posts() == 1


@pytest.mark.browser
@pytest.mark.parametrize("reset", [False, True])
def test_c34_the_screen_goes_on_after_its_connection_was_cut(begin, wire, posts, reset):
    page = begin()

    for _ in range(2):
        wire.cut(reset=reset)
        goes_on(page)

    shows_what_was_said(page, STORY)
    assert posts() == 1


@pytest.mark.browser
def test_c05_a_reload_and_a_second_tab_in_mid_answer_show_the_same(product, begin, tab, conversation, posts):
    page = begin()
    second = tab(conversation)
    expect(answer(second)).to_contain_text("Tides", timeout=PATIENCE)

    page.reload()
    goes_on(page)

    for each in (page, second):
        shows_what_was_said(each, STORY)
        each.reload()
        shows_what_was_said(each, STORY)
    assert posts() == 1


def test_c39_an_answer_that_is_cut_anywhere_on_its_way_is_the_same_page(me, chats, sandbox, posts, whole):
    """In a fence, a link, an entity, an emoji: between the bytes of the wire and between what is gathered of them.

    tests/test_rendering.py has each place of a cut, in memory.
    """
    shapes = [{"one_byte": one_byte, "rate": rate} for one_byte in (True, False) for rate in (60, 400, 100_000)]
    for number, shape in enumerate(shapes):
        sandbox.enqueue(say=RICH, match=f"shape {number}", **shape)

    turns = [me.ask(f"Tell me, shape {n}", to=chat) for n, chat in enumerate(chats(len(shapes)))]
    tabs = [me.watch(turn) for turn in turns]

    beginnings = {rendering.render(RICH[:end]) for end in range(len(RICH) + 1)}
    for turn, tab in zip(turns, tabs, strict=True):
        turn = ended(turn)
        assert turn.reply.text == RICH
        assert turn.reply.html == rendering.render(RICH)
        assert turn.reply.html in tab.wait().final
        assert all(page in beginnings for page in pages_of(tab))
    assert posts() == len(shapes)


def pages_of(tab: Watcher) -> list[str]:
    """The answer as the page had it after each event but the last, which brings it whole."""
    done, open_, found = "", "", []
    for event in tab.events[:-1]:
        partial = r'<hx-partial hx-target="#(done|open)-[^"]+" hx-swap="(\w+)[^"]*">(.*?)</hx-partial>'
        for place, swap, html in re.findall(partial, event.data, re.DOTALL):
            if place == "open":
                open_ = html
            else:
                done = done + html if swap == "beforeend" else html
        found.append(done + open_)
    return found
