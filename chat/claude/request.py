"""A conversation as the parameters of a request."""

import hashlib
import hmac
import uuid
from dataclasses import dataclass, field, replace

from django.conf import settings
from django.db.models import Q

from chat import catalogue
from chat.catalogue import ClaudeModel
from chat.claude.enclosures import is_outline, outline, outlines
from chat.claude.sizes import excess
from chat.models import Conversation, Message, Summary, Turn
from chat.pricing import MOST_SEARCHES

# Short, because it is paid for at every turn; and without a clock, which would spoil the cache.
SYSTEM = "You are Claude in Tally, a team's chat. It shows Markdown."
TITLE_SYSTEM = "Reply with a title for this chat: three to six words, in its language."

WANTED_TOKENS = {"quick": 8_000, "balanced": 16_000, "deep": 32_000}
EFFORTS = {"quick": "low", "balanced": "medium", "deep": "high"}
TITLE_TOKENS = 40
TITLE_TOKENS_WITH_THINKING = 1_024
TITLE_READS = 2_000  # characters of the question
# What a summary is introduced with. It was made of what people and models wrote, so it is never a part of the system.
SUMMARISED = "The earlier part of this conversation was summarised to save room:\n\n{}\n\n(End of the summary.)"


@dataclass(frozen=True)
class Request:
    """What is sent, apart from `max_tokens`, which the budget decides.

    Whatever may be billed at another rate is a field here, so that `terms_of` cannot miss it. `ttl` is the lifetime of
    what is cached ("5m" or "1h"), "" without caching. `replies` says of each message which row it came from, if that
    is a reply. `summary` is the one that stands for the older messages. In `messages` facts stand for each file;
    `files` has the blocks that are sent instead, by the file's id, once `enclosures.with_files` has read them.
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
    summary: uuid.UUID | None = None
    files: dict[str, dict] = field(default_factory=dict, repr=False)

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
        parameters: dict = {"model": self.model, "messages": [self._with_files(message) for message in self.messages]}
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

    @property
    def excess(self) -> str:
        """Why the API would not take the files of this request, in words; "" if it would."""
        return excess(self.messages, catalogue.find(self.model))

    def _with_files(self, message: dict) -> dict:
        if isinstance(message["content"], str):
            return message
        blocks = [self.files[block["source"]["id"]] if is_outline(block) else block for block in message["content"]]
        return {**message, "content": blocks}

    def continued_after(self, blocks: list[dict]) -> "Request":
        """The same request after `pause_turn`: what Claude wrote goes back unchanged, thinking included."""
        paused = {"role": "assistant", "content": blocks}
        return replace(self, messages=[*self.messages, paused])


def request_for(turn: Turn, before: list[Message] | None = None) -> Request:
    """The whole branch that leads to the turn's question, as a request; a summary in place of what it stands for.

    The turn need not be saved. `before` is the branch above the question, where it is known.
    """
    conversation, model = turn.conversation, catalogue.find(turn.model)
    system = "\n\n".join(filter(None, [SYSTEM, turn.user.instructions, conversation.system_prompt]))
    if before is None:
        before = conversation.branch(turn.question.parent_id) if turn.question.parent_id else []
    summary, kept = summarised(conversation, before)
    history = history_of([*kept, turn.question])
    if summary:
        first, blocks = history[0]
        history[0] = (first, [{"type": "text", "text": SUMMARISED.format(summary.text)}, *blocks])
    return Request(
        model=model.id,
        messages=[{"role": message.role, "content": blocks} for message, blocks in history],
        system=system,
        wanted_tokens=min(WANTED_TOKENS[turn.effort], model.max_output),
        thinking={"type": "adaptive", "display": "summarized"} if model.shows_thinking else None,
        effort=EFFORTS[turn.effort] if EFFORTS[turn.effort] in model.efforts else "",
        searches=min(conversation.max_searches, settings.SEARCHES_PER_ANSWER, MOST_SEARCHES)
        if model.searches_the_web
        else 0,
        geo=served_in(model),
        user_id=opaque(turn.user_id),
        replies=tuple(message.id if message.role == Message.Role.ASSISTANT else None for message, _ in history),
        summary=summary.id if summary else None,
    )


def summarised(conversation: Conversation, branch: list[Message]) -> tuple[Summary | None, list[Message]]:
    """The summary that stands for the beginning of a branch, if there is one, and the messages after it."""
    if not branch:
        return None, branch
    places = {message.id: place for place, message in enumerate(branch)}
    written = conversation.summaries.filter(state=Summary.State.DONE, in_use=True, begins_a_chat=False)
    standing = [summary for summary in written if summary.last_id in places]
    if not standing:
        return None, branch
    deepest = max(standing, key=lambda summary: (places[summary.last_id], summary.id))
    return deepest, branch[places[deepest.last_id] + 1 :]


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
        geo=served_in(model),
        user_id=opaque(user_id),
    )


def history_of(branch: list[Message]) -> list[tuple[Message, list[dict]]]:
    """What is sent of each message of a branch, without the messages of which nothing is."""
    silent = [message.parent_id for message in branch if message.role == Message.Role.ASSISTANT and not message.text]
    # A refused question would be refused again with everything that follows it, and one that was too long be too long.
    refusals = Turn.objects.filter(Q(stop_reason="refusal") | Q(error="too_large"), question__in=silent)
    refused = set(refusals.values_list("question_id", flat=True))
    known, history = outlines(branch), []
    for message in branch:
        # A thinking block is bound to the exact text before it, which an edit or another model changes; all of
        # them may be left out of turns that are over.
        # Citations point at search results, which are left out too. And the API refuses a text of white space alone.
        blocks = [sent for block in message.content if (sent := _sent(block, known))]
        if blocks and message.id not in refused:
            history.append((message, blocks))
    return history


def _sent(block: dict, known: dict[str, dict]) -> dict | None:
    if is_outline(block):
        return outline(block, known)
    if block.get("type") == "text" and block["text"].strip():
        return {"type": "text", "text": block["text"]}
    return None


def served_in(model: ClaudeModel) -> str:
    """Where the setting wants it served. Older models know no places, and refuse a request that names one."""
    return settings.INFERENCE_GEO if model.takes_geo else ""


def opaque(user_id: int) -> str:
    return hmac.new(settings.SECRET_KEY.encode(), f"claude:{user_id}".encode(), hashlib.sha256).hexdigest()[:32]
