"""A page that is older than its session, or than its chat, at a real browser."""

import re

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import Locator, Page, expect

from chat.models import Conversation, Draft, Turn
from tests.browser.screen import answer, body, send
from tests.conftest import PASSWORD, wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("worker"),
]

SIGNED_OUT = "You are signed out. Sign in in a new tab, then send again; your text stays here."
LONG = " ".join(f"word{n}" for n in range(600))


@pytest.fixture
def chat(page_of, conversation):
    page = page_of(conversation.owner)
    page.goto(conversation.get_absolute_url())
    for status in ("401", "403", "404"):
        page.forgive(f"status of {status}")
    return page


def box(page: Page) -> Locator:
    return page.get_by_label("Message", exact=True)


def said(page: Page) -> Locator:
    return page.locator("#composer-error")


def sign_in(page: Page, name: str) -> None:
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(box(page)).to_be_visible()


def sign_in_by_the_link(page: Page, name: str = "alice") -> None:
    with page.context.expect_page() as opened:
        said(page).get_by_role("link", name="Sign in").click()
    sign_in(opened.value, name)
    opened.value.close()
    page.evaluate("dispatchEvent(new Event('focus'))")  # a browser without windows has none to come back to


def test_typing_after_the_session_has_ended_is_told_so_and_goes_on_after_signing_in_elsewhere(chat, sandbox):
    sandbox.enqueue(say="Here again.")
    Session.objects.all().delete()

    box(chat).press_sequentially("Half a thought")
    expect(said(chat)).to_have_text(SIGNED_OUT)
    expect(chat.locator("#draft-state")).to_have_text("Not saved")
    assert chat.get_by_label("Password").count() == 0
    expect(box(chat)).to_have_value("Half a thought")
    sign_in_by_the_link(chat)
    expect(said(chat)).to_be_empty()
    chat.get_by_role("button", name="Send").click()

    expect(body(chat)).to_have_text("Here again.")
    expect(box(chat)).to_have_value("")
    assert Turn.objects.get().question.text == "Half a thought"


def test_send_after_the_session_has_ended_says_so_and_works_in_the_end(chat, sandbox):
    sandbox.enqueue(say="Here again.")
    chat.route("**/foresight/", lambda route: route.fulfill(status=500))
    chat.forgive("status of 500")
    Session.objects.all().delete()

    send(chat, "Important")
    expect(said(chat)).to_have_text(SIGNED_OUT)
    expect(box(chat)).to_have_value("Important")
    sign_in_by_the_link(chat)
    chat.get_by_role("button", name="Send").click()

    expect(body(chat)).to_have_text("Here again.")


def test_whoever_signed_in_again_meanwhile_notices_nothing(chat, sandbox):
    """The token in the page does not count any more; that in the cookie does: for drafts, files and messages."""
    sandbox.enqueue(say="Here again.")
    other = chat.context.new_page()
    other.goto("/conversations/")
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_url("**/accounts/login/**")
    sign_in(other, "alice")

    box(chat).press_sequentially("Old page")
    wait_until(lambda: Draft.objects.filter(text="Old page").exists(), "the draft was not kept")
    chat.get_by_label("Attach files").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"Hello"})
    expect(chat.locator("#composer-files [name=attachments]")).to_have_count(1)
    chat.get_by_role("button", name="Send").click()

    expect(body(chat)).to_have_text("Here again.")
    expect(said(chat)).to_be_empty()
    chat.get_by_role("button", name="Settings").click()
    chat.get_by_label("Title").fill("Renamed")
    chat.get_by_role("button", name="Save").click()
    expect(chat.get_by_role("heading", name="Renamed")).to_be_visible()


def test_a_page_of_alice_says_nothing_in_the_name_of_bob(chat, bob, conversation):
    Session.objects.all().delete()
    chat.goto("/accounts/login/")
    sign_in(chat, "alice")
    other = chat.context.new_page()
    other.goto("/conversations/")
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_url("**/accounts/login/**")
    sign_in(other, "bob")

    send(chat, "A word of Alice's")

    expect(said(chat)).to_contain_text("Somebody else is signed in here now")
    expect(box(chat)).to_have_value("A word of Alice's")
    assert not bob.conversations.exists()
    assert not bob.drafts.exists()


def test_an_answer_goes_on_after_signing_in_elsewhere(chat, sandbox, monkeypatch):
    monkeypatch.setattr("chat.relay.HEARTBEAT_SECONDS", 0.2)
    sandbox.enqueue(say=LONG, rate=60)
    send(chat, "Something long")
    expect(body(chat)).not_to_have_text("")

    Session.objects.all().delete()
    expect(said(chat)).to_have_text(SIGNED_OUT, timeout=15_000)
    sign_in_by_the_link(chat)

    expect(answer(chat)).to_have_attribute("data-status", "done", timeout=30_000)
    expect(body(chat)).to_contain_text("word599")


def test_a_chat_that_was_deleted_in_another_tab_says_so_and_its_text_goes_on(chat, sandbox, conversation):
    sandbox.enqueue(say=LONG, rate=24)
    sandbox.enqueue(say="A new beginning.")
    send(chat, "Something long")
    expect(body(chat)).not_to_have_text("")
    send(chat, "And then?")
    expect(chat.locator("#next")).to_contain_text("And then?")
    other = chat.context.new_page()
    other.goto(conversation.get_absolute_url())
    other.get_by_role("button", name="Settings").click()
    other.get_by_text("Delete this conversation").click()
    other.get_by_role("button", name="Delete for good").click()
    other.wait_for_url(re.compile("/conversations/$"))

    expect(said(chat)).to_contain_text("This chat was deleted. Copy your text, or", timeout=8_000)
    expect(chat.get_by_role("button", name="Stop")).to_have_count(0)
    expect(chat.locator("#next")).to_be_empty()
    expect(answer(chat)).to_have_attribute("data-status", "interrupted")
    expect(chat.locator("[id^=stream-]")).to_have_count(0)
    box(chat).fill("What was still to be said")
    expect(chat.locator("#draft-state")).to_have_text("Not saved")
    chat.get_by_role("button", name="send it in a new chat").click()
    chat.wait_for_url("**/conversations/*-*/")

    expect(chat.locator('[data-role="user"]')).to_contain_text("What was still to be said")
    assert chat.url.rstrip("/").rsplit("/", 1)[1] != str(conversation.id)
    expect(answer(chat)).to_have_attribute("data-status", "done")
    assert Conversation.objects.count() == 1


def test_settings_that_are_refused_stand_open_with_what_was_written(chat):
    chat.forgive("status of 422")
    chat.get_by_role("button", name="Settings").click()
    chat.get_by_label("Instructions").fill("x" * 20_001)
    chat.get_by_role("button", name="Save").click()

    expect(chat.get_by_text("This is too long: 20001 characters of at most 20000. Shorten it.")).to_be_visible()
    expect(chat.get_by_label("Instructions")).to_have_value("x" * 20_001)
    expect(chat.get_by_label("Instructions")).to_be_focused()
    expect(said(chat)).to_be_empty()
    chat.keyboard.press("Escape")
    expect(chat.locator("#settings")).to_be_hidden()


def test_without_javascript_the_text_comes_back_until_it_is_sent(page_of, alice, sandbox):
    sandbox.enqueue(say="Here again.")
    page = page_of(alice, java_script_enabled=False)
    page.forgive("status of 403")
    page.goto("/conversations/")
    Session.objects.all().delete()

    box(page).fill("Important\n\nand long")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Sign in in a new tab").click()
    sign_in(opened.value, "alice")
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("heading", name="Not sent yet")).to_be_visible()
    expect(page.get_by_label("Your text")).to_have_value("Important\n\nand long")
    page.get_by_role("button", name="Send again").click()

    expect(page.locator('[data-role="user"]')).to_contain_text("and long")
    wait_until(lambda: not Turn.objects.live().exists(), "the answer did not end")
    assert Turn.objects.get().question.text == "Important\n\nand long"
