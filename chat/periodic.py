"""What is done once a day, however many processes ask for it. The claim decides; Celery is only the bell.

The sweeper asks. The work is a worker's, because the keys are there.
"""

import time
from datetime import UTC, datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from chat import doorbell
from chat.models import PeriodicTask

LOOK_SECONDS = 60
# Less than a day, or the hour would move on each time until a day is left out; and more than the hours from the
# earliest one to midnight, so that it is once in each day.
ONCE_A_DAY = timedelta(hours=20)
# Hours in UTC before which a task of chat/tasks.py is not begun. The provider's report of a day needs some.
NOT_BEFORE = {"check_models": 0, "reconcile_yesterday": 6, "purge_files": 3}

_looks_again_at = 0.0


def ring() -> None:
    """Begin what is due. To be called as often as one likes: it looks once a minute, with one small query."""
    global _looks_again_at
    if time.monotonic() < _looks_again_at:
        return
    _looks_again_at = time.monotonic() + LOOK_SECONDS
    begun = PeriodicTask.objects.filter(begun_at__gt=Now() - ONCE_A_DAY).values_list("name", flat=True)
    due = NOT_BEFORE.keys() - set(begun)
    for name in sorted(due):
        if datetime.now(UTC).hour >= NOT_BEFORE[name] and claim(name, ONCE_A_DAY) and not doorbell.begin(name):
            give_back(name)


def claim(name: str, every: timedelta) -> bool:
    """Whether it is the caller who has to do it now. Of all that ask within `every`, by the database's clock, one."""
    task = PeriodicTask.objects.filter(name=name)
    if task.filter(Q(begun_at=None) | Q(begun_at__lte=Now() - every)).update(begun_at=Now()):
        return True
    if task.exists():
        return False
    try:
        with transaction.atomic():
            PeriodicTask.objects.create(name=name, begun_at=Now())
    except IntegrityError:
        return False  # somebody else was the first ever, at the same instant
    return True


def give_back(name: str, wait: timedelta = timedelta()) -> None:
    """It was not done: it is due again after `wait`."""
    PeriodicTask.objects.filter(name=name).update(begun_at=Now() - ONCE_A_DAY + wait)
