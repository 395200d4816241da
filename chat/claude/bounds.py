"""The most tokens that a request can be billed for, before it is sent."""

import math
from dataclasses import dataclass
from itertools import takewhile

from django.db.models import F

from chat import catalogue
from chat.claude.enclosures import enclosed
from chat.claude.request import Request
from chat.claude.sizes import PER_FILE, in_json, of_files, size
from chat.models import Turn, UsageRecord
from chat.pricing import SEARCH_TOKENS, Terms

# Tokens that the format itself adds; generous, since a bound that is too low would be an overdraft.
PER_REQUEST, PER_MESSAGE = 200, 16
# What Claude is told about searching. The vendor's published trace has 2,679 for a question of one line.
PER_SEARCH_TOOL = 4_000
# What `count_tokens` may be wrong by, and what it does not know of.
COUNT_MARGIN, COUNT_EXTRA = 1.05, 500


@dataclass(frozen=True)
class Before:
    """Messages that are not listed in a request and would stand before those that are: their bound, in tokens, and the
    blocks that stand for their files."""

    bound: int = 0
    files: tuple[dict, ...] = ()


def terms_of(
    request: Request,
    turn: Turn | None = None,
    *,
    counted: int | None = None,
    expected: bool = False,
    before: Before | None = None,
) -> Terms:
    """What a request may be billed as. `counted` is what `count_tokens` said of it, where it was asked; `expected` as
    in `bound_of`, and no bound.

    Unless the request says where it is to be served, the workspace's default decides, and that may be the US.
    """
    before = before or Before()
    bound = bound_of(request, turn, expected=expected, before=before)
    files = [{"content": list(before.files)}, *request.messages]
    if counted is not None:
        bound = min(bound, math.ceil(counted * COUNT_MARGIN) + COUNT_EXTRA)
    return Terms(
        input_bound=bound,
        of_files=min(bound, of_files(files, catalogue.find(request.model))),
        ttl=request.ttl,
        searches=request.searches,
        fast=request.fast,
        us=request.geo != "global",
    )


def bound_of(
    request: Request, turn: Turn | None = None, *, expected: bool = False, before: Before | None = None
) -> int:
    """An upper bound of the prompt as it is sent, in tokens, without asking anybody. One query with a turn.

    Nobody but Claude knows how much is in a PDF: as a bound it is a whole window. `expected` takes what its pages have
    as a rule, which is good for what people are told, and for money that is put aside until Claude has counted.

    A token has at least one byte, so bytes are a bound. Where an answer of the branch was counted exactly by a model
    with the same tokenizer, its figures stand for everything up to it; unless it was counted with another summary, or
    none, before it, which may have been shorter. And a prompt beyond the model's window is refused, and not billed.
    """
    model = catalogue.find(request.model)
    messages = bound_of_messages(request, turn, expected=expected) + (before.bound if before else 0)
    tools = in_json(request.tools) + PER_SEARCH_TOOL if request.searches else 0
    bound = PER_REQUEST + len(request.system.encode()) + tools + messages
    return min(bound, model.context) if model.is_shipped else bound


def bound_of_messages(request: Request, turn: Turn | None = None, *, expected: bool = False) -> int:
    """The part of `bound_of` that is not of the system and the tools, and that the window does not cut."""
    model = catalogue.find(request.model)
    sizes = [PER_MESSAGE + size(message["content"], model, expected=expected) for message in request.messages]
    counted = _counted(request, turn) if turn and len(sizes) > 1 else {}
    messages = 0
    for place, most in enumerate(sizes):
        messages += most
        if place in counted:
            prompt, output = counted[place]
            # Only the words of an answer are sent again, and not what was thought.
            # A file may have been lost since, and words stand in its place.
            lost = PER_FILE * len(enclosed(request.messages[:place]))
            messages = min(messages, prompt + lost + min(output, most))
    return messages


def _counted(request: Request, turn: Turn) -> dict[int, tuple[int, int]]:
    """The places of the answers that Claude has counted exactly: how many tokens came before, and how many it has.

    Of an answer that took several calls the last one says it, since it has read what the others wrote. What this very
    turn wrote before it was paused stands at the end of the request.
    """
    model = catalogue.find(turn.model)
    places = {reply: place for place, reply in enumerate(request.replies) if reply}
    unread = 0
    if len(request.messages) > len(request.replies):
        places[turn.reply_id] = len(request.messages) - 1
        unread = SEARCH_TOKENS * _searches_at_the_end(request.messages[-1]["content"])
    calls = UsageRecord.objects.filter(conversation=turn.conversation_id, purpose=UsageRecord.Purpose.REPLY)
    calls = calls.exclude(state__in=[UsageRecord.State.VOID, UsageRecord.State.HELD])
    calls = calls.annotate(reply=F("turn__reply"), read=F("turn__summary_read"))
    last = {call.reply: call for call in calls.defer("usage", "price_numbers").order_by("admitted_at", "id")}
    counted = {}
    for reply, call in last.items():
        exact = call.state == UsageRecord.State.SETTLED and call.confidence == UsageRecord.Confidence.EXACT
        exact = exact and call.read == request.summary
        if reply in places and exact and catalogue.find(call.model).counts_like(model):
            output = call.output_tokens + (unread if reply == turn.reply_id else 0)
            counted[places[reply]] = (call.prompt_tokens + call.unknown_tokens, output)
    return counted


def _searches_at_the_end(blocks: list[dict]) -> int:
    """Searches that Claude has not read yet, or that are made as soon as the answer is continued."""
    at_the_end = takewhile(
        lambda block: block["type"] in ("server_tool_use", "web_search_tool_result"), reversed(blocks)
    )
    return len(list(at_the_end))
