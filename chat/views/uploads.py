"""The files of a request: those that were taken in before and are named in it, and those that come with it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.http import HttpRequest

from chat import files
from chat.files import names
from chat.http import SignedInRequest
from chat.models import Attachment

MISSING = (
    "A file of this message is no longer here: it was removed in another tab, or waited too long. Your text stays. "
    "Look at the files that are left, attach what is missing, and send it."
)
LONGEST = 20  # seconds that one request may have its files looked through
AGAIN = "Attach this one again, with the next upload."


@dataclass(frozen=True)
class Taken:
    """`refused` are pairs of a file's name and the reason."""

    kept: list[Attachment]
    refused: list[tuple[str, str]]


@dataclass(frozen=True)
class Enclosed:
    """What a message brings along, and why it cannot be sent like that; "" if it can."""

    files: list[Attachment]
    problem: str = ""
    taken: list[Attachment] = field(default_factory=list)

    @property
    def unsent(self) -> list[Attachment]:
        """What stands in the composer when the message is refused."""
        return [attachment for attachment in self.files if attachment.conversation_id is None]

    def drop_copies(self, kept: Iterable) -> None:
        """A request that is repeated brings its files once more: those of the first one, `kept`, are enough."""
        ids = {str(each) for each in kept}
        for attachment in self.taken:
            if str(attachment.id) not in ids:
                files.discard(attachment)


def take_in(request: SignedInRequest) -> Taken:
    """Each is looked through while its sender waits, so there is an end to their number and to the time."""
    kept, refused = [], []
    until = time.monotonic() + LONGEST
    for number, upload in enumerate(request.FILES.getlist("files")):
        try:
            if number >= settings.FILES_PER_MESSAGE:
                raise files.Refused(f"{settings.FILES_PER_MESSAGE} files are the most at once. {AGAIN}")
            if time.monotonic() > until:
                raise files.Refused(f"The files before it took too long to read. {AGAIN}")
            kept.append(files.store(request.user, cast(TemporaryUploadedFile, upload)))
        except files.Refused as why:
            refused.append((names.clean(upload.name or ""), str(why)))
    return Taken(kept, refused)


def enclosed(request: SignedInRequest) -> Enclosed:
    """The same however often it is asked for: what comes with a request is taken in once."""
    known: Enclosed | None = getattr(request, "_enclosed", None)
    if known is None:
        known = _enclosed(request)
        request._enclosed = known  # type: ignore[attr-defined]
    return known


def brings_files(request: HttpRequest) -> bool:
    return bool(request.FILES.getlist("files") or request.POST.getlist("attachments"))


def _enclosed(request: SignedInRequest) -> Enclosed:
    named = set(request.POST.getlist("attachments"))
    known = files.chosen(request.user, request.POST.getlist("attachments")[: settings.UNSENT_FILES])
    taken = take_in(request)
    every = [*known, *taken.kept]
    if taken.refused:
        words = " ".join(f"“{name}” was not attached: {why}" for name, why in taken.refused)
        return Enclosed(every, f"Not sent yet. {words} Send it without, or attach another file.", taken.kept)
    if len(known) < len(named):
        return Enclosed(every, MISSING, taken.kept)
    if len(every) > settings.FILES_PER_MESSAGE:
        most = settings.FILES_PER_MESSAGE
        words = f"These are {len(every)} files; a message takes {most}. Remove some, or send two messages."
        return Enclosed(every, words, taken.kept)
    return Enclosed(every, taken=taken.kept)
