"""The pages around a conversation, and for everybody: by screen reader, in the dark, on a phone, without JavaScript."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from chat.models import Conversation
from tests.browser.test_chat import LONG, RICH, answer, body, send, wait_for_end

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("worker"),
]

WIDE_TABLE = "|" + "a wide column|" * 12 + "\n|" + "-|" * 12
WIDE = "```\n" + "x" * 300 + "\n```\n\n" + "y" * 300 + "\n"


def barriers_of(page) -> str:
    # Preloading would read our style sheets again, into elements that our policy forbids.
    found = Axe().run(page, options={"preload": False})
    return found.generate_report() if found.violations_count else ""


@pytest.fixture
def eventful(conversation, ask, sandbox):
    """Alice's conversation with thinking, a table, code, a failure and a stop by the length limit."""
    sandbox.enqueue(say=RICH + WIDE, thinking=30, match="Tell me")
    ask("Tell me")
    sandbox.enqueue(tokens=9000, rate=100_000, match="At length")
    ask("At length", effort="quick")
    sandbox.enqueue(status="529", times=3, retry_after=0, match="Once more")
    ask("Once more")
    return conversation


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_barrier_that_axe_finds(page_of, alice, ada, eventful, scheme):
    look = {"color_scheme": scheme, "reduced_motion": "reduce"}  # nothing is judged while it fades
    visitor, owner, admin = (page_of(person, **look) for person in (None, alice, ada))

    for page, path in (
        (visitor, "/accounts/login/"),
        (owner, "/conversations/"),
        (owner, eventful.get_absolute_url()),
        (owner, "/spend/"),
        (admin, "/admin/spend/"),
    ):
        page.goto(path)
        if "-" in path:
            page.locator(".thinking summary").first.click()
            page.get_by_role("button", name="Settings").click()
        assert barriers_of(page) == "", path


def test_a_wide_table_can_be_scrolled_with_the_keyboard(page_of, alice, conversation, ask, sandbox):
    sandbox.enqueue(say=WIDE_TABLE)
    ask("Tell me")
    page = page_of(alice)
    page.goto(conversation.get_absolute_url())

    assert barriers_of(page) == ""


@pytest.mark.parametrize("width", [375, 320])
def test_a_phone_shows_everything_without_scrolling_sideways(page_of, alice, eventful, ask, sandbox, width):
    sandbox.enqueue(say=WIDE_TABLE)
    ask("A table")
    phone = {"viewport": {"width": width, "height": 700}, "is_mobile": True, "has_touch": True}
    page = page_of(alice, **phone)
    wide = {}

    for path in ("/conversations/", "/spend/", "/accounts/password/change/", eventful.get_absolute_url()):
        page.goto(path)
        wide[path] = page.evaluate("document.documentElement.scrollWidth")

    assert set(wide.values()) == {width}, wide
    expect(page.get_by_label("Message")).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)
    drawer = page.get_by_role("navigation", name="Conversations")
    expect(drawer).to_be_hidden()
    page.get_by_role("button", name="Conversations").tap()
    expect(drawer).to_be_in_viewport()
    drawer.get_by_role("link", name="New chat").tap()
    page.wait_for_url("**/conversations/")
    expect(drawer).to_be_hidden()


def test_on_a_phone_enter_breaks_the_line_and_the_button_sends(page_of, conversation, sandbox):
    sandbox.enqueue(say="Read.")
    page = page_of(conversation.owner, viewport={"width": 375, "height": 700}, is_mobile=True, has_touch=True)
    page.goto(conversation.get_absolute_url())

    page.get_by_label("Message").press_sequentially("One")
    page.get_by_label("Message").press("Enter")
    page.get_by_label("Message").press_sequentially("Two")
    page.get_by_role("button", name="Send").tap()
    wait_for_end(page)

    assert body(page).inner_text() == "Read."
    assert conversation.messages.get(role="user").text == "One\nTwo"


def test_without_javascript_the_page_follows_an_answer_to_its_end(page_of, alice, sandbox):
    sandbox.enqueue(say=LONG, rate=100)
    page = page_of(alice, java_script_enabled=False)
    page.goto("/conversations/")

    send(page, "Tell me")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    wait_for_end(page)

    assert body(page).inner_text() == LONG
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def test_without_javascript_stop_works_and_a_refused_text_comes_back(page_of, conversation, sandbox):
    sandbox.enqueue(tokens=2000, rate=50)
    page = page_of(conversation.owner, java_script_enabled=False)
    page.forgive("409")
    page.goto(conversation.get_absolute_url())

    send(page, "Tell me")
    page.get_by_role("link", name="Write the next message").click()
    send(page, "And another thing")
    expect(page.locator("#next")).to_contain_text("And another thing")
    page.get_by_role("link", name="Write the next message").click()
    send(page, "And a third")
    expect(page.get_by_role("alert")).to_contain_text("One message waits already.")
    assert page.get_by_label("Message").input_value() == "And a third"
    page.get_by_role("button", name="Stop").click()
    while page.get_by_role("button", name="Look again").count():
        page.get_by_role("button", name="Look again").click()

    wait_for_end(page, "stopped")
    assert answer(page).locator(".message__ending p").inner_text() == "Stopped."
    expect(page.locator("#next")).to_contain_text("Not sent, because the answer before it was stopped.")
    page.get_by_role("button", name="Edit what is sent next").click()
    assert page.get_by_label("Message").input_value() == "And another thing\n\nAnd a third"


def test_without_javascript_what_is_typed_while_an_answer_is_written_is_not_lost(page_of, conversation, sandbox):
    sandbox.enqueue(say=LONG, rate=24)
    page = page_of(conversation.owner, java_script_enabled=False)
    page.goto(conversation.get_absolute_url())
    box = page.get_by_label("Message", exact=True)

    send(page, "Tell me")
    expect(page.locator("meta[http-equiv=refresh]")).to_have_count(1)
    expect(box).to_be_hidden()
    page.get_by_role("link", name="Write the next message").click()
    expect(page.locator("meta[http-equiv=refresh]")).to_have_count(0)
    box.fill("What I think meanwhile")
    page.get_by_role("button", name="Look again").click()
    expect(box).to_have_value("What I think meanwhile")
    box.fill("What I think of it by now")
    while page.get_by_role("button", name="Look again").count():
        page.get_by_role("button", name="Look again").click()

    assert body(page).inner_text() == LONG
    expect(box).to_have_value("What I think of it by now")


def test_without_javascript_a_file_that_is_chosen_is_kept_while_somebody_looks_again(page_of, conversation, sandbox):
    sandbox.enqueue(tokens=2000, rate=50)
    page = page_of(conversation.owner, java_script_enabled=False)
    page.goto(conversation.get_absolute_url())
    send(page, "Tell me")
    page.get_by_role("link", name="Write the next message").click()

    page.get_by_label("Attach files").set_input_files({"name": "a.py", "mimeType": "text/plain", "buffer": b"a = 1"})
    page.get_by_role("button", name="Look again").click()

    expect(page.get_by_role("button", name="Remove a.py")).to_be_visible()
    page.get_by_label("Message", exact=True).fill("And this?")
    page.get_by_role("button", name="Stop").click()
    while page.get_by_role("button", name="Look again").count():
        page.get_by_role("button", name="Look again").click()
    wait_for_end(page, "stopped")
    expect(page.get_by_label("Message", exact=True)).to_have_value("And this?")
    expect(page.get_by_role("button", name="Remove a.py")).to_be_visible()


def test_a_first_answer_gives_the_conversation_its_title(page_of, alice):
    page = page_of(alice)
    page.goto("/conversations/")

    send(page, "How do tides work in the North Sea?")
    page.wait_for_url("**/conversations/*-*/")
    chosen = page.locator('.sidebar__link[aria-current="page"]')
    expect(chosen).to_have_text("How do tides work in the North Sea?")
    wait_for_end(page)

    expect(chosen).not_to_have_text("How do tides work in the North Sea?")
    title = Conversation.objects.get().title
    expect(chosen).to_have_text(title)
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    expect(page).to_have_title(f"{title} · Tally")


def test_a_conversation_is_renamed_and_deleted_in_its_settings(page_of, conversation):
    page = page_of(conversation.owner)
    page.forgive("404")
    page.goto(conversation.get_absolute_url())

    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Title").fill("A new name")
    page.get_by_role("button", name="Save").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("A new name")
    expect(page.get_by_role("link", name="A new name")).to_have_attribute("aria-current", "page")

    page.get_by_role("button", name="Settings").click()
    page.get_by_text("Delete this conversation").click()
    page.get_by_role("button", name="Delete for good").click()

    page.wait_for_url("**/conversations/")
    expect(page.get_by_role("link", name="A new name")).to_have_count(0)
    assert page.goto(conversation.get_absolute_url()).status == 404
