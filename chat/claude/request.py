"""A conversation as the parameters of a request, and the bound of what it can cost."""

import hashlib
import hmac
import math
import uuid
from dataclasses import dataclass, replace
from itertools import takewhile

from django.conf import settings
from django.db.models import F, Q

from chat import catalogue
from chat.catalogue import ClaudeModel
from chat.claude.sizes import in_json, size
from chat.models import Message, Turn, UsageRecord
from chat.pricing import MOST_SEARCHES, SEARCH_TOKENS, Terms

# Short, because it is paid for at every turn; and without a clock, which would spoil the cache.
SYSTEM = "You are Claude in Tally, a team's chat. It shows Markdown."
TITLE_SYSTEM = "Reply with a title for this chat: three to six words, in its language."

WANTED_TOKENS = {"quick": 8_000, "balanced": 16_000, "deep": 32_000}
EFFORTS = {"quick": "low", "balanced": "medium", "deep": "high"}
TITLE_TOKENS = 40
TITLE_TOKENS_WITH_THINKING = 1_024
TITLE_READS = 2_000  # characters of the question

# Tokens that the format itself adds; generous, since a bound that is too low would be an overdraft.
PER_REQUEST, PER_MESSAGE = 200, 16
# What Claude is told about searching. The vendor's published trace has 2,679 for a question of one line.
PER_SEARCH_TOOL = 4_000
# What `count_tokens` may be wrong by, and what it does not know of.
COUNT_MARGIN, COUNT_EXTRA = 1.05, 500


@dataclass(frozen=True)
class Request:
    """What is sent, apart from `max_tokens`, which the budget decides.

    Whatever may be billed at another rate is a field here, so that `terms_of` cannot miss it. `ttl` is the lifetime of
    what is cached ("5m" or "1h"), "" without caching. `replies` says of each message which row it came from, if that
    is a reply.
    """

    model: str
    messages: list[dict]
    system: str
    wanted_tokens: int
    thinking: dict | None = None
    effort: str = ""
    ttl: str = "5m"
    searches: int = 0
    fast: bool = False
    geo: str = ""
    user_id: str = ""
    replies: tuple[uuid.UUID | None, ...] = ()

    def parameters(self) -> dict:
        parameters = self.countable()
        if self.thinking:
            parameters["thinking"] = self.thinking
        if self.effort:
            parameters["output_config"] = {"effort": self.effort}
        if self.ttl:
            # Five minutes are the default, and need not be said.
            parameters["cache_control"] = {"type": "ephemeral"} | ({"ttl": self.ttl} if self.ttl != "5m" else {})
        if self.fast:
            parameters["speed"] = "fast"
        if self.geo:
            parameters["inference_geo"] = self.geo
        if self.user_id:
            parameters["metadata"] = {"user_id": self.user_id}
        return parameters

    def countable(self) -> dict:
        """The parameters that `count_tokens` takes."""
        parameters: dict = {"model": self.model, "messages": self.messages}
        if self.system:
            parameters["system"] = self.system
        if self.tools:
            parameters["tools"] = self.tools
        return parameters

    @property
    def tools(self) -> list[dict]:
        if not self.searches:
            return []
        return [{"type": "web_search_20250305", "name": "web_search", "max_uses": self.searches}]

    def continued_after(self, blocks: list[dict]) -> "Request":
        """The same request after `pause_turn`: what Claude wrote goes back unchanged, thinking included."""
        paused = {"role": "assistant", "content": blocks}
        return replace(self, messages=[*self.messages, paused])


def request_for(turn: Turn) -> Request:
    """The whole branch that leads to the turn's question, as a request."""
    conversation, model = turn.conversation, catalogue.find(turn.model)
    system = f"{SYSTEM}\n\n{conversation.system_prompt}" if conversation.system_prompt else SYSTEM
    first = turn.question.parent_id is None
    history = _history([turn.question] if first else conversation.branch(turn.question_id))
    return Request(
        model=model.id,
        messages=[{"role": message.role, "content": blocks} for message, blocks in history],
        system=system,
        wanted_tokens=min(WANTED_TOKENS[turn.effort], model.max_output),
        thinking={"type": "adaptive", "display": "summarized"} if model.shows_thinking else None,
        effort=EFFORTS[turn.effort] if EFFORTS[turn.effort] in model.efforts else "",
        searches=min(conversation.max_searches, MOST_SEARCHES) if model.searches_the_web else 0,
        geo=_geo(model),
        user_id=_opaque(turn.user_id),
        replies=tuple(message.id if message.role == Message.Role.ASSISTANT else None for message, _ in history),
    )


def title_request(question: Message, user_id: int) -> Request:
    """A title from the cheapest model, which reads the beginning of the question and nothing else."""
    model = catalogue.find(settings.TITLE_MODEL)
    silent = "disabled" in model.thinking_types
    return Request(
        model=model.id,
        messages=[{"role": "user", "content": question.text[:TITLE_READS]}],
        system=TITLE_SYSTEM,
        wanted_tokens=TITLE_TOKENS if silent or not model.thinks_by_default else TITLE_TOKENS_WITH_THINKING,
        thinking={"type": "disabled"} if silent else None,
        effort="low" if "low" in model.efforts else "",
        ttl="",
        geo=_geo(model),
        user_id=_opaque(user_id),
    )


def terms_of(request: Request, turn: Turn | None = None, *, counted: int | None = None) -> Terms:
    """What a request may be billed as. `counted` is what `count_tokens` said of it, where it was asked.

    Unless the request says where it is to be served, the workspace's default decides, and that may be the US.
    """
    bound = bound_of(request, turn)
    if counted is not None:
        bound = min(bound, math.ceil(counted * COUNT_MARGIN) + COUNT_EXTRA)
    return Terms(
        input_bound=bound,
        ttl=request.ttl,
        searches=request.searches,
        fast=request.fast,
        us=request.geo != "global",
    )


def bound_of(request: Request, turn: Turn | None = None) -> int:
    """An upper bound of the prompt as it is sent, in tokens, without asking anybody. One query with a turn.

    A token has at least one byte, so bytes are a bound. Where an answer of the branch was counted exactly by a model
    with the same tokenizer, its figures stand for everything up to it. And a prompt beyond the model's window is
    refused, and not billed.
    """
    model = catalogue.find(request.model)
    sizes = [PER_MESSAGE + size(message["content"], model) for message in request.messages]
    counted = _counted(request, turn) if turn and len(sizes) > 1 else {}
    messages = 0
    for place, most in enumerate(sizes):
        messages += most
        if place in counted:
            prompt, output = counted[place]
            # Only the words of an answer are sent again, and not what was thought.
            messages = min(messages, prompt + min(output, most))
    tools = in_json(request.tools) + PER_SEARCH_TOOL if request.searches else 0
    bound = PER_REQUEST + len(request.system.encode()) + tools + messages
    return min(bound, model.context) if model.is_shipped else bound


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
    calls = calls.exclude(state__in=[UsageRecord.State.VOID, UsageRecord.State.HELD]).annotate(reply=F("turn__reply"))
    last = {call.reply: call for call in calls.defer("usage", "price_numbers").order_by("admitted_at", "id")}
    counted = {}
    for reply, call in last.items():
        exact = call.state == UsageRecord.State.SETTLED and call.confidence == UsageRecord.Confidence.EXACT
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


def _history(branch: list[Message]) -> list[tuple[Message, list[dict]]]:
    """What is sent of each message of a branch, without the messages of which nothing is."""
    silent = [message.parent_id for message in branch if message.role == Message.Role.ASSISTANT and not message.text]
    # A refused question would be refused again with everything that follows it, and one that was too long be too long.
    refusals = Turn.objects.filter(Q(stop_reason="refusal") | Q(error="too_large"), question__in=silent)
    refused = set(refusals.values_list("question_id", flat=True))
    history = []
    for message in branch:
        # A thinking block is bound to the exact text before it, which an edit or another model changes; all of
        # them may be left out of turns that are over.
        # Citations point at search results, which are left out too. And the API refuses a text of white space alone.
        texts = [block["text"] for block in message.content if block.get("type") == "text"]
        blocks = [{"type": "text", "text": text} for text in texts if text.strip()]
        if blocks and message.id not in refused:
            history.append((message, blocks))
    return history


def _geo(model: ClaudeModel) -> str:
    """Where the setting wants it served. Older models know no places, and refuse a request that names one."""
    return settings.INFERENCE_GEO if model.takes_geo else ""


def _opaque(user_id: int) -> str:
    return hmac.new(settings.SECRET_KEY.encode(), f"claude:{user_id}".encode(), hashlib.sha256).hexdigest()[:32]
