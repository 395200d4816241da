from django.db import models

from chat.ids import uuid7


def stored_name(attachment: "Attachment", filename: str) -> str:
    """Names on disk are never a person's."""
    return f"attachments/{attachment.id}"


class Attachment(models.Model):
    class Kind(models.TextChoices):
        IMAGE = "image"
        PDF = "pdf"
        TEXT = "text"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey("chat.User", models.CASCADE, related_name="attachments")
    message = models.ForeignKey("chat.Message", models.CASCADE, null=True, blank=True, related_name="attachments")
    file = models.FileField(upload_to=stored_name)
    name = models.CharField(max_length=255)
    kind = models.CharField(max_length=10, choices=Kind)
    media_type = models.CharField(max_length=100)
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name
