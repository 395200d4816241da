"""An answer while it arrives: the wire's events in, blocks, usage and timing out. No I/O."""

import json
import time
from collections.abc import Callable

from chat.citations import Sources
from chat.text import clean, cleaned


class Answer:
    """Feed it every event of one stream; ask it at any moment.

    `clock` gives seconds, monotonic. `sources` numbers what is cited, over all answers of a turn. A stream that ends is
    not a stream that finished: see `finished`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, sources: Sources | None = None):
        self._clock = clock
        self._sources = sources or Sources()
        self.sent_at = self.last_event_at = self.last_progress_at = clock()
        self.started_at: float | None = None
        self.first_token_at: float | None = None
        self.ended_at: float | None = None
        self.message_id = self.request_id = self.model = ""
        self.stop_reason: str | None = None
        self.stop_details: dict | None = None
        self.usage: dict = {}
        self.finished = False
        self._start_usage: dict = {}
        self._blocks: dict[int, dict] = {}
        self._json: dict[int, list[str]] = {}
        self._parts: dict[int, list[str]] = {}
        self._hidden = 0.0
        self._hidden_since: float | None = None
        self._thought = 0.0
        self._thinking_since: float | None = None
        self._space = ""
        self.query: str | None = None  # of the web search under way; "" when its results are there
        self.new_text: list[str] = []
        self.new_thinking: list[str] = []

    def feed(self, event: dict) -> None:
        """Take one event of the wire. Types that nobody has told us about are ignored."""
        self.last_event_at = self._clock()
        handler = self._HANDLERS.get(event.get("type", ""))
        if handler:
            self.last_progress_at = self.last_event_at
            handler(self, event)

    def end(self) -> None:
        """The stream is over, however it ended."""
        self.ended_at = self._clock()

    @property
    def start_usage(self) -> dict:
        """What `message_start` said: the input is right, the output only a placeholder."""
        return self._start_usage

    @property
    def blocks(self) -> list[dict]:
        """The content so far, in the shape of the Messages API; ready to be stored and to be sent back."""
        return [block for index in sorted(self._blocks) if (block := self._whole(index)) is not None]

    @property
    def text(self) -> str:
        return "".join(block["text"] for block in self.blocks if block.get("type") == "text")

    def hidden_seconds(self) -> float:
        """All the time in which Claude may have written tokens that were not shown to us.

        From `message_start` (or, without one, the request) to the first visible text, in silent thinking and tool
        use, and after the last progress; a ping is none.
        """
        now = self._clock() if self.ended_at is None else self.ended_at
        if self._hidden_since is not None:
            return self._hidden + now - self._hidden_since
        if self.started_at is None:
            return now - self.sent_at
        return self._hidden + now - self.last_progress_at

    def thinking_ms(self) -> int:
        """How long it has been in blocks of thinking, shown or not."""
        now = self._clock() if self.ended_at is None else self.ended_at
        since = now if self._thinking_since is None else self._thinking_since
        return round(1000 * (self._thought + now - since))

    def first_token_ms(self) -> int | None:
        return None if self.first_token_at is None else round(1000 * (self.first_token_at - self.sent_at))

    def duration_ms(self) -> int:
        return round(1000 * ((self.ended_at or self._clock()) - self.sent_at))

    def _message_start(self, event: dict) -> None:
        message = event.get("message") or {}
        self.started_at = self._hidden_since = self.last_event_at
        self.message_id, self.model = message.get("id") or "", message.get("model") or ""
        self._start_usage = dict(message.get("usage") or {})
        self.usage = dict(self._start_usage)

    def _block_start(self, event: dict) -> None:
        index, block = event["index"], dict(event.get("content_block") or {})
        if block.get("citations") is None:
            block.pop("citations", None)
        self._parts[index], self._json[index] = [], []
        self._blocks[index] = block
        if block.get("type") in ("thinking", "redacted_thinking"):
            self._thinking_since = self.last_event_at
        elif block.get("type") == "web_search_tool_result":
            self.query = ""
        if block.get("type") == "text" and block.get("text"):
            self._see(index, block.pop("text"))
        elif block.get("type") == "thinking" and block.get("thinking"):
            self._think(index, block.pop("thinking"))

    def _block_delta(self, event: dict) -> None:
        index, delta = event["index"], event.get("delta") or {}
        kind = delta.get("type")
        if kind == "text_delta":
            self._see(index, delta["text"])
        elif kind == "thinking_delta":
            self._think(index, delta["thinking"])
        elif kind == "signature_delta":
            self._blocks[index]["signature"] = delta["signature"]
        elif kind == "citations_delta":
            self._blocks[index].setdefault("citations", []).append(cleaned(delta["citation"]))
        elif kind == "input_json_delta":
            self._json[index].append(delta["partial_json"])

    def _block_stop(self, event: dict) -> None:
        self._hide()
        if self._thinking_since is not None:
            self._thought += self.last_event_at - self._thinking_since
            self._thinking_since = None
        index = event.get("index", -1)
        block = self._blocks.get(index, {})
        if block.get("type") == "server_tool_use" and block.get("name") == "web_search":
            self.query = _query("".join(self._json[index]))
        elif block.get("type") == "text" and self._cites(index):
            # As in chat.citations.text_of: a mark stands directly behind the words, before the end of a paragraph.
            self.new_text.append(self._sources.marks(block["citations"] or []) + self._space)
            self._space = ""

    def _message_delta(self, event: dict) -> None:
        delta = event.get("delta") or {}
        self.stop_reason = delta.get("stop_reason") or self.stop_reason
        self.stop_details = delta.get("stop_details") or self.stop_details
        # Cumulative, and richer than the SDK's types: every key that says something replaces the older one.
        self.usage.update({key: value for key, value in (event.get("usage") or {}).items() if value is not None})

    def _message_stop(self, event: dict) -> None:
        self.finished = True

    _HANDLERS = {
        "message_start": _message_start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
    }

    def _see(self, index: int, text: str) -> None:
        text = clean(text)
        if not text:
            return
        if self.first_token_at is None:
            self.first_token_at = self.last_event_at
        if self._hidden_since is not None:
            self._hidden += self.last_event_at - self._hidden_since
            self._hidden_since = None
        self.query = None
        self._parts[index].append(text)
        if self._cites(index):
            text = self._space + text
            words = text.rstrip()
            text, self._space = words, text[len(words) :]
        self.new_text.append(text)

    def _think(self, index: int, text: str) -> None:
        self._hide()
        text = clean(text)
        self._parts[index].append(text)
        self.new_thinking.append(text)

    def _cites(self, index: int) -> bool:
        return "citations" in self._blocks[index]

    def _hide(self) -> None:
        if self._hidden_since is None:
            self._hidden_since = self.last_event_at

    def _whole(self, index: int) -> dict | None:
        block = dict(self._blocks[index])
        joined = "".join(self._parts[index])
        if block.get("type") == "text":
            if not joined:
                return None  # the API refuses to take an empty text back
            block["text"] = joined
            if not block.get("citations"):
                block.pop("citations", None)
        elif block.get("type") == "thinking":
            block["thinking"] = joined
        elif self._json[index]:
            block["input"] = _parsed("".join(self._json[index]))
        return cleaned(block)


def _query(text: str) -> str:
    """What is searched for, on one line."""
    asked = cleaned(_parsed(text))
    words = asked.get("query") if isinstance(asked, dict) else None
    return " ".join(words.split()) if isinstance(words, str) else ""


def _parsed(text: str) -> object:
    """A tool's input; a stream that was cut leaves half of it, which nobody can use."""
    try:
        return json.loads(text)
    except ValueError:
        return {}
