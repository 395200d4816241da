import time
import uuid
from contextlib import suppress

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from chat import drafts, files
from chat.forms import DraftForm
from chat.http import SignedInRequest
from chat.models import Conversation
from chat.views.messages import refuse
from chat.views.uploads import enclosed


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def draft(request: SignedInRequest, conversation_id: uuid.UUID | None = None) -> HttpResponse:
    """What stands in the composer of a conversation, or of a new chat; POST keeps it, while somebody types.

    205 says that it was sent meanwhile, so that there is nothing to keep, and brings a client id for what is not that.
    Without JavaScript whoever writes looks again for an answer by a button, and gets the page with what they have
    written.
    """
    conversation = get_object_or_404(request.user.conversations, id=conversation_id) if conversation_id else None
    if request.method != "POST":
        there = drafts.of(request.user, conversation)
        attached = [str(file.id) for file in files.unsent(request.user, there.attachments)]
        return JsonResponse({"text": there.text, "attachments": attached, "seen": there.mark})
    if "look" in request.POST:
        if problem := keep_typed(request, conversation):
            return refuse(request, conversation, problem, 422)
        page = conversation.get_absolute_url() if conversation else reverse("conversation-list")
        return redirect(f"{page}?write=1")
    form = DraftForm(request.POST)
    if not form.is_valid():
        return HttpResponse(form.first_error, status=422, content_type="text/plain; charset=utf-8")
    fields = form.cleaned_data
    try:
        drafts.keep(
            request.user,
            conversation,
            fields["text"],
            fields["attachments"],
            client_id=fields["client_id"],
            edition=fields["edition"] or 0,
            seen=fields["seen"],
        )
    except drafts.Sent:
        # The page may have come back by the browser's button. What is typed on it is another message.
        return HttpResponse(status=205, headers={"X-Client-Id": str(uuid.uuid4())})
    return HttpResponse(status=204)


def keep_typed(request: SignedInRequest, conversation: Conversation | None) -> str:
    """Without JavaScript: keep what came along in a composer's form with another button than Send. Words if it cannot
    be kept."""
    form = DraftForm(request.POST)
    if not form.is_valid():
        return form.first_error
    brought = enclosed(request)
    with suppress(drafts.Sent):
        drafts.keep(
            request.user,
            conversation,
            form.cleaned_data["text"],
            [str(file.id) for file in brought.unsent],
            client_id=form.cleaned_data["client_id"],
            edition=time.time_ns() // 1_000_000,
            seen=form.cleaned_data["seen"],
        )
    return brought.problem
