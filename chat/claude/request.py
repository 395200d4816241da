"""A conversation as the parameters of a request, and the bound of what it can cost."""

import hashlib
import hmac
import json
from dataclasses import dataclass, replace

from django.conf import settings

from chat import catalogue
from chat.models import Message, Turn, UsageRecord

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


@dataclass(frozen=True)
class Request:
    """What is sent, apart from `max_tokens`, which the budget decides."""

    model: str
    messages: list[dict]
    system: str
    wanted_tokens: int
    thinking: dict | None = None
    effort: str = ""
    cached: bool = True
    user_id: str = ""
    new_messages: int = 1  # at the end, since the last answer that was counted

    def parameters(self) -> dict:
        parameters = self.countable()
        if self.thinking:
            parameters["thinking"] = self.thinking
        if self.effort:
            parameters["output_config"] = {"effort": self.effort}
        if self.cached:
            parameters["cache_control"] = {"type": "ephemeral"}
        if self.user_id:
            parameters["metadata"] = {"user_id": self.user_id}
        return parameters

    def countable(self) -> dict:
        """The parameters that `count_tokens` takes."""
        parameters: dict = {"model": self.model, "messages": self.messages}
        if self.system:
            parameters["system"] = self.system
        return parameters

    def continued_after(self, blocks: list[dict]) -> "Request":
        """The same request after `pause_turn`: what Claude wrote goes back unchanged, thinking included."""
        paused = {"role": "assistant", "content": blocks}
        return replace(self, messages=[*self.messages, paused], new_messages=self.new_messages + 1)


def request_for(turn: Turn) -> Request:
    """The whole branch that leads to the turn's question, as a request."""
    conversation, model = turn.conversation, catalogue.find(turn.model)
    system = f"{SYSTEM}\n\n{conversation.system_prompt}" if conversation.system_prompt else SYSTEM
    return Request(
        model=model.id,
        messages=_history(conversation.branch(turn.question_id)),
        system=system,
        wanted_tokens=min(WANTED_TOKENS[turn.effort], model.max_output),
        thinking={"type": "adaptive", "display": "summarized"} if model.shows_thinking else None,
        effort=EFFORTS[turn.effort] if EFFORTS[turn.effort] in model.efforts else "",
        user_id=_opaque(turn.user_id),
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
        cached=False,
        user_id=_opaque(user_id),
    )


def bound_of(request: Request, turn: Turn | None = None) -> int:
    """An upper bound of the prompt, in tokens, without asking anybody.

    A token has at least one byte, so bytes are a bound. Where the answer just before was counted by a model with the
    same tokenizer, its exact figure stands for everything up to it.
    """
    counted = _counted_before(turn) if turn else 0
    new = request.messages[-request.new_messages :] if counted else request.messages
    parts = [request.system, *(message["content"] for message in new)]
    return PER_REQUEST + counted + sum(PER_MESSAGE + _bytes(part) for part in parts)


def _counted_before(turn: Turn) -> int:
    if turn.question.parent_id is None:
        return 0
    record = (
        UsageRecord.objects.filter(
            turn__reply=turn.question.parent_id,
            purpose=UsageRecord.Purpose.REPLY,
            state=UsageRecord.State.SETTLED,
            confidence=UsageRecord.Confidence.EXACT,
        )
        .order_by("-admitted_at")
        .first()
    )
    if record is None or not catalogue.find(record.model).counts_like(catalogue.find(turn.model)):
        return 0
    return record.prompt_tokens + record.output_tokens


def _history(branch: list[Message]) -> list[dict]:
    silent = [message.parent_id for message in branch if message.role == Message.Role.ASSISTANT and not message.text]
    # A refused question would be refused again with everything that follows it.
    refused = set(Turn.objects.filter(question__in=silent, stop_reason="refusal").values_list("question_id", flat=True))
    messages = []
    for message in branch:
        # A thinking block is bound to the exact text before it, which an edit or another model changes; all of
        # them may be left out of turns that are over.
        # And the API refuses a text of white space alone.
        blocks = [block for block in message.content if block.get("type") == "text" and block["text"].strip()]
        if blocks and message.id not in refused:
            messages.append({"role": message.role, "content": blocks})
    return messages


def _bytes(content: str | list[dict]) -> int:
    """Of a text its own; of everything else those of its JSON, in which nothing can hide."""
    if isinstance(content, str):
        return len(content.encode())
    texts = sum(len(block["text"].encode()) for block in content if block["type"] == "text")
    others = [block for block in content if block["type"] != "text" or len(block) > 2]
    return texts + len(json.dumps(others, ensure_ascii=False).encode())


def _opaque(user_id: int) -> str:
    return hmac.new(settings.SECRET_KEY.encode(), f"claude:{user_id}".encode(), hashlib.sha256).hexdigest()[:32]
