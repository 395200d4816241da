"""C31, C32: a period that ends in mid-answer, and hosts whose clocks are wrong."""

import json
import os
import struct
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection

from chat.models import BudgetPeriod, Turn
from tests.chaos.conftest import begun, ended
from tests.conftest import wait_until

WORDS = "The tide comes in, the tide goes out, and nobody has asked it to. " * 6
ENDLESS = {"tokens": 4000, "rate": 20}
# A real name, since Django asks the system for it; in that process its rule is that of our file.
ZONE = "Pacific/Kiritimati"
SKEWED = Path(__file__).parent / "skewed"


def now() -> datetime:
    """By the clock of the database, which is the one that counts."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_TIMESTAMP")
        [moment] = cursor.fetchone()
    return moment if isinstance(moment, datetime) else datetime.fromisoformat(moment).replace(tzinfo=UTC)


@pytest.fixture
def midnight(restarted, tmp_path) -> datetime:
    """In some seconds a new day begins for the web process, the first that looks what day it is.

    The time zone is TIME_ZONE as ever, in a file of ours (RFC 9636): an offset by which it is nearly midnight there.
    """
    restarted(web={"TIME_ZONE": ZONE, "PYTHONTZPATH": os.pathsep.join([str(tmp_path), *zoneinfo.TZPATH])})
    midnight = (now() + timedelta(seconds=6)).replace(microsecond=0)
    offset = -(midnight.hour * 3600 + midnight.minute * 60 + midnight.second)
    rule = f"<Test>+{midnight:%H:%M:%S}"  # in such a rule, west of Greenwich is +
    block = struct.pack(">4s1s15x6l", b"TZif", b"2", 0, 0, 0, 0, 1, 5) + struct.pack(">lbb5s", offset, 0, 0, b"Test")
    file = tmp_path / ZONE
    file.parent.mkdir()
    file.write_bytes(2 * block + f"\n{rule}\n".encode())
    return midnight


def test_c31_an_answer_across_midnight_is_paid_by_the_day_on_which_it_was_asked_for(
    product, me, chats, alice, limit, sandbox, posts, midnight
):
    limit(alice, "5", period="day")
    sandbox.enqueue(say=WORDS, rate=25)
    sandbox.enqueue(say="Forty-two.")
    one, other = chats(2)

    late = begun(me.ask("Tell me about the tide", to=one))
    product.claude.deafen()  # its end comes on the next day
    wait_until(lambda: now() > midnight, "midnight does not come")
    early = me.ask("What is the answer?", to=other)
    product.claude.heal()
    late, early = ended(late), ended(early)

    calls = [turn.usage_records.get() for turn in (late, early)]
    assert calls[0].admitted_at < midnight < calls[0].settled_at
    assert (me.page(late).text, me.page(early).text) == (WORDS.strip(), "Forty-two.")
    yesterday, today = BudgetPeriod.objects.filter(account=f"user:{alice.pk}", period="day").order_by("start")
    assert (yesterday.end, today.start) == (midnight, midnight)
    assert [(day.spent, day.held) for day in (yesterday, today)] == [(call.cost, 0) for call in calls]
    assert {call.confidence for call in calls} == {"exact"}
    assert posts() == 2


def test_c32_clocks_that_are_ten_minutes_wrong_change_nothing(product, restarted, me, chats, sandbox, posts):
    one, other = chats(2)
    sandbox.enqueue(say=WORDS, rate=25)  # longer than a lease
    restarted(web=clock_wrong_by(600), worker=clock_wrong_by(-600))
    behind = product["worker"]

    turn = me.ask("Tell me about the tide", to=one)
    tab = me.watch(turn)
    turn = ended(turn)

    assert me.page(turn).text == WORDS.strip()
    assert turn.reply.html in tab.wait().final
    assert (turn.attempt, turn.usage_records.get().confidence) == (1, "exact")
    # The clocks really were wrong, each in its own direction.
    assert 500 < (turn.created_at - turn.started_at).total_seconds() < 700
    assert -700 < (logged_at(behind, turn) - turn.finished_at).total_seconds() < -500

    # And the other way round: the bell is lost, and the worker that takes the turn dies.
    behind.kill()
    sandbox.enqueue(**ENDLESS)
    waits = me.ask("Tell me a story without end", to=other)
    with product.redis() as redis:
        redis.flushall()
    ahead = product.start("worker", **clock_wrong_by(600))
    begun(waits)
    ahead.kill()
    lost = ended(waits, 15)

    assert me.page(lost).ending == "Interrupted: our worker went away. The text so far is kept."
    assert lost.usage_records.get().confidence == "estimated"
    assert posts() == 2


def clock_wrong_by(seconds: int) -> dict[str, str]:
    return {"PYTHONPATH": str(SKEWED), "CLOCK_SKEW": str(seconds)}


def logged_at(process, turn: Turn) -> datetime:
    """When it noted the end of the call, by its own clock."""
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    [line] = [line for line in lines if line.get("turn") == str(turn.id) and line["event"] == "provider_call"]
    return datetime.fromisoformat(line["timestamp"])
