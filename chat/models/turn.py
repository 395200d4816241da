from datetime import timedelta

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from chat.ids import uuid7


class TurnQuerySet(models.QuerySet):
    def live(self):
        return self.filter(state__in=Turn.LIVE)

    @transaction.atomic
    def claim(self, turn_id):
        """Take a queued turn. None if another worker was first, if it was stopped, or if it is gone.

        Claimed and read as one: who hangs in between must not read the number of the attempt that replaced them.
        """
        claimed = self.filter(id=turn_id, state=Turn.State.QUEUED).update(
            state=Turn.State.RUNNING,
            attempt=F("attempt") + 1,
            lease_until=lease_end(),
            started_at=Coalesce("started_at", Now()),
        )
        if not claimed:
            return None
        return self.select_related("conversation", "question", "reply", "user").get(id=turn_id)

    def stop(self) -> int:
        """Stop these turns. Queued ones end here, and their number is returned; running ones are told, and end by
        their workers. What is held for the queued ones is let go by `submission.stop`, or by the sweeper."""
        queued = self.filter(state=Turn.State.QUEUED).update(
            state=Turn.State.STOPPED, stop_requested=True, finished_at=Now()
        )
        self.filter(state=Turn.State.RUNNING).update(stop_requested=True)
        return queued

    def held_by(self, turn):
        """The turn's row as long as this attempt holds it: an update of 0 rows means "you were replaced"."""
        return self.filter(id=turn.id, attempt=turn.attempt, state=Turn.State.RUNNING)


class Turn(models.Model):
    """One run that makes one reply. The row in state QUEUED is the outbox: Celery only rings the doorbell."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        STOPPED = "stopped"
        FAILED = "failed"
        INTERRUPTED = "interrupted"

    LIVE = (State.QUEUED, State.RUNNING)

    is_new = False  # True on what `Conversation.start_turn` has just made, not on what it found

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    conversation = models.ForeignKey("chat.Conversation", models.CASCADE, related_name="turns")
    user = models.ForeignKey("chat.User", models.CASCADE, related_name="turns")
    question = models.ForeignKey("chat.Message", models.CASCADE, related_name="turns_asked")
    reply = models.OneToOneField("chat.Message", models.CASCADE, related_name="turn")
    client_id = models.UUIDField(help_text="Made by the form; the same id is the same turn.")
    asked_after = models.OneToOneField(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="next_turn",
        help_text="The turn whose end it waited for, as a next message.",
    )
    model = models.CharField(max_length=100)
    effort = models.CharField(max_length=10)
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    attempt = models.PositiveIntegerField(default=0, help_text="The fencing token: one more at every claim.")
    lease_until = models.DateTimeField(null=True, blank=True, help_text="By the database's clock.")
    stop_requested = models.BooleanField(default=False)
    stop_reason = models.CharField(max_length=60, blank=True, help_text="Claude's word for why it ended.")
    error = models.CharField(max_length=40, blank=True, help_text="A key of chat.endings.ENDINGS.")
    detail = models.JSONField(default=dict, blank=True, help_text="Figures that the ending's words need.")
    summary_read = models.UUIDField(
        null=True, blank=True, help_text="The summary that stood for the older messages when it was sent."
    )
    checkpoint_text = models.TextField(blank=True)
    checkpoint_thinking = models.TextField(blank=True)
    checkpoint_notice = models.CharField(
        max_length=200, blank=True, help_text="What the reader was told to wait for; empty while text is written."
    )
    checkpoint_notice_at = models.DateTimeField(null=True, blank=True, help_text="Since when they wait for that.")
    checkpoint_id = models.CharField(max_length=40, blank=True, help_text="The last stream id it contains.")
    checkpoint_at = models.DateTimeField(null=True, blank=True)
    thinking_ms = models.PositiveIntegerField(default=0, help_text="Milliseconds that Claude spent in thinking blocks.")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = TurnQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "client_id"], name="turn_once_per_client_id"),
            models.UniqueConstraint(
                fields=["conversation"],
                condition=Q(state__in=["queued", "running"]),
                name="turn_one_live_per_conversation",
            ),
            models.CheckConstraint(
                condition=~Q(state="running") | Q(lease_until__isnull=False), name="turn_running_has_a_lease"
            ),
        ]
        indexes = [
            models.Index(
                fields=["state", "created_at"], condition=Q(state__in=["queued", "running"]), name="turn_live"
            ),
        ]

    def __str__(self) -> str:
        return f"turn {self.id} ({self.state})"

    @property
    def is_live(self) -> bool:
        return self.state in self.LIVE


def lease_end():
    """When a lease taken now ends, as an expression: the database's clock, so that skewed hosts agree."""
    return Now() + timedelta(seconds=settings.LEASE_SECONDS)
