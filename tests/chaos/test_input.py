"""C36, C37: what is too large, for us or for the model. Strange text is in test_unicode.py."""

import time
import uuid
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from chat import catalogue
from chat.claude.request import SYSTEM
from chat.forms import LONGEST_TEXT
from chat.models import Message, Turn, UsageRecord
from chat.models.message import text_of
from chat.sandbox import tokens
from tests.chaos.conftest import ended
from tests.chaos.test_provider import ANSWER, EXACT, FREE, calls
from tests.pages import composer_error, composer_text

AT_MOST = 1.0  # second, from the first byte of what is too large to the last of what is said about it
SMALL = "claude-haiku-4-5"  # the smallest window
TOO_LARGE = "This is too large to be sent. Shorten the text, or send it in parts."
MANY_FILES = "These are more than 100 files. Attach at most 20 at a time."
MANY_FIELDS = "This form has more than 1,000 fields, so it was not read."


def form(text: str) -> dict:
    return _urlencoded(f"text={quote(text)}&client_id={uuid.uuid4()}".encode())


def in_pieces() -> dict:
    """Nobody says beforehand how much it will be."""

    def pieces() -> Iterator[bytes]:
        yield b"text="
        for _ in range(160):
            yield b"x" * 65_536

    return _urlencoded(pieces())


def with_files(count: int, size: int) -> dict:
    return {"data": {"text": "Hello"}, "files": [("file", (f"{n}.txt", b"x" * size)) for n in range(count)]}


def with_fields(count: int) -> dict:
    return _urlencoded(b"text=Hello&" + b"&".join(b"field%d=1" % n for n in range(count)))


def _urlencoded(content) -> dict:
    return {"content": content, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}


@pytest.fixture
def post(me, conversation):
    """`post(form("Hello"), htmx=True)`: to the composer's address."""

    def post(body: dict, *, htmx: bool):
        headers = {**body.get("headers", {}), **({"HX-Request": "true"} if htmx else {})}
        return me.http.post(f"/conversations/{conversation.id}/messages/", **{**body, "headers": headers})

    return post


@pytest.fixture
def unharmed(me, product, conversation, sandbox, posts):
    """`unharmed()`: nothing was begun, nothing is held, and the same processes answer the next question."""
    web = product["web"].pid

    def unharmed() -> None:
        assert not Turn.objects.exists()
        assert not UsageRecord.objects.exists()
        sandbox.enqueue(say=ANSWER)
        assert me.page(ended(me.ask("What is the answer?", to=conversation))).text == ANSWER
        assert product["web"].pid == web
        assert posts() == 1

    return unharmed


@pytest.mark.parametrize("htmx", [False, True], ids=["page", "fragment"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(lambda: form("x" * 10_000_000), TOO_LARGE, id="10 MB of text"),
        pytest.param(in_pieces, TOO_LARGE, id="10 MB without a length"),
        pytest.param(lambda: with_files(1_000, 10), MANY_FILES, id="1,000 files"),
        pytest.param(lambda: with_fields(100_000), MANY_FIELDS, id="100,000 fields"),
    ],
)
def test_c36_what_is_too_large_is_said_at_once_and_leaves_the_text_where_it_is(post, unharmed, body, words, htmx):
    request = body()
    began = time.monotonic()

    response = post(request, htmx=htmx)

    took = time.monotonic() - began
    unharmed()
    assert response.status_code == 413
    # The text is only in the browser: htmx changes nothing but these words, and a page can be gone back from.
    assert (composer_error(response.text) == words) == htmx
    assert (f"{words} Go back: your text is still in the form." in response.text) == (not htmx)
    assert took < AT_MOST


def test_c36_a_text_that_is_one_letter_too_long_is_told_its_length_and_comes_back_whole(post, unharmed):
    text = "x" * (LONGEST_TEXT + 1)

    page, fragment = post(form(text), htmx=False), post(form(text), htmx=True)

    unharmed()
    assert page.status_code == fragment.status_code == 422
    words = f"This is too long for one message: {len(text)} characters of at most {LONGEST_TEXT}."
    assert composer_error(page.text).startswith(words)
    assert composer_error(fragment.text).startswith(words)
    assert composer_text(page.text) == text
    assert "composer-text" not in fragment.text


@pytest.mark.parametrize(
    ("beyond", "error", "stop_reason"),
    [(-100, "", "end_turn"), (0, "", "model_context_window_exceeded"), (1, "too_large", "")],
    ids=["just fits", "leaves no room", "one too many"],
)
def test_c37_a_question_at_the_limit_of_the_model_is_answered_or_too_long(
    me, conversation, sandbox, posts, beyond, error, stop_reason
):
    conversation.model = SMALL
    conversation.save(update_fields=["model"])
    around = tokens.PER_REQUEST + tokens.PER_MESSAGE + tokens.count(SYSTEM, catalogue.find(SMALL).tokenizer)
    question = "語" * (catalogue.find(SMALL).context + beyond - around)
    sandbox.enqueue(say=ANSWER)

    turn = ended(me.ask(question, to=conversation))

    reply, record = me.page(turn), turn.usage_records.get()
    assert (turn.error, turn.stop_reason) == (error, stop_reason)
    assert reply.text == (ANSWER if beyond < 0 else "")
    assert calls(turn) == [FREE if error else EXACT]
    assert record.cost <= record.held
    assert record.prompt_tokens == (0 if error else catalogue.find(SMALL).context + beyond) <= record.input_bound
    assert posts() == 1


@pytest.mark.parametrize(("length", "fits"), [(5, True), (700, False)])
def test_c37_two_thousand_messages_are_answered_or_too_long(me, conversation, sandbox, posts, length, fits):
    talked(conversation, 2_000, "語" * length)
    sandbox.enqueue(say=ANSWER)

    turn = ended(me.ask("And what follows from all this?", to=conversation))

    reply, record = me.page(turn), turn.usage_records.get()
    assert (reply.status, reply.text, turn.error) == (("done", ANSWER, "") if fits else ("failed", "", "too_large"))
    assert calls(turn) == [EXACT if fits else FREE]
    assert record.prompt_tokens <= record.input_bound <= catalogue.find(conversation.model).context
    assert record.cost <= record.held
    assert len(sandbox.requests[0]["body"]["messages"]) == 2_001
    assert posts() == 1


def talked(conversation, count: int, text: str) -> None:
    """Give it a past: so many messages, from both sides in turn."""
    content, messages, before = [{"type": "text", "text": text}], [], None
    for number in range(count):
        role = Message.Role.ASSISTANT if number % 2 else Message.Role.USER
        message = Message(
            conversation=conversation, parent=before, role=role, content=content, text=text_of(content), rendered=text
        )
        messages.append(message)
        before = message
    Message.objects.bulk_create(messages)
    conversation.active_leaf = before
    conversation.save(update_fields=["active_leaf"])
