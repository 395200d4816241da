"""What a person has written and not sent yet."""

from django.db import models

from chat.ids import uuid7


class Draft(models.Model):
    """What stands in a composer: that of a conversation, or of a new chat. Kept on the server, so that it survives the
    browser, and so that the browser keeps nothing of it after the person has left.

    There is one for each tab or device whose text goes on from none of the others.
    """

    user = models.ForeignKey("chat.User", models.CASCADE, related_name="drafts")
    conversation = models.ForeignKey("chat.Conversation", models.CASCADE, null=True, blank=True, related_name="drafts")
    text = models.TextField(blank=True)
    attachments = models.JSONField(default=list, blank=True, help_text="Ids of files that will go with it.")
    client_id = models.UUIDField(null=True, blank=True, help_text="That of the composer it was typed into.")
    edition = models.PositiveBigIntegerField(default=0, help_text="Which of that composer's texts it is.")
    withdrawn = models.UUIDField(
        null=True, blank=True, help_text="The client id of a message that waited, and was taken back or removed."
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "conversation", "client_id"], name="draft_one_of_a_composer")
        ]

    def __str__(self) -> str:
        return f"draft {self.pk}"

    @property
    def mark(self) -> str:
        """Which text of which composer: what a page has seen it says by this."""
        return f"{self.client_id or ''}/{self.edition}" if self.pk else ""


HELD_BACK_WORDS = {
    "stopped": "Not sent, because the answer before it was stopped.",
    "failed": "Not sent, because the answer before it failed.",
    "interrupted": "Not sent, because the answer before it was interrupted.",
    "inactive": "Not sent, because your account was closed then.",
    "sent_before": "Not sent, because it was sent before.",
    "file_gone": "Not sent, because a file of it is gone.",
    "not_offered": "Not sent, because its model is not offered any more. Edit it, and choose another one.",
    "too_much": "Not sent: with its files it is more than Claude takes at once.",
}


class NextMessage(models.Model):
    """A message that is sent by itself as soon as the answer before it is done. One per conversation."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    conversation = models.OneToOneField("chat.Conversation", models.CASCADE, related_name="next_message")
    client_id = models.UUIDField(help_text="That of the turn it becomes.")
    text = models.TextField()
    attachments = models.JSONField(default=list, blank=True, help_text="Ids of files that will go with it.")
    model = models.CharField(max_length=100, blank=True)
    effort = models.CharField(max_length=10, blank=True)
    max_searches = models.PositiveSmallIntegerField(default=0, help_text="Web searches that its answer may make.")
    waits_for = models.ForeignKey(
        "chat.Turn", models.CASCADE, related_name="+", help_text="The turn whose answer is the one before it."
    )
    held_back = models.CharField(
        max_length=12, blank=True, help_text="Why it was not sent, a key of HELD_BACK_WORDS: a person decides."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"next message {self.id}"

    @property
    def held_back_words(self) -> str:
        """Why it was not sent; nothing while it waits."""
        return HELD_BACK_WORDS.get(self.held_back, "")
