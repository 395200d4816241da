"""Files: taken in before their message is sent, shown as a thumbnail, given back as a download and never as a page."""

import uuid
from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_POST, require_safe

from chat import files
from chat.http import SignedInRequest
from chat.ids import as_uuid
from chat.models import Attachment, Conversation
from chat.views.messages import refuse
from chat.views.uploads import MISSING, enclosed, take_in

# Whatever is in them, and wherever a browser opens them: it runs nothing, loads nothing, and has no origin.
INERT = {"Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff"}
CHUNK = 256 * 1024
NOTHING = "No file has arrived. Choose one, and try again."


class Download(StreamingHttpResponse):
    """A file that is read while it is sent, in threads: a slow reader holds up nobody."""

    def __init__(self, attachment: Attachment):
        super().__init__(_chunks(attachment), content_type="application/octet-stream", headers=INERT)
        self.headers["Content-Disposition"] = str(content_disposition_header(True, attachment.name))
        self.headers["Content-Length"] = str(attachment.size)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = iter(self)
        while chunk := await sync_to_async(_next, thread_sensitive=False)(chunks):
            yield chunk


@login_required
@require_POST
def attachment_list(request: SignedInRequest) -> HttpResponse:
    """Take files in; for each a chip, or the reason why it was not taken."""
    taken = take_in(request)
    refused = taken.refused if taken.kept or taken.refused else [("", NOTHING)]
    context = {"files": taken.kept, "refused": refused}
    return render(request, "chat/_files.html#chips", context, status=200 if taken.kept else 422)


@login_required
@require_safe
def attachment(request: SignedInRequest, attachment_id: uuid.UUID) -> HttpResponse | StreamingHttpResponse:
    """The original, as its owner gave it to us."""
    asked = get_object_or_404(request.user.attachments.light(), id=attachment_id)
    if not asked.file.storage.exists(asked.file.name):
        raise Http404
    return Download(asked)


@login_required
@require_safe
def attachment_thumbnail(request: SignedInRequest, attachment_id: uuid.UUID) -> HttpResponse:
    asked = get_object_or_404(request.user.attachments.exclude(thumbnail=None), id=attachment_id)
    return HttpResponse(bytes(asked.thumbnail or b""), content_type="image/webp", headers=INERT)


@login_required
@require_POST
def attachment_deletion(request: SignedInRequest, attachment_id: uuid.UUID) -> HttpResponse:
    """Take a file out of the composer. One that was sent stays with its message."""
    asked = get_object_or_404(request.user.attachments.light(), id=attachment_id)
    files.discard(asked)
    if request.htmx:
        return HttpResponse(status=200)
    # Without JavaScript it is the composer's own form, sent to another address: everything else in it stays.
    problem = enclosed(request).problem
    return refuse(request, _conversation(request), "" if problem == MISSING else problem, 200)


def _chunks(attachment: Attachment) -> Iterator[bytes]:
    with attachment.file.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _next(chunks: Iterator[bytes]) -> bytes:
    return next(chunks, b"")


def _conversation(request: SignedInRequest) -> Conversation | None:
    """Of the page on which the button was pressed; none on that of a new chat."""
    named = as_uuid(request.GET.get("conversation"))
    return request.user.conversations.filter(id=named).first() if named else None
