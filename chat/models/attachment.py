from collections.abc import Iterable
from functools import partial

from django.db import models, transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver

from chat.ids import uuid7

# Pixels of the long edge: of what Claude gets, since it makes larger ones smaller, and of what a page shows.
SENT_EDGE, THUMBNAIL_EDGE = 2_576, 480
# The name that static/js/paste.js gives to a text that is too long for the box.
PASTED = "Pasted text.txt"


def stored_name(attachment: "Attachment", filename: str) -> str:
    """Names on disk are never a person's."""
    return f"attachments/{attachment.id}"


def sent_name(attachment: "Attachment", filename: str) -> str:
    return f"attachments/{attachment.id}.sent"


class AttachmentQuerySet(models.QuerySet):
    def unsent(self):
        return self.filter(conversation=None)

    def light(self):
        """Without the thumbnails, which are most of a row and have a request of their own."""
        return self.defer("thumbnail")

    def are_among(self, ids: Iterable, others: Iterable) -> bool:
        """Whether all of these files are among the others, by what is in them: without JavaScript the second click of
        a double one brings the same files once more, which are rows of their own."""
        wanted, there = ({str(each) for each in some} for some in (ids, others))
        if wanted <= there:
            return True
        contents = {str(id): sha256 for id, sha256 in self.filter(id__in=wanted | there).values_list("id", "sha256")}
        known = {contents[each] for each in there if each in contents}
        return all(contents.get(each) in known for each in wanted - there)


class Attachment(models.Model):
    """A file that somebody has given us. It waits without a conversation until a message takes it along; from then on
    the messages of that conversation name it in their content, also several: an edited question keeps its files."""

    class Kind(models.TextChoices):
        IMAGE = "image"
        PDF = "pdf"
        TEXT = "text"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey("chat.User", models.CASCADE, related_name="attachments")
    conversation = models.ForeignKey(
        "chat.Conversation", models.CASCADE, null=True, blank=True, related_name="attachments"
    )
    file = models.FileField(upload_to=stored_name)
    sent_file = models.FileField(
        upload_to=sent_name, blank=True, help_text="What Claude gets, where that is not the file itself."
    )
    name = models.CharField(max_length=255)
    kind = models.CharField(max_length=10, choices=Kind)
    media_type = models.CharField(max_length=100, help_text="Of what Claude gets.")
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    sent_size = models.PositiveBigIntegerField(default=0, help_text="Bytes of what Claude gets.")
    sha256 = models.CharField(max_length=64)
    width = models.PositiveIntegerField(null=True, blank=True, help_text="Pixels, of an image.")
    height = models.PositiveIntegerField(null=True, blank=True, help_text="Pixels, of an image.")
    pages = models.PositiveIntegerField(null=True, blank=True, help_text="Of a PDF.")
    moves = models.BooleanField(default=False, help_text="A picture of many frames: Claude gets the first.")
    thumbnail = models.BinaryField(null=True, blank=True, help_text="A small WebP that we drew ourselves.")
    gone = models.BooleanField(default=False, help_text="The row is here and the file is not: a restore without files.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = AttachmentQuerySet.as_manager()

    def __str__(self) -> str:
        """Without its name: logs show this, and a name is its owner's."""
        return f"attachment {self.id}"

    @property
    def block(self) -> dict:
        """How a message's content names it: a block of the Messages API with a source of our own."""
        source = {"type": "attachment", "id": str(self.id)}
        if self.kind == self.Kind.IMAGE:
            return {"type": "image", "source": source}
        return {"type": "document", "source": source, "title": self.name}

    @property
    def sent_pixels(self) -> tuple[int, int]:
        """Width and height of the image that Claude gets."""
        return fitted(self.width or 1, self.height or 1, SENT_EDGE)

    @property
    def shown_pixels(self) -> tuple[int, int]:
        """Width and height of the thumbnail on a page, so that nothing moves when it arrives; half of what it has, for
        screens with two dots a pixel."""
        return fitted(self.width or 1, self.height or 1, THUMBNAIL_EDGE // 2)

    @property
    def is_pasted(self) -> bool:
        """Whether it was typed text once."""
        return self.kind == self.Kind.TEXT and self.name == PASTED


def fitted(width: int, height: int, edge: int) -> tuple[int, int]:
    """The size within a square of `edge` pixels, in the same proportion; what is smaller stays."""
    longest = max(width, height, edge)
    return max(1, round(width * edge / longest)), max(1, round(height * edge / longest))


@receiver(post_delete, sender=Attachment)
def _delete_files(instance: Attachment, **kwargs) -> None:
    """However the row is deleted, with its conversation or with its owner: only after the commit, since a file cannot
    be rolled back. What a crash leaves behind is found by `files.purge`."""
    for file in (instance.file, instance.sent_file):
        if file and file.name:
            transaction.on_commit(partial(file.storage.delete, file.name), robust=True)
