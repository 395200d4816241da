"""Conversations as they are after some turns, written straight into the database; and what may be said in them."""

import base64
import struct
import uuid
from pathlib import Path

from hypothesis import strategies as st

from chat import spend
from chat.claude import Request
from chat.claude.request import SYSTEM
from chat.models import Conversation, Turn
from chat.pricing import Usage
from chat.sandbox import validation
from chat.sandbox.catalogue import Catalogue
from chat.sandbox.prompt import Prompt
from tests.books import SONNET, admit

API = Catalogue()
OLD = "claude-haiku-4-5"  # counts with the older tokenizer
ENGLISH = Path("chat/sandbox/texts/long-1.md").read_text()
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1).filter(str.strip)


def counted(request: Request) -> int:
    """What the stand-in counts, after having checked the request as the API does."""
    body = {**request.parameters(), "max_tokens": request.wanted_tokens}
    return Prompt(body, validation.check(body, API)).tokens


def text(words: str) -> list[dict]:
    return [{"type": "text", "text": words}]


def say(conversation: Conversation, question: str, reply=None, *, stop_reason="end_turn", **choice) -> Turn:
    """One more turn: over with that reply (text or blocks), or still to be answered."""
    turn = conversation.start_turn(question, uuid.uuid4(), **choice)
    if reply is not None:
        turn.reply.write(text(reply) if isinstance(reply, str) and reply else reply or [])
        turn.reply.keep()
        Turn.objects.filter(id=turn.id).update(state=Turn.State.DONE, stop_reason=stop_reason)
    return turn


def book(turn: Turn, prompt: int, output: int, *, void: bool = False, **end) -> None:
    """The turn's call, void or settled as exact, unless `end` says otherwise."""
    Turn.objects.filter(id=turn.id).update(state=Turn.State.QUEUED)
    running = Turn.objects.claim(turn.id)
    record = admit(turn.user, turn=running, purpose="reply", model=turn.model)
    if void:
        spend.void(record)
    else:
        spend.settle(record, Usage(input=prompt, output=output), **{"exact": True, **end})
    Turn.objects.filter(id=turn.id).update(state=Turn.State.DONE)


def image(width: int, height: int) -> dict:
    data = b"\x89PNG\r\n\x1a\n" + bytes(8) + struct.pack(">II", width, height) + bytes(20_000)
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded(data)}}


def pdf(pages: int, **fields) -> dict:
    data = encoded(b"%PDF-1.7 " + b"/Type /Page " * pages)
    source = {"type": "base64", "media_type": "application/pdf", "data": data}
    return {"type": "document", "source": source, **fields}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def asking(*blocks: dict, model: str = SONNET, **fields) -> Request:
    messages = [{"role": "user", "content": [*blocks, *text("What is this?")]}]
    return Request(model=model, messages=messages, system=SYSTEM, wanted_tokens=400, **fields)


def source(kind: str, **fields) -> dict:
    return {"source": {"type": kind, **fields}}


@st.composite
def any_block(draw) -> dict:
    words, title = draw(TEXTS), draw(TEXTS) * 30
    picture = image(draw(st.integers(1, 8_000)), draw(st.integers(1, 8_000)))
    unreadable = encoded(draw(st.binary(min_size=1, max_size=300)))
    return draw(
        st.sampled_from(
            [
                *text(words),
                picture,
                {"type": "image", **source("base64", media_type="image/gif", data=unreadable)},
                {"type": "image", **source("url", url="https://example.com/cat.png")},
                pdf(draw(st.integers(0, 12)), title=title, context=words),
                {"type": "document", **source("file", file_id="file_1")},
                {"type": "document", **source("text", media_type="text/plain", data=words), "title": title},
                {"type": "document", **source("content", content=[*text(words), picture]), "title": title},
                {"type": "search_result", "source": "https://example.com", "title": title, "content": text(words)},
            ]
        )
    )
