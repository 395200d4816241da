"""What can be done without a mouse, and what the tab says while nobody looks at the page."""

import re

import pytest
from playwright.sync_api import expect

from chat.models import Conversation, User
from tests.browser.test_chat import LONG, answer, body, send, wait_for_end, wait_for_text
from tests.conftest import wait_until
from tests.talk import say

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("worker"),
]

# What browsers and the screen readers keep for themselves.
TAKEN = re.compile(r"^(Ctrl|Meta)\+|^(Insert|CapsLock|Control\+Alt)")


@pytest.fixture
def chat(page_of, conversation):
    page = page_of(conversation.owner, permissions=["clipboard-read", "clipboard-write"])
    page.goto(conversation.get_absolute_url())
    return page


def message(page):
    return page.get_by_label("Message", exact=True)


def hide(page, hidden: bool = True) -> None:
    """What a browser says of a tab that is not in front. Playwright's pages are always in front."""
    page.evaluate(
        """hidden => {
          Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def icon(page) -> str:
    return re.search(r"/(favicon[a-z-]*?)(\.\w{12})?\.svg", page.locator("link[rel=icon]").get_attribute("href"))[1]


def test_the_message_box_a_new_chat_and_the_search_are_one_key_away(chat):
    chat.locator("body").evaluate("() => document.activeElement.blur()")

    chat.keyboard.press("Alt+Shift+M")
    expect(message(chat)).to_be_focused()
    chat.keyboard.press("Alt+Shift+S")
    expect(chat.get_by_role("searchbox")).to_be_focused()
    chat.keyboard.press("Alt+Shift+N")

    chat.wait_for_url("**/conversations/")


def test_the_last_answer_is_copied_and_the_last_question_edited(chat, sandbox):
    for question, said in (("First", "One."), ("Second", "Two.")):
        sandbox.enqueue(say=said, match=question)
        send(chat, question)
        expect(body(chat)).to_have_text(said)
        wait_for_end(chat)

    chat.keyboard.press("Alt+Shift+C")
    wait_until(lambda: chat.evaluate("navigator.clipboard.readText()") == "Two.", "nothing was copied")
    chat.keyboard.press("Alt+Shift+E")

    expect(chat.locator(".edit textarea")).to_have_value("Second")


def test_one_walks_through_the_conversations(chat, conversation, alice):
    other = alice.conversations.create(title="Another", model=conversation.model)
    say(other, "Hello", "Hello.")
    chat.reload()

    chat.keyboard.press("Alt+Shift+U")
    chat.wait_for_url(f"**{other.get_absolute_url()}")
    chat.keyboard.press("Alt+Shift+J")

    chat.wait_for_url(f"**{conversation.get_absolute_url()}")


def test_the_list_is_hidden_and_stays_so_until_it_is_wanted(chat):
    rows = chat.get_by_role("navigation", name="Conversations")
    expect(rows).to_be_visible()

    chat.keyboard.press("Alt+Shift+L")
    expect(rows).to_be_hidden()
    chat.reload()
    expect(rows).to_be_hidden()
    chat.keyboard.press("Alt+Shift+S")

    expect(chat.get_by_role("searchbox")).to_be_focused()
    expect(rows).to_be_visible()


def test_a_question_mark_opens_the_sheet_but_not_in_a_text(chat):
    sheet = chat.get_by_role("dialog", name="Keyboard shortcuts")

    message(chat).press("?")
    expect(sheet).to_be_hidden()
    assert message(chat).input_value() == "?"
    chat.evaluate("document.activeElement.blur()")
    chat.keyboard.press("?")
    expect(sheet).to_be_visible()
    chat.keyboard.press("Escape")

    expect(sheet).to_be_hidden()


def test_escape_in_the_sheet_or_the_search_does_not_stop_the_answer(chat, sandbox):
    sandbox.enqueue(say=LONG, rate=40)
    send(chat, "Tell me")
    wait_for_text(chat)

    chat.keyboard.press("Alt+Shift+K")
    chat.keyboard.press("Escape")
    chat.keyboard.press("Alt+Shift+S")
    chat.get_by_role("searchbox").fill("word")
    chat.keyboard.press("Escape")

    expect(chat.get_by_role("searchbox")).to_have_value("")
    wait_for_end(chat)
    assert body(chat).inner_text() == LONG


def test_keys_without_a_modifier_can_be_turned_off(chat, alice):
    chat.get_by_role("link", name="Shortcuts").click()
    chat.get_by_role("button", name="Turn off / and ?").click()
    chat.wait_for_load_state()
    wait_until(lambda: not User.objects.get(pk=alice.pk).single_keys, "it was not turned off")

    chat.evaluate("document.activeElement.blur()")
    chat.keyboard.press("?")
    chat.keyboard.press("/")

    expect(chat.get_by_role("dialog", name="Keyboard shortcuts")).to_be_hidden()
    expect(chat.get_by_role("searchbox")).not_to_be_focused()


def test_no_shortcut_is_one_of_the_browsers(chat):
    said = chat.locator("[aria-keyshortcuts]").evaluate_all("found => found.map(e => e.ariaKeyShortcuts)")

    assert said
    assert [keys for keys in said if TAKEN.match(keys)] == []


def test_the_menu_of_a_conversation_is_opened_and_used_by_keyboard(chat, conversation, alice):
    say(conversation, "Hello", "Hello.")
    Conversation.objects.filter(id=conversation.id).update(title="Tides")
    chat.reload()
    chat.get_by_role("link", name="Tides", exact=True).focus()

    chat.keyboard.press("Tab")
    expect(chat.get_by_role("button", name="Actions for Tides")).to_be_focused()
    chat.keyboard.press("Enter")
    expect(chat.get_by_role("button", name="Pin", exact=True)).to_be_focused()
    chat.keyboard.press("Escape")
    expect(chat.get_by_role("button", name="Actions for Tides")).to_be_focused()
    chat.keyboard.press("Enter")
    expect(chat.get_by_role("button", name="Pin", exact=True)).to_be_focused()
    chat.keyboard.press("Enter")

    expect(chat.get_by_role("heading", name="Pinned")).to_be_visible()
    assert chat.url.endswith(conversation.get_absolute_url())


@pytest.mark.parametrize("scripts", [True, False], ids=["htmx", "without JavaScript"])
def test_a_conversation_is_renamed_archived_restored_and_deleted_from_the_list(page_of, alice, conversation, scripts):
    Conversation.objects.filter(id=conversation.id).update(title="Tides")
    page = page_of(alice, java_script_enabled=scripts)

    def choose(name: str, role: str = "button") -> None:
        page.locator(".sidebar__row").hover()
        page.locator(".sidebar__more").click()
        page.get_by_role(role, name=name, exact=True).click()

    page.goto("/conversations/")
    page.locator(".sidebar__row").hover()
    page.locator(".sidebar__more").click()
    page.get_by_label("Title").fill("Ebb and flow")
    page.get_by_role("button", name="Rename").click()
    expect(page.locator(".sidebar__row")).to_contain_text("Ebb and flow")
    choose("Archive")
    expect(page.locator(".sidebar__row")).to_have_count(0)
    page.get_by_role("link", name="Archived").click()
    page.get_by_role("button", name="Restore Ebb and flow").click()
    expect(page.get_by_text("Nothing is archived.")).to_be_visible()
    page.goto("/conversations/")
    page.locator(".sidebar__row").hover()
    page.locator(".sidebar__more").click()
    page.get_by_text("Delete…").click()
    page.get_by_role("button", name="Delete for good").click()

    expect(page.locator(".sidebar__row")).to_have_count(0)
    assert not Conversation.objects.exists()


def test_what_is_typed_into_the_search_is_found_at_once_and_leads_to_the_message(chat, conversation, sandbox):
    sandbox.enqueue(say="The moon pulls at the water.")
    send(chat, "How do tides work?")
    wait_for_end(chat)

    chat.get_by_role("searchbox").press_sequentially("moo")
    hit = chat.locator("#found .hit")
    expect(hit).to_contain_text("The moon pulls at the water.")
    expect(hit.locator("mark")).to_have_text("moo")
    expect(chat.locator(".sidebar__list")).to_be_hidden()
    expect(chat.locator("#found-words")).to_have_text("1 message")
    hit.get_by_role("link").click()

    chat.wait_for_url(re.compile(r"\?message=.*#message-"))
    expect(answer(chat)).to_be_in_viewport()


def test_without_javascript_the_search_is_a_page(page_of, alice, conversation):
    say(conversation, "How do tides work?", "The moon pulls.")
    page = page_of(alice, java_script_enabled=False)
    page.goto("/conversations/")

    page.get_by_role("searchbox").fill("moon")
    page.get_by_role("searchbox").press("Enter")
    page.locator(".hit a").click()

    expect(body(page)).to_have_text("The moon pulls.")


def test_the_tab_says_that_an_answer_is_written_and_that_it_came_while_nobody_looked(chat, sandbox):
    sandbox.enqueue(say=LONG, rate=60)
    send(chat, "Tell me")
    expect(chat).to_have_title(re.compile("^● Answering… "))
    assert icon(chat) == "favicon-running"

    hide(chat)
    wait_for_end(chat)

    expect(chat).to_have_title(re.compile("^✓ "))
    assert icon(chat) == "favicon-finished"
    hide(chat, False)
    expect(chat).not_to_have_title(re.compile("^[●✓✗]"))
    assert icon(chat) == "favicon"


def test_the_tab_says_that_an_answer_failed(chat, sandbox):
    sandbox.enqueue(status="529", times=3, retry_after=0, match="Tell me")
    hide(chat)

    send(chat, "Tell me")
    wait_for_end(chat, "failed")

    expect(chat).to_have_title(re.compile("^✗ "))
    assert icon(chat) == "favicon-failed"


def test_an_answer_that_ended_elsewhere_is_new_until_it_is_opened(chat, conversation, alice, sandbox, page_of):
    sandbox.enqueue(say=LONG, rate=100)
    send(chat, "Tell me")
    wait_for_text(chat)

    chat.get_by_role("link", name="New chat").click()
    row = chat.locator(".sidebar__row")
    expect(row).to_have_attribute("data-state", "answering")
    wait_until(lambda: conversation.turns.filter(state="done").exists(), "it did not end")
    chat.reload()
    expect(row).to_have_attribute("data-state", "unread")
    row.get_by_role("link").click()
    expect(body(chat)).to_have_text(LONG)
    started = conversation.read_at
    wait_until(lambda: Conversation.objects.get(id=conversation.id).read_at > started, "nobody said that it was read")
    chat.get_by_role("link", name="New chat").click()

    chat.wait_for_url("**/conversations/")
    expect(row).not_to_have_attribute("data-state", "unread")
