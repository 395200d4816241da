"""Celery tells a worker that there is something to do. The QUEUED row is the order; this is only the bell.

Ringing can never fail a request: a turn whose bell nobody heard is rung for again by the sweeper.
"""

import math
import threading
import time

import structlog
from celery import current_app
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

# Seconds that somebody waits for the ringing of another: it takes a millisecond, unless the broker hangs.
LONGEST_QUEUE = 1
# Seconds for which nobody tries again after the broker has not answered.
NOT_RUNG_AGAIN = 2


class _Door:
    """One rings at a time. A broker that hangs would otherwise hold up every thread of the web, one after the other."""

    def __init__(self):
        self._lock = threading.Lock()
        self._not_before = 0.0

    def ring(self, task: str, arguments: tuple[str, ...]) -> None:
        """Raises what Celery raises, and TimeoutError without trying where the broker hangs."""
        if not self._lock.acquire(timeout=LONGEST_QUEUE):
            raise TimeoutError
        try:
            began = time.monotonic()
            if began < self._not_before:
                raise TimeoutError
            try:
                current_app.send_task(task, arguments, retry=False, ignore_result=True)
            except Exception:
                if time.monotonic() - began > LONGEST_QUEUE:
                    self._not_before = time.monotonic() + NOT_RUNG_AGAIN
                raise
        finally:
            self._lock.release()


_door = _Door()


def ring(turn_id) -> bool:
    """Wake a worker for a turn. False if the broker did not take it; takes a few seconds at most."""
    return begin("run_turn", str(turn_id), turn=str(turn_id))


def unheard() -> float:
    """How many bells no worker has taken yet; infinitely many if the broker cannot be asked."""
    try:
        with current_app.connection_or_acquire() as connection:
            return connection.default_channel.client.llen(current_app.conf.task_default_queue)
    except (OperationalError, RedisError, OSError):
        return math.inf


def begin(task: str, *arguments: str, **ids: str) -> bool:
    """Wake a worker for a task of chat/tasks.py. `ids` are for the log, if the broker did not take it."""
    try:
        _door.ring(f"chat.tasks.{task}", arguments)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("bell_not_heard", task=task, why=type(error).__name__, **ids)
        return False
    return True
