from django.db import models
from django.utils.safestring import SafeString, mark_safe

from chat import rendering
from chat.ids import uuid7


class Message(models.Model):
    """One node of a conversation's tree. An edit or a regeneration is a sibling; nothing is overwritten."""

    class Role(models.TextChoices):
        USER = "user"
        ASSISTANT = "assistant"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    conversation = models.ForeignKey("chat.Conversation", models.CASCADE, related_name="messages")
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")
    role = models.CharField(max_length=10, choices=Role)
    content = models.JSONField(default=list, help_text="The Messages API's list of content blocks.")
    text = models.TextField(blank=True, help_text="What the blocks say, for search and for the page.")
    rendered = models.TextField(blank=True, help_text="The reply as HTML, so that a long thread opens at once.")
    rendered_with = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=models.Q(role__in=["user", "assistant"]), name="message_role_known")
        ]

    def __str__(self) -> str:
        return f"{self.role} message {self.id}"

    def write(self, blocks: list[dict]) -> None:
        """Set the content and what is derived from it. Does not save."""
        self.content = blocks
        self.text = text_of(blocks)
        self.rendered, self.rendered_with = rendering.render(self.text), rendering.VERSION

    def keep(self) -> None:
        """Save what `write` has set, and nothing else."""
        self.save(update_fields=["content", "text", "rendered", "rendered_with"])

    @property
    def html(self) -> SafeString:
        """The reply as safe HTML, rendered anew when the stored one came from an older renderer."""
        if self.rendered_with == rendering.VERSION:
            return mark_safe(self.rendered)  # noqa: S308  rendering.render sanitises last
        return rendering.render(self.text)

    @property
    def thinking(self) -> str:
        """The summary of its reasoning that Claude gave with the reply; often empty."""
        return "\n\n".join(b["thinking"] for b in self.content if b.get("type") == "thinking" and b["thinking"])


def text_of(blocks: list[dict]) -> str:
    """The visible text of content blocks. Citations split a text into blocks, so nothing stands between."""
    return "".join(block.get("text", "") for block in blocks if block.get("type") == "text")
