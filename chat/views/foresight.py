import uuid

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST

from chat import catalogue, summaries
from chat.composer import searches
from chat.foresight import Asked, Foresight
from chat.forms import ForesightForm
from chat.http import SignedInRequest
from chat.models import Attachment, Conversation, User
from chat.models.conversation import Effort


@login_required
@require_POST
def foresight(request: SignedInRequest, conversation_id: uuid.UUID | None = None) -> HttpResponse:
    """What the message in the box would cost. Nothing is written."""
    conversation = get_object_or_404(request.user.conversations, id=conversation_id) if conversation_id else None
    form = ForesightForm(request.POST)
    if too_long := form.errors.get("text"):
        # No refusal: nobody has sent it yet.
        return render(request, "chat/_foresight.html#figures", {"foresight": {"refusal": too_long[0]}})
    if not form.is_valid():
        return HttpResponse(status=422)
    fields = form.cleaned_data
    model = fields["model"] or (conversation.model if conversation else catalogue.default().id)
    effort = fields["effort"] or (conversation.effort if conversation else Effort.BALANCED)
    files = Attachment.objects.light().filter(id__in=fields["attachments"], owner=request.user)
    blocks = tuple(file.block for file in files) if fields["attachments"] else ()
    asked = Asked(fields["text"], model, effort, searches(wanted=fields["search"]), blocks)
    return render(request, "chat/_foresight.html#figures", foreseen(request.user, conversation, asked))


def foreseen(person: User, conversation: Conversation | None, asked: Asked | None) -> dict:
    """What the line below the composer needs; without what is asked, the summaries alone."""
    return {
        "conversation": conversation,
        "foresight": Foresight(person, conversation, asked) if asked else None,
        "summaries": summaries.on_page(conversation) if conversation else None,
    }


def asked_in(composer: dict) -> Asked:
    """What stands in a composer that is about to be shown."""
    model = next((model["id"] for model in composer["models"] if model["selected"]), catalogue.default().id)
    effort = next((effort["value"] for effort in composer["efforts"] if effort["selected"]), Effort.BALANCED)
    blocks = tuple(file.block for file in composer.get("files", ()))
    return Asked(composer["text"], model, effort, searches(wanted=composer["search"]), blocks)
