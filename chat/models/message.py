import uuid
from functools import cached_property

from django.db import models
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe

from chat import rendering
from chat.citations import Source, failures_of, sources_of, text_of
from chat.ids import uuid7
from chat.models.attachment import Attachment
from chat.text import without_overrides

LONG_LINES, LONG_TEXT = 20, 1_500  # lines and characters of a question; of a longer one a page shows the beginning


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

    def get_absolute_url(self) -> str:
        """On the page of its conversation, which shows the branch that it is on."""
        page = reverse("conversation", args=[self.conversation_id])
        return f"{page}?message={self.id}#message-{self.id}"

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
        html = self.rendered if self.rendered_with == rendering.VERSION else rendering.render(self.text)
        return mark_safe(rendering.linked(html, f"message-{self.id}"))  # noqa: S308  rendering.render has sanitised it

    @property
    def said(self) -> str:
        """A question as a page shows it. Who edits it gets `text`."""
        return without_overrides(self.text)

    @property
    def is_long(self) -> bool:
        return len(self.text) > LONG_TEXT or self.text.count("\n") >= LONG_LINES

    @property
    def attachment_ids(self) -> list[uuid.UUID]:
        """The files that its content names, in their order."""
        sources = [block.get("source") for block in self.content]
        named = [source for source in sources if isinstance(source, dict) and source.get("type") == "attachment"]
        return [uuid.UUID(source["id"]) for source in named]

    @cached_property
    def attachments(self) -> list[Attachment]:
        """Its files. `files.fill` gives many messages theirs at once."""
        found = Attachment.objects.light().in_bulk(self.attachment_ids) if self.attachment_ids else {}
        return [found[each] for each in self.attachment_ids if each in found]

    @property
    def sources(self) -> list[Source]:
        """The pages that a reply cites, numbered as in its text."""
        return sources_of(self.content)

    @property
    def failed_searches(self) -> list[str]:
        return failures_of(self.content)

    @property
    def thinking(self) -> str:
        """The summary of its reasoning that Claude gave with the reply; often empty."""
        return "\n\n".join(b["thinking"] for b in self.content if b.get("type") == "thinking" and b["thinking"])
