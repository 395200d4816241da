"""What the next message costs, the meter, summaries and a fresh start, as somebody sees and presses them."""

import re

import pytest
from playwright.sync_api import expect

from chat.models import UsageRecord
from tests.browser.conftest import PATIENCE
from tests.browser.screen import answer, send
from tests.talk import ENGLISH, book, say

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("worker")]

COST = re.compile(r"(About|Less than) \$\d+\.\d+, at most \$\d+\.\d+")

SHORT = re.compile(r"A short message costs about \$\d+\.\d+")


@pytest.fixture
def long(conversation):
    """A conversation whose older turns cost more than a cent of the next message."""
    for number in range(9):
        turn = say(conversation, f"Question {number} about tides?", f"Answer {number}. {ENGLISH * 2}")
    book(turn, prompt=42_000, output=900)
    return conversation


def line(page) -> str:
    """What a message costs, in the words of the page."""
    return page.locator(".foresight__line").first.inner_text()


def price(page):
    return page.locator("#foresight")


def press(page, name: str) -> None:
    """What the meter offers when it is opened."""
    page.get_by_text("Context ").click()
    page.get_by_role("button", name=name).click()


def open_chat(page, conversation):
    page.goto(conversation.get_absolute_url())
    return page


def test_the_price_follows_what_is_typed_and_what_is_chosen(page_of, alice, sandbox):
    page = page_of(alice)
    page.goto("/conversations/")
    expect(price(page)).to_contain_text(SHORT)

    page.get_by_label("Message").fill("What is a tide?")
    expect(price(page)).to_contain_text(COST)
    short = price(page).inner_text()
    page.get_by_label("Message").fill("What is a tide? " * 400)
    expect(price(page)).not_to_contain_text(short)
    page.get_by_label("Effort").select_option("quick")
    expect(price(page)).to_contain_text(COST)
    quick = price(page).inner_text()
    page.get_by_label("Model", exact=True).select_option("claude-opus-5-5")

    expect(price(page)).not_to_contain_text(quick)


def test_the_cheaper_model_is_one_press_away(page_of, alice, sandbox):
    page = page_of(alice)
    page.goto("/conversations/")
    page.get_by_label("Model", exact=True).select_option("claude-opus-5-5")
    page.get_by_label("Message").fill("word " * 2_000)

    page.get_by_role("button", name="Haiku 5.5: ").click()

    expect(page.get_by_label("Model", exact=True)).to_have_value("claude-haiku-5-5")
    expect(page.get_by_label("Message")).to_be_focused()
    expect(page.get_by_role("button", name="Haiku 5.5: ")).to_have_count(0)


def test_the_price_is_for_an_empty_box_again_after_sending(page_of, alice, conversation, sandbox):
    page = open_chat(page_of(alice), conversation)
    page.get_by_label("Message").fill("What is a tide?")
    expect(price(page)).to_contain_text(COST)

    send(page, "What is a tide?")

    expect(answer(page)).to_have_attribute("data-status", "done")
    expect(price(page)).to_contain_text(SHORT)


def test_after_an_answer_the_price_is_that_of_a_reload(page_of, alice, conversation, sandbox):
    sandbox.enqueue(match="Tell", tokens=9_000, rate=100_000)
    page = open_chat(page_of(alice), conversation)
    page.get_by_label("Effort").select_option("quick")
    expect(price(page)).to_contain_text("about $0.003")

    send(page, "Tell me more about tides, please. " * 1_000)

    expect(answer(page)).to_have_attribute("data-status", "done", timeout=4 * PATIENCE)
    reloaded = open_chat(page.context.new_page(), conversation)
    expect(price(page)).to_contain_text(line(reloaded))


def test_nothing_is_said_twice_below_the_box_and_it_takes_one_line_or_two(page_of, alice, long):
    for width, lines in ((1440, 1), (375, 2)):
        page = page_of(alice, viewport={"width": width, "height": 800})
        open_chat(page, long)
        dock = page.locator(".dock__lines")

        assert dock.bounding_box()["height"] <= lines * 26
        words = dock.inner_text()
        assert words.count("$") == 3
        assert re.search(r"A short message costs about \$0\.\d+", words)
        assert re.search(r"\$[\d.]+ left of \$20\.00 · resets on", words)


def test_the_meter_opens_below_the_line_and_says_what_is_read_again(page_of, alice, long):
    page = open_chat(page_of(alice), long)

    page.get_by_text("Context ").click()

    expect(price(page)).to_contain_text(re.compile(r"Claude reads [\d,]+ tokens with the next message: about \$0"))
    assert page.get_by_text("Context ").bounding_box()["y"] > page.locator("#standing").bounding_box()["y"]


@pytest.mark.parametrize("width", [1440, 375, 320])
def test_without_javascript_send_and_stop_stand_beside_the_other_controls(page_of, alice, conversation, sandbox, width):
    sandbox.enqueue(match="First", tokens=2_000, rate=50)
    page = page_of(alice, java_script_enabled=False, viewport={"width": width, "height": 800})
    page.goto(conversation.get_absolute_url())
    send(page, "First")
    page.goto(f"{conversation.get_absolute_url()}?write=1")

    file, model, stop, sent = (
        page.locator(place).bounding_box()
        for place in ("#composer-attach", "#composer-model", "[name=stop]", "#composer [name=send]")
    )

    assert file["y"] + file["height"] <= model["y"] + 1
    assert width < 400 or abs(centre(model) - centre(stop)) < 4
    assert abs(centre(stop) - centre(sent)) < 4
    page.get_by_role("button", name="Stop").click()


def centre(box: dict) -> float:
    return box["y"] + box["height"] / 2


def test_older_turns_are_summarised_at_the_press_of_a_button(page_of, alice, long, sandbox):
    sandbox.enqueue(match="<transcript>", say="They talk about tides.", ttft=700)
    page = open_chat(page_of(alice), long)
    expect(price(page)).to_contain_text("Context")
    page.get_by_label("Message").fill("A thought that must not be lost")

    press(page, "Summarise the older turns")

    expect(price(page)).to_contain_text("Summarising the older turns…")
    divider = page.get_by_role("region", name="Summary")
    expect(divider).to_contain_text("Older messages summarised for Claude")
    expect(divider).to_contain_text("$0.00")
    divider.get_by_text("show what Claude reads").click()
    expect(divider.get_by_text("They talk about tides.")).to_be_visible()
    expect(page.get_by_label("Message")).to_have_value("A thought that must not be lost")
    page.get_by_text("Context ").click()
    expect(page.get_by_role("button", name="Start afresh with a summary")).to_be_visible()
    expect(page.get_by_role("button", name="Summarise the older turns")).to_have_count(0)
    expect(page.locator("#thread").get_by_text("Question 0 about tides?")).to_have_count(1)


def test_the_messages_themselves_can_be_sent_again(page_of, alice, long, sandbox):
    page = open_chat(page_of(alice), long)
    press(page, "Summarise the older turns")
    divider = page.get_by_role("region", name="Summary")

    divider.get_by_role("button", name="Send the messages themselves again").click()
    expect(divider).to_contain_text("Claude reads the messages themselves")
    divider.get_by_role("button", name="Use the summary again").click()

    expect(divider).to_contain_text("Older messages summarised for Claude")


def test_a_summary_can_be_stopped_where_it_says_that_it_is_written(page_of, alice, long, sandbox):
    sandbox.enqueue(match="<transcript>", tokens=40, stall_at=5)
    page = open_chat(page_of(alice), long)

    press(page, "Summarise the older turns")
    page.get_by_role("button", name="Stop the summary").click()

    expect(price(page)).to_contain_text("Stopped. Your messages are sent as before.")
    expect(page.get_by_role("button", name="Stop the summary")).to_have_count(0)
    sandbox.wait_until_idle()


def test_a_fresh_start_opens_a_chat_with_the_summary_in_its_box(page_of, alice, long, sandbox):
    sandbox.enqueue(match="<transcript>", say="They talk about tides.")
    page = open_chat(page_of(alice), long)

    press(page, "Start afresh with a summary")

    expect(page.get_by_label("Message")).to_have_value(re.compile("> They talk about tides."), timeout=PATIENCE)
    expect(page.get_by_role("link", name="Goes on from Question 0 about tides?")).to_be_visible()


def test_without_javascript_a_summary_is_written_too(page_of, alice, long, sandbox):
    page = open_chat(page_of(alice, java_script_enabled=False), long)
    expect(price(page)).to_contain_text(SHORT)

    press(page, "Summarise the older turns")
    expect(price(page)).to_contain_text(re.compile("summaris", re.IGNORECASE))
    while page.get_by_role("link", name="Look again").count():
        page.get_by_role("link", name="Look again").click()

    expect(page.get_by_role("region", name="Summary")).to_contain_text("Older messages summarised for Claude")
    assert UsageRecord.objects.filter(purpose="summary").count() == 1
