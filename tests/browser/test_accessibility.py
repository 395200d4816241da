"""Every page of the product for people who do not see it, or see it otherwise: axe, headings, focus, forced colours.

The pages come from the URL resolver: who adds one has to say here how it is opened, or why nobody looks at it.
"""

import re
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.db.models.functions import Now
from django.template import loader
from playwright.sync_api import Page, expect

from chat.models import Conversation, Turn, UsageRecord
from chat.models.turn import lease_end
from tests.browser.test_chat import RICH
from tests.security.routes import ROUTES
from tests.talk import book, say

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# Pages of their own: who opens them, and how what stands in for an id is called.
ALICE = {
    "conversations/",
    "conversations/<uuid:conversation_id>/",
    "conversations/<uuid:conversation_id>/menu/",
    "conversations/search/",
    "conversations/older/",
    "conversations/archive/",
    "messages/<uuid:message_id>/siblings/",
    "turns/<uuid:turn_id>/retries/",
    "preferences/",
    "shortcuts/",
    "spend/",
    "spend/requests/",
    "accounts/logout/",
    "accounts/password/change/",
    "accounts/reauthenticate/",
}
VISITOR = {
    "accounts/login/",
    "accounts/signup/",
    "accounts/inactive/",
    "accounts/password/reset/",
    "accounts/password/reset/done/",
    "accounts/password/reset/key/done/",
    "accounts/^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
}
ADA = {"admin/spend/", "admin/spend/books/", "admin/spend/calls/<uuid:record_id>/correction/"}
# Files, fragments and figures for machines, and what only sends on.
NO_PAGE_OF_OURS = {
    "",
    "healthz",
    "readyz",
    "metrics",
    "drafts/",
    "foresight/",
    "summaries/<uuid:summary_id>/",
}


def is_page(route: str) -> bool:
    """Whether somebody gets a page by opening it: a GET that answers 200, and is none of the machines'."""
    get, _ = ROUTES[route]
    is_fragment = route.endswith(("/stream/", "/title/", "/draft/", "/next/", ".csv", ".md", ".json", "/thumbnail/"))
    is_file = route.startswith("attachments/") or route in NO_PAGE_OF_OURS
    of_django = route.startswith("admin/") and not route.startswith("admin/spend/")
    return "200" in get and not (is_fragment or is_file or of_django)


def test_no_page_is_forgotten():
    looked_at = ALICE | VISITOR | ADA

    assert {route for route in ROUTES if is_page(route)} - looked_at == set()
    assert looked_at - set(ROUTES) == set()


def barriers(page: Page) -> list[str]:
    """What axe finds: the rule, and where it is broken."""
    # Preloading would read our style sheets again, into elements that our policy forbids.
    options = {"preload": False, "rules": {"target-size": {"enabled": True}}}
    # What the composer happens to cover half of is no small target: one scrolls.
    page.evaluate("document.querySelector('.dock')?.style.setProperty('position', 'static')")
    found = Axe().run(page, options=options).response
    page.evaluate("document.querySelector('.dock')?.style.removeProperty('position')")
    return [f"{rule['id']}: {node['target']}" for rule in found["violations"] for node in rule["nodes"]]


def visit(page: Page, path: str) -> None:
    """The first page of all loads every module; that may take its time."""
    page.goto(path, timeout=30_000)


@pytest.fixture
def eventful(conversation, alice):
    """Alice's conversation in which everything has happened, and two that wait for their answers."""
    thinking = {"type": "thinking", "thinking": "It has to be found out.", "signature": "x"}
    ends = [
        ("done", "", "end_turn", RICH),
        ("done", "", "max_tokens", "Cut"),
        ("stopped", "", "", "Stopped in the middle"),
        ("failed", "busy", "", ""),
        ("interrupted", "cut", "", "So far"),
        ("done", "", "refusal", "I would rather not."),
    ]
    for state, error, reason, words in ends:
        turn = say(conversation, f"Question {state} {reason}", [thinking, {"type": "text", "text": words}])
        if state == "done":
            book(turn, 100, 50)
        Turn.objects.filter(id=turn.id).update(state=state, error=error, stop_reason=reason, finished_at=Now())
    conversation.retry_turn(turn.question, "01a207e1-b600-7a04-9364-c587c5f3e122")
    Turn.objects.filter(state="queued").update(state="stopped", finished_at=Now())
    conversation.summaries.create(last=turn.question.parent, text="They spoke of **tides**.")
    Conversation.objects.filter(id=conversation.id).update(title="Everything", pinned=True)
    for state in ("queued", "running"):
        live = alice.conversations.create(title=f"A {state} one", model=conversation.model)
        turn = say(live, "Tell me")
        Turn.objects.filter(id=turn.id).update(state=state, lease_until=lease_end(), checkpoint_text="So far *this*")
    alice.conversations.create(title="Put away", model=conversation.model, archived=True)
    yield conversation
    Turn.objects.live().update(state="stopped", finished_at=Now())


def address(route: str, conversation: Conversation) -> str:
    turn = conversation.turns.filter(state="done").earliest("created_at")
    ids = {
        "conversation_id": conversation.id,
        "turn_id": turn.id,
        "message_id": turn.question_id,
        "record_id": UsageRecord.objects.filter(turn=turn).get().id,
    }
    path = re.sub(r"<uuid:(\w+)>", lambda match: str(ids[match[1]]), route)
    path = re.sub(r"\(\?P<uidb36>.*", "x-y/", path.replace("^", ""))
    return "/" + path + ("?q=question" if path.endswith("search/") else "")


LOOKS = pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 375)])


@LOOKS
def test_no_page_of_alices_has_a_barrier(page_of, alice, eventful, scheme, width):
    page = page_of(alice, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce")

    for route in sorted(ALICE):
        visit(page, address(route, eventful))
        assert barriers(page) == [], route


@LOOKS
def test_no_page_of_a_visitor_and_of_the_admin_has_a_barrier(page_of, ada, eventful, scheme, width):
    look = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}, "reduced_motion": "reduce"}

    for person, routes in ((None, VISITOR), (ada, ADA)):
        page = page_of(person, **look)
        for route in sorted(routes):
            visit(page, address(route, eventful))
            assert barriers(page) == [], route


@LOOKS
def test_no_page_about_a_fault_has_a_barrier(page_of, scheme, width):
    page = page_of(color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    page.route(
        "**/fault/**",
        lambda route: route.fulfill(
            body=loader.render_to_string(route.request.url.rpartition("/fault/")[2]), content_type="text/html"
        ),
    )

    for name in ("400.html", "403.html", "403_csrf.html", "404.html", "500.html", "503.html", "chat/kept.html"):
        page.goto(f"/fault/{name}")
        assert page.locator("h1").count() == 1, name
        assert barriers(page) == [], name


@pytest.mark.parametrize(("scheme", "width"), [("light", 375), ("dark", 1440)])
def test_nothing_that_opens_on_a_chat_has_a_barrier(page_of, alice, eventful, scheme, width):
    page = page_of(alice, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    page.goto(eventful.get_absolute_url())
    assert barriers(page) == [], "the chat"

    for summary in page.locator(".thinking summary, .message__footer summary").all()[:4]:
        summary.click()
    assert barriers(page) == [], "folds"
    page.get_by_role("button", name="Settings").click()
    assert barriers(page) == [], "settings"
    page.keyboard.press("Escape")
    if width == 375:
        page.get_by_role("button", name="Conversations").click()
        assert barriers(page) == [], "drawer"
    page.get_by_role("searchbox").press_sequentially("question")
    page.locator("#found .hit").first.wait_for()
    assert barriers(page) == [], "found"
    page.get_by_role("searchbox").press("Escape")
    row = page.locator(".sidebar__row").first
    row.hover()
    row.get_by_role("button").click()
    page.get_by_role("button", name="Unpin").wait_for()
    assert barriers(page) == [], "menu"
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+Shift+K")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    assert barriers(page) == [], "shortcuts"


def test_headings_come_in_their_order_on_every_page(page_of, alice, eventful):
    page = page_of(alice)

    for route in sorted(ALICE):
        visit(page, address(route, eventful))
        # Of the model's own headings nobody can say.
        levels = page.locator("main :is(h1, h2, h3, h4), .topbar h1").evaluate_all(
            "found => found.filter(h => !h.closest('.prose') && h.checkVisibility()).map(h => Number(h.tagName[1]))"
        )
        assert levels[0] == 1, route
        assert levels.count(1) == 1, route
        assert all(after - before <= 1 for before, after in pairwise(levels)), (route, levels)


def test_whoever_uses_the_keyboard_skips_to_the_message_and_sees_where_they_are(page_of, alice, eventful):
    page = page_of(alice)
    page.goto(eventful.get_absolute_url())
    skip = page.get_by_role("link", name="Skip to the message box")

    # The box has the focus already; the link is for whoever comes from the top.
    assert page.locator("a, button, input").first.inner_text() == skip.inner_text()
    skip.focus()
    expect(skip).to_be_in_viewport(ratio=1)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.evaluate("document.activeElement.blur()")
    page.locator(".wordmark").first.focus()

    for _ in range(40):
        page.keyboard.press("Tab")
        is_shown = page.evaluate(
            """() => {
              const at = document.activeElement, style = getComputedStyle(at);
              const around = getComputedStyle(at.closest(".composer__box, .switch") ?? at);
              return at === document.body || style.outlineStyle !== "none" || around.outlineStyle !== "none";
            }"""
        )
        assert is_shown, page.evaluate("document.activeElement.outerHTML.slice(0, 200)")


def test_a_dialog_keeps_the_focus_and_gives_it_back(page_of, alice, conversation):
    page = page_of(alice)
    page.goto(conversation.get_absolute_url())
    page.get_by_label("Message", exact=True).focus()

    page.keyboard.press("Alt+Shift+K")
    for _ in range(6):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("Escape")

    expect(page.get_by_label("Message", exact=True)).to_be_focused()


def test_an_answer_is_announced_when_it_has_ended_and_not_word_by_word(page_of, alice, eventful):
    page = page_of(alice)
    live = Conversation.objects.get(title="A running one")
    page.goto(live.get_absolute_url())

    announced = page.locator("[aria-live], [role=status], [role=alert], [role=log]")
    around_text = announced.evaluate_all("found => found.filter(e => e.querySelector('.message__body')).length")

    assert around_text == 0
    assert announced.evaluate_all("found => found.filter(e => e.ariaLive === 'assertive').length") == 0


def test_nothing_moves_for_whoever_asked_for_that(page_of, alice, eventful):
    page = page_of(alice, reduced_motion="reduce")
    page.goto(Conversation.objects.get(title="A queued one").get_absolute_url())

    moving = page.evaluate("document.getAnimations().filter(a => a.playState === 'running').map(a => a.animationName)")

    assert moving == []


def test_with_forced_colours_and_more_contrast_states_and_controls_are_still_told_apart(page_of, alice, eventful):
    page = page_of(alice, forced_colors="active", contrast="more")
    page.goto(eventful.get_absolute_url())

    outline = page.locator('.sidebar__link[aria-current="page"]').evaluate("e => getComputedStyle(e).outlineStyle")
    border = page.get_by_role("button", name="Send").evaluate("e => getComputedStyle(e).borderTopWidth")

    assert outline == "solid"
    assert border != "0px"
    assert barriers(page) == []
