"""Where somebody is who uses the keyboard alone, after what they pressed has left the page."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.screen import answer, body
from tests.browser.test_branches import edit, opened, shows
from tests.talk import say

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("worker"),
]


@pytest.fixture
def chat(page_of, conversation):
    say(conversation, "One?", "One.")
    return opened(page_of(conversation.owner), conversation)


def press(page: Page, name: str, **options) -> None:
    """As by keyboard: go there, and press Enter."""
    page.get_by_role("button", name=name, exact=True, **options).last.press("Enter")


def message(page: Page):
    return page.get_by_label("Message", exact=True)


def test_after_send_and_after_try_again_the_next_message_can_be_typed(chat, sandbox):
    sandbox.enqueue(say="Due.", match="Two?")
    sandbox.enqueue(say="Zwei.", match="Two?")
    message(chat).fill("Two?")
    press(chat, "Send")
    shows(chat, "One?", "One.", "Two?", "Due.")
    expect(answer(chat)).to_have_attribute("data-status", "done", timeout=20_000)
    expect(message(chat)).to_be_focused()

    press(chat, "Try again")

    shows(chat, "One?", "One.", "Two?", "Zwei.")
    expect(message(chat)).to_be_focused()


def test_after_try_again_with_another_model_too(chat, sandbox):
    sandbox.enqueue(say="Uno.")

    press(chat, "Try again with…")
    chat.locator("#models").get_by_role("button", name="Claude Haiku 5.5").press("Enter")

    shows(chat, "One?", "Uno.")
    expect(message(chat)).to_be_focused()


def test_after_an_edit_is_sent_too_and_after_one_is_given_up_its_button_is_there(chat, sandbox):
    sandbox.enqueue(say="Uno.")
    edit(chat, "One?").press("Escape")
    expect(chat.get_by_role("link", name="Edit")).to_be_focused()
    edit(chat, "One?")
    chat.get_by_role("link", name="Cancel").press("Enter")
    expect(chat.get_by_role("link", name="Edit")).to_be_focused()

    edit(chat, "One?").fill("Uno?")
    press(chat, "Save & send")

    shows(chat, "Uno?", "Uno.")
    expect(message(chat)).to_be_focused()


def test_after_an_edit_that_is_refused_its_button_is_still_under_ones_finger(chat, sandbox):
    sandbox.enqueue(tokens=2000, rate=40)
    chat.forgive("409")
    message(chat).fill("Two?")
    press(chat, "Send")
    expect(body(chat)).not_to_have_text("")

    edit(chat, "One?").fill("Uno?")
    press(chat, "Save & send")

    expect(chat.locator(".edit").get_by_role("alert")).to_contain_text("An answer is still being written here.")
    expect(chat.get_by_role("button", name="Save & send")).to_be_focused()
    press(chat, "Stop")
    expect(answer(chat)).to_have_attribute("data-status", "stopped", timeout=20_000)


def test_after_stop_the_next_message_can_be_typed(chat, sandbox):
    sandbox.enqueue(tokens=2000, rate=40)
    message(chat).fill("Two?")
    press(chat, "Send")
    expect(body(chat)).not_to_have_text("")

    press(chat, "Stop")

    expect(answer(chat)).to_have_attribute("data-status", "stopped", timeout=20_000)
    expect(message(chat)).to_be_focused()


def test_after_retry_the_next_message_can_be_typed(chat, sandbox):
    sandbox.enqueue(status="529", times=3, retry_after=0, match="Two?")
    sandbox.enqueue(say="Due.", match="Two?")
    message(chat).fill("Two?")
    press(chat, "Send")
    expect(answer(chat)).to_have_attribute("data-status", "failed", timeout=20_000)

    press(chat, "Try again")

    shows(chat, "One?", "One.", "Two?", "Due.")
    expect(message(chat)).to_be_focused()


def test_after_continue_the_next_message_can_be_typed(chat, sandbox):
    sandbox.enqueue(tokens=9000, rate=100_000, match="Two?")
    sandbox.enqueue(say="And so it ends.", match="exactly where you stopped")
    chat.get_by_label("Effort").select_option("quick")
    message(chat).fill("Two?")
    press(chat, "Send")
    expect(answer(chat)).to_contain_text("The answer reached its length limit.", timeout=20_000)

    press(chat, "Continue")

    expect(answer(chat)).to_contain_text("And so it ends.")
    expect(message(chat)).to_be_focused()


def test_a_key_that_is_held_down_on_a_button_does_not_send_what_stands_in_the_box(chat, sandbox, conversation):
    sandbox.enqueue(say="Uno.")
    message(chat).fill("Not yet")
    chat.get_by_role("button", name="Try again", exact=True).focus()

    chat.keyboard.down("Enter")
    expect(message(chat)).to_be_focused()
    chat.keyboard.down("Enter")
    chat.keyboard.up("Enter")

    shows(chat, "One?", "Uno.")
    expect(message(chat)).to_have_value("Not yet")
    assert conversation.turns.count() == 2


def test_who_has_brought_in_the_last_of_the_earlier_messages_goes_on_from_there(page_of, conversation):
    for number in range(20):
        say(conversation, f"Question {number}?", f"Answer {number}.")
    page = opened(page_of(conversation.owner), conversation)

    page.get_by_role("link", name="Show earlier messages").press("Enter")
    expect(page.locator(".message")).to_have_count(40)

    expect(page.locator('[data-role="user"]', has_text="Question 5?")).to_be_focused()
    page.keyboard.press("Tab")
    expect(
        page.locator('[data-role="user"]', has_text="Question 5?").get_by_role("button", name="Copy")
    ).to_be_focused()
