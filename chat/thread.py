"""A conversation as its page shows it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from django.db.models import Q
from django.utils.safestring import SafeString, mark_safe

from chat import files, fragments, progress, rendering
from chat.endings import RETRY, Ending, ending_of, trying_again
from chat.footer import Footer, footer_of
from chat.ids import as_uuid
from chat.models import Conversation, Message, Turn, UsageRecord
from chat.models.tree import Tree
from chat.streams import START

SHOWN = 30  # messages of one page; whoever wants the earlier ones asks for them
ABOVE = 10  # of those, before the one that somebody looks for


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
    def thought(self) -> str:
        """How long Claude thought, once it writes."""
        return "" if self.turn.is_live and not self.turn.checkpoint_text else progress.thought(self.turn.thinking_ms)

    @property
    def stream_after(self) -> str:
        """The id of the last entry that this page already shows."""
        return self.turn.checkpoint_id or str(START)

    @property
    def notice(self) -> str:
        if self.turn.state == Turn.State.QUEUED:
            return progress.WAITING
        words = self.turn.checkpoint_notice or ("" if self.turn.checkpoint_text else progress.THINKING)
        return trying_again(self._refused + 1) if self._refused and words == progress.THINKING else words

    @property
    def clock(self) -> SafeString | str:
        """Since when the reader has waited for what the notice says."""
        return fragments.clock(self.waiting_since) if self.notice else ""

    @property
    def waiting_since(self) -> datetime:
        known = self.turn.checkpoint_notice_at if self.turn.checkpoint_notice else None
        return known or self.turn.started_at or self.turn.created_at

    @property
    def ending(self) -> Ending | None:
        return ending_of(self.turn, self._records[-1] if self._records else None)

    @property
    def leaves_out_its_question(self) -> bool:
        """Whether later requests go without it: it would be refused again, or be too long again."""
        return not self.turn.reply.text and (self.turn.stop_reason == "refusal" or self.turn.error == "too_large")

    @property
    def continue_id(self) -> uuid.UUID:
        """The same for every copy of this button, so that pressing it twice asks once."""
        return uuid.uuid5(self.turn.id, "continue")

    @property
    def may_be_retried(self) -> bool:
        """Not where the words of its ending offer it already."""
        return self.ending is None or RETRY not in self.ending.actions

    @property
    def footer(self) -> Footer | None:
        return None if self.turn.is_live else footer_of(self.turn, self._records)


@dataclass(frozen=True)
class Place:
    """Where a message stands among its siblings, counted from one."""

    number: int
    count: int
    previous: uuid.UUID | None
    next: uuid.UUID | None


@dataclass(frozen=True)
class Item:
    message: Message
    turn: TurnOnPage | None
    place: Place


@dataclass(frozen=True)
class Stretch:
    """The part of a branch that a page shows, and how many messages stand before and after it."""

    items: list[Item]
    earlier: int
    later: int
    leaf: uuid.UUID | None
    elsewhere: bool

    @property
    def aside(self) -> bool:
        """Not the end of the active branch: nothing can be written below it."""
        return self.elsewhere or self.later > 0


def asked_for(conversation: Conversation, address: Mapping, editing: dict | None = None) -> Stretch:
    """What a page has to show: the newest messages, or what its address names, or the question that is being edited."""
    named = {name: as_uuid(address.get(name)) for name in ("message", "before", "after")}
    return stretch(conversation, **named | ({"message": editing["id"]} if editing else {}))


def live_turn(conversation: Conversation, shown: Stretch) -> Turn | TurnOnPage | None:
    """The answer that is being written; it is at the end of the active branch."""
    if shown.aside:
        return conversation.live_turn
    return next((item.turn for item in shown.items if item.turn and item.turn.is_live), None)


def stretch(conversation: Conversation, *, message=None, before=None, after=None) -> Stretch:
    """The newest messages of the active branch, in five queries whatever their number.

    `message` is one that has to be among them, and names its branch where it is on another one; `before` and `after`
    are the ends of what a reader has seen. Ids that are not of this conversation are as if they were not given.
    """
    tree = conversation.tree()
    path = tree.path(conversation.active_leaf_id)
    named = next((known for known in (message, before, after) if known in tree), None)
    elsewhere = False
    if named and named not in path:
        path, elsewhere = tree.path(tree.newest_leaf(named)), True
    start, end = _part(path, message, before, after)
    return Stretch(
        items=items(conversation.read(path[start:end]), children=tree.children),
        earlier=start,
        later=len(path) - end,
        leaf=path[-1] if path else None,
        elsewhere=elsewhere,
    )


def below(conversation: Conversation, message: Message, *, instead_of: str | None) -> list[Item]:
    """The rest of the active branch from a message on, which takes the place of one of its siblings.

    Nothing if it is more than a page shows, or if the other one is not a sibling.
    """
    tree = conversation.tree()
    path = tree.path(conversation.active_leaf_id)
    rest = path[path.index(message.id) :]
    if len(rest) > SHOWN or as_uuid(instead_of) not in tree.children[message.parent_id]:
        return []
    return items(conversation.read(rest), children=tree.children)


def unseen(conversation: Conversation, message: uuid.UUID | None, leaf: uuid.UUID) -> list[Item] | None:
    """What the branch of a leaf has after a message; without one, all of it. None if it is more than a page shows, or
    the message is on another branch."""
    tree = conversation.tree()
    path = tree.path(leaf)
    if message and message not in path:
        return None
    rest = path[path.index(message) + 1 :] if message else path
    return items(conversation.read(rest), children=tree.children) if len(rest) <= SHOWN else None


def items(messages: list[Message], turns: dict[object, Turn] | None = None, children: dict | None = None) -> list[Item]:
    """Messages with their turns and places, in three queries whatever their number.

    `turns` by reply and `children` by parent (of a whole conversation), where they are known.
    """
    if turns is None:
        replies = {message.id: message for message in messages if message.role == Message.Role.ASSISTANT}
        turns = {known.reply_id: known for known in Turn.objects.filter(reply__in=replies)}
        for known in turns.values():
            known.reply = replies[known.reply_id]
    records: dict[object, list[UsageRecord]] = {}
    begun = [known for known in turns.values() if known.state != Turn.State.QUEUED]
    for record in UsageRecord.objects.filter(turn__in=begun).order_by("admitted_at") if begun else ():
        records.setdefault(record.turn_id, []).append(record)
    if children is None:
        children = _siblings(messages)
    files.fill(messages)
    return [
        Item(
            message,
            TurnOnPage(turn, records.get(turn.id, [])) if (turn := turns.get(message.id)) else None,
            _place(message, children.get(message.parent_id, [])),
        )
        for message in messages
    ]


def _part(path: list, message, before, after) -> tuple[int, int]:
    if before in path:
        end = path.index(before)
        return max(0, end - SHOWN), end
    if after in path:
        start = path.index(after) + 1
        return start, min(len(path), start + SHOWN)
    newest = max(0, len(path) - SHOWN)
    if message in path:
        start = min(newest, max(0, path.index(message) - ABOVE))
        return start, min(len(path), start + SHOWN)
    return newest, len(path)


def _siblings(messages: list[Message]) -> dict:
    """Ids by parent, of these messages and of those that stand beside them."""
    parents = {message.parent_id for message in messages}
    beside = Q(parent__in=parents - {None})
    if None in parents:
        beside |= Q(parent=None, conversation=messages[0].conversation_id)
    return Tree(Message.objects.filter(beside).values_list("id", "parent_id")).children if messages else {}


def _place(message: Message, siblings: list[uuid.UUID]) -> Place:
    if message.id not in siblings:  # deleted in the meantime
        siblings = [message.id]
    index = siblings.index(message.id)
    return Place(
        number=index + 1,
        count=len(siblings),
        previous=siblings[index - 1] if index else None,
        next=siblings[index + 1] if index + 1 < len(siblings) else None,
    )
