from django.db import models
from django.db.models import Q


class Alarm(models.Model):
    """Something an administrator has to see. One open row per kind and subject, however often it sounds."""

    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=100, blank=True, help_text="What it is about: a model, a day; never a text.")
    words = models.CharField(max_length=500)
    count = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField(auto_now_add=True)
    last_at = models.DateTimeField()
    mailed_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"], condition=Q(closed_at=None), name="alarm_one_open_per_subject"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}".strip()


class PeriodicTask(models.Model):
    """When something that is done once a day was last begun. The row is what makes it once, whoever asks."""

    name = models.CharField(max_length=40, primary_key=True)
    begun_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name
