"""C33: no room on the disk. What was taken is not lost, what cannot be taken is said so, and logs may go nowhere."""

import resource
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection
from django.db.models.functions import Now

from chat.models import LedgerEntry, Message, PeriodicTask, Turn, UsageRecord
from chat.streams import HEARTBEAT
from tests import environment
from tests.chaos.conftest import begun, ended
from tests.conftest import wait_until
from tests.pages import composer_error

NAMES = ("web", "worker", "sweeper")
MADE_BY_A_QUESTION = (Turn, Message, UsageRecord, LedgerEntry)
STORY = " ".join(f"word{number}" for number in range(60))

REFUSE = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$
"""


@pytest.fixture
def full_disk(product, transactional_db):
    """`with full_disk():` what the product wants to write does not fit. Reading goes on."""
    return _full_postgres if environment.on_postgres else lambda: _full_files(product)


@contextmanager
def _full_files(product):
    """No process of the product may make any file longer, as if the disk had no block left; its logs neither."""
    limits = {}
    for name in NAMES:
        pid = product[name].pid
        limits[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)


@contextmanager
def _full_postgres():
    """PostgreSQL says what it says when it cannot extend a file."""
    tables = [model._meta.db_table for model in (*MADE_BY_A_QUESTION, PeriodicTask)]
    with connection.cursor() as cursor:
        cursor.execute(REFUSE)
        for table in tables:
            cursor.execute(f"CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION no_room()")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION no_room CASCADE")


@pytest.mark.smoke
def test_c33_a_question_that_finds_no_room_is_not_taken_and_stays_in_its_box(
    product, me, conversation, sandbox, full_disk, whole, posts
):
    sandbox.enqueue(say="Forty-two.")
    client_id = uuid.uuid4()

    with full_disk():
        refused = me.send("My question", to=conversation, client_id=client_id)
        fields = {"text": "My <question>", "client_id": str(client_id)}
        without_script = me.http.post(f"/conversations/{conversation.id}/messages/", data=fields)
        page = me.http.get(f"/conversations/{conversation.id}/")
        left_behind = [model.objects.count() for model in MADE_BY_A_QUESTION]
    turn = me.ask("My question", to=conversation, client_id=client_id)

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert "was not saved. Your text is still here" in composer_error(refused.text)
    assert without_script.status_code == 503
    assert "My &lt;question&gt;</textarea>" in without_script.text
    assert f'name="client_id" value="{client_id}"' in without_script.text
    assert page.status_code == 200
    assert left_behind == [0, 0, 0, 0]
    whole(turn, "Forty-two.")
    assert posts() == 1


def test_c33_an_answer_that_finds_no_room_is_written_when_there_is_some(
    product, me, conversation, sandbox, full_disk, whole, posts
):
    sandbox.enqueue(say=STORY, rate=50)
    turn = me.ask("Tell me a story", to=conversation)
    tab = me.watch(turn)
    begun(turn)

    with full_disk():
        seen = len(tab.events)
        wait_until(lambda: len(tab.events) > seen + 5, "the stream stood still")
        sandbox.wait_until_idle()
        wait_until(_has_no_lease, "its lease did not run out")
        still = Turn.objects.get(id=turn.id).state

    whole(turn, STORY, tab)
    assert still == "running"
    assert tab.breaks == 0
    assert posts() == 1


def test_c33_a_question_that_was_taken_is_answered_though_there_was_no_room_to_claim_it(
    product, me, conversation, sandbox, full_disk, whole, posts
):
    sandbox.enqueue(say="Forty-two.")
    product["worker"].pause()
    turn = me.ask("My question", to=conversation)

    with full_disk():
        product["worker"].resume()
        wait_until(lambda: not product.redis().llen("chat"), "nobody heard the bell")

    whole(turn, "Forty-two.")
    assert posts() == 1


@pytest.fixture
def logs_nowhere(product):
    """`logs_nowhere("web")`: that process anew, and whatever it says finds no room."""
    started = []

    def logs_nowhere(name: str) -> None:
        product[name].kill()
        started.append(product.launch(name, log=Path("/dev/full")))

    yield logs_nowhere
    for process in started:
        process.kill()


def test_c33_a_process_whose_log_is_full_goes_on(product, me, conversation, sandbox, logs_nowhere, whole, posts):
    sandbox.enqueue(status="529", retry_after=0)
    sandbox.enqueue(say="Forty-two.")
    for name in NAMES:
        logs_nowhere(name)
    product.redis().delete(HEARTBEAT)
    wait_until(lambda: product.answers("/readyz"), "they did not start", 60)

    turn = me.ask("My question", to=conversation)
    missing = me.http.get("/nothing/")

    assert missing.status_code == 404
    assert ended(turn).state == Turn.State.DONE
    assert me.page(turn).text == "Forty-two."
    assert [record.state for record in turn.usage_records.order_by("admitted_at")] == ["void", "settled"]
    assert posts() == 2
    assert all(product[name].is_alive for name in NAMES)


def _has_no_lease() -> bool:
    return Turn.objects.filter(state=Turn.State.RUNNING, lease_until__lt=Now()).exists()
