"""What Celery calls: an id in, nothing out."""

from celery import shared_task
from celery.signals import worker_ready
from django.db import connection

from chat import files, model_check, reconciliation, rendering, summaries, turns
from chat.desks import at_a_desk
from chat.engine import engine
from chat.keeper import keeper


@shared_task
def run_turn(turn_id: str) -> None:
    try:
        with at_a_desk():
            turns.run(turn_id)
    finally:
        connection.close()  # hundreds of threads would each keep one


@shared_task
def write_summary(summary_id: str) -> None:
    try:
        with at_a_desk():
            summaries.write(summary_id)
    finally:
        connection.close()


@shared_task
def check_models() -> None:
    try:
        model_check.check()
    finally:
        connection.close()


@shared_task
def reconcile_yesterday() -> None:
    try:
        reconciliation.reconcile_yesterday()
    finally:
        connection.close()


@shared_task
def purge_files() -> None:
    try:
        files.purge()
    finally:
        connection.close()


@worker_ready.connect
def warm_up(**kwargs) -> None:
    """The first question should not pay for the start of the threads, nor the first code block for its colours.

    /readyz listens for the keeper.
    """
    rendering.render("```python\npass\n```")
    engine()
    keeper()
