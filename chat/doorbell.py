"""Celery tells a worker that there is something to do. The QUEUED row is the order; this is only the bell.

Ringing can never fail a request: a turn whose bell nobody heard is rung for again by the sweeper.
"""

import structlog
from celery import current_app
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


def ring(turn_id) -> bool:
    """Wake a worker for a turn. False if the broker did not take it; takes a few seconds at most."""
    return begin("run_turn", str(turn_id), turn=str(turn_id))


def begin(task: str, *arguments: str, **ids: str) -> bool:
    """Wake a worker for a task of chat/tasks.py. `ids` are for the log, if the broker did not take it."""
    try:
        current_app.send_task(f"chat.tasks.{task}", arguments, retry=False, ignore_result=True)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("bell_not_heard", task=task, why=type(error).__name__, **ids)
        return False
    return True
