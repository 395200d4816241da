"""A person's conversations, beside the one that is open."""

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db.models import F, Q, QuerySet
from django.utils import timezone

from chat.models import Conversation, Turn, User

AT_ONCE = 50
MOST_PINNED = 100
PINNED = "Pinned"


@dataclass(frozen=True)
class Sidebar:
    """Conversations in groups, as people remember. `next` is where older ones begin, or empty; `label` is the group
    that an earlier part ended with, whose heading is there already."""

    groups: list[tuple[str, list[Conversation]]]
    next: str = ""
    label: str = ""


def sidebar(user: User) -> Sidebar:
    """The pinned ones and the newest ones. Two queries however many there are."""
    pinned = list(_listed(user, archived=False, pinned=True))
    newest = _part(_listed(user, archived=False, pinned=False))
    return Sidebar([(PINNED, pinned)] * bool(pinned) + newest.groups, newest.next)


def may_pin(user: User) -> bool:
    """Pinned ones are listed in full. Two tabs at the same instant may pin one more."""
    return user.conversations.filter(pinned=True).count() < MOST_PINNED


def older(user: User, before: str) -> Sidebar:
    """What follows a part of the list whose `next` was `before`."""
    return _part(_listed(user, archived=False, pinned=False), before)


def archive(user: User, before: str = "") -> Sidebar:
    return _part(_listed(user, archived=True), before)


def _listed(user: User, **where) -> QuerySet[Conversation]:
    """With the state of the newest answer; both tables are reached by their keys."""
    return (
        user.conversations.filter(**where)
        .annotate(state=F("active_leaf__turn__state"), finished_at=F("active_leaf__turn__finished_at"))
        .only("id", "title", "pinned", "archived", "updated_at", "read_at", "owner_id")
        .order_by("-updated_at", "-id")
    )


def _part(conversations: QuerySet[Conversation], before: str = "") -> Sidebar:
    start = _read(before)
    if start:
        at, last = start
        conversations = conversations.filter(Q(updated_at__lt=at) | Q(updated_at=at, id__lt=last))
    found = list(conversations[: AT_ONCE + 1])
    today = timezone.localdate()
    groups: dict[str, list[Conversation]] = {}
    for conversation in found[:AT_ONCE]:
        groups.setdefault(_when(conversation.updated_at, today), []).append(conversation)
    more = _place(found[AT_ONCE - 1]) if len(found) > AT_ONCE else ""
    return Sidebar(list(groups.items()), more, _when(start[0], today) if start else "")


def _place(conversation: Conversation) -> str:
    return f"{conversation.updated_at.isoformat()}_{conversation.id}"


def _read(place: str) -> tuple[datetime, uuid.UUID] | None:
    """What `_place` has written; None for anything else, which then is the beginning."""
    at, _, last = place.partition("_")
    try:
        moment, conversation_id = datetime.fromisoformat(at), uuid.UUID(last)
        # A time zone must not push it over the edge of the calendar.
        is_ours = moment.tzinfo and 1970 <= moment.astimezone(UTC).year < 9999
    except (ValueError, OverflowError):
        return None
    return (moment, conversation_id) if is_ours else None


def state_of(conversation) -> str:
    """What a row of a list of ours says about its newest answer: "answering", "unread" or nothing."""
    if conversation.state in Turn.LIVE:
        return "answering"
    ended = conversation.finished_at
    return "unread" if ended and ended > conversation.read_at else ""


def _when(moment: datetime, today: date) -> str:
    day = timezone.localtime(moment).date()
    if day >= today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    return "Last 7 days" if day > today - timedelta(days=7) else "Before"
