"""One thread per worker process keeps its running turns alive in the database.

It renews their leases in one statement, writes checkpoints of their text, and listens for "stop" and for having been
replaced. It alone does so: hundreds of turns cost a few statements a second.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import cast

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connection, transaction

from chat import failpoints, streams
from chat.claude import Answer
from chat.engine import Run, Shown
from chat.models import Turn, UsageRecord
from chat.models.turn import lease_end

log = structlog.get_logger(__name__)

LISTEN_SECONDS = 0.5
# Milliseconds of unseen writing that are worth another note.
NOTE_MS = 500

_UUID = Turn._meta.pk
_CHECKPOINT = """UPDATE chat_turn SET checkpoint_id = %s, checkpoint_text = %s, checkpoint_thinking = %s,
checkpoint_notice = %s, checkpoint_notice_at = %s, thinking_ms = %s, checkpoint_at = CURRENT_TIMESTAMP
WHERE id = %s AND attempt = %s AND state = 'running'"""


class Keeper:
    """Use `keeper()`: one for each process, its thread starts with the first turn."""

    def __init__(self):
        self._runs: set[Run] = set()
        self._lock = threading.Lock()
        self._leases_renewed = self._checkpointed = self._beaten = 0.0
        self._written: dict[Run, Shown] = {}
        self._noted: dict[Run, int] = {}
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
                self._noted.pop(run, None)

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
        texts, starts = [], []
        for run in runs:
            answer, shown, known = run.answer, run.shown, self._written.get(run)
            if known == shown:
                continue
            # The text and the id of the entry that brought it have to fit: a page goes on from there.
            self._written[run] = shown
            held = (_UUID.get_db_prep_value(run.turn_id, connection), run.attempt)
            words = run.text[: shown.text], run.thinking[: shown.thinking]
            since = connection.ops.adapt_datetimefield_value(run.since)
            texts.append((str(shown.id), *words, run.notice, since, run.thinking_ms, *held))
            if answer and answer.start_usage:
                starts.append(run)
        if texts:
            with transaction.atomic(), connection.cursor() as cursor:
                # By hand, since building hundreds of queries would hold up the streams of this process.
                cursor.executemany(_CHECKPOINT, texts)
                for run in starts:
                    self._note_start(run)
            if any(text for _, text, *_ in texts):
                failpoints.reached("mid_answer")

    def _note_start(self, run: Run) -> None:
        """What the sweeper would need to estimate the cost; again only when more time has passed unseen."""
        answer = cast(Answer, run.answer)
        hidden = round(1000 * answer.hidden_seconds())
        if hidden >= self._noted.get(run, -NOTE_MS) + NOTE_MS:
            self._noted[run] = hidden
            UsageRecord.objects.filter(turn=run.turn_id, state=UsageRecord.State.SENT).update(
                usage=answer.start_usage,
                message_id=answer.message_id,
                request_id=answer.request_id,
                hidden_ms=hidden,
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
