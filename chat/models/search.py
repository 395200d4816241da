from django.db import models


class SearchEntry(models.Model):
    """A message, or the title of a conversation, in the index of the search. Written by the database's own triggers
    (chat/search_index.py); ids grow with time, so that the newest is found first."""

    conversation = models.ForeignKey("chat.Conversation", models.CASCADE, related_name="search_entries")
    message = models.OneToOneField(
        "chat.Message", models.CASCADE, null=True, blank=True, related_name="search_entry", help_text="Else the title."
    )

    def __str__(self) -> str:
        return f"search entry {self.pk}"
