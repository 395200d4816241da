"""Other ways for a conversation to go: questions asked differently, answers tried again, and the way back."""

import uuid

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.html import escape
from django.views.decorators.http import require_http_methods, require_POST

from chat import catalogue, composer, fragments, submission, thread
from chat.forms import ComposerForm
from chat.http import SignedInRequest
from chat.models import Message
from chat.models.conversation import ClientIdReused, FileTaken, LiveTurnExists
from chat.views.messages import BUSY, REUSED, accepted, refuse
from chat.views.page import page
from chat.views.uploads import MISSING


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def message_siblings(request: SignedInRequest, message_id: uuid.UUID) -> HttpResponse:
    """A question asked differently: the form for it, and POST sends it. The old question stays, with all below it."""
    question = _message(request, message_id, role=Message.Role.USER)
    if request.method != "POST":
        return _form(request, question, {"text": question.text, "client_id": uuid.uuid4()})
    form = ComposerForm(request.POST, attachments=question.attachments)
    if not form.is_valid():
        return _refused(request, question, form.first_error, 422)
    conversation, fields = question.conversation, form.cleaned_data
    client_id = fields["client_id"] or uuid.uuid4()
    try:
        turn = submission.ask(conversation, fields["text"], client_id, instead_of=question)
    except LiveTurnExists:
        return _refused(request, question, BUSY, 409)
    except ClientIdReused:
        return _refused(request, question, REUSED, 409)
    except FileTaken:
        return _refused(request, question, MISSING, 409)
    except submission.NotOffered as what:
        return _refused(request, question, what.words, 422)
    return accepted(request, conversation, turn, [turn.question, turn.reply], instead_of=question)


@login_required
@require_POST
def message_selection(request: SignedInRequest, message_id: uuid.UUID) -> HttpResponse:
    """Show the branch of this message and go on from there; while an answer is being written, only look at it.

    htmx gets what is new below the fork, for the place of the sibling `shown`.
    """
    message = _message(request, message_id)
    conversation = message.conversation
    selected = conversation.select(message)
    if not request.htmx:
        return redirect(message)
    below = thread.below(conversation, message, instead_of=request.POST.get("shown")) if selected else []
    if not below:
        return HttpResponse(headers={"HX-Redirect": message.get_absolute_url()})
    last = below[-1].turn
    context = {
        "conversation": conversation,
        "thread": below,
        "live_turn": last if last and last.is_live else None,
        "instead_of": {"id": request.POST["shown"]},
    }
    return render(request, "chat/conversation.html#selected", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def turn_retries(request: SignedInRequest, turn_id: uuid.UUID) -> HttpResponse:
    """Ask the same question again, perhaps another model; GET lists them. The old answer stays, as a sibling."""
    turns = request.user.turns.select_related("conversation__owner", "question", "reply")
    turn = get_object_or_404(turns, id=turn_id)
    seen = request.GET.get("seen", "")
    if request.method != "POST":
        choices = composer.model_choices(turn.model, composer.standing(request.user))
        context = {"turn": turn, "seen": seen, "models": choices}
        return render(request, f"chat/models.html{'#choices' if request.htmx else ''}", context)
    model = request.POST.get("model", "")
    # Derived, so that a double click on the same button asks once; with the number of answers that were there when
    # the button was made, so that it can be pressed again when there is one more.
    client_id = uuid.uuid5(turn.id, f"retry {seen} {model}")
    choice = {"model": model or (turn.model if catalogue.is_offered(turn.model) else ""), "effort": turn.effort}
    try:
        again = submission.ask_again(turn.conversation, turn.question, client_id, **choice)
    except LiveTurnExists:
        return refuse(request, turn.conversation, BUSY, 409)
    except submission.NotOffered as what:
        return refuse(request, turn.conversation, what.words, 422)
    return accepted(request, turn.conversation, again, [again.reply], instead_of=turn.reply)


def _message(request: SignedInRequest, message_id: uuid.UUID, **fields) -> Message:
    mine = Message.objects.filter(conversation__owner=request.user).select_related("conversation__owner")
    return get_object_or_404(mine, id=message_id, **fields)


def _form(request: SignedInRequest, question: Message, typed: dict, status: int = 200) -> HttpResponse:
    """The form in place of the question: alone for htmx, otherwise on the page of its conversation."""
    editing = {"id": question.id, **typed}
    if request.htmx:
        return render(request, "chat/_edit.html", {"editing": editing, "message": question}, status=status)
    context = page(request, question.conversation, editing=editing)
    return render(request, "chat/conversation.html", context, status=status)


def _refused(request: SignedInRequest, question: Message, words: str, status: int) -> HttpResponse:
    """Words beside the form, and the same client id: the text stays in it."""
    if request.htmx:
        return HttpResponse(fragments.partial(f"edit-error-{question.id}", escape(words)), status=status)
    typed = {"text": request.POST.get("text", ""), "client_id": request.POST.get("client_id", ""), "error": words}
    return _form(request, question, typed, status)
