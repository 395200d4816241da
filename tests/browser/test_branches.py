"""Edit, Try again, ‹ 2/3 › and a thread of a thousand messages, as somebody does and sees them."""

import uuid

import pytest
from playwright.sync_api import Locator, Page, expect

from chat.models import Conversation, Turn
from tests.books import HAIKU
from tests.browser.screen import answer, body, send
from tests.conftest import over
from tests.talk import say

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("worker"),
]

expect.set_options(timeout=10_000)

LONG = "\n\n".join(f"Paragraph {n} of an answer that takes some room on the screen." for n in range(30))


@pytest.fixture
def chat(page_of, conversation):
    """Alice at her conversation, in which two questions were asked and answered."""
    say(conversation, "One?", "One.")
    say(conversation, "Two?", "Two.")
    return opened(page_of(conversation.owner), conversation)


def opened(page: Page, conversation: Conversation, address: str = "") -> Page:
    page.goto(f"{conversation.get_absolute_url()}{address}")
    return page


def said(page: Page) -> list[str]:
    return [words.strip() for words in page.locator(".message__said:visible, .message__body").all_inner_texts()]


def question(page: Page, words: str) -> Locator:
    return page.locator('[data-role="user"]', has_text=words)


def edit(page: Page, words: str) -> Locator:
    """The box in which a question of Alice's is edited."""
    message = question(page, words)
    message.hover()
    message.get_by_role("link", name="Edit").click()
    return page.get_by_label("Your question")


def shows(page: Page, *words: str) -> None:
    expect(answer(page)).to_have_attribute("data-status", "done", timeout=20_000)
    expect(page.locator(".message__said:visible, .message__body")).to_have_text(list(words))


# --- Edit


def test_an_edited_question_is_sent_from_its_place_and_the_way_back_is_beside_it(chat, sandbox, conversation):
    sandbox.enqueue(say="Uno.")

    box = edit(chat, "One?")
    expect(box).to_be_focused()
    expect(box).to_have_value("One?")
    box.fill("Uno?")
    chat.get_by_role("button", name="Save & send").click()

    shows(chat, "Uno?", "Uno.")
    expect(question(chat, "Uno?")).to_contain_text("2/2")
    question(chat, "Uno?").get_by_role("button", name="Previous").click()
    shows(chat, "One?", "One.", "Two?", "Two.")
    expect(question(chat, "One?")).to_contain_text("1/2")
    chat.reload()
    shows(chat, "One?", "One.", "Two?", "Two.")


def test_a_question_opens_where_it_stands_also_at_the_end_of_a_thread(long, conversation):
    opened(long, conversation)
    last = question(long, "Question 59?")
    before = last.bounding_box()["y"]

    box = edit(long, "Question 59?")
    expect(box).to_be_focused()

    assert abs(last.bounding_box()["y"] - before) < 3


@pytest.mark.parametrize("by", ["Esc", "Cancel"])
def test_an_edit_that_is_given_up_leaves_everything_as_it_was(chat, by):
    box = edit(chat, "Two?")
    box.fill("Something else")

    if by == "Esc":
        box.press("Escape")
    else:
        chat.get_by_role("link", name="Cancel").click()

    expect(box).to_have_count(0)
    assert said(chat) == ["One?", "One.", "Two?", "Two."]
    expect(question(chat, "Two?").get_by_role("link", name="Edit")).to_be_focused()
    assert Turn.objects.count() == 2


def test_enter_sends_an_edit_and_shift_enter_breaks_its_line(chat, sandbox):
    sandbox.enqueue(say="Due.")
    box = edit(chat, "Two?")

    box.press("End")
    box.press("Shift+Enter")
    box.press_sequentially("And more.")
    box.press("Enter")

    expect(answer(chat)).to_contain_text("Due.")
    shows(chat, "One?", "One.", "Two?\nAnd more.", "Due.")


def test_while_an_answer_is_written_an_edit_is_refused_and_what_was_typed_stays(chat, sandbox):
    sandbox.enqueue(tokens=2000, rate=40)
    chat.forgive("409")
    send(chat, "Three?")
    expect(body(chat)).not_to_have_text("")

    box = edit(chat, "One?")
    box.fill("Uno?")
    chat.get_by_role("button", name="Save & send").click()

    expect(chat.locator(".edit").get_by_role("alert")).to_contain_text("An answer is still being written here.")
    expect(box).to_have_value("Uno?")
    chat.get_by_role("button", name="Stop").click()
    expect(answer(chat)).to_have_attribute("data-status", "stopped")


def test_what_stands_in_the_composer_stays_while_something_else_is_edited(chat, sandbox):
    sandbox.enqueue(say="Uno.")
    chat.get_by_label("Message").fill("Not yet sent")

    edit(chat, "One?").fill("Uno?")
    chat.get_by_role("button", name="Save & send").click()

    shows(chat, "Uno?", "Uno.")
    expect(chat.get_by_label("Message")).to_have_value("Not yet sent")


def test_whoever_leaves_with_an_edit_that_is_not_sent_is_asked_first(chat):
    chat.forgive("dialog")
    edit(chat, "Two?").fill("Something else")

    with chat.expect_event("dialog") as asked:
        chat.get_by_role("link", name="New chat").click()

    assert asked.value.type == "beforeunload"
    expect(chat.get_by_label("Your question")).to_have_value("Something else")


def test_whoever_has_changed_nothing_leaves_unasked(chat):
    edit(chat, "Two?").press("End")

    chat.get_by_role("link", name="New chat").click()

    chat.wait_for_url("**/conversations/")


# --- Try again


def test_every_answer_can_be_tried_again_and_both_can_be_read(chat, sandbox):
    sandbox.enqueue(say="Due.")

    answer(chat).get_by_role("button", name="Try again", exact=True).click()

    shows(chat, "One?", "One.", "Two?", "Due.")
    expect(answer(chat)).to_contain_text("2/2")
    answer(chat).get_by_role("button", name="Previous").click()
    shows(chat, "One?", "One.", "Two?", "Two.")
    answer(chat).get_by_role("button", name="Next").click()
    shows(chat, "One?", "One.", "Two?", "Due.")


def test_a_double_click_on_try_again_is_one_answer(chat, sandbox):
    sandbox.enqueue(say="Due.")

    answer(chat).get_by_role("button", name="Try again", exact=True).dblclick()

    shows(chat, "One?", "One.", "Two?", "Due.")
    assert Turn.objects.count() == 3


def test_an_answer_is_tried_again_with_another_model_that_is_chosen_by_its_price(chat, sandbox):
    sandbox.enqueue(say="A cheap one.")

    answer(chat).get_by_role("button", name="Try again with…").click()
    menu = chat.locator("#models")
    expect(menu).to_be_visible()
    cheap = menu.get_by_role("button", name="Claude Haiku 5.5")
    expect(cheap).to_contain_text("per million")
    cheap.click()

    shows(chat, "One?", "One.", "Two?", "A cheap one.")
    expect(menu).not_to_be_visible()
    expect(answer(chat)).to_contain_text("Claude Haiku 5.5")
    assert Turn.objects.latest("created_at").model == HAIKU


def test_esc_closes_the_list_of_models_and_nothing_is_asked(chat):
    button = answer(chat).get_by_role("button", name="Try again with…")
    button.focus()
    button.press("Enter")
    expect(chat.locator("#models")).to_be_visible()

    chat.keyboard.press("Escape")

    expect(chat.locator("#models")).not_to_be_visible()
    expect(button).to_be_focused()
    assert Turn.objects.count() == 2


# --- Siblings


@pytest.fixture
def tried(page_of, conversation):
    """A chat with an answer in the middle that was tried twice, a long and a short one, and both were gone on with."""
    for number in range(4):
        say(conversation, f"Before {number}?", LONG)
    first = say(conversation, "Which?", LONG)
    say(conversation, "After the long one?", LONG)
    again = conversation.retry_turn(first.question, uuid.uuid4())
    again.reply.write([{"type": "text", "text": "The short one."}])
    again.reply.keep()
    Turn.objects.filter(id=again.id).update(state=Turn.State.DONE, stop_reason="end_turn")
    say(conversation, "After?", LONG)
    return opened(page_of(conversation.owner), conversation)


def middle(page: Page, of: str) -> Locator:
    return page.get_by_role("group", name=f"Answer {of}")


def test_going_through_siblings_by_keyboard_keeps_the_place_on_the_screen(tried):
    button = middle(tried, "2 of 2").get_by_role("button", name="Previous")
    button.scroll_into_view_if_needed()
    button.focus()
    before = button.bounding_box()["y"]

    button.press("Enter")
    expect(middle(tried, "1 of 2")).to_be_visible()
    after = middle(tried, "1 of 2").get_by_role("button", name="Previous")
    expect(after).to_be_focused()
    there = after.bounding_box()["y"]
    after.press("Tab")
    tried.keyboard.press("Enter")
    expect(middle(tried, "2 of 2")).to_be_visible()
    expect(question(tried, "After?")).to_be_visible()

    assert abs(there - before) < 3
    assert abs(middle(tried, "2 of 2").bounding_box()["y"] - before) < 40
    expect(tried.locator("#announcer")).to_have_text("Answer 2 of 2 is shown.")


def test_at_either_end_there_is_nowhere_to_go(tried):
    last = middle(tried, "2 of 2").get_by_role("button", name="Next")

    expect(last).to_have_attribute("aria-disabled", "true")
    last.click(force=True)  # Playwright waits for what is enabled, people do not

    expect(middle(tried, "2 of 2")).to_be_visible()


def test_what_is_above_the_fork_is_not_touched(tried):
    tried.evaluate("document.querySelector('.message').dataset.same = 'yes'")

    middle(tried, "2 of 2").get_by_role("button", name="Previous").click()
    expect(middle(tried, "1 of 2")).to_be_visible()

    assert tried.locator(".message").first.get_attribute("data-same") == "yes"
    expect(tried.locator(".message")).to_have_count(12)


def test_while_an_answer_is_written_the_first_one_can_be_read_and_the_other_stopped(chat, sandbox):
    sandbox.enqueue(tokens=2000, rate=40)
    answer(chat).get_by_role("button", name="Try again", exact=True).click()
    expect(body(chat)).not_to_have_text("")

    answer(chat).get_by_role("button", name="Previous").click()

    expect(chat.locator("#aside")).to_contain_text("An answer is being written on the current one.")
    assert said(chat) == ["One?", "One.", "Two?", "Two."]
    chat.get_by_role("button", name="Stop").click()
    expect(answer(chat)).to_have_attribute("data-status", "stopped", timeout=20_000)
    expect(answer(chat)).to_contain_text("2/2")


def test_two_tabs_on_two_branches_each_go_on_with_what_they_see(chat, sandbox, conversation):
    sandbox.enqueue(say="Due.", match="Two?")
    sandbox.enqueue(say="On the old one.", match="Here?")
    second = chat.context.new_page()
    second.goto(chat.url)
    answer(chat).get_by_role("button", name="Try again", exact=True).click()
    shows(chat, "One?", "One.", "Two?", "Due.")

    send(second, "Here?")

    shows(second, "One?", "One.", "Two?", "Two.", "Here?", "On the old one.")
    second.reload()
    shows(second, "One?", "One.", "Two?", "Two.", "Here?", "On the old one.")


# --- A long thread


@pytest.fixture
def long(page_of, conversation):
    for number in range(60):
        say(conversation, f"Question {number}?", f"Answer {number}.")
    return page_of(conversation.owner)


def test_earlier_messages_come_in_above_without_moving_what_is_read(long, conversation):
    opened(long, conversation)
    link = long.get_by_role("link", name="Show earlier messages")
    expect(long.locator(".message")).to_have_count(30)
    link.scroll_into_view_if_needed()
    first = question(long, "Question 45?")
    before = first.bounding_box()["y"]

    link.click()
    expect(long.locator(".message")).to_have_count(60)

    assert abs(first.bounding_box()["y"] - before) < 3
    expect(long.locator("#announcer")).to_have_text("30 earlier messages are shown.")
    for count in (90, 120):
        long.get_by_role("link", name="Show earlier messages").click()
        expect(long.locator(".message")).to_have_count(count)
    expect(long.get_by_role("link", name="Show earlier messages")).to_have_count(0)
    expect(question(long, "Question 0?")).to_have_count(1)


def test_a_link_to_an_early_message_leads_to_it(long, conversation):
    early = conversation.messages.get(text="Question 5?")

    opened(long, conversation, f"#message-{early.id}")

    expect(question(long, "Question 5?")).to_be_in_viewport()
    expect(long.get_by_role("link", name="Go to the newest")).to_be_visible()
    long.get_by_role("link", name="Go to the newest").click()
    expect(question(long, "Question 59?")).to_be_in_viewport()
    expect(long.get_by_label("Message")).to_be_visible()


def test_a_link_that_leads_nowhere_shows_the_newest(long, conversation):
    opened(long, conversation, f"#message-{uuid.uuid4()}")

    expect(long.get_by_label("Message")).to_be_visible()
    expect(long.locator(".message")).to_have_count(30)


# --- Everywhere


def test_without_javascript_edit_try_again_and_the_way_back_work(page_of, conversation, sandbox):
    sandbox.enqueue(say="Uno.", match="Uno?")
    sandbox.enqueue(say="Ein Haiku.", match="Uno?")
    say(conversation, "One?", "One.")
    page = opened(page_of(conversation.owner, java_script_enabled=False), conversation)

    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Your question").fill("Uno?")
    page.get_by_role("button", name="Save & send").click()
    over(Turn.objects.latest("created_at"))
    page.goto(conversation.get_absolute_url())
    assert said(page) == ["Uno?", "Uno."]
    answer(page).get_by_role("button", name="Try again with…").click()
    page.get_by_role("button", name="Claude Haiku 5.5").click()
    over(Turn.objects.latest("created_at"))
    page.goto(conversation.get_absolute_url())
    assert said(page) == ["Uno?", "Ein Haiku."]
    answer(page).get_by_role("button", name="Previous").click()
    assert said(page) == ["Uno?", "Uno."]
    question(page, "Uno?").get_by_role("button", name="Previous").click()

    assert said(page) == ["One?", "One."]
    page.goto(conversation.get_absolute_url())
    assert said(page) == ["One?", "One."]


def test_on_a_narrow_phone_the_tools_are_there_large_enough_and_nothing_overflows(page_of, conversation):
    turn = say(conversation, "One? " * 30, "One.")
    for number in range(11):
        again = conversation.retry_turn(turn.question, uuid.uuid4())
        again.reply.write([{"type": "text", "text": f"Number {number}."}])
        again.reply.keep()
        Turn.objects.filter(id=again.id).update(state=Turn.State.DONE, stop_reason="end_turn")
    phone = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True}
    page = opened(page_of(conversation.owner, **phone), conversation)

    tools = page.locator(".message__tools :is(a, button)")

    sizes = [tools.nth(n).bounding_box() for n in range(tools.count())]
    assert len(sizes) == 7
    assert min(min(size["width"], size["height"]) for size in sizes) >= 24
    assert all(tools.nth(n).evaluate("e => getComputedStyle(e).opacity") != "0" for n in range(4))
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    edit(page, "One?")
    assert page.evaluate("document.documentElement.scrollWidth") == 320
