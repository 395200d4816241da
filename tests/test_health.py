"""For those who run it: whether it is alive, whether it could answer, the figures, and a line for every call."""

import pytest
import redis
from django.db import DatabaseError, connection
from prometheus_client.parser import text_string_to_metric_families

from chat import streams
from chat.models import BudgetPeriod, Turn, UsageRecord
from chat.money import dollars
from tests.books import HAIKU, HELD, admit, spent_call
from tests.conftest import wait_until
from tests.servers import free_port

TOKEN = "Bearer metrics-of-the-tests"


@pytest.fixture
def no_redis(monkeypatch):
    """Nothing listens where Redis should be."""
    with redis.Redis(port=free_port(), retry=None) as gone:
        monkeypatch.setattr(streams, "_sync", lambda: gone)
        yield


@pytest.fixture
def read_metrics(client):
    def read_metrics() -> dict[tuple, float]:
        """Every figure, by its name and the values of its labels."""
        response = client.get("/metrics", headers={"Authorization": TOKEN})
        assert response.status_code == 200
        families = text_string_to_metric_families(response.content.decode())
        return {
            (sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples
        }

    return read_metrics


# --- Alive and ready


def test_alive_needs_nothing_not_even_a_database(client, no_redis):
    response = client.get("/healthz")

    assert (response.status_code, response.content) == (200, b"ok")
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.django_db
def test_ready_with_database_redis_and_a_worker_that_was_heard_of(client):
    streams.beat(30)

    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json() == {"database": True, "redis": True, "worker": True}
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.django_db
def test_not_ready_while_no_worker_is_heard_of(client, monkeypatch):
    monkeypatch.setattr(streams, "HEARTBEAT", "tally:nobody")

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json() == {"database": True, "redis": True, "worker": False}


@pytest.mark.django_db
def test_not_ready_without_redis_and_pages_are_there_all_the_same(client, no_redis, browse, alice, conversation):
    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json() == {"database": True, "redis": False, "worker": False}
    assert browse(alice).get(f"/conversations/{conversation.id}/").status_code == 200


@pytest.mark.django_db
def test_not_ready_without_the_database(client):
    streams.beat(30)

    def broken(*args):
        raise DatabaseError

    with connection.execute_wrapper(broken):
        response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json() == {"database": False, "redis": True, "worker": True}


@pytest.mark.django_db(transaction=True)
def test_a_worker_makes_itself_heard(client, worker):
    redis.Redis.from_url(streams.settings.REDIS_URL).delete(streams.HEARTBEAT)

    wait_until(lambda: client.get("/readyz").status_code == 200, "the worker was not heard of")


# --- The figures


@pytest.mark.django_db
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "metrics-of-the-tests"}])
def test_without_the_token_there_are_no_figures(client, headers):
    assert client.get("/metrics", headers=headers).status_code == 404


@pytest.mark.django_db
def test_without_a_token_in_the_settings_no_token_opens_the_page(client, settings):
    settings.METRICS_TOKEN = ""

    for given in ("", "Bearer ", TOKEN):
        assert client.get("/metrics", headers={"Authorization": given}).status_code == 404


@pytest.mark.django_db
def test_the_figures_are_those_of_the_books(read_metrics, alice, bob, conversation):
    spent_call(alice)
    spent_call(bob, model=HAIKU)
    conversation.start_turn("Hello", "00000000-0000-4000-8000-000000000001")
    open_call = admit(alice)

    found = read_metrics()

    assert found["tally_held_dollars",] == float(dollars(HELD))
    for record in UsageRecord.objects.all():
        same = UsageRecord.objects.filter(model=record.model, state=record.state)
        assert found["tally_calls_total", record.model, record.purpose, record.state] == same.count()
    calls = sum(value for (name, *_), value in found.items() if name == "tally_calls_total")
    assert calls == UsageRecord.objects.count() == 3
    cost = sum(value for (name, *_), value in found.items() if name == "tally_cost_dollars_total")
    assert cost == pytest.approx(float(dollars(sum(period.spent for period in BudgetPeriod.objects.all()))))
    assert (found["tally_turns", "queued"], found["tally_turns", "running"]) == (1, 0)
    UsageRecord.objects.filter(id=open_call.id).get()


# --- The log

FIELDS = {
    "purpose",
    "turn",
    "attempt",
    "model",
    "input",
    "cache_write_5m",
    "cache_write_1h",
    "cache_read",
    "output",
    "thinking",
    "stop_reason",
    "first_token_ms",
    "duration_ms",
    "cost_nano",
    "confidence",
    "request_id",
    "error",
}


@pytest.mark.django_db(transaction=True)
def test_every_provider_call_is_one_line_of_the_log(ask, sandbox, worker, caplog):
    sandbox.enqueue(status="529", retry_after=0)
    sandbox.enqueue(say="Forty-two.")

    turn = ask()

    titles = UsageRecord.objects.filter(purpose="title", state="settled")
    wait_until(titles.exists, "no title was written")
    # By their ids: the line of another test's title may come late.
    mine = {str(turn.id), titles.get().request_id}
    wait_until(lambda: len(_calls(caplog, mine)) == 3, "not one line for each of three calls")
    busy, reply, title = _calls(caplog, mine)
    for line in (busy, reply, title):
        assert line.keys() >= FIELDS
    assert (busy["error"], busy["cost_nano"]) == ("busy", 0)
    record = turn.usage_records.get(state="settled")
    assert (reply["turn"], reply["request_id"]) == (str(turn.id), record.request_id)
    assert (reply["cost_nano"], reply["confidence"], reply["error"]) == (record.cost, "exact", None)
    assert (title["purpose"], title["model"]) == ("title", HAIKU)
    assert turn.state == Turn.State.DONE


def _calls(caplog, ids: set[str]) -> list[dict]:
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    return [line for line in lines if line["event"] == "provider_call" and ids & {line["turn"], line["request_id"]}]
