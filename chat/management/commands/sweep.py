import signal
import threading
import time

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError, close_old_connections

from chat import mail, periodic, warnings
from chat.sweeper import Sweeper

log = structlog.get_logger(__name__)


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
        # After an outage of ours the workers may have had it too: everyone gets one lease to come back.
        leave.wait(settings.LEASE_SECONDS)
        last = time.monotonic()
        while not leave.is_set():
            if time.monotonic() - last > settings.LEASE_SECONDS + settings.SWEEP_SECONDS:
                leave.wait(settings.LEASE_SECONDS)
            last = time.monotonic()
            try:
                _one_round(sweeper)
            except DatabaseError:
                log.warning("sweeper_without_database", exc_info=True)
                leave.wait(settings.LEASE_SECONDS)
            close_old_connections()
            leave.wait(settings.SWEEP_SECONDS)


def _one_round(sweeper: Sweeper) -> None:
    sweeper.sweep()
    warnings.note_crossings()
    periodic.ring()
    mail.send_outstanding()
