"""What people attach: looked through, kept until it is sent, thrown away when it is not.

Content decides, never a name. A file waits without a conversation; `Conversation.start_turn` takes it along.
"""

import hashlib
import re
from collections.abc import Iterable
from datetime import timedelta
from itertools import chain

import structlog
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db import transaction
from django.db.models import Count, Sum
from django.db.models.functions import Now
from django.utils import timezone

from chat.files import names, pdfs, pictures, refusals, texts
from chat.files.facts import Facts
from chat.files.refusals import Refused
from chat.ids import as_uuid
from chat.models import Attachment, Draft, Message, NextMessage, User

__all__ = ["Refused", "chosen", "discard", "fill", "purge", "store", "unsent"]

log = structlog.get_logger(__name__)

FOLDER = "attachments"
_OURS = re.compile(r"[0-9a-f-]{36}(\.sent)?")


def store(owner: User, upload: TemporaryUploadedFile) -> Attachment:
    """Keep what somebody has sent us, if Claude can read it and there is room. Raises Refused."""
    facts = _look(upload)
    attachment = Attachment(
        owner=owner,
        name=names.agreeing(names.clean(upload.name or ""), facts.own_type),
        kind=facts.kind,
        media_type=facts.media_type,
        size=upload.size or 0,
        sent_size=len(facts.sent) if facts.sent is not None else upload.size or 0,
        sha256=_sha256(upload),
        width=facts.width,
        moves=facts.moves,
        height=facts.height,
        pages=facts.pages,
        thumbnail=facts.thumbnail,
    )
    try:
        if facts.sent is not None:
            attachment.sent_file.save("", ContentFile(facts.sent), save=False)
        upload.seek(0)
        attachment.file.save("", upload, save=False)
        _enter(attachment)
    except BaseException:
        for file in (attachment.file, attachment.sent_file):
            if file and file.name:
                file.storage.delete(file.name)
        raise
    return attachment


def chosen(person: User, ids: Iterable) -> list[Attachment]:
    """The person's own files of these ids, in their order, sent or not; what is not theirs or gone is left out."""
    wanted = list(dict.fromkeys(filter(None, map(as_uuid, ids))))
    found = person.attachments.light().in_bulk(wanted) if wanted else {}
    return [found[each] for each in wanted if each in found]


def unsent(person: User, ids: Iterable) -> list[Attachment]:
    """As `chosen`, without those that a message has taken along."""
    return [attachment for attachment in chosen(person, ids) if attachment.conversation_id is None]


@transaction.atomic
def discard(attachment: Attachment) -> bool:
    """Throw away a file that was not sent. False if a message has taken it along meanwhile."""
    # Locked, and then looked at: what Django deletes it goes by the key alone, and Send may come between.
    waiting = Attachment.objects.unsent().light().select_for_update().filter(id=attachment.id).first()
    if waiting is None:
        return False
    waiting.delete()
    return True


def fill(messages: list[Message]) -> None:
    """Give messages the files that their content names, in one query for all of them, and in none without files."""
    ids = {each for message in messages for each in message.attachment_ids}
    found = Attachment.objects.light().in_bulk(ids) if ids else {}
    for message in messages:
        message.attachments = [found[each] for each in message.attachment_ids if each in found]


def purge() -> None:
    """Throw away what was never sent, and what is on the disk and in no row: a crash can leave that behind."""
    old = timedelta(days=settings.UNSENT_FILE_DAYS)
    waiting = _waiting()
    unsent = Attachment.objects.unsent().filter(created_at__lt=Now() - old).light()
    rows = sum(discard(attachment) for attachment in unsent.iterator() if str(attachment.id) not in waiting)
    ownerless = _ownerless(timezone.now() - old)
    for name in ownerless:
        default_storage.delete(name)
    log.info("files_purged", unsent=rows, ownerless=len(ownerless))


def _waiting() -> set[str]:
    """The ids of files that stand in a composer still, or go with a message that waits."""
    lists = (model.objects.values_list("attachments", flat=True) for model in (Draft, NextMessage))
    return {str(each) for ids in chain(*lists) for each in ids}


def _look(upload: TemporaryUploadedFile) -> Facts:
    size, most = upload.size or 0, settings.LARGEST_FILE_MB * 1_000_000
    if not size:
        raise Refused(refusals.EMPTY)
    if size > most:
        raise Refused(refusals.for_size(size, settings.LARGEST_FILE_MB, upload.name or ""))
    upload.seek(0)
    head = upload.read(4_096)
    upload.seek(0)
    if pictures.is_picture(head):
        return pictures.look(upload)
    if pdfs.is_pdf(head):
        return pdfs.look(upload.temporary_file_path())
    if words := refusals.for_head(head):
        raise Refused(words)
    return texts.look(upload, size, upload.name or "")


def _sha256(upload: TemporaryUploadedFile) -> str:
    digest = hashlib.sha256()
    upload.seek(0)
    for chunk in upload.chunks():
        digest.update(chunk)
    return digest.hexdigest()


@transaction.atomic
def _enter(attachment: Attachment) -> None:
    # One after the other for each person: two uploads at once must not both find the last place.
    User.objects.select_for_update(no_key=True).get(pk=attachment.owner_id)
    waiting = attachment.owner.attachments.unsent().aggregate(count=Count("id"), bytes=Sum("size"))
    most = settings.UNSENT_FILES_MB * 1_000_000
    if waiting["count"] >= settings.UNSENT_FILES or (waiting["bytes"] or 0) + attachment.size > most:
        raise Refused(
            f"You have {waiting['count']} files that are not sent yet, and no more fit. Send or remove some of them "
            f"first; what is not sent is removed after {settings.UNSENT_FILE_DAYS:g} days."
        )
    attachment.save()


def _ownerless(before) -> list[str]:
    """Names of files that no row knows, and that are too old to be on their way into one."""
    try:
        _, found = default_storage.listdir(FOLDER)
    except FileNotFoundError:
        return []
    ours = [name for name in found if _OURS.fullmatch(name)]
    known = set()
    for start in range(0, len(ours), 1_000):
        ids = [each for name in ours[start : start + 1_000] if (each := as_uuid(name[:36]))]
        known |= set(Attachment.objects.filter(id__in=ids).values_list("id", flat=True))
    ownerless = [f"{FOLDER}/{name}" for name in ours if as_uuid(name[:36]) not in known]
    return [name for name in ownerless if default_storage.get_modified_time(name) < before]
