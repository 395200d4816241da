"""C41: fifty people at work, and every few seconds something dies, hangs or is cut off.

`make soak SEED=7` does this for ten minutes. Here it is short, with the same seed each time. See tests/chaos/soak.
"""

import os
import random
import threading
import time
from collections import deque

import pytest
from django.conf import settings
from django.contrib.auth.models import Group

from chat.models import Budget, Conversation, NextMessage, Summary, Turn, UsageRecord
from chat.money import nano
from tests import environment
from tests.books import SONNET
from tests.chaos import invoice
from tests.chaos.soak import crowd, laws, monkey, report
from tests.chaos.soak.diary import Diary
from tests.conftest import wait_until

SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))
SEED = os.environ.get("SOAK_SEED", "1") or str(random.randrange(1_000_000))
PEOPLE = 50
# A title or a summary whose worker died is charged for after two minutes, so a short run is one without them.
HAS_TIME = SECONDS > 120
SETTLES_WITHIN = 180 if HAS_TIME else 60
PACE = 4  # seconds between two questions of a person, on average, while nothing is watched
OURS = ("web", "worker", "sweeper")
PATIENCE = {"NO_PROGRESS_SECONDS": "3", "TURN_DEADLINE_SECONDS": "15", "RETRY_PATIENCE_SECONDS": "5"}
SUMMARIES = {"SUMMARISE_AT_PERCENT": "1" if HAS_TIME else "0"}


@pytest.fixture
def every_post(sandbox, monkeypatch):
    """The sandbox remembers the last requests only; here all are counted."""
    monkeypatch.setattr(sandbox._api, "requests", deque())


@pytest.fixture
def impatient(_product):
    """The product has less patience than usual: what Claude leaves hanging is over before the test is."""
    usual = dict(_product.environment)
    _product.end(*OURS)
    _product.environment.update(PATIENCE | SUMMARIES)
    yield
    _product.end(*OURS)
    _product.environment.clear()
    _product.environment.update(usual)


@pytest.fixture
def members(person):
    """Some of them have little money of their own, and a team has little in its pot."""
    users = crowd.people(PEOPLE)
    for user, dollars in zip(users, ["0.02", "0.05", "0.1", "0.2"], strict=False):
        Budget.objects.create(user=user, limit=nano(dollars))
    team = Group.objects.create(name="Team")
    team.user_set.add(*users[3:10])
    Budget.objects.create(kind=Budget.Kind.POT, group=team, limit=nano("2"))
    chats = [Conversation(owner=user, model=SONNET, title="Named") for user in users for _ in range(crowd.CHATS)]
    Conversation.objects.bulk_create(chats)
    diary = Diary()
    members = [
        crowd.Member(number, person(user), diary, SEED, pace=PACE, has_time=HAS_TIME).given(
            [chat for chat in chats if chat.owner_id == user.id]
        )
        for number, user in enumerate(users)
    ]
    return members, diary


@pytest.mark.timeout(SECONDS + SETTLES_WITHIN + 240)
def test_c41_a_crowd_loses_no_answer_and_pays_for_none_twice_whatever_dies(
    every_post, impatient, product, members, sandbox
):
    people, diary = members
    active = [*people, *monkey.hands(product, diary, SEED)]
    threads = [threading.Thread(target=each.run, name=each.name, daemon=True) for each in active]
    database = "PostgreSQL" if environment.on_postgres else "SQLite"
    name = f"soak of {SECONDS:.0f} s, {PEOPLE} people, SEED={SEED}, on {database}"
    print(f"\n{name}", flush=True)
    over, before = [], _unforeseen(product)

    for thread in threads:
        thread.start()
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        over += laws.over_a_limit()
        time.sleep(0.02)
    diary.finished.set()
    for thread in threads:
        thread.join(90)
        assert not thread.is_alive(), f"{thread.name} hangs"
    product.heal()
    healed = time.monotonic()
    wait_until(lambda: not _open(), "", SETTLES_WITHIN)
    sandbox.wait_until_idle(10)

    compared, posts = invoice.compare(sandbox), sandbox.requests
    found = laws.Laws(diary, people, posts, compared, _unforeseen(product) - before)
    breaches = found.breaches()
    for _, tab in diary.watched:
        tab.leave()
    said = report.table(name, diary, found, compared) + f"\n{'settled':>10}  {time.monotonic() - healed:.1f} s"
    print(said, flush=True)
    if slowest := max(found.turns, key=report.seconds, default=None):
        about = laws.Breach("the slowest", f"{report.seconds(slowest):.1f} s", slowest)
        print(report.story(about, diary, found, posts, sandbox.invoice, product), flush=True)
    if breaches or over:
        shown = breaches[: report.MOST_BREACHES]
        stories = [report.story(breach, diary, found, posts, sandbox.invoice, product) for breach in shown]
        logs = settings.BASE_DIR / "var/log" / f"soak-{SEED}-{database}"
        product.keep_logs(logs)
        end = f"{len(breaches)} breaches, {over=}; the logs are in {logs}"
        pytest.fail("\n".join([said, end, *stories]), pytrace=False)


def _unforeseen(product) -> set[str]:
    return {line for word in laws.UNFORESEEN for line in product.log_lines(word)}


def _open() -> bool:
    waiting = NextMessage.objects.filter(held_back="").exists() or Summary.objects.live().exists()
    return waiting or Turn.objects.live().exists() or UsageRecord.objects.filter(state__in=UsageRecord.OPEN).exists()
