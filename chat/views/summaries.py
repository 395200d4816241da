import json
import uuid

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from chat import summaries
from chat.http import SignedInRequest
from chat.models import Conversation, Summary
from chat.views.messages import refuse

NOTHING = "There is nothing older to summarise here yet. The newest messages are always sent as they are."

TOO_LONG = (
    "This chat is too long to be summarised at once. Summarise its older turns first, and then start a new chat with "
    "a summary."
)


@login_required
@require_POST
def summary_list(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    """Ask for a summary of the older turns, or (`begins=chat`) of all of them for a new chat. A worker writes it."""
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    try:
        summary = summaries.ask_for(conversation, begins_a_chat=request.POST.get("begins") == "chat")
    except summaries.TooLong:
        return refuse(request, conversation, TOO_LONG, 409)
    if summary is None:
        return refuse(request, conversation, NOTHING, 409)
    if not request.htmx:
        return redirect(conversation)
    return _shown(request, conversation, **({"watched": summary} if summary.is_live else {"changed": summary}))


@login_required
@require_safe
def summary(request: SignedInRequest, summary_id: uuid.UUID) -> HttpResponse:
    """For a page that waits for it: nothing while it is being written, then what came of it."""
    found = _summary(request, summary_id)
    if found.is_live:
        return HttpResponse(status=204)
    if found.successor:
        return HttpResponse(headers={"HX-Redirect": found.successor.get_absolute_url()})
    return _shown(request, found.conversation, new=found if found.state == Summary.State.DONE else None)


@login_required
@require_POST
def summary_stop(request: SignedInRequest, summary_id: uuid.UUID) -> HttpResponse:
    found = _summary(request, summary_id)
    summaries.stop(found)
    if not request.htmx:
        return redirect(found.conversation)
    return _shown(request, found.conversation)


@login_required
@require_POST
def summary_use(request: SignedInRequest, summary_id: uuid.UUID) -> HttpResponse:
    """Whether Claude reads it, or the messages themselves again."""
    found = _summary(request, summary_id)
    found.in_use = request.POST.get("in_use") == "1"
    Summary.objects.filter(id=found.id).update(in_use=found.in_use)
    if not request.htmx:
        return redirect(_place(found))
    return _shown(request, found.conversation, changed=found)


def _summary(request: SignedInRequest, summary_id: uuid.UUID) -> Summary:
    mine = Summary.objects.filter(conversation__owner=request.user)
    return get_object_or_404(mine.select_related("conversation__owner", "record", "successor"), id=summary_id)


def _place(summary: Summary) -> str:
    return f"{summary.conversation.get_absolute_url()}?message={summary.last_id}#summary-{summary.id}"


def _shown(request: SignedInRequest, conversation: Conversation, **fragments: Summary | None) -> HttpResponse:
    """What has changed in the thread; and the line below the composer asks for its own news."""
    response = render(request, "chat/_summary.html#shown", {"conversation": conversation, **fragments})
    # Whoever asked may have been replaced by the answer, and what happens to it is heard by nobody.
    response.headers["HX-Trigger"] = json.dumps({"foresee": {"target": "body"}})
    return response
