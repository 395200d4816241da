"""One message that waits for the answer that is being written, and is sent by itself when that is done.

The row is the truth. The worker that ended the answer sends it, or the sweeper where that worker died: both lock the
conversation, and the second finds nothing to do.
"""

import uuid
from collections.abc import Iterable, Sequence

from django.db import transaction

from chat import drafts, files, submission
from chat.models import Attachment, Conversation, NextMessage, Turn
from chat.models.conversation import ClientIdReused, FileTaken


class Occupied(Exception):
    """One message waits already, and it is another one."""


def of(conversation: Conversation) -> NextMessage | None:
    return NextMessage.objects.filter(conversation=conversation).select_related("waits_for__reply").first()


def following(turn: Turn) -> Turn | None:
    """The turn that was asked by itself when this one was done."""
    return Turn.objects.filter(asked_after=turn.id).select_related("question", "reply", "conversation").first()


@transaction.atomic
def queue(
    conversation: Conversation,
    text: str,
    client_id: uuid.UUID,
    *,
    attachments: Sequence[str] = (),
    seen: str = "",
    **choice,
) -> NextMessage | None:
    """Let a message wait for the live answer. The same client_id again is the same message.

    `choice` are further columns (model, effort, …). None if no answer is being written any more; raises Occupied,
    ClientIdReused, or TakenBack of drafts.
    """
    drafts.lock(conversation.owner, conversation)
    if there := of(conversation):
        if there.client_id != client_id:
            raise Occupied
        if there.text != text or not Attachment.objects.are_among(attachments, there.attachments):
            raise ClientIdReused
        return there
    live = conversation.live_turn
    if live is None:
        return None
    drafts.sent(conversation.owner, conversation, text, attachments, client_id=client_id, seen=seen)
    return NextMessage.objects.create(
        conversation=conversation,
        waits_for=live,
        text=text,
        client_id=client_id,
        attachments=list(attachments),
        **choice,
    )


@transaction.atomic
def go_on(conversation_id: uuid.UUID) -> None:
    """Send what waits for an answer that has ended, or hold it back if that did not end well."""
    locked = Conversation.objects.select_for_update(no_key=True, of=("self",)).select_related("owner")
    conversation = locked.filter(id=conversation_id).first()
    waiting = of(conversation) if conversation else None
    if conversation is None or waiting is None or waiting.held_back or waiting.waits_for.is_live:
        return
    if waiting.waits_for.state != Turn.State.DONE:
        _update(waiting, held_back=waiting.waits_for.state)
        return
    if not conversation.owner.is_active:
        _update(waiting, held_back="inactive")
        return
    if another := conversation.live_turn:
        _update(waiting, waits_for=another)
        return
    attachments = files.chosen(conversation.owner, waiting.attachments)
    if len(attachments) < len(waiting.attachments):
        _update(waiting, held_back="file_gone")
        return
    conversation.max_searches = waiting.max_searches
    conversation.save(update_fields=["max_searches"])
    try:
        turn = submission.ask(
            conversation,
            waiting.text,
            waiting.client_id,
            model=waiting.model,
            effort=waiting.effort,
            # It was written to follow that answer, whichever branch its reader looks at now.
            after=waiting.waits_for.reply,
            attachments=attachments,
        )
    except ClientIdReused:
        _update(waiting, held_back="sent_before")
    except FileTaken:
        _update(waiting, held_back="file_gone")
    except submission.TooMuch:
        _update(waiting, held_back="too_much")
    except submission.NotOffered:
        _update(waiting, held_back="not_offered")
    else:
        Turn.objects.filter(id=turn.id).update(asked_after=waiting.waits_for)
        waiting.delete()


def forgotten() -> Iterable[uuid.UUID]:
    """Conversations in which a message waits for an answer that has ended: whoever ended it died before `go_on`."""
    waiting = NextMessage.objects.filter(held_back="").exclude(waits_for__state__in=Turn.LIVE)
    return waiting.values_list("conversation_id", flat=True)


@transaction.atomic
def withdraw(
    conversation: Conversation,
    client_id: uuid.UUID | None,
    text: str,
    attachments: Sequence[str],
    *,
    composer: uuid.UUID | None = None,
    seen: str = "",
) -> NextMessage | None:
    """Take the message of this client_id back into the composer, above what stands there now. None if it does not wait
    any more."""
    waiting = _locked(conversation, client_id)
    if waiting:
        both = "\n\n".join(part for part in (waiting.text, text) if part)
        every = [*waiting.attachments, *attachments]
        drafts.take_back(conversation, waiting, both, every, client_id=composer, seen=seen)
        waiting.delete()
    return waiting


@transaction.atomic
def remove(conversation: Conversation, client_id: uuid.UUID | None, *, composer: uuid.UUID | None = None) -> bool:
    """Delete the message of this client_id. False if it does not wait any more."""
    waiting = _locked(conversation, client_id)
    if waiting:
        drafts.note_withdrawn(conversation, waiting, client_id=composer)
        waiting.delete()
    return waiting is not None


def _locked(conversation: Conversation, client_id: uuid.UUID | None) -> NextMessage | None:
    """The one that somebody has seen, and no other one that has taken its place; nobody sends it meanwhile."""
    drafts.lock(conversation.owner, conversation)
    waiting = NextMessage.objects.filter(conversation=conversation)
    return waiting.filter(client_id=client_id).first() if client_id else None


def _update(waiting: NextMessage, **fields) -> None:
    NextMessage.objects.filter(id=waiting.id).update(**fields)
