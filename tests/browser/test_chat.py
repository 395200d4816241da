"""A conversation as somebody at a real browser has it: asking, watching, stopping, going on (P4)."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from chat.models import Conversation, Message, Turn, UsageRecord
from chat.money import spoken
from tests.browser.screen import answer, body, send, shown_and_stored
from tests.conftest import PASSWORD, wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("worker"),
]

expect.set_options(timeout=10_000)

LONG = " ".join(f"word{n}" for n in range(80))
RICH = """First a paragraph with **weight** and `code`.

| Model | Input |
|---|--:|
| One | $2 |

```python
def answer():
    return 42
```

* a list
* of two
"""


@pytest.fixture
def chat(page_of, conversation):
    """Alice at her conversation, which is empty."""
    page = page_of(conversation.owner)
    page.goto(conversation.get_absolute_url())
    return page


def wait_for_text(page: Page) -> str:
    expect(body(page)).not_to_have_text("")
    return body(page).inner_text()


def wait_for_end(page: Page, status: str = "done") -> Locator:
    expect(answer(page)).to_have_attribute("data-status", status, timeout=20_000)
    return answer(page)


def shows_what_is_stored(page: Page) -> bool:
    stored = Message.objects.get(id=answer(page).get_attribute("id").removeprefix("message-")).text
    shown, stored = shown_and_stored(page, stored)
    return re.sub(r"<[^>]+>", "", shown).strip() != "" and shown == stored


def left(page: Page) -> float:
    return float(re.search(r"\$([\d.]+) left", page.locator("#standing").inner_text())[1])


def test_a_person_signs_in_asks_and_signs_out(page_of, alice, sandbox):
    sandbox.enqueue(say="Forty-two.")
    page = page_of()

    page.goto("/")
    page.get_by_label("Username").fill("alice")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    send(page, "What is the answer?")
    wait_for_end(page)

    assert body(page).inner_text() == "Forty-two."
    assert page.url.endswith(Conversation.objects.get().get_absolute_url())
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/**")
    page.goto("/spend/")
    assert "/accounts/login/" in page.url


def test_an_answer_grows_piece_by_piece_and_ends_as_it_is_stored(chat, sandbox):
    sandbox.enqueue(say=RICH + LONG, rate=120)
    chat.evaluate("""() => {
        window.seen = [];
        new MutationObserver(() => {
            const live = document.querySelector('[data-role="assistant"]:not([data-status="done"]) .message__body');
            if (live) seen.push(live.innerText.length);
        }).observe(document.getElementById("thread"), {subtree: true, childList: true, characterData: true});
    }""")

    send(chat, "Tell me")
    wait_for_end(chat)

    assert len(set(chat.evaluate("seen"))) > 5
    assert shows_what_is_stored(chat)


def test_an_answer_says_that_it_is_running_while_it_is(chat, sandbox):
    sandbox.enqueue(say=LONG, rate=100)

    send(chat, "Tell me")
    wait_for_text(chat)
    status = answer(chat).get_attribute("data-status")
    wait_for_end(chat)

    assert status == "running"


def test_a_reload_in_mid_answer_shows_the_text_so_far_and_goes_on(chat, sandbox):
    sandbox.enqueue(say=LONG, rate=80)

    send(chat, "Tell me")
    before = wait_for_text(chat)
    chat.reload()

    expect(body(chat)).to_contain_text(before)
    assert answer(chat).get_attribute("data-status") == "running"
    wait_for_end(chat)
    assert body(chat).inner_text() == LONG == Turn.objects.get().reply.text
    assert shows_what_is_stored(chat)


def test_an_answer_goes_on_however_late_a_script_arrives(chat, sandbox):
    sandbox.enqueue(say="Slowly does it. " * 40, ttft=50_000)
    send(chat, "Hello")
    expect(answer(chat)).to_have_attribute("data-status", "running")
    late: list = []
    chat.route("**/hx-sse*.js", lambda route: late.append(route))

    chat.reload(wait_until="commit")
    chat.wait_for_function("window.htmx")
    chat.evaluate("new Promise(done => setTimeout(done, 200))")  # whatever htmx does by a timer it has done
    late.pop().continue_()
    sandbox.skip(50)

    wait_for_end(chat)
    assert shows_what_is_stored(chat)


def test_a_second_tab_sees_the_same_answer(chat, sandbox):
    sandbox.enqueue(say=LONG, rate=60)
    second = chat.context.new_page()

    send(chat, "Tell me")
    wait_for_text(chat)
    second.goto(chat.url)
    wait_for_text(second)

    assert answer(chat).get_attribute("data-status") != "done"
    for page in (chat, second):
        wait_for_end(page)
        assert body(page).inner_text() == LONG


@pytest.mark.parametrize("by", ["button", "Esc"])
def test_stop_in_mid_answer_keeps_the_text_and_says_so(chat, sandbox, by):
    sandbox.enqueue(tokens=2000, rate=50)

    send(chat, "Tell me")
    before = wait_for_text(chat)
    if by == "button":
        chat.get_by_role("button", name="Stop").click()
    else:
        chat.get_by_label("Message").press("Escape")

    expect(wait_for_end(chat, "stopped")).to_contain_text("Stopped.")
    expect(chat.get_by_role("button", name="Stop")).to_have_count(0)
    assert body(chat).inner_text().startswith(before)
    assert shows_what_is_stored(chat)


def test_a_second_question_follows_and_what_was_typed_meanwhile_is_kept(chat, sandbox):
    sandbox.enqueue(say=LONG, rate=100, match="First")
    sandbox.enqueue(say="The second answer.", match="Second")

    send(chat, "First")
    wait_for_text(chat)
    chat.get_by_label("Message").fill("Second")
    wait_for_end(chat)
    assert chat.get_by_label("Message").input_value() == "Second"
    chat.get_by_label("Message").press("Enter")

    expect(answer(chat)).to_contain_text("The second answer.")
    wait_for_end(chat)
    expect(chat.locator(".message")).to_have_count(4)
    assert chat.get_by_label("Message").input_value() == ""


def test_what_an_answer_cost_is_below_it_in_the_budget_and_on_the_page_of_the_team(
    chat, limit, ada, alice, page_of, sandbox
):
    limit(alice, "0.90")
    chat.reload()
    before = left(chat)
    sandbox.enqueue(tokens=1000)

    send(chat, "Hello")
    footer = wait_for_end(chat).locator("footer").inner_text()

    wait_until(lambda: UsageRecord.objects.filter(state="settled").count() == 2, "no title was paid for")
    reply = UsageRecord.objects.get(purpose="reply")
    for words in ("Claude Sonnet 5.5", f"{reply.prompt_tokens:,} in", "1,000 out", spoken(reply.cost)):
        assert words in footer
    assert before == 0.9
    assert left(chat) < before
    team = page_of(ada)
    team.goto("/admin/spend/")
    cells = team.get_by_role("row").filter(has_text="alice").get_by_role("cell")
    assert cells.first.inner_text() == spoken(sum(UsageRecord.objects.values_list("cost", flat=True)))


def test_a_double_click_on_send_is_one_question(chat, sandbox):
    sandbox.enqueue(say="Once.")
    chat.get_by_label("Message").fill("Hello")

    chat.get_by_role("button", name="Send").dblclick()
    wait_for_end(chat)

    expect(chat.locator(".message")).to_have_count(2)
    assert Turn.objects.count() == 1


def test_enter_sends_and_shift_enter_breaks_the_line(chat, sandbox):
    box = chat.get_by_label("Message")

    box.press_sequentially("One")
    box.press("Shift+Enter")
    box.press_sequentially("Two")
    box.press("Enter")
    wait_for_end(chat)

    assert Turn.objects.get().question.text == "One\nTwo"


@pytest.mark.parametrize(("text", "words"), [("   ", "Write something first."), ("x" * 400_001, "This is too long")])
def test_a_refused_message_stays_in_its_box(chat, text, words):
    chat.forgive("422")
    chat.get_by_label("Message").evaluate("(box, text) => { box.value = text; }", text)

    chat.get_by_role("button", name="Send").click()

    expect(chat.get_by_role("alert")).to_contain_text(words)
    assert chat.get_by_label("Message").input_value() == text
    assert not Turn.objects.exists()


def test_over_budget_says_used_left_and_reset_and_another_model_still_answers(chat, limit, alice, sandbox):
    limit(alice, "0.0045")
    sandbox.enqueue(say="A cheap answer.", match="cheap one")

    send(chat, "The dear one")
    words = wait_for_end(chat, "failed").inner_text()
    chat.get_by_label("Model").select_option("claude-haiku-5-5")
    send(chat, "The cheap one")

    assert "you have used $0.00 of $0.0045 this month" in words
    assert "$0.0045 is left" in words
    assert "It starts again on" in words
    assert "Still possible: Claude Haiku 5.5" in words
    expect(answer(chat)).to_contain_text("A cheap answer.")
    wait_for_end(chat)


def test_retry_after_a_failure_replaces_the_answer(chat, sandbox):
    sandbox.enqueue(status="529", times=3, retry_after=0)

    send(chat, "Hello")
    expect(wait_for_end(chat, "failed")).to_contain_text("Claude is busy.")
    sandbox.enqueue(say="Here it is.")
    chat.get_by_role("button", name="Try again", exact=True).click()

    wait_for_end(chat)
    assert body(chat).inner_text() == "Here it is."
    expect(chat.locator(".message")).to_have_count(2)
    chat.reload()
    expect(chat.locator(".message")).to_have_count(2)
    assert body(chat).inner_text() == "Here it is."


def test_continue_goes_on_after_the_length_limit(chat, sandbox):
    sandbox.enqueue(tokens=9000, rate=100_000, match="Tell me")
    sandbox.enqueue(say="And so it ends.", match="exactly where you stopped")
    chat.get_by_label("Effort").select_option("quick")

    send(chat, "Tell me")
    expect(wait_for_end(chat)).to_contain_text("The answer reached its length limit.")
    chat.get_by_role("button", name="Continue").click()

    expect(answer(chat)).to_contain_text("And so it ends.")
    wait_for_end(chat)
