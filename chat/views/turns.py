import json
import uuid
from typing import cast

from django.contrib.auth import get_user
from django.contrib.auth.decorators import login_required
from django.contrib.sessions.backends.db import SessionStore
from django.http import Http404, HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.views.decorators.http import require_POST, require_safe

from chat import composer, fragments, next_messages, streams, submission, thread
from chat.http import SignedInRequest
from chat.models import Turn
from chat.relay import TICKET
from chat.streams import EntryId, data_lines
from chat.views.drafts import keep_typed
from chat.views.messages import refuse
from chat.views.next_messages import followed


@require_safe
def turn_stream(request: HttpRequest, turn_id: uuid.UUID) -> HttpResponse:
    """The live text of a turn, as server-sent events. It only listens: nothing is ever started from here.

    Django checks the owner, renders what is already over, and lets go of the database. For a live turn the answer
    is a ticket in a header, which `chat.relay` takes off and honours.
    """
    if not request.user.is_authenticated:
        raise Http404
    turn = get_object_or_404(request.user.turns, id=turn_id)
    csrf_token = get_token(request)
    response = HttpResponse(content_type="text/event-stream; charset=utf-8", headers={"X-Accel-Buffering": "no"})
    if not turn.is_live:
        response.content = final_message(turn, csrf_token)
        return response
    after = EntryId.read(request.headers.get("Last-Event-ID") or request.GET.get("after", ""))
    session = request.session.session_key
    ticket = {"turn": str(turn.id), "session": session, "after": str(after), "csrf_token": csrf_token}
    response.headers[TICKET] = json.dumps(ticket)
    return response


@login_required
@require_POST
def turn_stop(request: SignedInRequest, turn_id: uuid.UUID) -> HttpResponse:
    """Stop, at whatever moment. A queued turn ends here; a running one is told, and its worker ends it."""
    turn = get_object_or_404(request.user.turns.select_related("conversation"), id=turn_id)
    if submission.stop(Turn.objects.filter(id=turn.id)):
        next_messages.go_on(turn.conversation_id)
        streams.end(turn.id, turn.attempt)
    if request.htmx:
        return HttpResponse(status=204)
    # The whole form came along, and its page is loaded anew.
    if "text" in request.POST and (problem := keep_typed(request, turn.conversation)):
        return refuse(request, turn.conversation, problem, 422)
    return redirect(turn.conversation)


def final_message(turn: Turn, csrf_token: str) -> bytes:
    """The end of a stream: the whole answer from the database, then `done`."""
    return data_lines(settled(turn, csrf_token)) + b"\nevent: done\ndata: 1\n\n"


def settled(turn: Turn, csrf_token: str) -> str:
    """The message as it will stay, the buttons without Stop, and what is left now."""
    [item] = thread.items([turn.reply], {turn.reply_id: turn})
    context = {
        "message": item.message,
        "turn": item.turn,
        "place": item.place,
        "conversation": turn.conversation,
        "next": next_messages.of(turn.conversation),
        **followed(turn),
        "may_be_named": turn.question.parent_id is None,
        "standing": composer.standing(turn.user),
        "csrf_token": csrf_token,
    }
    return render_to_string("chat/conversation.html#settled", context)


def checkpoint(turn: Turn) -> bytes:
    """Everything that the database has of a running turn, as one message that brings it all afresh."""
    [item] = thread.items([turn.reply], {turn.reply_id: turn})
    shown = cast(thread.TurnOnPage, item.turn)
    html = fragments.notice(turn.id, shown.notice, shown.waiting_since)
    html += fragments.thinking(turn.id, shown.thinking, afresh=True)
    html += fragments.text(turn.id, [shown.done_html], shown.open_html, afresh=True)
    return b"id: " + shown.stream_after.encode() + b"\n" + data_lines(html) + b"\n"


def may_follow(turn_id: str, session_key: str) -> Turn | None:
    """The turn, if that session may still read it. Asked again and again while a stream is open.

    The same rules as for a request: signed out, deactivated or with a new password, a session is nobody's.
    """
    request = HttpRequest()
    request.session = SessionStore(session_key)
    user = get_user(request)
    if not user.is_authenticated:
        return None
    return (
        Turn.objects.filter(id=turn_id, user=user.pk)
        .select_related("question", "reply", "conversation", "user")
        .first()
    )
