"""What is done with a conversation from the list of them: rename, pin, archive; and the rest of that list."""

import uuid

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models.functions import Now
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from chat import sidebar
from chat.http import SignedInRequest, back
from chat.models import Conversation


@login_required
@require_safe
def conversation_menu(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    """All that can be done with it. Asked for when it is opened: fifty menus would be most of a page."""
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    context = {"chosen": conversation, "next": request.GET.get("next", "")}
    return render(request, "chat/menu.html#menu" if request.htmx else "chat/menu.html", context)


@login_required
@require_POST
def conversation_place(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    """Where it stands in the list: `pinned` or `archived`, each "yes" or "no"; what is not named stays."""
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    named = [name for name in ("pinned", "archived") if name in request.POST]
    if request.POST.get("pinned") == "yes" and not (conversation.pinned or sidebar.may_pin(request.user)):
        messages.error(request, f"{sidebar.MOST_PINNED} chats are pinned already. Unpin one of them first.")
        named.remove("pinned")
    # Not `save`: whoever moves a conversation does not make it newer.
    Conversation.objects.filter(id=conversation.id).update(**{name: request.POST[name] == "yes" for name in named})
    return redirect(back(request, conversation.get_absolute_url()))


@login_required
@require_POST
def conversation_reading(request: SignedInRequest, conversation_id: uuid.UUID) -> HttpResponse:
    """Its owner sees the newest answer now. A script says so; without scripts nothing is marked as new."""
    conversation = get_object_or_404(request.user.conversations, id=conversation_id)
    Conversation.objects.filter(id=conversation.id).update(read_at=Now())
    return HttpResponse(status=204)


@login_required
@require_safe
def older_conversations(request: SignedInRequest) -> HttpResponse:
    """The next part of the list, behind `?before=`; for htmx as rows of the sidebar."""
    part = sidebar.older(request.user, request.GET.get("before", ""))
    template = "chat/_sidebar.html#rows" if request.htmx else "chat/list.html"
    return render(request, template, {"sidebar": part, "heading": "Older conversations", "more": "older"})


@login_required
@require_safe
def archive(request: SignedInRequest) -> HttpResponse:
    part = sidebar.archive(request.user, request.GET.get("before", ""))
    return render(request, "chat/list.html", {"sidebar": part, "heading": "Archived conversations", "more": "archive"})
