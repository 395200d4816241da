"""A conversation as its page shows it."""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from chat import budgets, catalogue, rendering
from chat.endings import Ending, ending_of, trying_again
from chat.models import Conversation, Message, Price, Turn, UsageRecord
from chat.models.conversation import Effort
from chat.money import spoken
from chat.streams import START


@dataclass(frozen=True)
class Footer:
    """What an answer took: tokens, nano-dollars, milliseconds; over all calls that were made for it."""

    model_name: str
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    cost: int
    duration_ms: int
    estimated: bool
    fitted_to: int | None


class TurnOnPage:
    """A turn with the words and figures that stand around its answer."""

    def __init__(self, turn: Turn, records: list[UsageRecord]):
        self.turn = turn
        refused = [r for r in records if r.state == UsageRecord.State.VOID and r.sent_at and r.attempt == turn.attempt]
        self._refused = len(refused)
        self._records = [record for record in records if record.state == UsageRecord.State.SETTLED]

    def __getattr__(self, name: str):
        return getattr(self.turn, name)

    @cached_property
    def _checkpoint(self) -> rendering.Parts:
        return rendering.split(self.turn.checkpoint_text)

    @property
    def done_html(self) -> SafeString:
        return mark_safe("".join(self._checkpoint.done))  # noqa: S308  rendering sanitises last

    @property
    def open_html(self) -> SafeString:
        return self._checkpoint.open

    @property
    def thinking(self) -> str:
        return self.turn.checkpoint_thinking if self.turn.is_live else self.turn.reply.thinking

    @property
    def stream_after(self) -> str:
        """The id of the last entry that this page already shows."""
        return self.turn.checkpoint_id or str(START)

    @property
    def notice(self) -> str:
        if self.turn.state == Turn.State.QUEUED:
            return "Waiting for a free place"
        if self.turn.checkpoint_text:
            return ""
        return trying_again(self._refused + 1) if self._refused else "Thinking"

    @property
    def ending(self) -> Ending | None:
        return ending_of(self.turn, self._records[-1] if self._records else None)

    @property
    def continue_id(self) -> uuid.UUID:
        """The same for every copy of this button, so that pressing it twice asks once."""
        return uuid.uuid5(self.turn.id, "continue")

    @property
    def footer(self) -> Footer | None:
        records = self._records
        if self.turn.is_live or not records:
            return None
        cached = sum(record.cache_read_tokens for record in records)
        return Footer(
            model_name=catalogue.find(self.turn.model).name,
            tokens_in=sum(record.prompt_tokens for record in records),
            tokens_cached=cached,
            tokens_out=sum(record.output_tokens for record in records),
            cost=sum(record.cost for record in records),
            duration_ms=sum(record.duration_ms or 0 for record in records),
            estimated=any(record.confidence == UsageRecord.Confidence.ESTIMATED for record in records),
            fitted_to=records[-1].max_tokens if records[-1].fitted else None,
        )


@dataclass(frozen=True)
class Item:
    message: Message
    turn: TurnOnPage | None


def items(messages: list[Message], turns: dict[object, Turn] | None = None) -> list[Item]:
    """Messages with their turns, in two queries whatever their number; `turns` by reply, where they are known."""
    if turns is None:
        replies = {message.id: message for message in messages if message.role == Message.Role.ASSISTANT}
        turns = {known.reply_id: known for known in Turn.objects.filter(reply__in=replies)}
        for known in turns.values():
            known.reply = replies[known.reply_id]
    records: dict[object, list[UsageRecord]] = {}
    begun = [known for known in turns.values() if known.state != Turn.State.QUEUED]
    for record in UsageRecord.objects.filter(turn__in=begun).order_by("admitted_at") if begun else ():
        records.setdefault(record.turn_id, []).append(record)
    return [
        Item(message, TurnOnPage(turn, records.get(turn.id, [])) if (turn := turns.get(message.id)) else None)
        for message in messages
    ]


def composer(action: str, conversation: Conversation | None, *, text: str = "", error: str = "") -> dict:
    """What the form needs: a client id of its own, the models with their prices, what was chosen."""
    chosen = conversation.model if conversation else catalogue.default().id
    effort = conversation.effort if conversation else Effort.BALANCED
    offered = catalogue.offered()
    prices = Price.objects.current_of([model.id for model in offered], timezone.now())
    return {
        "action": action,
        "client_id": uuid.uuid4(),
        "text": text,
        "error": error,
        "models": [_model_choice(model, chosen, prices.get(model.id)) for model in offered],
        "efforts": [{"value": e.value, "label": e.label, "selected": e == effort} for e in Effort],
    }


def sidebar(user) -> list[tuple[str, list[Conversation]]]:
    """A person's conversations, grouped as people remember: pinned, today, yesterday, the week, before."""
    groups: dict[str, list[Conversation]] = {}
    today = timezone.localdate()
    conversations = user.conversations.filter(archived=False).only("id", "title", "pinned", "updated_at", "owner_id")
    for conversation in conversations.order_by("-updated_at")[:200]:
        groups.setdefault(_when(conversation, today), []).append(conversation)
    order = ["Pinned", "Today", "Yesterday", "Last 7 days", "Before"]
    return [(label, groups[label]) for label in order if label in groups]


def standing(user) -> dict | None:
    """The limit that will be reached first, for the line below the composer."""
    tightest = budgets.personal_standing(user)
    if tightest is None:
        return None
    return {
        "limit": tightest.limit,
        "spent": tightest.spent,
        "held": tightest.held,
        "left": tightest.left,
        "percent_used": tightest.percent_used,
        "period": tightest.period,
        "resets_words": f"resets on {budgets.day_words(tightest.resets_at)}",
        "source_words": tightest.source_words,
    }


def _model_choice(model: catalogue.ClaudeModel, chosen: str, price: Price | None) -> dict:
    usable = price is not None and price.is_usable
    words = f"{_per_million(price.input)} in, {_per_million(price.output)} out per million" if usable and price else ""
    return {
        "id": model.id,
        "name": model.name,
        "blurb": model.blurb,
        "price_words": words,
        "selected": model.id == chosen,
        "unavailable_why": "" if usable else "has no price yet",
    }


def _per_million(nano: int) -> str:
    return spoken(nano).removesuffix(".00")


def _when(conversation: Conversation, today) -> str:
    day = timezone.localtime(conversation.updated_at).date()
    if conversation.pinned:
        return "Pinned"
    if day >= today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    return "Last 7 days" if day > today - timedelta(days=7) else "Before"
