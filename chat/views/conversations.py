import uuid

from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from chat import catalogue, submission, thread
from chat.forms import ComposerForm, ConversationForm
from chat.http import SignedInRequest
from chat.models import Conversation, Turn
from chat.models.conversation import ClientIdReused, LiveTurnExists

BUSY = "An answer is still being written here. Your text stays; send it when the answer is there, or press Stop."
REUSED = "This message was sent before, with another text. Reload the page to send a new one; your text stays here."


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return redirect("conversation-list")


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def conversation_list(request: SignedInRequest) -> HttpResponse:
    """The page of a new conversation; POST makes it, with its first message if there is one."""
    if request.method != "POST":
        return render(request, "chat/conversation.html", _page(request, None, text=request.GET.get("text", "")))
    if not request.POST.get("text"):
        conversation = request.user.conversations.create(model=catalogue.default().id)
        return redirect(conversation)
    form = ComposerForm(request.POST)
    if not form.is_valid():
        return refuse(request, None, form.first_error, 422)
    try:
        turn = _begin(request, form, form.cleaned_data["client_id"] or uuid.uuid4())
    except ClientIdReused:
        return refuse(request, None, REUSED, 409)
    if request.htmx:
        # A redirect would be followed by fetch, and its page swapped into this one.
        return HttpResponse(headers={"HX-Redirect": turn.conversation.get_absolute_url()})
    return redirect(turn.conversation)


@login_required
@require_safe
def conversation(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    chosen = get_object_or_404(request.user.conversations, id=conversation_id)
    return render(request, "chat/conversation.html", _page(request, chosen, text=request.GET.get("text", "")))


@login_required
@require_POST
def message_list(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    """Ask: a question, a reply to be written, and the worker's bell."""
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    form = ComposerForm(request.POST)
    if not form.is_valid():
        return refuse(request, conversation, form.first_error, 422)
    try:
        turn = _start(conversation, form, form.cleaned_data["client_id"] or uuid.uuid4())
    except LiveTurnExists:
        return refuse(request, conversation, BUSY, 409)
    except ClientIdReused:
        return refuse(request, conversation, REUSED, 409)
    return accepted(request, conversation, turn, [turn.question, turn.reply])


@login_required
@require_POST
def conversation_settings(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    form = ConversationForm(request.POST, instance=conversation)
    if not form.is_valid():
        words = next(str(errors[0]) for errors in form.errors.values())
        return refuse(request, get_object_or_404(request.user.conversations, id=conversation_id), words, 422)
    Conversation.objects.filter(id=conversation.id).update(**form.cleaned_data)
    return redirect(conversation)


@login_required
@require_POST
def conversation_deletion(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    """Messages go for good; what they cost stays in the books."""
    get_object_or_404(request.user.conversations, id=conversation_id).delete()
    return redirect("conversation-list")


@login_required
@require_safe
def conversation_title(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    """The title alone, for a page whose conversation is being given one."""
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    return render(request, "chat/conversation.html#titled", {"conversation": conversation})


def accepted(
    request: SignedInRequest, conversation: Conversation, turn: Turn, messages: list, *, instead_of: Turn | None = None
) -> HttpResponse:
    """The answer to a POST that began a turn: the new messages for htmx, the whole page otherwise.

    The reply of `instead_of` makes room for the new one.
    """
    if not request.htmx:
        return redirect(conversation)
    context = {
        "conversation": conversation,
        "thread": thread.items(messages, {turn.reply_id: turn}),
        "live_turn": turn if turn.is_live else None,
        "composer": {"client_id": uuid.uuid4()},
        "instead_of": instead_of,
    }
    return render(request, "chat/conversation.html#accepted", context)


def refuse(request: SignedInRequest, conversation: Conversation | None, words: str, status: int) -> HttpResponse:
    """Words where the person is. The text stays: in the box with htmx, by sending it back without."""
    if request.htmx:
        return render(request, "chat/conversation.html#refused", {"composer": {"error": words}}, status=status)
    page = _page(request, conversation, text=request.POST.get("text", ""), error=words)
    return render(request, "chat/conversation.html", page, status=status)


def _begin(request: SignedInRequest, form: ComposerForm, client_id: uuid.UUID) -> Turn:
    """A conversation with its first turn, both or none; or the turn that was begun with this client_id before."""

    def sent_before() -> Turn | None:
        return request.user.turns.filter(client_id=client_id).select_related("conversation").first()

    if (sent := sent_before()) is None:
        try:
            with transaction.atomic():
                return _start(request.user.conversations.create(model=catalogue.default().id), form, client_id)
        except ClientIdReused:
            # The other click of a double one was faster. Ours is rolled back, its conversation with it.
            if (sent := sent_before()) is None:
                raise
    return _start(sent.conversation, form, client_id)


def _start(conversation: Conversation, form: ComposerForm, client_id: uuid.UUID) -> Turn:
    fields = form.cleaned_data
    return submission.ask(conversation, fields["text"], client_id, model=fields["model"], effort=fields["effort"])


def _page(request: SignedInRequest, conversation: Conversation | None, *, text: str = "", error: str = "") -> dict:
    action = reverse("message-list", args=[conversation.id]) if conversation else reverse("conversation-list")
    shown = thread.items(conversation.branch()) if conversation else []
    live = next((item.turn for item in shown if item.turn and item.turn.is_live), None)
    return {
        "conversation": conversation,
        "thread": shown,
        "live_turn": live,
        "sidebar": thread.sidebar(request.user),
        "composer": thread.composer(action, conversation, text=text, error=error),
        "standing": thread.standing(request.user),
    }
