"""C38: any text, from people and from models, arrives, is kept and is shown; on the wire and in the database."""

import html
import re
from itertools import batched
from types import SimpleNamespace

import pytest

from chat.sandbox import tokens
from chat.text import clean
from tests.chaos.conftest import ended
from tests.chaos.test_provider import EXACT, calls

TEXTS = {
    "NUL": "before\x00after",
    "half a pair": "one \ud83d alone, and \ude00 too",
    "a pair in two halves": "\ud83d\ude00",
    "line ends of others": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg",
    "right to left": "\u202egnp.exe\u202c and \u2066isolated\u2069",
    "marks": "e" + "\u0301" * 65_536,
    "byte order": "\ufeffWith a mark in front \ufffe",
    "a family": "👩‍👩‍👧‍👦 of four, 🏴󠁧󠁢󠁥󠁮󠁧󠁿 and 👍🏿",
    "carriage returns": "one\rtwo\r\rid: 9-9\revent: done\rdata: 1\r\rthree",
    "beyond the first plane": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0010ffff 𠜎",
}


def without_tags(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", markup))


def letters(text: str) -> str:
    """What is left of a text whatever becomes of its white space."""
    return "".join(text.split())


@pytest.fixture
def letter_by_letter(monkeypatch):
    """One event for each character, so that whatever belongs together arrives apart; for each 4,096 of a long text."""

    def split(text: str, tokenizer: str) -> list[str]:
        return ["".join(piece) for piece in batched(text, 1 if len(text) < 10_000 else 4_096)]

    monkeypatch.setattr("chat.sandbox.plan.tokens", SimpleNamespace(split=split, count=tokens.count))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_c38_any_text_of_a_model_arrives_and_is_shown(me, conversation, sandbox, letter_by_letter, text):
    sandbox.enqueue(say=text)

    turn = me.ask("Say something strange", to=conversation)
    tab = me.watch(turn).wait()

    turn = ended(turn)
    page = me.http.get(f"/conversations/{conversation.id}/").text
    written = re.search(rf'<div id="done-{turn.id}">(.*?)</div>', page, re.DOTALL)[1]
    assert (turn.state, turn.error) == ("done", "")
    assert turn.reply.text == clean_in_pieces(text)
    assert letters(without_tags(written)) == letters(turn.reply.text)
    assert turn.reply.html.replace("\r\n", "\n").replace("\r", "\n") in tab.final
    assert calls(turn) == [EXACT]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_c38_any_text_of_a_person_arrives_and_is_shown(me, conversation, sandbox, text):
    sandbox.enqueue(say="I see.")

    turn = ended(me.ask(as_browsers_send(text), to=conversation))

    page = me.http.get(f"/conversations/{conversation.id}/").text
    shown = re.search(r'class="message__said"[^>]*>(.*?)</div>', page, re.DOTALL)[1]
    [asked] = sandbox.requests[0]["body"]["messages"]
    assert turn.question.text == clean(as_browsers_send(text))
    assert asked["content"] == [{"type": "text", "text": turn.question.text}]
    assert html.unescape(shown) == turn.question.text
    assert me.page(turn).text == "I see."


def clean_in_pieces(text: str) -> str:
    """Each event is cleaned by itself: a pair that is torn apart by the provider is two halves."""
    return "".join(map(clean, text))


def as_browsers_send(text: str) -> str:
    """A form is UTF-8, in which there are no halves."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
