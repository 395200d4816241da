"""Writing: a draft that nothing loses, a message that waits, and what an answer is asked with."""

import uuid

import pytest
from django.test import Client
from playwright.sync_api import Locator, Page, expect

from chat import drafts
from chat.models import Draft, NextMessage, Turn
from tests.attached import given
from tests.browser.screen import answer, body, send
from tests.conftest import PASSWORD, wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("worker"),
]

expect.set_options(timeout=10_000)

LONG = " ".join(f"word{n}" for n in range(120))


@pytest.fixture
def chat(page_of, conversation):
    """Alice at her conversation, which is empty."""
    page = page_of(conversation.owner)
    page.goto(conversation.get_absolute_url())
    return page


@pytest.fixture
def asked(chat, sandbox):
    """`asked()`: she has asked something, and its answer is being written."""

    def asked(**script) -> Page:
        sandbox.enqueue(match="First", **(script or {"say": LONG, "rate": 24}))
        send(chat, "First")
        expect(body(chat)).not_to_have_text("")
        return chat

    return asked


def signed_in(person) -> Client:
    client = Client()
    client.force_login(person)
    return client


def box(page: Page) -> Locator:
    return page.get_by_label("Message", exact=True)


def waiting(page: Page) -> Locator:
    return page.locator("#next")


def kept(text: str) -> None:
    wait_until(lambda: Draft.objects.filter(text=text).exists(), f"{text!r} was not kept")


def wait_for_end(page: Page, status: str = "done") -> None:
    expect(answer(page)).to_have_attribute("data-status", status, timeout=40_000)


# Drafts --------------------------------------------------------------------------------------------


def test_what_is_typed_survives_the_browser(chat, page_of, conversation):
    box(chat).press_sequentially("Half a thought")
    kept("Half a thought")
    chat.context.close()  # as a crash does it: nothing is asked of the page any more

    other = page_of(conversation.owner)
    other.goto(conversation.get_absolute_url())

    expect(box(other)).to_have_value("Half a thought")


def test_a_reload_in_the_middle_of_typing_loses_nothing(chat):
    box(chat).press_sequentially("Quick")

    chat.reload()

    expect(box(chat)).to_have_value("Quick")


def test_a_new_chat_keeps_what_is_typed_until_it_is_sent(chat, sandbox):
    sandbox.enqueue(say="Here.")
    chat.goto("/conversations/")
    box(chat).press_sequentially("A new thought")
    kept("A new thought")
    chat.reload()
    expect(box(chat)).to_have_value("A new thought")

    box(chat).press("Enter")
    chat.wait_for_url("**/conversations/*-*/")
    wait_for_end(chat)
    chat.goto("/conversations/")

    expect(box(chat)).to_have_value("")


def test_signing_out_in_the_middle_of_typing_and_in_again_loses_nothing(page_of, alice):
    page = page_of()
    page.goto("/")

    def sign_in() -> None:
        page.get_by_label("Username").fill("alice")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()

    sign_in()
    box(page).press_sequentially("Not finished")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/**")
    sign_in()

    expect(box(page)).to_have_value("Not finished")


def test_nothing_of_it_is_in_the_browser_s_storage(chat):
    box(chat).press_sequentially("A secret")
    kept("A secret")

    stored = chat.evaluate("() => JSON.stringify({...localStorage}) + JSON.stringify({...sessionStorage})")

    assert "secret" not in stored


def test_back_after_sending_does_not_bring_the_sent_text_back(chat, sandbox):
    sandbox.enqueue(say="Here.")
    box(chat).press_sequentially("Hello")
    kept("Hello")
    box(chat).press("Enter")
    wait_for_end(chat)

    chat.goto("/spend/")
    chat.go_back()

    expect(box(chat)).to_have_value("")
    assert not Draft.objects.exclude(text="").exists()


def test_back_to_what_was_being_typed(chat):
    box(chat).press_sequentially("Wait a")
    chat.goto("/spend/")

    chat.go_back()

    expect(box(chat)).to_have_value("Wait a")


def test_a_tab_that_comes_back_shows_what_was_typed_in_another_but_keeps_its_own(chat):
    second = chat.context.new_page()
    second.goto(chat.url)
    box(second).press_sequentially("From the second")
    kept("From the second")

    chat.evaluate("() => window.dispatchEvent(new Event('focus'))")
    expect(box(chat)).to_have_value("From the second")
    box(chat).press_sequentially(", from the first")
    kept("From the second, from the first")
    second.evaluate("() => window.dispatchEvent(new Event('focus'))")
    second.wait_for_timeout(300)  # nothing is to happen

    expect(box(second)).to_have_value("From the second")


def test_two_devices_that_type_at_the_same_time_lose_nothing_of_each_other(chat, page_of, conversation, sandbox):
    sandbox.enqueue(say="Here.")
    phone = page_of(conversation.owner)
    phone.goto(conversation.get_absolute_url())
    box(phone).press_sequentially("A long thought")
    kept("A long thought")
    box(chat).press_sequentially("Short")
    kept("Short")

    box(chat).press("Enter")
    wait_for_end(chat)
    phone.context.close()  # as a crash does it

    chat.reload()
    expect(box(chat)).to_have_value("A long thought")


def test_a_box_does_not_take_over_a_text_whose_files_it_does_not_have(chat, alice, conversation):
    file = given(signed_in(alice))
    drafts.keep(alice, conversation, "Look at", [str(file.id)], client_id=uuid.uuid4(), edition=1)

    with chat.expect_response("**/draft/"):
        chat.evaluate("() => window.dispatchEvent(new Event('focus'))")
    box(chat).press_sequentially("Another thing")
    kept("Another thing")

    assert Draft.objects.get(text="Look at").attachments == [str(file.id)]
    chat.reload()
    expect(box(chat)).to_have_value("Another thing")


@pytest.fixture
def unheard(chat):
    """Alice has begun a chat, and its page was not told: as if she had gone back to it."""
    chat.goto("/conversations/")
    chat.forgive("Failed to load resource")

    def swallow(route) -> None:
        route.fetch(max_redirects=0)
        route.fulfill(status=200, body="")

    chat.route(
        "**/conversations/", lambda route: swallow(route) if route.request.method == "POST" else route.fallback()
    )
    send(chat, "First")
    expect(chat.get_by_role("alert").filter(has_text="That could not be sent.")).to_be_visible()
    chat.unroute("**/conversations/")
    assert Turn.objects.count() == 1
    return chat


def test_another_text_on_a_page_that_has_sent_is_kept_and_is_another_message(unheard):
    box(unheard).fill("Something quite different")
    kept("Something quite different")
    expect(unheard.get_by_role("alert").filter(has_text="What stood here before was sent.")).to_be_visible()

    box(unheard).press("Enter")

    unheard.wait_for_url("**/conversations/*-*/")
    wait_for_end(unheard)
    questions = Turn.objects.order_by("created_at").values_list("question__text", flat=True)
    assert list(questions) == ["First", "Something quite different"]
    assert not Draft.objects.exclude(text="").exists()


def test_another_text_that_is_sent_at_once_is_refused_stays_and_goes_the_second_time(unheard):
    unheard.forgive("409")
    box(unheard).fill("Something quite different")

    with unheard.expect_response("**/drafts/"):
        box(unheard).press("Enter")
    expect(unheard.get_by_role("alert").filter(has_text="What stood here before was sent")).to_be_visible()
    expect(box(unheard)).to_have_value("Something quite different")
    kept("Something quite different")
    box(unheard).press("Enter")

    unheard.wait_for_url("**/conversations/*-*/")
    wait_for_end(unheard)
    assert Turn.objects.count() == 2


def test_the_same_text_on_a_page_that_has_sent_is_sent_once(unheard):
    box(unheard).press("End")
    box(unheard).press_sequentially("x")
    box(unheard).press("Backspace")

    box(unheard).press("Enter")

    unheard.wait_for_url("**/conversations/*-*/")
    wait_for_end(unheard)
    assert Turn.objects.get().question.text == "First"
    assert not Draft.objects.exclude(text="").exists()


def test_a_server_that_fails_is_tried_again_and_the_page_says_so(chat):
    chat.forgive("500")
    chat.route("**/draft/", lambda route: route.fulfill(status=500))
    box(chat).press_sequentially("Important")
    expect(chat.get_by_text("Not saved, trying again")).to_be_visible()

    chat.unroute("**/draft/")

    kept("Important")
    expect(chat.get_by_text("Not saved, trying again")).to_be_hidden()
    expect(box(chat)).to_have_value("Important")


def test_what_is_too_long_for_a_message_stays_in_the_box_and_is_not_sent_around(chat):
    sent = []
    chat.forgive("422")  # its price is asked for
    chat.on("request", lambda request: sent.append(request) if request.url.endswith("/draft/") else None)

    box(chat).evaluate(
        "(box) => { box.value = 'word '.repeat(80_001); box.dispatchEvent(new Event('input', {bubbles: true})); }"
    )

    expect(chat.get_by_text("Not saved: this is longer than a message can be.")).to_be_visible()
    assert box(chat).evaluate("(box) => box.value.length") == 400_005
    assert sent == []


# The next message ----------------------------------------------------------------------------------


def test_a_message_sent_meanwhile_waits_and_is_then_sent_by_itself(asked, sandbox):
    sandbox.enqueue(say="The second answer.", match="Second")
    chat = asked()

    send(chat, "Second")

    expect(waiting(chat)).to_contain_text("Next")
    expect(waiting(chat)).to_contain_text("Second")
    expect(box(chat)).to_have_value("")
    expect(body(chat)).to_have_text("The second answer.", timeout=40_000)
    wait_for_end(chat)
    expect(chat.locator(".message")).to_have_count(4)
    expect(waiting(chat)).to_have_text("")
    chat.reload()
    expect(chat.locator(".message")).to_have_count(4)


def test_the_message_that_waits_survives_a_reload_and_follows_on_every_page(asked, sandbox):
    sandbox.enqueue(say="The second answer.", match="Second")
    chat = asked()
    send(chat, "Second")
    expect(waiting(chat)).to_contain_text("Second")

    chat.reload()
    other = chat.context.new_page()
    other.goto(chat.url)

    for page in (chat, other):
        expect(waiting(page)).to_contain_text("Second")
    for page in (chat, other):
        expect(body(page)).to_have_text("The second answer.", timeout=40_000)
        expect(page.locator(".message")).to_have_count(4)


def test_a_tab_that_is_behind_sees_the_answer_that_its_message_waits_for_and_its_own(asked, sandbox):
    sandbox.enqueue(say="The second answer.", match="Second")
    chat = asked(say="Before.", rate=1_000)
    wait_for_end(chat)
    behind = chat.context.new_page()
    behind.goto(chat.url)
    sandbox.enqueue(match="Meanwhile", say=LONG, rate=24)
    send(chat, "Meanwhile")
    expect(body(chat)).not_to_have_text("")

    send(behind, "Second")

    expect(waiting(behind)).to_contain_text("Second")
    expect(behind.get_by_role("button", name="Stop")).to_be_visible()
    for page in (behind, chat):
        expect(body(page)).to_have_text("The second answer.", timeout=40_000)
        expect(page.locator(".message")).to_have_count(6)
        expect(waiting(page)).to_have_text("")


def test_a_message_of_a_tab_that_is_behind_says_what_it_starts_from(asked, sandbox):
    for words in ("Meanwhile", "Unaware"):
        sandbox.enqueue(match=words, say=f"To {words}.")
    chat = asked(say="Before.", rate=1_000)
    wait_for_end(chat)
    behind = chat.context.new_page()
    behind.goto(chat.url)
    send(chat, "Meanwhile")
    expect(body(chat)).to_have_text("To Meanwhile.")
    wait_for_end(chat)

    send(behind, "Unaware")

    note = behind.get_by_role("status").filter(has_text="This chat went on in another tab.")
    expect(note).to_contain_text("Your message starts from what you saw; ‹ 2/2 below it leads to the other.")
    expect(body(behind)).to_have_text("To Unaware.")
    wait_for_end(behind)
    behind.get_by_role("group", name="Question 2 of 2").get_by_role("button", name="Previous").click()
    expect(body(behind)).to_have_text("To Meanwhile.")
    send(behind, "Once more")
    wait_for_end(behind)
    expect(note).to_have_count(0)


def test_a_double_click_on_send_meanwhile_is_one_message(asked, sandbox):
    chat = asked()
    box(chat).fill("Second")

    chat.get_by_role("button", name="Send").dblclick()

    expect(waiting(chat)).to_contain_text("Second")
    expect(chat.locator(".message")).to_have_count(4, timeout=40_000)
    wait_for_end(chat)
    assert Turn.objects.count() == 2


def test_a_third_message_is_refused_and_stays_in_its_box(asked):
    chat = asked(tokens=2000, rate=50)
    chat.forgive("409")
    send(chat, "Second")
    expect(waiting(chat)).to_contain_text("Second")

    send(chat, "Third")

    expect(chat.get_by_role("alert").filter(has_text="One message waits already.")).to_be_visible()
    expect(box(chat)).to_have_value("Third")
    chat.get_by_role("button", name="Remove what is sent next").click()
    expect(waiting(chat)).to_have_text("")
    chat.get_by_role("button", name="Stop").click()
    wait_for_end(chat, "stopped")


def test_an_old_tab_is_told_that_its_message_does_not_wait_any_more(asked):
    chat = asked(tokens=2000, rate=50)
    send(chat, "Second")
    old = chat.context.new_page()
    old.goto(chat.url)
    chat.get_by_role("button", name="Edit what is sent next").click()
    expect(box(chat)).to_have_value("Second")
    send(chat, "Another one")
    expect(waiting(chat)).to_contain_text("Another one")

    old.get_by_role("button", name="Remove what is sent next").click()

    expect(old.get_by_role("alert").filter(has_text="It did not wait any more")).to_be_visible()
    expect(waiting(old)).to_contain_text("Another one")
    assert NextMessage.objects.get().text == "Another one"
    chat.get_by_role("button", name="Remove what is sent next").click()
    expect(waiting(chat)).to_have_text("")
    chat.get_by_role("button", name="Stop").click()
    wait_for_end(chat, "stopped")


def test_edit_brings_the_waiting_message_back_above_what_was_typed_since(asked):
    chat = asked(tokens=2000, rate=50)
    send(chat, "Second")
    expect(waiting(chat)).to_contain_text("Second")
    box(chat).fill("Third")

    chat.get_by_role("button", name="Edit what is sent next").click()

    expect(box(chat)).to_have_value("Second\n\nThird")
    expect(waiting(chat)).to_have_text("")
    kept("Second\n\nThird")
    chat.get_by_role("button", name="Stop").click()
    wait_for_end(chat, "stopped")


def test_stop_brings_the_waiting_message_back_into_the_box_and_says_why(asked):
    chat = asked(tokens=2000, rate=50)
    send(chat, "Second")
    expect(waiting(chat)).to_contain_text("Second")

    chat.get_by_role("button", name="Stop").click()

    wait_for_end(chat, "stopped")
    expect(box(chat)).to_have_value("Second")
    expect(chat.get_by_role("alert").filter(has_text="the answer before it was stopped")).to_be_visible()
    assert not NextMessage.objects.exists()
    chat.reload()
    expect(box(chat)).to_have_value("Second")


def test_stop_does_not_mix_the_waiting_message_with_another_that_is_being_typed(asked):
    chat = asked(tokens=2000, rate=50)
    send(chat, "Second")
    expect(waiting(chat)).to_contain_text("Second")
    box(chat).fill("Third")

    chat.get_by_role("button", name="Stop").click()

    wait_for_end(chat, "stopped")
    expect(waiting(chat)).to_contain_text("Not sent, because the answer before it was stopped.")
    expect(box(chat)).to_have_value("Third")


# Steering ------------------------------------------------------------------------------------------


def test_the_search_switch_says_what_it_takes_and_is_kept(chat, sandbox):
    switch = chat.get_by_role("checkbox", name="Search the web")
    expect(chat.get_by_text("Up to 3 searches for each answer, $0.01 each")).to_be_hidden()

    switch.check()
    expect(chat.get_by_text("Up to 3 searches for each answer, $0.01 each")).to_be_visible()
    send(chat, "What is new?")
    wait_for_end(chat)
    chat.reload()

    expect(switch).to_be_checked()
    asked = next(request["body"] for request in sandbox.requests if request["body"].get("stream"))
    assert asked["tools"][0]["max_uses"] == 3


def test_a_model_that_cannot_search_turns_the_switch_off_and_says_so(page_of, conversation, settings):
    settings.MODELS = ["claude-sonnet-5-5", "claude-unheard-of"]
    page = page_of(conversation.owner)
    page.goto(conversation.get_absolute_url())
    page.locator("#composer-model option").last.evaluate("(option) => { option.disabled = false; }")  # has no price
    page.get_by_role("checkbox", name="Search the web").check()

    page.get_by_label("Model", exact=True).select_option("claude-unheard-of")

    expect(page.get_by_role("checkbox", name="Search the web")).to_be_disabled()
    expect(page.get_by_text("claude-unheard-of cannot search the web.")).to_be_visible()


def test_a_slash_goes_to_the_box_and_may_be_typed_there(chat):
    box(chat).blur()

    chat.keyboard.press("/")
    expect(box(chat)).to_be_focused()
    chat.keyboard.press("/")

    expect(box(chat)).to_have_value("/")


def test_the_box_grows_with_its_text_up_to_a_part_of_the_screen(chat):
    low = box(chat).bounding_box()["height"]

    box(chat).fill("line\n" * 6)
    grown = box(chat).bounding_box()["height"]
    box(chat).fill("line\n" * 100)
    full = box(chat).bounding_box()["height"]

    assert low < grown < full <= 0.4 * chat.viewport_size["height"] + 1


@pytest.mark.parametrize("width", [320, 375, 768, 1440])
def test_while_an_answer_is_written_everything_of_the_composer_is_on_the_screen(asked, width):
    chat = asked(tokens=2000, rate=50)
    chat.set_viewport_size({"width": width, "height": 700})
    send(chat, "Second")
    expect(waiting(chat)).to_contain_text("Second")

    for name in ("Stop", "Send", "Edit what is sent next", "Remove what is sent next"):
        place = chat.get_by_role("button", name=name).bounding_box()
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= width
    assert chat.evaluate("() => document.scrollingElement.scrollWidth") <= width
    chat.get_by_role("button", name="Stop").click()
    wait_for_end(chat, "stopped")


def test_instructions_for_all_chats_are_kept_and_reach_claude(chat, sandbox):
    url = chat.url
    chat.goto("/preferences/")
    chat.get_by_label("Instructions for Claude").fill("Answer in French.")
    chat.get_by_role("button", name="Save").click()
    expect(chat.get_by_text("Saved. It holds from your next message on.")).to_be_visible()

    chat.goto(url)
    send(chat, "Hello")
    wait_for_end(chat)

    asked = next(request["body"] for request in sandbox.requests if request["body"].get("stream"))
    assert asked["system"].endswith("Answer in French.")
