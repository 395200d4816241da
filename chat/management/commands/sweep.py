import signal
import threading
import time
from datetime import timedelta

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import Error, close_old_connections

from chat import mail, periodic, warnings
from chat.models import Turn
from chat.sweeper import Sweeper

log = structlog.get_logger(__name__)

LONG_AGO = float("-inf")


class Command(BaseCommand):
    help = (
        "Look after turns whose worker died and bells that nobody heard, warnings, mail and what is due once a day. "
        "Two of these at once are harmless."
    )

    def add_arguments(self, parser) -> None:
        parser.add_argument("--once", action="store_true", help="One round, without waiting, then leave.")

    def handle(self, *args, **options) -> None:
        sweeper = Sweeper()
        if options["once"]:
            _one_round(sweeper)
            return
        leave = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: leave.set())
        last = since = LONG_AGO
        while not leave.is_set():
            try:
                _try_what_workers_do()
                now = time.monotonic()
                if now - last > settings.SWEEP_SECONDS + settings.LEASE_SECONDS / 2:
                    since = now
                last = now
                # After an outage of ours the workers may have had it too: everyone gets one lease to come back.
                if now - since >= settings.LEASE_SECONDS:
                    _one_round(sweeper)
            except Error:
                if last != LONG_AGO:
                    log.warning("sweeper_without_database", exc_info=True)
                last = LONG_AGO
            close_old_connections()
            leave.wait(settings.SWEEP_SECONDS)


def _try_what_workers_do() -> None:
    """Write, if anybody has to. A database that is away, locked or full keeps leases from being renewed, and here it
    shows before those leases are judged."""
    if Turn.objects.filter(state=Turn.State.RUNNING).exists():
        periodic.claim("sweep", timedelta())


def _one_round(sweeper: Sweeper) -> None:
    sweeper.sweep()
    warnings.note_crossings()
    periodic.ring()
    mail.send_outstanding()
