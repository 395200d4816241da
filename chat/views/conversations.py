import uuid

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from chat import catalogue, streams, submission, thread
from chat.forms import ComposerForm, ConversationForm, TitleForm
from chat.http import SignedInRequest, back
from chat.models import Conversation
from chat.models.conversation import ClientIdReused, FileTaken
from chat.views.messages import REUSED, begin, refuse
from chat.views.page import page
from chat.views.uploads import MISSING, brings_files, enclosed


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return redirect("conversation-list")


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def conversation_list(request: SignedInRequest) -> HttpResponse:
    """The page of a new conversation; POST makes it, with its first message if there is one."""
    if request.method != "POST":
        return render(request, "chat/conversation.html", page(request, None, text=request.GET.get("text", "")))
    if "text" not in request.POST and not brings_files(request):
        conversation = request.user.conversations.create(model=catalogue.default().id)
        return redirect(conversation)
    brought = enclosed(request)
    form = ComposerForm(request.POST, attachments=brought.files)
    if words := brought.problem or (not form.is_valid() and form.first_error):
        return refuse(request, None, words, 422)
    try:
        turn = begin(request, form, form.cleaned_data["client_id"] or uuid.uuid4())
        brought.drop_copies(turn.question.attachment_ids)
    except ClientIdReused:
        return refuse(request, None, REUSED, 409)
    except FileTaken:
        return refuse(request, None, MISSING, 409)
    except submission.TooMuch as words:
        return refuse(request, None, str(words), 422)
    if request.htmx:
        # A redirect would be followed by fetch, and its page swapped into this one.
        return HttpResponse(headers={"HX-Redirect": turn.conversation.get_absolute_url()})
    return redirect(turn.conversation)


@login_required
@require_safe
def conversation(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    chosen = get_object_or_404(request.user.conversations, id=conversation_id)
    if request.htmx and (way := next((way for way in ("before", "after") if way in request.GET), "")):
        more = thread.asked_for(chosen, request.GET)
        context = {"conversation": chosen, "stretch": more, "thread": more.items}
        return render(request, f"chat/_thread.html#{way}", context)
    return render(request, "chat/conversation.html", page(request, chosen, text=request.GET.get("text", "")))


@login_required
@require_POST
def conversation_settings(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    form = ConversationForm(request.POST, instance=conversation)
    if not form.is_valid():
        # The form has written into its instance: the page shows the conversation as it is.
        context = page(request, get_object_or_404(request.user.conversations, id=conversation_id))
        return render(request, "chat/conversation.html", {**context, "settings": form, "reloads": False}, status=422)
    Conversation.objects.filter(id=conversation.id).update(**form.cleaned_data)
    return redirect(conversation)


@login_required
@require_POST
def conversation_deletion(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    """Messages go for good; what they cost stays in the books."""
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    its_page, page_before = conversation.get_absolute_url(), back(request, "")
    live = conversation.live_turn
    conversation.delete()
    if live:
        streams.end(live.id, live.attempt)  # whoever follows the answer in another tab asks again, and is told
    return redirect("conversation-list" if page_before.startswith(its_page) else page_before or "conversation-list")


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def conversation_title(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    """The title alone, for a page whose conversation is being given one; POST gives it one."""
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    if request.method == "POST":
        form = TitleForm(request.POST, instance=conversation)
        if form.is_valid():
            Conversation.objects.filter(id=conversation.id).update(title=form.cleaned_data["title"])
        else:
            messages.warning(request, "A title has at most 200 characters. The old one stays.")
        return redirect(back(request, conversation.get_absolute_url()))
    return render(request, "chat/conversation.html#titled", {"conversation": conversation})
