"""Once a day, whoever asks and however often."""

from datetime import timedelta

import pytest
from celery import Celery, current_app
from django.conf import settings as django_settings
from django.db import connection
from django.db.models import F

from chat import doorbell, periodic, tasks
from chat.models import Alarm, PeriodicTask
from tests.books import at_once
from tests.conftest import wait_until
from tests.servers import free_port

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
EVERYTHING = ["check_models", "purge_files", "reconcile_yesterday"]


@pytest.fixture(autouse=True)
def _just_started(monkeypatch):
    """The process has not looked yet."""
    monkeypatch.setattr(periodic, "_looks_again_at", 0.0)


@pytest.fixture
def begun(monkeypatch):
    """The names of the tasks that were rung for; `begun.heard` is whether the broker takes the bell."""

    class Begun(list):
        heard = True

    begun = Begun()
    monkeypatch.setattr(doorbell, "begin", lambda name: begun.append(name) or begun.heard)
    return begun


@pytest.fixture
def hour(monkeypatch):
    """`hour(7)`: no task that waits for a later hour is begun."""

    def hour(now: int) -> None:
        class Clock(periodic.datetime):
            @classmethod
            def now(cls, tz=None):
                return cls(2026, 11, 23, now, 30, tzinfo=tz)

        monkeypatch.setattr(periodic, "datetime", Clock)

    hour(12)
    return hour


def later(by: timedelta) -> None:
    """So much time has passed, for the rows as for this process."""
    PeriodicTask.objects.update(begun_at=F("begun_at") - by)
    periodic._looks_again_at = 0.0


# --- A claim


def test_the_first_who_claims_has_it_and_nobody_else_before_it_is_due_again():
    assert periodic.claim("sweep the yard", DAY)
    assert not periodic.claim("sweep the yard", DAY)

    later(DAY - timedelta(minutes=1))
    assert not periodic.claim("sweep the yard", DAY)

    later(timedelta(minutes=1))
    assert periodic.claim("sweep the yard", DAY)
    assert not periodic.claim("sweep the yard", DAY)


def test_one_task_is_not_in_the_way_of_another():
    assert periodic.claim("sweep the yard", DAY)
    assert periodic.claim("feed the cat", DAY)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("known", [True, False], ids=["due again", "never done before"])
def test_of_eight_who_claim_at_once_one_has_it(known):
    if known:
        PeriodicTask.objects.create(name="sweep the yard")

    won = at_once(8, lambda number: periodic.claim("sweep the yard", DAY))

    assert sorted(won) == [False] * 7 + [True]


def test_what_was_given_back_is_due_at_once_or_after_the_wait():
    assert periodic.claim("sweep the yard", periodic.ONCE_A_DAY)

    periodic.give_back("sweep the yard")
    assert periodic.claim("sweep the yard", periodic.ONCE_A_DAY)

    periodic.give_back("sweep the yard", wait=timedelta(hours=1))
    later(timedelta(minutes=59))
    assert not periodic.claim("sweep the yard", periodic.ONCE_A_DAY)
    later(timedelta(minutes=1))
    assert periodic.claim("sweep the yard", periodic.ONCE_A_DAY)


# --- The bell


def test_everything_is_begun_once_a_day(begun, hour):
    for _ in range(3):
        periodic.ring()
        later(timedelta(minutes=1))

    assert begun == EVERYTHING

    later(periodic.ONCE_A_DAY)
    periodic.ring()

    assert begun == EVERYTHING * 2


def test_yesterday_is_not_compared_before_six_oclock_utc(begun, hour):
    hour(5)
    periodic.ring()
    assert begun == ["check_models", "purge_files"]

    later(timedelta(minutes=1))
    hour(6)
    periodic.ring()

    assert begun == ["check_models", "purge_files", "reconcile_yesterday"]


def test_no_day_is_left_out_and_none_is_compared_twice():
    """Whatever the minute of the first time: it never drifts over midnight."""
    earliest = timedelta(hours=periodic.NOT_BEFORE["reconcile_yesterday"])

    assert DAY - earliest < periodic.ONCE_A_DAY < DAY


def test_a_process_looks_once_a_minute(begun, hour, django_assert_num_queries):
    periodic.ring()

    with django_assert_num_queries(0):
        periodic.ring()

    periodic._looks_again_at = 0.0
    with django_assert_num_queries(1):
        periodic.ring()


def test_a_bell_that_was_not_heard_is_rung_again_a_minute_later(begun, hour):
    begun.heard = False
    periodic.ring()
    later(timedelta(minutes=1))

    begun.heard = True
    periodic.ring()
    later(timedelta(minutes=1))
    periodic.ring()

    assert begun == EVERYTHING * 2


def test_a_broker_that_is_away_neither_fails_nor_keeps_the_claim(hour, monkeypatch):
    away = Celery("away", set_as_current=False)
    away.config_from_object(django_settings, namespace="CELERY")
    away.conf.broker_url = f"redis://127.0.0.1:{free_port()}/0"
    monkeypatch.setattr(doorbell, "current_app", away)

    periodic.ring()

    assert periodic.claim("check_models", periodic.ONCE_A_DAY)
    assert periodic.claim("reconcile_yesterday", periodic.ONCE_A_DAY)


@pytest.mark.django_db(transaction=True)
def test_a_worker_hears_the_bell_and_does_the_work(worker, sandbox, alice, hour):
    alice.conversations.create(model="claude-sonnet-4-5")

    periodic.ring()

    wait_until(lambda: Alarm.objects.filter(kind="model_retiring").exists(), "the worker did not check the models")


@pytest.mark.django_db(transaction=True)
def test_two_sweepers_ring_once(begun, hour):
    def look(number: int) -> None:
        periodic._looks_again_at = 0.0
        periodic.ring()

    at_once(4, look)

    assert sorted(begun) == EVERYTHING


def test_every_bell_has_a_task():
    known = {name.removeprefix("chat.tasks.") for name in current_app.tasks}

    assert periodic.NOT_BEFORE.keys() <= known
    assert all(callable(getattr(tasks, name)) for name in periodic.NOT_BEFORE)


def test_a_task_leaves_no_connection_behind(monkeypatch):
    closed = []
    monkeypatch.setattr(tasks, "connection", type("Connection", (), {"close": lambda self: closed.append(1)})())
    monkeypatch.setattr("chat.model_check.check", lambda: None)
    monkeypatch.setattr("chat.reconciliation.reconcile_yesterday", lambda: None)

    tasks.check_models()
    tasks.reconcile_yesterday()

    assert closed == [1, 1]
    assert connection.is_usable()
