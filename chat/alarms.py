"""What an administrator has to see: a line in the log, a row for the page, and a mail from the sweeper."""

import structlog
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from chat.models import Alarm

log = structlog.get_logger(__name__)

# What each means and what to do is in docs/operations.md.
KINDS = (
    "no_key",
    "no_price",
    "provider_auth",
    "provider_budget",
    "unknown_model",
    "model_retiring",
    "bad_request",
    "unknown_usage",
    "above_hold",
    "drift",
    "not_reconciled",
)


def sound(kind: str, words: str, *, subject: str = "", **ids) -> None:
    """Raise an alarm of one of KINDS, or count it once more if it is open already. Never fails its caller.

    `words` say what happened and what to do, `ids` go only into the log; neither ever holds a person's text.
    """
    log.error("alarm", kind=kind, subject=subject, why=words, **ids)
    try:
        with transaction.atomic():
            again = Alarm.objects.filter(kind=kind, subject=subject, closed_at=None)
            if not again.update(count=F("count") + 1, last_at=Now(), words=words):
                Alarm.objects.create(kind=kind, subject=subject, words=words, last_at=Now())
    except IntegrityError:
        again.update(count=F("count") + 1, last_at=Now())  # the same alarm from elsewhere, at the same instant
    except DatabaseError:
        log.warning("alarm_not_kept", kind=kind, exc_info=True)


def settle(kind: str, subject: str = "") -> None:
    """What an alarm was about is over."""
    Alarm.objects.filter(kind=kind, subject=subject, closed_at=None).update(closed_at=Now())
