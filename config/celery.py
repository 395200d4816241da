"""Celery rings the doorbell; the database decides. See docs/decisions/0002-doorbell.md."""

import os

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("tally")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def use_our_logging(**kwargs: object) -> None:
    """A receiver of this signal keeps Celery from configuring the root logger itself."""
