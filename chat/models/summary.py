from datetime import timedelta

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.safestring import SafeString

from chat import rendering
from chat.ids import uuid7

# After so long nobody is at work on it any more: as long as the sweeper waits for the call itself.
GIVEN_UP_SECONDS = 120


class SummaryQuerySet(models.QuerySet):
    def live(self):
        return self.filter(state__in=Summary.LIVE)

    def claim(self, summary_id):
        """Take one that waits. None if another worker was first, or if it is gone."""
        waiting = self.filter(id=summary_id, state=Summary.State.WAITING)
        if not waiting.update(state=Summary.State.WRITING, begun_at=Now()):
            return None
        return self.select_related("conversation__owner").get(id=summary_id)

    def give_up(self) -> int:
        """End those that nobody has begun, or whose worker is gone. What was sent is settled by the sweeper."""
        old = Now() - timedelta(seconds=GIVEN_UP_SECONDS)
        unheard = self.filter(state=Summary.State.WAITING, created_at__lt=old)
        lost = self.filter(state=Summary.State.WRITING, begun_at__lt=old)
        failed = Summary.State.FAILED
        return unheard.update(state=failed, error="unheard") + lost.update(state=failed, error="worker_lost")


class Summary(models.Model):
    """What Claude reads instead of the older messages of a branch. The messages themselves stay as they are.

    One that `begins_a_chat` stands for no message: it becomes the draft of `successor`.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        WRITING = "writing"
        DONE = "done"
        FAILED = "failed"

    LIVE = (State.WAITING, State.WRITING)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    conversation = models.ForeignKey("chat.Conversation", models.CASCADE, related_name="summaries")
    last = models.ForeignKey(
        "chat.Message", models.CASCADE, related_name="summaries", help_text="The last message that it stands for."
    )
    text = models.TextField(blank=True)
    record = models.ForeignKey(
        "chat.UsageRecord", models.SET_NULL, null=True, blank=True, related_name="+", help_text="What it cost."
    )
    in_use = models.BooleanField(default=True, help_text="Else the messages themselves are sent again.")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    error = models.CharField(max_length=40, blank=True, help_text="A key of chat.summaries.FAILURES.")
    detail = models.JSONField(default=dict, blank=True, help_text="Figures that the words of a refusal need.")
    automatic = models.BooleanField(default=False, help_text="Written before an answer, without being asked for.")
    begins_a_chat = models.BooleanField(default=False)
    successor = models.ForeignKey(
        "chat.Conversation", models.SET_NULL, null=True, blank=True, related_name="begun_with"
    )
    begun_at = models.DateTimeField(null=True, blank=True, help_text="By the database's clock.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SummaryQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["conversation"],
                condition=Q(state__in=["waiting", "writing"]),
                name="summary_one_at_work_per_conversation",
            )
        ]

    def __str__(self) -> str:
        return f"summary {self.id}"

    @property
    def html(self) -> SafeString:
        """The text as safe HTML: a model wrote it."""
        return rendering.render(self.text)

    @property
    def is_live(self) -> bool:
        return self.state in self.LIVE
