"""What somebody asked, as the page shows it: short and long, with marks of every kind, and in the box that edits it."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.screen import answer, body
from tests.browser.test_pages import barriers_of
from tests.talk import say

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LINES = [f"Line {n} of a long question." for n in range(1, 61)]
PILE = "a" + "\u0489" * 400
TABLE = "| a | b |\n|---|---|\n| " + "code_without_a_break_" * 30 + " | b |\n"
WITHIN_ITS_FOLD = """(words) => {
    const text = document.querySelector(".message__said").firstChild, start = text.data.indexOf(words);
    const range = document.createRange();
    range.setStart(text, start);
    range.setEnd(text, start + words.length);
    const box = text.parentElement.closest("details").getBoundingClientRect();
    const { top, bottom } = range.getBoundingClientRect();
    return box.top < top && bottom < box.bottom;
}"""
PHONE = {"width": 375, "height": 667}


@pytest.fixture
def long(conversation):
    """Alice's conversation, in which a question of sixty lines stands above a short one."""
    say(conversation, "\n".join(LINES), "Short.")
    say(conversation, "And now?", "The end.")
    return conversation


def opened(page: Page, conversation, address: str = "") -> Page:
    page.goto(f"{conversation.get_absolute_url()}{address}")
    return page


def fold(page: Page):
    return page.locator("details", has=page.get_by_text("Line 1 of"))


def between_bar_and_dock(page: Page, selector: str) -> bool:
    return page.locator(selector).evaluate(
        """(element) => {
            const box = element.getBoundingClientRect();
            return box.top >= document.querySelector(".shell__head").getBoundingClientRect().bottom - 0.5
                && box.bottom <= document.querySelector(".dock").getBoundingClientRect().top + 0.5;
        }"""
    )


@pytest.mark.parametrize("script", [True, False])
def test_a_long_question_shows_its_beginning_and_all_of_it_on_demand(page_of, long, script):
    page = opened(page_of(long.owner, java_script_enabled=script), long)
    folded = fold(page).bounding_box()

    page.locator("summary", has_text="Show all").press("Enter")
    expect(page.get_by_text("Show less")).to_be_visible()
    unfolded = fold(page).bounding_box()
    page.locator("summary", has_text="Show less").press("Enter")

    assert folded["height"] < 400 < 1_200 < unfolded["height"]
    expect(page.get_by_text("Show less")).to_be_hidden()
    assert fold(page).bounding_box()["height"] == folded["height"]
    page.emulate_media(media="print")
    assert fold(page).bounding_box()["height"] > 900


def test_what_is_read_of_a_long_question_stays_in_its_place_when_all_of_it_is_shown(page_of, long):
    page = opened(page_of(long.owner), long)
    page.get_by_text("Line 3 of").scroll_into_view_if_needed()
    before = page.get_by_text("Line 3 of").bounding_box()["y"]

    page.get_by_text("Show all").click()
    expect(page.get_by_text("Show less")).to_be_visible()

    page.wait_for_function("() => new Promise(requestAnimationFrame)")
    assert abs(page.get_by_text("Line 3 of").bounding_box()["y"] - before) < 2


def test_a_long_question_is_copied_edited_and_found_in_whole(page_of, long):
    page = page_of(long.owner, permissions=["clipboard-read", "clipboard-write"])
    question = page.locator('[data-role="user"]').first

    opened(page, long, "#:~:text=Line%2055%20of")  # a browser looks for it as it does when somebody searches the page
    page.wait_for_function(WITHIN_ITS_FOLD, arg="Line 55 of")

    question.hover()
    question.get_by_role("button", name="Copy").click()
    expect(question.locator("[data-copied]")).to_have_count(1)
    assert page.evaluate("() => navigator.clipboard.readText()").split("\n") == LINES

    question.get_by_role("link", name="Edit").click()
    expect(page.get_by_label("Your question")).to_have_value("\n".join(LINES))
    expect(fold(page)).to_be_hidden()


@pytest.mark.parametrize("question", ["\n".join(LINES[:20]), "w" * 1_500])
def test_a_question_that_is_not_long_is_not_folded(page_of, conversation, question):
    say(conversation, question, "Short.")

    page = opened(page_of(conversation.owner), conversation)

    expect(page.get_by_text("Show all")).to_have_count(0)


@pytest.mark.parametrize("viewport", [PHONE, {"width": 1440, "height": 900}])
def test_all_of_the_box_in_which_a_question_is_edited_is_to_be_seen(page_of, long, viewport):
    page = opened(page_of(long.owner, viewport=viewport), long)

    for question in (0, 2):
        message = page.locator(".message").nth(question)
        message.hover()
        message.get_by_role("link", name="Edit").click()
        expect(page.get_by_label("Your question")).to_be_focused()
        assert between_bar_and_dock(page, ".edit")
        page.get_by_role("link", name="Cancel").click()


def test_without_javascript_a_link_to_a_message_puts_its_beginning_below_the_bar(page_of, long, settings):
    settings.SANDBOX = True  # the bar has a banner then
    message = long.messages.get(text="And now?")
    for _ in range(9):
        say(long, "And then?", "More words.\n\n" * 5)

    page = opened(page_of(long.owner, java_script_enabled=False, viewport=PHONE), long, f"#message-{message.id}")

    assert between_bar_and_dock(page, f"#said-{message.id}")


@pytest.mark.parametrize("width", [320, 1440])
def test_marks_piled_on_a_letter_do_not_make_the_page_scroll_sideways(page_of, conversation, width):
    conversation.title = PILE[:200]
    conversation.save()
    say(conversation, f"{PILE} {PILE}", f"See {PILE}\n\n{TABLE}\n```\n{'code_without_a_break_' * 30}\n```\n")
    page = page_of(conversation.owner, viewport={"width": width, "height": 800})

    opened(page, conversation)

    assert page.evaluate("document.documentElement.scrollWidth") == width
    for inner in ("table", "pre"):
        assert body(page).locator(inner).evaluate("inner => inner.scrollWidth > inner.clientWidth")
    if width < 960:
        page.locator(".topbar__drawer").first.click()
    assert page.locator(".sidebar__list").evaluate("list => list.scrollWidth === list.clientWidth")


def test_a_question_reads_as_what_it_is_and_is_edited_as_it_was_typed(page_of, conversation):
    typed = "Is https://good.example/\u202egpj.exe good? \u2066x\u2069 שלום"
    say(conversation, typed, "No.")
    page = opened(page_of(conversation.owner), conversation)
    question = page.locator('[data-role="user"]')

    expect(question.locator(".message__said")).to_have_text("Is https://good.example/gpj.exe good? x שלום")
    question.hover()
    question.get_by_role("link", name="Edit").click()
    expect(page.get_by_label("Your question")).to_have_value(typed)


def test_an_answer_without_a_word_cannot_be_copied(page_of, conversation):
    say(conversation, "Say nothing.", "")

    page = opened(page_of(conversation.owner), conversation)

    expect(answer(page).get_by_role("button", name="Try again", exact=True)).to_have_count(1)
    expect(answer(page).get_by_role("button", name="Copy")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_folded_question_has_no_barrier(page_of, long, scheme):
    page = opened(page_of(long.owner, color_scheme=scheme, reduced_motion="reduce"), long)  # nothing half faded in

    assert barriers_of(page) == ""
    page.get_by_text("Show all").click()
    assert barriers_of(page) == ""
