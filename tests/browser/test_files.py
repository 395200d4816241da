"""Files at a real browser: chosen, pasted, dropped, removed, sent, looked at again."""

import base64
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from chat.models import Attachment, Message
from tests.attached import CODE, pdf, picture
from tests.browser.screen import answer
from tests.conftest import wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("worker", "sandbox"),
]

PHOTO = {"name": "cat.png", "mimeType": "image/png", "buffer": picture(size=(480, 320))}
REPORT = {"name": "report.pdf", "mimeType": "application/pdf", "buffer": pdf(2)}
SCRIPT = {"name": "answer.py", "mimeType": "text/x-python", "buffer": CODE}
LETTER = {"name": "letter.docx", "mimeType": "application/msword", "buffer": b"PK\x03\x04" + bytes(40)}

PASTE = """([target, files, text]) => {
    const data = new DataTransfer();
    for (const [name, type, bytes] of files)
        data.items.add(new File([Uint8Array.from(atob(bytes), byte => byte.charCodeAt(0))], name, {type}));
    if (text) data.setData("text/plain", text);
    const options = {bubbles: true, cancelable: true};
    return document.querySelector(target).dispatchEvent(new ClipboardEvent("paste", {...options, clipboardData: data}));
}"""
DRAG = """([kind, files]) => {
    const data = new DataTransfer();
    for (const [name, type, bytes] of files)
        data.items.add(new File([Uint8Array.from(atob(bytes), byte => byte.charCodeAt(0))], name, {type}));
    document.querySelector("main").dispatchEvent(
        new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: data}));
}"""


@pytest.fixture
def chat(page_of, conversation):
    page = page_of(conversation.owner)
    page.goto(conversation.get_absolute_url())
    return page


def in_javascript(*files: dict) -> list:
    return [[file["name"], file["mimeType"], base64.b64encode(file["buffer"]).decode()] for file in files]


def paste(page: Page, *files: dict, text: str = "", into: str = "#composer-text") -> None:
    page.evaluate(PASTE, [into, in_javascript(*files), text])


def attach(page: Page, *files: dict) -> None:
    page.get_by_label("Attach files").set_input_files(list(files))


def chip(page: Page, name: str) -> Locator:
    return page.get_by_role("list", name="Attached files").get_by_role("listitem").filter(has_text=name)


def press_send(page: Page) -> None:
    page.get_by_role("button", name="Send").click()


def is_drawn(image: Locator) -> bool:
    return image.evaluate("image => image.decode().then(() => image.naturalWidth > 0, () => false)")


def test_a_chosen_file_is_shown_before_it_is_sent_and_in_the_message_afterwards(chat, sandbox):
    attach(chat, PHOTO, REPORT)
    expect(chip(chat, "report.pdf")).to_contain_text("2 pages")
    thumbnail = chip(chat, "cat.png").locator("img")
    expect(thumbnail).to_be_visible()
    drawn = is_drawn(thumbnail)
    chat.get_by_label("Message", exact=True).fill("What are these?")
    press_send(chat)

    question = chat.locator('[data-role="user"]').last
    expect(question.get_by_role("img", name="cat.png")).to_be_visible()
    expect(question.get_by_role("link", name="report.pdf")).to_contain_text("2 pages")
    expect(chip(chat.locator("#composer"), "cat.png")).to_have_count(0)
    expect(answer(chat)).to_have_attribute("data-status", "done", timeout=20_000)
    assert drawn
    assert is_drawn(question.get_by_role("img", name="cat.png"))
    assert len(Message.objects.filter(role="user").latest("id").attachments) == 2


def test_a_pasted_image_is_shown_before_it_is_sent(chat):
    paste(chat, PHOTO)

    expect(chip(chat, "cat.png").locator("img")).to_be_visible()
    assert chat.get_by_label("Message", exact=True).input_value() == ""


def test_words_that_come_with_a_picture_of_themselves_are_pasted_as_words(chat):
    """As an office program copies them."""
    chat.get_by_label("Message", exact=True).focus()
    paste(chat, PHOTO, text="Just words")

    chat.wait_for_timeout(200)
    assert chat.locator("#composer-files li").count() == 0


def test_a_file_is_dropped_anywhere_on_the_conversation_and_a_hint_says_so(chat):
    hint = chat.get_by_text("Drop files to attach them")

    chat.evaluate(DRAG, ["dragenter", in_javascript(SCRIPT)])
    expect(hint).to_be_visible()
    chat.evaluate(DRAG, ["drop", in_javascript(SCRIPT)])

    expect(hint).to_be_hidden()
    expect(chip(chat, "answer.py")).to_be_visible()


def test_dragging_something_that_is_no_file_shows_no_hint(chat):
    chat.evaluate(DRAG, ["dragenter", []])

    expect(chat.get_by_text("Drop files to attach them")).to_be_hidden()


def test_the_button_is_reached_and_pressed_by_key(chat):
    with chat.expect_file_chooser() as chooser:
        chat.get_by_label("Attach files").press("Space")
    chooser.value.set_files([SCRIPT])

    expect(chip(chat, "answer.py")).to_be_visible()


def test_a_file_is_removed_by_its_button_and_is_gone(chat):
    attach(chat, PHOTO, SCRIPT)
    expect(chip(chat, "answer.py")).to_be_visible()

    chat.get_by_role("button", name="Remove cat.png").click()

    expect(chip(chat, "cat.png")).to_have_count(0)
    expect(chip(chat, "answer.py")).to_be_visible()
    wait_until(lambda: Attachment.objects.count() == 1, "the file is still stored")


def test_what_claude_cannot_read_is_said_where_it_was_attached_and_can_be_dismissed(chat):
    chat.forgive("422")
    attach(chat, LETTER, SCRIPT)

    refusal = chat.get_by_role("alert").filter(has_text="letter.docx")
    expect(refusal).to_contain_text("Save it as PDF or as text.")
    expect(chip(chat, "answer.py")).to_be_visible()
    refusal.get_by_role("button", name="Dismiss").click()
    expect(refusal).to_have_count(0)


def test_a_message_may_be_a_file_alone_sent_by_enter(chat):
    attach(chat, SCRIPT)
    expect(chip(chat, "answer.py")).to_be_visible()

    chat.get_by_label("Message", exact=True).press("Enter")

    expect(chat.locator('[data-role="user"]').get_by_role("link", name="answer.py")).to_be_visible()
    expect(answer(chat)).to_have_attribute("data-status", "done", timeout=20_000)


def test_send_waits_for_a_file_that_is_still_on_its_way(chat):
    chat.route("**/attachments/", lambda route: (chat.wait_for_timeout(700), route.continue_()))
    chat.get_by_label("Message", exact=True).fill("What is it?")
    attach(chat, PHOTO)
    expect(chat.get_by_role("progressbar", name="Uploading")).to_be_visible()

    press_send(chat)

    question = chat.locator('[data-role="user"]').last
    expect(question.get_by_role("img", name="cat.png")).to_be_visible()
    assert len(Message.objects.get(role="user").attachments) == 1


def test_an_upload_that_breaks_says_so_and_the_message_stays(chat):
    chat.forgive("Failed to load resource")
    chat.route("**/attachments/", lambda route: route.abort())
    chat.get_by_label("Message", exact=True).fill("What is it?")

    attach(chat, PHOTO)

    expect(chat.get_by_role("alert").filter(has_text="cat.png")).to_contain_text("could not be uploaded")
    assert chat.get_by_label("Message", exact=True).input_value() == "What is it?"


def test_a_long_paste_becomes_a_file_and_can_be_put_into_the_message_after_all(chat):
    text = "A line of a log file, one of many.\n" * 200
    chat.get_by_label("Message", exact=True).fill("Why?")

    paste(chat, text=text)
    expect(chip(chat, "Pasted text.txt")).to_be_visible()
    before = chat.get_by_label("Message", exact=True).input_value()
    chip(chat, "Pasted text.txt").get_by_role("button", name="Put into the message").click()

    expect(chip(chat, "Pasted text.txt")).to_have_count(0)
    assert before == "Why?"
    assert chat.get_by_label("Message", exact=True).input_value() == f"{text}\n\nWhy?"
    wait_until(lambda: not Attachment.objects.exists(), "the file is still stored")


def test_a_short_paste_stays_text(chat):
    prevented = not chat.evaluate(PASTE, ["#composer-text", [], "x" * 4_000])

    assert not prevented
    assert chat.locator("#composer-files li").count() == 0


def test_files_that_wait_are_still_there_after_a_reload(chat, alice):
    attach(chat, PHOTO)
    expect(chip(chat, "cat.png")).to_be_visible()
    wait_until(lambda: any(draft.attachments for draft in alice.drafts.all()), "the draft does not name the file")

    chat.reload()

    expect(chip(chat, "cat.png").locator("img")).to_be_visible()
    chat.get_by_role("button", name="Remove cat.png").click()
    expect(chip(chat, "cat.png")).to_have_count(0)


def test_a_file_comes_back_as_a_download_and_never_as_a_page(chat):
    attach(chat, SCRIPT)
    expect(chip(chat, "answer.py")).to_be_visible()
    press_send(chat)
    link = chat.locator('[data-role="user"]').get_by_role("link", name="answer.py")

    with chat.expect_download() as download:
        link.click()

    assert download.value.suggested_filename == "answer.py"
    assert Path(download.value.path()).read_bytes() == CODE
    expect(answer(chat)).to_have_attribute("data-status", "done", timeout=20_000)


def test_a_new_chat_begins_with_a_file(page_of, alice):
    page = page_of(alice)
    page.forgive("409")  # the draft comes too late to be kept
    page.goto("/conversations/")
    attach(page, PHOTO)
    expect(chip(page, "cat.png")).to_be_visible()
    page.get_by_label("Message", exact=True).fill("What is it?")

    press_send(page)

    page.wait_for_url("**/conversations/*-*/")
    expect(page.locator('[data-role="user"]').get_by_role("img", name="cat.png")).to_be_visible()
    expect(answer(page)).to_have_attribute("data-status", "done", timeout=20_000)


def test_without_javascript_files_are_chosen_and_sent_with_the_message(page_of, conversation):
    page = page_of(conversation.owner, java_script_enabled=False)
    page.goto(conversation.get_absolute_url())
    field = page.get_by_label("Attach files")
    field.set_input_files([PHOTO, SCRIPT])
    page.get_by_label("Message", exact=True).fill("What are these?")

    press_send(page)

    expect(page.locator('[data-role="user"]').get_by_role("link", name="answer.py")).to_be_visible()
    assert len(Message.objects.get(role="user").attachments) == 2


def test_without_javascript_a_refusal_keeps_the_text_and_the_files_that_were_taken(page_of, conversation):
    page = page_of(conversation.owner, java_script_enabled=False)
    page.forgive("422")
    page.goto(conversation.get_absolute_url())
    page.get_by_label("Attach files").set_input_files([LETTER, SCRIPT])
    page.get_by_label("Message", exact=True).fill("What are these?")

    press_send(page)

    expect(page.get_by_role("alert").filter(has_text="letter.docx")).to_contain_text("Save it as PDF or as text.")
    expect(chip(page, "answer.py")).to_be_visible()
    assert page.get_by_label("Message", exact=True).input_value() == "What are these?"
    page.get_by_role("button", name="Remove answer.py").click()
    expect(chip(page, "answer.py")).to_have_count(0)
    assert page.get_by_label("Message", exact=True).input_value() == "What are these?"


def test_files_of_a_message_that_waits_come_back_with_it(chat, sandbox):
    sandbox.enqueue(say="word " * 400, rate=40)
    chat.get_by_label("Message", exact=True).fill("Tell me")
    press_send(chat)
    expect(chat.get_by_role("button", name="Stop")).to_be_visible()
    attach(chat, SCRIPT)
    expect(chip(chat, "answer.py")).to_be_visible()
    chat.get_by_label("Message", exact=True).fill("And this?")
    press_send(chat)
    expect(chat.get_by_text("with 1 file")).to_be_visible()
    expect(chip(chat, "answer.py")).to_have_count(0)

    chat.get_by_role("button", name="Edit what is sent next").click()

    expect(chip(chat, "answer.py")).to_be_visible()
    expect(chat.get_by_label("Message", exact=True)).to_have_value("And this?")
    chat.get_by_role("button", name="Stop").click()
    expect(answer(chat)).to_have_attribute("data-status", "stopped", timeout=20_000)
