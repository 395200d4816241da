"""Reading an answer: formulas, code, thinking, sources and figures as a real browser shows them."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from chat import rendering
from chat.models import Conversation, Turn, UsageRecord
from tests.browser.screen import answer, body, send
from tests.browser.test_chat import shows_what_is_stored, wait_for_end
from tests.browser.test_pages import barriers_of
from tests.conftest import wait_until
from tests.talk import say

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("worker"),
]

MATHS = r"""The roots of $ax^2+bx+c=0$ are

$$
x = \frac{-b \pm \sqrt{b^2-4ac}}{2a}.
$$

- [ ] open
- [x] done

A claim[^1].

[^1]: Its note, with \(e^{i\pi}\) in it.
"""
HTML = """H<sub>2</sub>O, m<sup>2</sup>, <kbd>Ctrl</kbd>, <mark>new</mark>, one<br>two, <b>bold</b>.

| a |
|---|
| one<br>two |

> [!WARNING]
> Mind the gap[^gap].

[^gap]: Between train and platform.
"""
CODE = "Before.\n\n```python\n" + "".join(f"line_{n} = {n}\n" for n in range(1, 81)) + "```\n\nAfter.\n"
LONG = "\n\n".join(f"Paragraph {n}: " + "words that fill a line or two of it. " * 6 for n in range(30))


@pytest.fixture
def chat(page_of, conversation):
    """Alice at her conversation, which is empty."""
    page = page_of(conversation.owner, permissions=["clipboard-read", "clipboard-write"])
    page.goto(conversation.get_absolute_url())
    return page


def clipboard(page) -> str:
    return page.evaluate("() => navigator.clipboard.readText()")


def test_formulas_are_drawn_by_the_browser_and_copied_as_tex(chat, sandbox):
    sandbox.enqueue(say=MATHS, rate=400)

    send(chat, "Roots?")
    wait_for_end(chat)

    block = body(chat).locator("math[display=block]")
    assert block.bounding_box()["height"] > 1.5 * body(chat).locator("math").first.bounding_box()["height"] > 10
    expect(body(chat).locator("math")).to_have_count(3)
    expect(body(chat).get_by_role("img", name="Done")).to_have_text("☑")
    expect(body(chat).locator(".footnote sup")).to_have_text("1")
    body(chat).get_by_role("link", name="Note 1").click()
    expect(body(chat).locator(".footnote:target")).to_be_in_viewport()
    body(chat).get_by_role("link", name="1: back to the text").press("Enter")
    expect(body(chat).locator("p:not(.footnote) a:target")).to_be_in_viewport()
    assert shows_what_is_stored(chat)
    answer(chat).get_by_role("button", name="Copy", exact=True).click()
    expect(answer(chat).locator("[data-copied]")).to_have_count(1)
    assert "$ax^2+bx+c=0$" in clipboard(chat)
    assert r"$$x = \frac{-b \pm \sqrt{b^2-4ac}}{2a}.$$" in clipboard(chat)


def test_a_browser_reads_every_formula_as_the_server_wrote_it(chat):
    """S6: what was written, read and written again is the same, and nothing in a formula is HTML."""
    attacks = (Path(__file__).parents[1] / "security/corpus/maths.txt").read_text().replace("⏎", "\n")
    places = ["{}", "> {}", "- {}", "| a |\n|---|\n| {} |", "**{}**", "$$\n{}\n$$"]
    written = [rendering.render(place.format(line)) for line in attacks.split("\n") for place in places]

    found = chat.evaluate(
        """(written) => written.map((html) => {
            const read = new DOMParser().parseFromString(html, "text/html").body;
            const strangers = [...read.querySelectorAll("math, math *")]
                .filter((element) => element.namespaceURI !== "http://www.w3.org/1998/Math/MathML");
            const bad = read.querySelectorAll("script, img, iframe, style, svg, form, input, [onerror], [id]").length;
            const again = new DOMParser().parseFromString(read.innerHTML, "text/html").body;
            return [html === read.innerHTML || read.innerHTML, again.innerHTML === read.innerHTML,
                strangers.length, bad];
        })""",
        written,
    )

    for html, seen in zip(written, found, strict=True):
        assert seen == [True, True, 0, 0], html


def test_long_code_is_folded_and_one_press_shows_all_of_it(chat, sandbox):
    sandbox.enqueue(say=CODE)
    send(chat, "Code?")
    wait_for_end(chat)
    chat.reload()
    code, last = body(chat).locator("figure pre"), body(chat).locator("figure pre").get_by_text("line_80")
    folded = code.bounding_box()["height"]

    chat.get_by_role("button", name="Show all 80 lines").click()
    unfolded = code.bounding_box()["height"]
    chat.get_by_role("button", name="Show fewer lines").click()

    assert folded < 600 < 1_200 < unfolded
    assert code.bounding_box()["height"] == folded
    expect(last).to_have_count(1)
    chat.get_by_role("button", name="Copy code").click()
    expect(chat.locator(".copy-code[data-copied]")).to_have_count(1)
    assert clipboard(chat).endswith("line_80 = 80")
    chat.emulate_media(media="print")
    assert code.bounding_box()["height"] > 1_000


def test_code_that_was_written_before_ones_eyes_is_not_folded_under_them(chat, sandbox):
    sandbox.enqueue(say=CODE, rate=900)

    send(chat, "Code?")
    expect(body(chat)).to_contain_text("line_60")
    wait_for_end(chat)

    expect(chat.get_by_role("button", name="Show fewer lines")).to_have_attribute("aria-expanded", "true")
    assert body(chat).locator("figure pre").bounding_box()["height"] > 1_200
    chat.get_by_role("button", name="Show fewer lines").click()
    expect(chat.get_by_role("button", name="Show all 80 lines")).to_be_in_viewport()


def test_without_javascript_all_code_is_shown(page_of, conversation, sandbox, ask):
    sandbox.enqueue(say=CODE)
    ask("Code?")
    page = page_of(conversation.owner, java_script_enabled=False)

    page.goto(conversation.get_absolute_url())

    assert body(page).locator("figure pre").bounding_box()["height"] > 1_200


def test_what_claude_thought_is_in_a_fold_that_says_how_long(chat, sandbox):
    Conversation.objects.update(model="claude-opus-5-5")
    sandbox.enqueue(say="Forty-two.", thinking=60, rate=50)

    send(chat, "Think")
    expect(answer(chat).locator("summary").first).to_have_text("Thoughts")
    expect(answer(chat).get_by_role("status")).to_have_text("Thinking")
    wait_for_end(chat)

    summary = answer(chat).get_by_text("Thought for 1 s")
    expect(summary).to_be_visible()
    assert 1_000 <= Turn.objects.get().thinking_ms < 2_000
    expect(answer(chat).locator(".thinking__text")).to_be_hidden()
    summary.click()
    expect(answer(chat).locator(".thinking__text")).to_be_visible()


def test_a_fold_that_is_opened_while_text_arrives_stays_open_and_in_its_place(chat, sandbox):
    Conversation.objects.update(model="claude-opus-5-5")
    sandbox.enqueue(say=LONG, thinking=20, rate=200)
    send(chat, "Think")
    expect(body(chat)).to_contain_text("Paragraph 3")

    chat.locator(".thinking summary").scroll_into_view_if_needed()
    chat.locator(".thinking summary").click()
    top = chat.locator(".thinking").bounding_box()["y"]
    wait_for_end(chat)

    assert abs(chat.locator(".thinking").bounding_box()["y"] - top) < 2
    expect(chat.locator(".thinking__text")).to_be_visible()


@pytest.mark.parametrize("viewport", [{"width": 375, "height": 700}, {"width": 1440, "height": 900}])
def test_the_line_that_is_read_does_not_move_while_text_arrives(page_of, conversation, sandbox, viewport):
    page = page_of(conversation.owner, viewport=viewport)
    page.goto(conversation.get_absolute_url())
    sandbox.enqueue(say=LONG + "\n\n" + CODE + MATHS, rate=700)
    send(page, "Tell me")
    expect(body(page)).to_contain_text("Paragraph 9")

    page.mouse.move(viewport["width"] / 2, 300)
    page.mouse.wheel(0, -600)
    line = body(page).get_by_text(re.compile("^Paragraph 3:"))
    expect(page.get_by_role("button", name="New text below")).to_be_visible()
    before = line.bounding_box()["y"]
    wait_for_end(page)

    assert abs(line.bounding_box()["y"] - before) < 2
    page.get_by_role("button", name="New text below").click()
    expect(answer(page).locator("footer")).to_be_in_viewport()


def test_who_is_at_the_end_stays_there_when_the_window_changes(chat, sandbox):
    sandbox.enqueue(say=LONG)
    send(chat, "Tell me")
    wait_for_end(chat)

    chat.set_viewport_size({"width": 400, "height": 500})

    expect(answer(chat).locator("footer")).to_be_in_viewport()


def test_a_question_that_goes_out_by_itself_leaves_a_reader_where_they_are(chat, sandbox):
    sandbox.enqueue(say=LONG, rate=300, match="First")
    sandbox.enqueue(say="The second answer.", match="Second")
    send(chat, "First")
    expect(body(chat)).to_contain_text("Paragraph 5")
    send(chat, "Second")
    expect(chat.locator("#next")).to_contain_text("Second")

    chat.mouse.move(640, 300)
    chat.mouse.wheel(0, -600)
    expect(chat.get_by_role("button", name="New text below")).to_be_visible()
    line = chat.get_by_text(re.compile("^Paragraph 2:"))
    before = line.bounding_box()["y"]
    expect(body(chat)).to_have_text("The second answer.", timeout=40_000)
    wait_for_end(chat)

    assert abs(line.bounding_box()["y"] - before) < 2
    expect(chat.get_by_role("button", name="New text below")).to_be_visible()


def test_what_the_reader_opens_is_not_announced_as_new_text(chat, sandbox):
    sandbox.enqueue(say=LONG)
    send(chat, "Tell me")
    wait_for_end(chat)

    chat.locator('[data-role="user"]').hover()
    chat.locator('[data-role="user"]').get_by_role("link", name="Edit").click()

    expect(chat.locator(".edit")).to_be_visible()
    expect(chat.get_by_role("button", name="New text below")).to_be_hidden()


def test_earlier_messages_are_not_announced_as_new_text(page_of, conversation):
    for n in range(40):
        say(conversation, f"Question {n}?", "An answer of some words. " * 20)
    page = page_of(conversation.owner)
    page.goto(conversation.get_absolute_url())

    page.get_by_role("link", name="Show earlier messages").click()
    expect(page.get_by_text("Question 12?")).to_have_count(1)
    page.wait_for_function("() => new Promise(requestAnimationFrame)")

    expect(page.get_by_role("button", name="New text below")).to_be_hidden()


def test_what_models_write_in_html_looks_the_same_while_it_arrives_and_afterwards(chat, sandbox):
    sandbox.enqueue(say=HTML + "\n" + LONG, rate=150)
    send(chat, "Tell me")
    expect(body(chat)).to_contain_text("Paragraph 2")
    live = body(chat).locator("p, table").first.inner_html(), body(chat).locator("table, .alert").all_inner_texts()
    wait_for_end(chat)

    expect(body(chat).locator("sub, sup:not(:has(a)), kbd, mark")).to_have_text(["2", "2", "Ctrl", "new"])
    assert "one\ntwo, <b>bold</b>." in body(chat).inner_text()
    expect(body(chat).locator("td br")).to_have_count(1)
    expect(body(chat).locator(".alert strong")).to_have_text("Warning")
    after = body(chat).locator("p, table").first.inner_html(), body(chat).locator("table, .alert").all_inner_texts()
    assert live[0] == after[0]
    assert live[1][0] == after[1][0]
    body(chat).get_by_role("link", name="Note gap").click()
    expect(body(chat).locator(".footnote:target")).to_be_in_viewport()
    assert shows_what_is_stored(chat)
    assert barriers_of(chat) == ""


def test_the_sources_of_a_search_are_numbered_in_the_text_and_listed_below(chat, sandbox):
    sandbox.enqueue(searches=1, say="And more.", ttft=1_000)

    chat.get_by_role("checkbox", name="Search the web").check()
    send(chat, "What is the weather today?")
    expect(answer(chat).get_by_role("status")).to_contain_text("Searching the web: ")
    wait_for_end(chat)

    mark = body(chat).get_by_role("link", name="1", exact=True)
    assert mark.get_attribute("href").startswith("https://example.com/?q=")
    sources = answer(chat).get_by_role("region", name="Sources")
    expect(sources.get_by_role("link")).to_have_attribute("href", mark.get_attribute("href"))
    expect(sources).to_contain_text("example.com")
    assert shows_what_is_stored(chat)
    expect(answer(chat).locator("footer")).to_contain_text("1 web search")
    answer(chat).get_by_text("Details").click()
    expect(answer(chat).locator("footer")).to_contain_text("$0.01, in the cost")


def test_the_line_below_an_answer_says_what_it_took(chat, sandbox):
    sandbox.enqueue(tokens=60)
    send(chat, "One " * 2_000)
    expect(chat.locator("footer")).to_have_count(1)
    sandbox.enqueue(tokens=50)

    send(chat, "Two")
    expect(chat.locator("footer")).to_have_count(2)

    record = UsageRecord.objects.filter(purpose="reply").order_by("admitted_at").last()
    line = answer(chat).locator("footer")
    assert record.cache_read_tokens > 0
    expect(line).to_contain_text(f"{record.prompt_tokens:,} in ({record.cache_read_tokens:,} cached, saved $0.0")
    expect(line).to_contain_text("50 out")
    line.get_by_text("Details").click()
    expect(line.get_by_text("Read from the cache")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1440])
def test_what_is_read_has_no_barrier_and_fits_every_screen(page_of, conversation, sandbox, ask, scheme, width):
    Conversation.objects.update(max_searches=1, model="claude-opus-5-5")
    sandbox.enqueue(searches=1, thinking=40, say=MATHS + CODE + r"Wide: $" + "+".join(["x_{1}"] * 40) + "$")
    ask("What is the weather today?")
    page = page_of(conversation.owner, color_scheme=scheme, viewport={"width": width, "height": 800})

    page.goto(conversation.get_absolute_url())
    page.locator(".thinking summary").click()
    page.get_by_text("Details").click()

    assert barriers_of(page) == ""
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_seconds_of_a_wait_run_and_are_not_announced(page_of, conversation, sandbox):
    sandbox.enqueue(say="Here it is.", ttft=4_500)
    page = page_of(conversation.owner, reduced_motion="reduce")
    page.goto(conversation.get_absolute_url())

    send(page, "Think")
    clock, status = answer(page).locator(".message__clock"), answer(page).get_by_role("status")
    expect(clock).to_have_text("· 1 s")
    expect(clock).to_have_text("· 2 s")
    expect(clock).to_have_text("· 3 s")

    expect(status).to_have_text("Thinking")
    assert clock.evaluate("clock => clock.closest('[role=status], [aria-live]')") is None
    wait_for_end(page)
    expect(clock).to_have_count(0)


def test_the_seconds_go_on_after_a_reload_and_move_nobody(chat, sandbox):
    sandbox.enqueue(say="Here it is.", ttft=6_000)
    send(chat, "Think")
    expect(answer(chat).locator(".message__clock")).to_have_text("· 2 s")

    chat.reload()

    expect(answer(chat).locator(".message__clock")).to_have_text(re.compile("· [345] s"))
    expect(chat.get_by_role("button", name="New text below")).to_be_hidden()
    wait_for_end(chat)


def test_a_page_that_is_opened_while_claude_searches_says_so(chat, conversation, sandbox):
    sandbox.enqueue(searches=1, say="And more.", ttft=6_000)
    chat.get_by_role("checkbox", name="Search the web").check()
    send(chat, "What is the weather today?")
    waits = re.compile("Searching the web: |Reading what the search found")
    expect(answer(chat).get_by_role("status")).to_have_text(waits)
    wait_until(lambda: Turn.objects.exclude(checkpoint_notice__in=["", "Thinking"]).exists(), "nobody noted it")

    chat.reload()

    assert waits.search(answer(chat).get_by_role("status").inner_text())
    wait_for_end(chat)


def test_on_paper_a_long_address_is_cut(chat, sandbox):
    sandbox.enqueue(say=f"See [the table](https://example.com/{'long/' * 80}) there.")
    send(chat, "Where?")
    wait_for_end(chat)

    chat.emulate_media(media="print")

    link = body(chat).get_by_role("link")
    assert link.evaluate("link => getComputedStyle(link, '::after').content").startswith('"https://example.com/long/')
    assert link.bounding_box()["height"] < 60
    assert link.bounding_box()["width"] < 700
