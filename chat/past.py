"""What stands before the next message of a conversation, in a few figures that are kept from one keystroke to the next.

A message is never changed once its answer is there, so the figures of a branch stay the same until something happens
in the conversation. What may happen is asked for each time, in small queries; the branch itself is read once.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from django.conf import settings
from django.db.models import Count, Max, Q

from chat import catalogue, window
from chat.catalogue import ClaudeModel
from chat.claude import request_for, summarised
from chat.claude.bounds import PER_MESSAGE, Before, bound_of_messages
from chat.claude.enclosures import enclosed
from chat.claude.request import WANTED_TOKENS
from chat.claude.sizes import PER_FILE
from chat.models import Message, Turn, UsageRecord
from chat.window import History

# Figures of so many branches are kept by each process; they are small.
MOST_KEPT = 500
NOTHING = {"role": "user", "content": [{"type": "text", "text": "?"}]}

_kept: OrderedDict[tuple, "Past"] = OrderedDict()
_keeping = threading.Lock()


@dataclass(frozen=True)
class Past:
    """`before` and `history` are for the next question; `older` is what a summary would read, in tokens of its writer,
    and None where there is nothing older than what is kept. `is_expected` says that `before` is no bound: it has a PDF
    that Claude has not counted."""

    before: Before = field(default_factory=Before)
    is_expected: bool = False
    history: History = field(default_factory=History)
    older: int | None = None


def past_of(turn: Turn) -> Past:
    """What stands before the question of a turn, saved or not. Five queries; more after something has happened."""
    if turn.question.parent_id is None:
        return Past()
    key = _state(turn)
    with _keeping:
        past = _kept.get(key)
    if past is None:
        past = _weighed(turn)
    with _keeping:
        _kept[key] = past
        _kept.move_to_end(key)
        while len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
    return past


def with_its_answer(past: Past, live: Turn, model: ClaudeModel) -> Before | None:
    """What will stand before the next question when the answer that is being written is there, at most. None where
    that is not known yet."""
    calls = live.usage_records.filter(purpose=UsageRecord.Purpose.REPLY, state__in=UsageRecord.OPEN)
    call = calls.order_by("-admitted_at", "-id").first()
    # What was found on the web is counted with the answer, and nobody can say how much that will be.
    if call is None or call.terms.get("searches") or not catalogue.find(live.model).counts_like(model):
        return None
    # Its worker may hold it anew, and fit more of an answer into what has become free.
    longest = WANTED_TOKENS[live.effort] if call.state == UsageRecord.State.HELD else call.max_tokens
    lost = PER_FILE * len(past.before.files)
    return replace(past.before, bound=call.input_bound + lost + PER_MESSAGE + longest)


def _state(turn: Turn) -> tuple:
    """Everything that the figures are made of, without reading it."""
    conversation, leaf = turn.conversation, turn.question.parent_id
    answer = Turn.objects.filter(reply=leaf).values_list("state", "attempt").first()
    exact = Count("id", filter=Q(confidence=UsageRecord.Confidence.EXACT))
    calls = conversation.usage_records.aggregate(count=Count("id"), exact=exact, last=Max("settled_at"))
    summaries = tuple(conversation.summaries.order_by("id").values_list("id", "state", "in_use"))
    gone = conversation.attachments.filter(gone=True).count()
    writes = (settings.SUMMARY_MODEL, settings.INFERENCE_GEO)
    return (turn.model, leaf, answer, *calls.values(), summaries, gone, writes)


def _weighed(turn: Turn) -> Past:
    role = Message.Role.USER
    parent = turn.question.parent_id
    question = Message(
        conversation=turn.conversation, role=role, parent_id=parent, content=NOTHING["content"], text="?"
    )
    branch = turn.conversation.branch(parent)
    short = Turn(
        conversation=turn.conversation, user=turn.user, question=question, model=turn.model, effort=turn.effort
    )
    request, model = request_for(short, branch), catalogue.find(turn.model)
    alone = bound_of_messages(request_for(_first(short)))
    expected = bound_of_messages(request, short, expected=True)
    return Past(
        before=Before(bound=expected - alone, files=tuple(enclosed(request.messages))),
        is_expected=expected < bound_of_messages(request, short),
        history=window.history_of(request, short),
        older=_older(turn, branch, model),
    )


def _first(turn: Turn) -> Turn:
    """The same question with nothing before it."""
    question = Message(conversation=turn.conversation, role=Message.Role.USER, content=turn.question.content, text="?")
    return Turn(conversation=turn.conversation, user=turn.user, question=question, model=turn.model, effort=turn.effort)


def _older(turn: Turn, branch: list[Message], model: catalogue.ClaudeModel) -> int | None:
    before, kept = summarised(turn.conversation, branch)
    texts = [message.text for message in window.older(kept, model)]
    if not texts:
        return None
    writer = catalogue.find(settings.SUMMARY_MODEL)
    return sum(window.tokens_of(text, writer) for text in [before.text if before else "", *texts])
