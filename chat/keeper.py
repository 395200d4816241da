"""One thread per worker process keeps its running turns alive in the database.

It renews their leases in one statement, writes checkpoints of their text, and listens for "stop" and for having been
replaced. It alone does so: hundreds of turns cost a few statements a second.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connection, transaction
from django.db.models.functions import Now

from chat import streams
from chat.engine import Run, Shown
from chat.models import Turn, UsageRecord
from chat.models.turn import lease_end

log = structlog.get_logger(__name__)

LISTEN_SECONDS = 0.5


class Keeper:
    """Use `keeper()`: one for each process, its thread starts with the first turn."""

    def __init__(self):
        self._runs: set[Run] = set()
        self._lock = threading.Lock()
        self._leases_renewed = self._checkpointed = self._beaten = 0.0
        self._written: dict[Run, Shown] = {}
        threading.Thread(target=self._main, name="keeper", daemon=True).start()

    @contextmanager
    def watching(self, run: Run) -> Iterator[None]:
        """Keep a turn's lease for as long as the block runs."""
        with self._lock:
            self._runs.add(run)
        try:
            yield
        finally:
            with self._lock:
                self._runs.discard(run)
                self._written.pop(run, None)

    def _main(self) -> None:
        while True:
            started = time.monotonic()
            try:
                self._round(started)
            except (DatabaseError, InterfaceError):
                # Leases run on for a while without us; the streams do not notice.
                log.warning("keeper_without_database", exc_info=True)
                close_old_connections()
            except Exception:
                log.exception("keeper_failed")
            time.sleep(max(0.0, started + LISTEN_SECONDS - time.monotonic()))

    def _round(self, now: float) -> None:
        if now - self._beaten > 5:
            self._beaten = now
            self._beat()
        with self._lock:
            runs = list(self._runs)
        if not runs:
            connection.close()
            return
        self._listen(runs)
        if now - self._leases_renewed > settings.LEASE_SECONDS / 5:
            self._leases_renewed = now
            Turn.objects.filter(id__in=[run.turn_id for run in runs], state=Turn.State.RUNNING).update(
                lease_until=lease_end()
            )
        if now - self._checkpointed > settings.CHECKPOINT_SECONDS:
            self._checkpointed = now
            self._checkpoint(runs)

    def _listen(self, runs: list[Run]) -> None:
        rows = Turn.objects.filter(id__in=[run.turn_id for run in runs], state=Turn.State.RUNNING)
        held = {row[0]: row[1:] for row in rows.values_list("id", "attempt", "stop_requested")}
        with self._lock:
            runs = [run for run in runs if run in self._runs]  # the others ended while we asked
        for run in runs:
            attempt, stop_requested = held.get(run.turn_id, (None, False))
            if attempt != run.attempt:
                run.stop("replaced")
            elif stop_requested:
                run.stop("stopped")

    def _checkpoint(self, runs: list[Run]) -> None:
        """What a crash would leave: the text, and what `message_start` said about the input."""
        changed = [run for run in runs if run.answer and self._written.get(run) != run.shown]
        with transaction.atomic():
            for run in changed:
                # The text and the id of the entry that brought it have to fit: a page goes on from there.
                shown = self._written[run] = run.shown
                Turn.objects.filter(id=run.turn_id, attempt=run.attempt, state=Turn.State.RUNNING).update(
                    checkpoint_id=str(shown.id),
                    checkpoint_text=run.text[: shown.text],
                    checkpoint_thinking=run.thinking[: shown.thinking],
                    checkpoint_at=Now(),
                )
                if run.answer and run.answer.start_usage:
                    UsageRecord.objects.filter(turn=run.turn_id, state=UsageRecord.State.SENT).update(
                        usage=run.answer.start_usage,
                        message_id=run.answer.message_id,
                        request_id=run.answer.request_id,
                        hidden_ms=round(1000 * run.answer.hidden_seconds()),
                    )

    def _beat(self) -> None:
        try:
            streams.beat(30)
        except streams.Lost:
            log.warning("no_redis")


@cache
def keeper() -> Keeper:
    """The keeper of this process."""
    return Keeper()
