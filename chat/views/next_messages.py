"""The message that waits for the end of an answer: looked for, taken back, removed."""

import uuid

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from chat import files, next_messages, thread
from chat.forms import DraftForm
from chat.http import SignedInRequest
from chat.ids import as_uuid
from chat.models import Conversation, Turn
from chat.views.drafts import keep_typed
from chat.views.messages import refuse
from chat.views.uploads import enclosed

SENT = "Too late: it was sent already, and nothing was changed. Its answer can be stopped."
GONE = "It did not wait any more: in another tab it was edited or removed. Nothing was changed here."


@login_required
@require_safe
def next_message(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    """What became of it, for a page on which the answer before it has ended: 204 while nobody has looked after it."""
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    waiting = next_messages.of(conversation)
    if waiting and not waiting.held_back:
        return HttpResponse(status=204)
    ended = as_uuid(request.GET.get("after"))
    before = conversation.turns.filter(id=ended).first() if ended else None
    context = {"conversation": conversation, "next": waiting, **followed(before)}
    return render(request, "chat/_next.html#followed", context)


@login_required
@require_POST
def next_message_withdrawal(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    """Back into the composer, above what stands there."""
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    form = DraftForm(request.POST)
    brought = enclosed(request)
    words = "" if form.is_valid() else form.first_error
    if (words or brought.problem) and not request.htmx:
        return refuse(request, conversation, words or brought.problem, 422)
    # With htmx what is too long to be kept stays in the box all the same.
    fields = form.cleaned_data
    waiting = next_messages.withdraw(
        conversation,
        fields.get("waiting"),
        fields.get("text", ""),
        [str(file.id) for file in brought.unsent],
        composer=fields.get("client_id"),
        seen=fields.get("seen", ""),
    )
    if waiting is None:
        return _gone(request, conversation, form)
    if not request.htmx:
        return redirect(conversation)
    back = files.unsent(request.user, waiting.attachments)
    context = {"conversation": conversation, "withdrawn": waiting, "files": back}
    return render(request, "chat/_next.html#withdrawn", context)


@login_required
@require_POST
def next_message_deletion(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    form = DraftForm(request.POST)
    form.is_valid()
    if not next_messages.remove(
        conversation, form.cleaned_data.get("waiting"), composer=form.cleaned_data.get("client_id")
    ):
        return _gone(request, conversation, form)
    if request.htmx:
        return render(request, "chat/_next.html#removed", {"conversation": conversation})
    # The whole form came along, and its page is loaded anew.
    if "text" in request.POST and (problem := keep_typed(request, conversation)):
        return refuse(request, conversation, problem, 422)
    return redirect(conversation)


def followed(before: Turn | None) -> dict:
    """For a template: the question that was asked by itself after a turn, its answer, and the turn if it is live."""
    turn = next_messages.following(before) if before else None
    if turn is None:
        return {"following": [], "live_turn": None}
    items = thread.items([turn.question, turn.reply], {turn.reply_id: turn})
    return {"following": items, "live_turn": turn if turn.is_live else None}


def _gone(request: SignedInRequest, conversation: Conversation, form: DraftForm) -> HttpResponse:
    """The message that was to be edited or removed does not wait any more: say what is true, and change nothing."""
    waiting = form.cleaned_data.get("waiting")
    sent = conversation.turns.filter(client_id=waiting).exists() if waiting else False
    words = SENT if sent else GONE
    if not request.htmx:
        return refuse(request, conversation, words, 409)
    live = conversation.live_turn
    context = {"conversation": conversation, "words": words, "sent": sent, "live_turn": live}
    return render(request, "chat/_next.html#gone", {**context, "next": next_messages.of(conversation)})
