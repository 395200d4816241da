import uuid

from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from chat import catalogue, drafts, next_messages, submission, thread
from chat.composer import searches
from chat.forms import ComposerForm
from chat.http import SignedInRequest
from chat.models import Conversation, Message, NextMessage, Turn
from chat.models.conversation import ClientIdReused, FileTaken, LiveTurnExists
from chat.views.page import page
from chat.views.uploads import MISSING, brings_files, enclosed

BUSY = "An answer is still being written here. Your text stays; send it when the answer is there, or press Stop."
OCCUPIED = "One message waits already. Your text stays; send it when that one is sent, or edit or remove that one."
REUSED = "What stood here before was sent already, and this is another text. It stays in the box: press Send once more."
TAKEN_BACK = "This message was taken back before it was sent, so it is not sent twice. Press Send once more to send it."


@login_required
@require_POST
def message_list(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    """Ask: a question, a reply to be written, and the worker's bell. While an answer is being written, what comes from
    the composer waits for its end."""
    conversation = get_object_or_404(request.user.conversations.select_related("owner"), id=conversation_id)
    brought = enclosed(request)
    form = ComposerForm(request.POST, attachments=brought.files)
    if words := brought.problem or (not form.is_valid() and form.first_error):
        return refuse(request, conversation, words, 422)
    client_id = form.cleaned_data["client_id"] or uuid.uuid4()
    try:
        # An answer may end between the two, and another begin.
        for _ in range(3):
            try:
                turn = _start(conversation, form, client_id, drafted_in=conversation)
                brought.drop_copies(turn.question.attachment_ids)
                is_written = form.cleaned_data["composer"]
                return accepted(request, conversation, turn, [turn.question, turn.reply], is_written=is_written)
            except LiveTurnExists:
                if not form.cleaned_data["composer"]:
                    break
            if waiting := _queue(conversation, form, client_id):
                brought.drop_copies(waiting.attachments)
                return queued(request, conversation, waiting, seen=form.cleaned_data["after"])
    except ClientIdReused:
        return refuse(request, conversation, REUSED, 409)
    except drafts.TakenBack:
        return refuse(request, conversation, TAKEN_BACK, 409)
    except next_messages.Occupied:
        return refuse(request, conversation, OCCUPIED, 409)
    except FileTaken:
        return refuse(request, conversation, MISSING, 409)
    except submission.NotOffered as what:
        return refuse(request, conversation, what.words, 422)
    except submission.TooMuch as words:
        return refuse(request, conversation, str(words), 422)
    return refuse(request, conversation, BUSY, 409)


def begin(request: SignedInRequest, form: ComposerForm, client_id: uuid.UUID) -> Turn:
    """A conversation with its first turn, both or none; or the turn that was begun with this client_id before."""

    def sent_before() -> Turn | None:
        return request.user.turns.filter(client_id=client_id).select_related("conversation").first()

    if (sent := sent_before()) is None:
        try:
            with transaction.atomic():
                drafts.lock(request.user, None)
                new = request.user.conversations.create(model=catalogue.default().id)
                return _start(new, form, client_id, drafted_in=None)
        except ClientIdReused:
            # The other click of a double one was faster. Ours is rolled back, its conversation with it.
            if (sent := sent_before()) is None:
                raise
    return _start(sent.conversation, form, client_id, drafted_in=None)


def _start(
    conversation: Conversation, form: ComposerForm, client_id: uuid.UUID, *, drafted_in: Conversation | None
) -> Turn:
    fields = form.cleaned_data
    if fields["composer"]:
        conversation.max_searches = searches(wanted=fields["search"])

    def then(turn: Turn) -> None:
        if fields["composer"]:
            Conversation.objects.filter(id=conversation.id).update(max_searches=conversation.max_searches)
            drafts.sent(turn.user, drafted_in, fields["text"], form.file_ids, client_id=client_id, seen=fields["seen"])

    return submission.ask(
        conversation,
        fields["text"],
        client_id,
        model=fields["model"],
        effort=fields["effort"],
        after=_answer(conversation, fields["after"]),
        then=then,
        attachments=form.attachments,
    )


def _answer(conversation: Conversation, message_id: uuid.UUID | None) -> Message | None:
    """What the question follows; None for the end of the active branch."""
    answers = conversation.messages.filter(role=Message.Role.ASSISTANT)
    return get_object_or_404(answers, id=message_id) if message_id else None


def _queue(conversation: Conversation, form: ComposerForm, client_id: uuid.UUID) -> NextMessage | None:
    fields = form.cleaned_data
    return next_messages.queue(
        conversation,
        fields["text"],
        client_id,
        model=fields["model"],
        effort=fields["effort"],
        max_searches=searches(wanted=fields["search"]),
        attachments=form.file_ids,
        seen=fields["seen"],
    )


def accepted(
    request: SignedInRequest,
    conversation: Conversation,
    turn: Turn,
    messages: list,
    *,
    instead_of: Message | None = None,
    is_written: bool = False,
) -> HttpResponse:
    """The answer to a POST that began a turn: the new messages for htmx, the whole page otherwise.

    `instead_of` and everything below it make room for them. What `is_written` in a composer follows the newest answer,
    unless its page has not seen that.
    """
    if not request.htmx:
        return redirect(messages[0] if instead_of else conversation)
    items = thread.items(messages, {turn.reply_id: turn})
    context = {
        "conversation": conversation,
        "thread": items,
        "unseen": items[0].place if is_written and items[0].place.count > 1 else None,
        "live_turn": turn if turn.is_live else None,
        "composer": {"client_id": uuid.uuid4()},
        "instead_of": instead_of,
    }
    return render(request, "chat/conversation.html#accepted", context)


def queued(
    request: SignedInRequest, conversation: Conversation, waiting: NextMessage, *, seen: uuid.UUID | None
) -> HttpResponse:
    """The answer to a POST whose message waits for the end of an answer. With it comes that answer, and whatever else
    was said in another tab after the answer that this page has `seen` last."""
    if not request.htmx:
        return redirect(conversation)
    unseen = thread.unseen(conversation, seen, waiting.waits_for.reply_id)
    if unseen is None:
        return HttpResponse(headers={"HX-Redirect": conversation.get_absolute_url()})
    context = {"conversation": conversation, "next": waiting, "live_turn": waiting.waits_for, "thread": unseen}
    return render(request, "chat/_next.html#queued", {**context, "composer": {"client_id": uuid.uuid4()}})


def refuse(request: SignedInRequest, conversation: Conversation | None, words: str, status: int) -> HttpResponse:
    """Words where the person is. The text stays: in the box with htmx, by sending it back without."""
    if request.htmx:
        return render(request, "chat/conversation.html#refused", {"composer": {"error": words}}, status=status)
    attached = enclosed(request).unsent if brings_files(request) else None
    text = request.POST.get("text", "")
    context = page(request, conversation, text=text, error=words, chosen=request.POST, attached=attached)
    return render(request, "chat/conversation.html", context, status=status)
