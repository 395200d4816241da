"""A chat on every screen, zoomed, with wider spacing, from right to left, and on paper."""

import pytest
from playwright.sync_api import expect

from chat.models import Conversation
from tests.browser.test_accessibility import ALICE, address, eventful, visit  # noqa: F401
from tests.talk import say

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ARABIC = "ما هي عاصمة فرنسا؟"
HEBREW = "מהי בירת צרפת?"
# WCAG 1.4.12
SPACING = """* { line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important; }
p { margin-block-end: 2em !important; }"""


def sideways(page) -> int:
    """Pixels that the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("width", [320, 375, 768, 1440, 2560])
def test_no_page_scrolls_sideways_and_one_can_write_on_each(page_of, alice, eventful, width):  # noqa: F811
    page = page_of(alice, viewport={"width": width, "height": 720})

    for route in sorted(ALICE):
        visit(page, address(route, eventful))
        assert sideways(page) == 0, route
    page.goto(eventful.get_absolute_url())
    box = page.get_by_label("Message", exact=True)
    expect(box).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)

    assert box.bounding_box()["width"] >= min(width - 80, 250)
    # A line that one can read: not above some ninety characters of sixteen pixels' type.
    assert page.locator(".message__body").first.bounding_box()["width"] <= 800


@pytest.mark.parametrize("zoom", [2, 4])
def test_nothing_is_lost_at_two_and_four_hundred_per_cent(page_of, alice, eventful, zoom):  # noqa: F811
    page = page_of(alice, viewport={"width": 1280 // zoom, "height": 1024 // zoom}, device_scale_factor=zoom)

    page.goto(eventful.get_absolute_url())

    assert sideways(page) == 0
    page.get_by_label("Message", exact=True).fill("Hello")
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport()
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Save").scroll_into_view_if_needed()
    expect(page.get_by_role("button", name="Save")).to_be_in_viewport()


@pytest.mark.parametrize("width", [375, 1440])
def test_wider_spacing_of_text_hides_nothing(page_of, alice, eventful, width):  # noqa: F811
    page = page_of(alice, viewport={"width": width, "height": 800}, bypass_csp=True)
    page.goto(eventful.get_absolute_url())

    page.add_style_tag(content=SPACING)

    assert sideways(page) == 0
    cut = page.locator(".button:visible, .message__ending p").evaluate_all(
        """found => found.filter(e => e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1)
           .map(e => e.innerText)"""
    )
    assert cut == []


def test_text_from_right_to_left_stands_so_and_turns_nothing_else_around(page_of, alice, conversation):
    say(conversation, ARABIC, f"{HEBREW}\n\nIt is **Paris**.")
    Conversation.objects.filter(id=conversation.id).update(title=f"\u202e{ARABIC}")
    page = page_of(alice)
    page.goto(conversation.get_absolute_url())

    def direction(selector: str) -> str:
        return page.locator(selector).first.evaluate("e => getComputedStyle(e).direction")

    assert direction(".message__said") == "rtl"
    assert direction(".message__body p:has-text('צרפת')") == "rtl"
    assert direction(".message__body p:has-text('Paris')") == "ltr"
    assert direction("body") == "ltr"
    # What is beside a title stands where it does beside every other.
    row = page.locator('.sidebar__row:has([aria-current="page"])')
    row.hover()
    title, menu = row.locator("bdi").bounding_box(), row.get_by_role("button").bounding_box()
    assert title["x"] < menu["x"]
    assert sideways(page) == 0
    page.goto("/conversations/search/?q=عاصمة")
    assert direction(".hit__passage") == "rtl"
    expect(page.locator(".hit mark").first).to_have_text("عاصمة")


def test_a_chat_on_paper_has_what_was_said_and_nothing_to_press(page_of, alice, conversation):
    code = "\n".join(f"line {number}" for number in range(60))
    say(conversation, "Tell me", f"See [the docs](https://example.org/docs).\n\n```\n{code}\n```\n\nThe end.")
    page = page_of(alice, viewport={"width": 720, "height": 900})
    page.goto(conversation.get_absolute_url())

    page.emulate_media(media="print")

    expect(page.locator(".message__said")).to_be_visible()
    expect(page.get_by_role("heading", name="You asked")).to_be_visible()
    expect(page.get_by_text("line 59")).to_be_visible()
    for pressed in page.locator("button, input, textarea, select, nav a").all():
        expect(pressed).not_to_be_visible()
    link = page.locator(".message__body a").evaluate("e => getComputedStyle(e, '::after').content")
    assert "https://example.org/docs" in link or "attr" in link
    assert page.locator("pre").evaluate("e => e.scrollHeight - e.clientHeight") <= 1
    assert sideways(page) == 0
