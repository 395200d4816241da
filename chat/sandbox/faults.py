"""Scenarios: how one answer is to be shaped, delayed or broken.

A directive in the last user message, `[[sandbox key=value flag ...]]` (the last one counts), or
`enqueue` for the next request. Numbers K are output tokens sent, thinking included. An unknown key
or a value out of range is a 400 that says so. Values are URL-encoded where they need to be.

shape    ttft=MS rate=TOKENS_PER_S tokens=N thinking=N say=TEXT stamp searches=N us
         stamp: every token's text is "<index>@<CLOCK_MONOTONIC ns at sending>; "
         us: served in the US unless the request names a place, as a workspace may have it by default
before   status=400|401|402|413|429|500|502html|529|spend_limit|org_limit|workspace_limit|too_long
         retry_after=S hang=S rst_before_headers
within   error_at=K (0: the very first event) cut_at=K rst_at=K eof_at=K no_delta
         stall_at=K stall=S (default: until the client leaves) ping_forever_at=K
         bad_json_at=K bad_utf8_at=K unknown_event unknown_block unknown_usage one_byte big_event=BYTES
         nul surrogate
         after=N: tokens generated, and billed, but not sent once we cut (default 1)
ending   stop=refusal|refusal_mid|pause_turn|model_context_window_exceeded|something_new|end_empty
times=N  only the first N such requests are broken, the next ones keep the shape alone
"""

import re
from collections import deque
from dataclasses import dataclass, fields
from urllib.parse import unquote_to_bytes

from .errors import SCRIPTED, invalid

STOPS = (
    "refusal",
    "refusal_mid",
    "pause_turn",
    "model_context_window_exceeded",
    "something_new",
    "end_empty",
)
_SHAPE = {"ttft", "rate", "tokens", "thinking", "say", "stamp", "searches", "us"}
_ENDINGS = (
    "error_at",
    "cut_at",
    "rst_at",
    "eof_at",
    "stall_at",
    "ping_forever_at",
    "bad_json_at",
    "bad_utf8_at",
)
_DIRECTIVE = re.compile(r"\[\[sandbox((?:\s+[a-z_0-9]+(?:=[^\s\]]*)?)*)\s*\]\]")
_MOST_TOKENS = 200_000


@dataclass(slots=True)
class Scenario:
    ttft: float | None = None
    rate: float | None = None
    tokens: int | None = None
    thinking: int | None = None
    say: str | None = None
    stamp: bool = False
    searches: int = 0
    us: bool = False
    status: str | None = None
    retry_after: float | None = None
    hang: float = 0
    rst_before_headers: bool = False
    error_at: int | None = None
    cut_at: int | None = None
    rst_at: int | None = None
    eof_at: int | None = None
    no_delta: bool = False
    stall_at: int | None = None
    stall: float | None = None
    ping_forever_at: int | None = None
    bad_json_at: int | None = None
    bad_utf8_at: int | None = None
    unknown_event: bool = False
    unknown_block: bool = False
    unknown_usage: bool = False
    one_byte: bool = False
    big_event: int = 0
    nul: bool = False
    surrogate: bool = False
    after: int = 1
    stop: str | None = None
    times: int | None = None
    # Whether anybody asked for anything: an unscripted answer is a natural one.
    scripted: bool = False

    @property
    def turning_point(self):
        """(name, K) of the fault within the stream, or (None, None). `no_delta` ends after all tokens."""
        for name in _ENDINGS:
            if getattr(self, name) is not None:
                return name, getattr(self, name)
        return ("eof_at", float("inf")) if self.no_delta else (None, None)

    def shape_alone(self):
        return Scenario(**{name: getattr(self, name) for name in _SHAPE}, scripted=True)


def _number(low, high, kind=int):
    def read(text):
        value = kind(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return read


def _one_of(values):
    def read(text):
        if text not in values:
            raise ValueError
        return text

    return read


def _flag(text):
    return {"": True, "1": True, "0": False, "true": True, "false": False}[text.lower()]


def _text(text):
    # Surrogates may be written as they are, or percent-encoded; `+` is a plus.
    return unquote_to_bytes(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


_READERS = {
    "ttft": _number(0, 3_600_000, float),
    "rate": _number(0.1, 100_000, float),
    "tokens": _number(0, _MOST_TOKENS),
    "thinking": _number(0, _MOST_TOKENS),
    "say": _text,
    "searches": _number(1, 20),
    "status": _one_of(SCRIPTED),
    "retry_after": _number(0, 4_294_967, float),
    "hang": _number(0, 3600, float),
    "stall": _number(0, 3600, float),
    "big_event": _number(1, 20_000_000),
    "after": _number(0, _MOST_TOKENS),
    "stop": _one_of(STOPS),
    "times": _number(1, 1000),
    **dict.fromkeys(_ENDINGS, _number(0, _MOST_TOKENS)),
}


def scenario(settings):
    """A Scenario from names and texts; ApiError 400 for what it does not know."""
    values = {}
    known = {field.name for field in fields(Scenario)} - {"scripted"}
    for name, text in settings.items():
        if name not in known:
            raise invalid(f"sandbox: unknown key '{name}'")
        if text is True or text is False:
            text = "1" if text else "0"
        try:
            values[name] = _READERS.get(name, _flag)(str(text))
        except (ValueError, KeyError):
            raise invalid(f"sandbox: bad value for '{name}'") from None
    return Scenario(**values, scripted=True)


def find_directive(text):
    """The settings of the last directive as a dict, or None."""
    found = _DIRECTIVE.findall(text)
    if not found:
        return None
    return dict(word.partition("=")[::2] for word in found[-1].split())


def without_directives(text):
    return _DIRECTIVE.sub("", text).strip()


class Script:
    """Decides what happens to each request: first what was enqueued, then the message's own directive."""

    def __init__(self):
        self._queue: deque[tuple[str, str, Scenario]] = deque()
        self._seen: dict[int, int] = {}

    def enqueue(self, settings):
        """`settings` as in a directive, plus `match`: only a request whose text contains it takes this one,
        and `on`: "messages" (default) or "count_tokens"."""
        settings = dict(settings)
        match, on = str(settings.pop("match", "")), settings.pop("on", "messages")
        if on not in ("messages", "count_tokens"):
            raise invalid("sandbox: bad value for 'on'")
        planned = scenario(settings)
        self._queue.extend((match, on, planned) for _ in range(planned.times or 1))

    def next(self, prompt, on="messages"):
        queued = self._take(prompt, on)
        if queued:
            return queued
        settings = find_directive(prompt.question)
        # A title is asked for with the same words in it: a directive in them is meant for the reply.
        if settings is None or on != "messages" or prompt.asks_for_title:
            return Scenario()
        planned = scenario(settings)
        if planned.times is None:
            return planned
        key = hash((prompt.body["model"], prompt.system, prompt.question))
        self._seen[key] = self._seen.get(key, 0) + 1
        return planned if self._seen[key] <= planned.times else planned.shape_alone()

    def clear(self):
        self._queue.clear()
        self._seen.clear()

    def _take(self, prompt, on):
        text = ""
        for i, (match, where, planned) in enumerate(self._queue):
            if where != on:
                continue
            if match and not text:
                text = prompt.everything
            if not match or match in text:
                del self._queue[i]
                return planned
        return None
