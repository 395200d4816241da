"""How much of a model's window a conversation fills, and where a summary would divide it.

Everything here is an estimate, for people to read and for deciding when to summarise. What limits a call is its bound
(`claude.bound_of`).
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from chat import catalogue
from chat.catalogue import ClaudeModel
from chat.claude import Request
from chat.claude.sizes import PER_FILE, in_json, size
from chat.models import Message, Turn, UsageRecord

# Anthropic's glossary gives 3.5 English characters for a token; the tokenizer since Opus 4.7 makes some 30 % more of
# them. Of other scripts a token has fewer characters, but each has more bytes.
BYTES_PER_TOKEN = {"old": 3.5, "new": 2.7}
# Of the five minutes that the cache keeps, some pass before the message is sent.
STAYS_CACHED = timedelta(seconds=270)
# Of the branch's calls only the newest say something that older ones do not.
LATEST_CALLS = 20
# Exchanges that are never summarised; fewer, if they alone would fill this part of the window.
KEPT_EXCHANGES, KEPT_PART = 4, 4
# Of the writer's window, since our count is an estimate.
READS_PERCENT = 70
# Of a page of a PDF, text and image together. Typical, not the most.
PDF_PAGE_TOKENS = 3_500
# What Claude is told about searching, by the vendor's published trace.
SEARCH_TOOL = 2_600


@dataclass(frozen=True)
class History:
    """What stands before a question, in tokens: counted with all that is sent around it, or estimated without.

    `sent` of them were the prompt of a call, asked in that `way`, and are cached until then.
    """

    tokens: int = 0
    is_counted: bool = False
    sent: int = 0
    way: tuple = ()
    cached_until: datetime | None = None

    def before(self, request: Request, turn: Turn) -> "Prompt":
        """The prompt with the question that stands at the end of the request."""
        model = catalogue.find(request.model)
        around = 0 if self.is_counted else tokens_of(request.system, model) + tokens_of_tools(request, model)
        # Asked in another way, nothing is found in the cache.
        is_warm = self.cached_until and timezone.now() < self.cached_until and self.way == way_of(request, turn)
        question = estimate(request.messages[-1]["content"], model)
        return Prompt(self.tokens + around, question, self.sent if is_warm else 0)


@dataclass(frozen=True)
class Prompt:
    """A prompt in tokens: `history` was there before the question, `cached` of it has probably stayed in the cache."""

    history: int
    question: int
    cached: int

    @property
    def tokens(self) -> int:
        return self.history + self.question


def prompt_of(request: Request, turn: Turn) -> Prompt:
    """The prompt of a turn, sent or not. One query, where anything was said before."""
    return history_of(request, turn).before(request, turn)


def history_of(request: Request, turn: Turn) -> History:
    """All but the last message of a request. An answer that was counted exactly stands for everything up to it."""
    model = catalogue.find(request.model)
    sizes = [estimate(message["content"], model) for message in request.messages[:-1]]
    known = _last_counted(request, turn) if sizes else None
    if known is None:
        return History(sum(sizes))
    place, call = known
    sent = call.prompt_tokens + call.unknown_tokens
    words = min(sizes[place], call.output_tokens - call.thinking_tokens) if call.thinking_tokens else sizes[place]
    is_cached = call.cache_read_tokens or call.cache_write_5m_tokens or call.cache_write_1h_tokens
    return History(
        tokens=sent + words + sum(sizes[place + 1 :]),
        is_counted=True,
        sent=sent,
        way=(call.model, call.effort, call.terms.get("searches")),
        cached_until=call.sent_at + STAYS_CACHED if is_cached and call.sent_at else None,
    )


def way_of(request: Request, turn: Turn) -> tuple:
    """What has to be the same in two requests, besides their beginning, for the cache to find it."""
    return request.model, turn.effort, request.searches


def estimate(content: str | list[dict], model: ClaudeModel) -> int:
    """About how many tokens the content of a message has."""
    if isinstance(content, str):
        return tokens_of(content, model)
    return sum(_of_block(block, model) for block in content)


def tokens_of(text: str, model: ClaudeModel) -> int:
    return math.ceil(len(text.encode()) / bytes_per_token(model))


def tokens_of_tools(request: Request, model: ClaudeModel) -> int:
    return math.ceil(in_json(request.tools) / bytes_per_token(model)) + SEARCH_TOOL if request.searches else 0


def is_too_full(tokens: int, model: ClaudeModel) -> bool:
    """Whether the older turns are to be summarised before so long a prompt is sent."""
    percent = settings.SUMMARISE_AT_PERCENT
    return bool(percent) and 100 * tokens > percent * model.context


def older(branch: list[Message], model: ClaudeModel) -> list[Message]:
    """The messages of a branch that a summary would stand for; none, if there is nothing older than what is kept.

    They end with an answer, and are no more than the writer of summaries can read.
    """
    return readable(branch, _end_of_the_older(branch, model))


def readable(branch: list[Message], end: int) -> list[Message]:
    """The messages before a place, or as many of the first ones as the writer of summaries can read."""
    writer = catalogue.find(settings.SUMMARY_MODEL)
    most, read, last = writer.context * READS_PERCENT // 100, 0, 0
    for place, message in enumerate(branch[:end]):
        read += tokens_of(message.text, writer)
        if read > most:
            break
        if message.role == Message.Role.ASSISTANT and message.text:
            last = place + 1
    return branch[:last]


def _end_of_the_older(branch: list[Message], model: ClaudeModel) -> int:
    questions = [place for place, message in enumerate(branch) if message.role == Message.Role.USER]
    sizes = [tokens_of(message.text, model) for message in branch]
    ends = [*questions[-KEPT_EXCHANGES:], len(branch)]
    return next(place for place in ends if sum(sizes[place:]) * KEPT_PART <= model.context or place == len(branch))


def _of_block(block: dict, model: ClaudeModel) -> int:
    match block:
        case {"type": "text", "text": text}:
            return tokens_of(text, model)
        case {"type": "document", "source": {"type": "attachment", "pages": pages}}:
            return pages * PDF_PAGE_TOKENS
        case {"type": "document", "source": {"type": "attachment", "size": in_bytes}}:
            return math.ceil(in_bytes / bytes_per_token(model))
        case {"type": "image", "source": {"type": "attachment"}}:
            return size([block], model) - PER_FILE
    return math.ceil(size([block], model) / bytes_per_token(model))


def bytes_per_token(model: ClaudeModel) -> float:
    return BYTES_PER_TOKEN.get(model.tokenizer, min(BYTES_PER_TOKEN.values()))


def _last_counted(request: Request, turn: Turn) -> tuple[int, Any] | None:
    """The place of the newest answer that was counted exactly, and the call that did."""
    model = catalogue.find(request.model)
    places = {reply: place for place, reply in enumerate(request.replies) if reply}
    exact = {"state": UsageRecord.State.SETTLED, "confidence": UsageRecord.Confidence.EXACT}
    calls = UsageRecord.objects.filter(conversation=turn.conversation_id, purpose=UsageRecord.Purpose.REPLY, **exact)
    calls = calls.defer("usage", "price_numbers").annotate(
        reply=F("turn__reply"), read=F("turn__summary_read"), effort=F("turn__effort")
    )
    for call in calls.order_by("-admitted_at", "-id")[:LATEST_CALLS]:
        if call.reply in places and call.read == request.summary and catalogue.find(call.model).counts_like(model):
            return places[call.reply], call
    return None
