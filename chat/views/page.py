"""The page of a conversation, which is also where refusals are said."""

from collections.abc import Mapping

from django.urls import reverse

from chat import composer, next_messages, sidebar, thread
from chat.http import SignedInRequest
from chat.models import Attachment, Conversation
from chat.views.foresight import asked_in, foreseen


def page(
    request: SignedInRequest,
    conversation: Conversation | None,
    *,
    text: str = "",
    error: str = "",
    chosen: Mapping | None = None,
    editing: dict | None = None,
    attached: list[Attachment] | None = None,
) -> dict:
    action = reverse("message-list", args=[conversation.id]) if conversation else reverse("conversation-list")
    shown = thread.asked_for(conversation, request.GET, editing) if conversation else None
    live = thread.live_turn(conversation, shown) if conversation and shown else None
    standing = composer.standing(request.user)
    form = composer.composer(
        request.user,
        action,
        conversation,
        text=text,
        error=error,
        chosen=chosen,
        standing=standing,
        attached=attached,
    )
    waiting = next_messages.of(conversation) if conversation else None
    coming = bool(live or (waiting and not waiting.held_back)) and not editing
    written = error or form["text"] or form["files"] or "write" in request.GET
    return {
        **foreseen(request.user, conversation, None if shown and shown.aside else asked_in(form)),
        "conversation": conversation,
        "thread": shown.items if shown else [],
        "stretch": shown,
        "editing": editing,
        "live_turn": live,
        "sidebar": sidebar.sidebar(request.user),
        "composer": form,
        "next": waiting,
        "standing": standing,
        # Without JavaScript a page is loaded again until the answer is there, but never over what somebody writes.
        "coming": coming,
        "reloads": coming and bool(not written or (shown and shown.aside)),
    }
