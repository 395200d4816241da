"""What stands in a composer and is not sent yet. The browser keeps nothing of it.

Nothing that was typed in one tab or device is lost by what another one does: a text takes the place of another only
where its page has had that in its box (`seen`), or where it begins with all of it.
"""

import uuid
from collections.abc import Sequence

from django.db import transaction

from chat.models import Conversation, Draft, NextMessage, Turn, User

MOST = 10  # side by side in one place; the oldest makes room


class Sent(Exception):
    """It was sent in the meantime, so there is nothing left to keep."""


class TakenBack(Exception):
    """The message waited and was taken back or removed: that its request comes once more sends nothing."""


def of(person: User, conversation: Conversation | None) -> Draft:
    """What stands in the composer of a conversation or of a new chat: of several texts the newest. An unsaved, empty
    one if nothing does."""
    texts = _of(person, conversation).exclude(text="", attachments=[])
    return texts.first() or Draft(user=person, conversation=conversation)


@transaction.atomic
def keep(
    person: User,
    conversation: Conversation | None,
    text: str,
    attachments: Sequence[str],
    *,
    client_id: uuid.UUID | None = None,
    edition: int = 0,
    seen: str = "",
) -> None:
    """Keep what stands there now. Raises Sent.

    Of one text the last write wins, except between the requests of one page (of one `client_id`): what it says when it
    is left may overtake what it said before, and `edition` tells which is newer.
    """
    lock(person, conversation)
    if client_id and _was_sent(person, client_id):
        raise Sent
    own = _of(person, conversation).filter(client_id=client_id).first()
    if client_id and own and own.edition >= edition:
        return
    _put(person, conversation, text, attachments, client_id=client_id, edition=edition, seen=seen)


def take_back(
    conversation: Conversation, waiting: NextMessage, text: str, attachments: Sequence[str], *, client_id, seen: str
) -> None:
    """Keep what stands in a composer now that a waiting message is back in it: for the transaction that deletes the
    message, and has the lock."""
    own = _of(conversation.owner, conversation).filter(client_id=client_id).first()
    edition = own.edition if own else 0  # its page goes on counting where it was
    _put(conversation.owner, conversation, text, attachments, client_id=client_id, edition=edition, seen=seen)
    note_withdrawn(conversation, waiting, client_id=client_id)


def note_withdrawn(conversation: Conversation, waiting: NextMessage, *, client_id) -> None:
    """That this message is not to wait once more, if its request is repeated: for the same transaction."""
    own = _of(conversation.owner, conversation).filter(client_id=client_id).first()
    draft = own or Draft(user=conversation.owner, conversation=conversation, client_id=client_id)
    draft.withdrawn = waiting.client_id
    draft.save()


def sent(
    person: User, conversation: Conversation | None, text: str, attachments: Sequence[str], *, client_id, seen: str
) -> None:
    """For the transaction that has sent it, or lets it wait, and has the lock. Raises TakenBack."""
    there = list(_of(person, conversation))
    if any(draft.withdrawn == client_id for draft in there):
        raise TakenBack
    for draft in there:
        if draft.client_id == client_id or _goes_on_in(draft, text, attachments, seen):
            draft.delete()


def lock(person: User, conversation: Conversation | None) -> None:
    """One at a time: a text that is kept late must not come back after it was sent. Whoever makes a turn locks the
    conversation too; for a new chat there is none yet."""
    if conversation:
        Conversation.objects.select_for_update(no_key=True).get(id=conversation.id)
    else:
        User.objects.select_for_update(no_key=True).get(id=person.pk)


def _put(
    person: User,
    conversation: Conversation | None,
    text: str,
    attachments: Sequence[str],
    *,
    client_id,
    edition,
    seen: str,
) -> Draft:
    there = list(_of(person, conversation))
    own = [draft for draft in there if draft.client_id == client_id]
    before = [draft for draft in there if draft not in own and _goes_on_in(draft, text, attachments, seen)]
    draft, *rest = [*own, *before] or [Draft(user=person, conversation=conversation)]
    for each in rest:
        draft.withdrawn = draft.withdrawn or each.withdrawn
        each.delete()
    draft.text, draft.attachments, draft.client_id, draft.edition = text, list(attachments), client_id, edition
    draft.save()
    for each in _of(person, conversation)[MOST:]:
        each.delete()
    return draft


def _of(person: User, conversation: Conversation | None):
    return person.drafts.filter(conversation=conversation).order_by("-updated_at", "-id")


def _goes_on_in(draft: Draft, text: str, attachments: Sequence[str], seen: str) -> bool:
    is_in_it = text.startswith(draft.text) and set(draft.attachments) <= set(attachments)
    return draft.mark == seen or is_in_it


def _was_sent(person: User, client_id: uuid.UUID) -> bool:
    waiting = NextMessage.objects.filter(conversation__owner=person, client_id=client_id)
    return Turn.objects.filter(user=person, client_id=client_id).exists() or waiting.exists()
