"""Calls that somebody should look at: which they are, and that looking never stops one."""

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from chat import calls, spend, unusual
from chat.metrics import registry
from chat.models import Alarm, UsageRecord
from chat.money import NANO, nano
from chat.pricing import Usage
from tests.books import SONNET, USED, admit
from tests.conftest import wait_until

pytestmark = pytest.mark.django_db

CENT = NANO // 100


@pytest.fixture
def judged():
    """`judged(alice, cost)`: a reply that cost so many nano-dollars, noted as every call is when it is over."""

    def judged(person, cost: int, *, used: Usage = USED, exact: bool = True, **fields) -> UsageRecord:
        record = admit(person, **{"purpose": "reply", **fields})
        spend.settle(record, used, exact=exact, cost=cost)
        calls.note(record)
        return UsageRecord.objects.get(id=record.id)

    return judged


def events(caplog, name: str) -> list[dict]:
    return [r.msg for r in caplog.records if isinstance(r.msg, dict) and r.msg["event"] == name]


# --- The ceilings


@pytest.mark.parametrize(("above", "why"), [(0, ""), (1, "dear")])
def test_a_call_is_dear_above_the_ceiling_and_not_at_it(above, why, alice, judged):
    assert judged(alice, nano("5") + above).unusual == why


@pytest.mark.parametrize(("output", "why"), [(200_000, ""), (200_001, "long")])
def test_a_call_is_long_when_its_prompt_and_its_answer_are_above_the_ceiling_together(output, why, alice, judged):
    used = Usage(input=100_000, cache_write_5m=90_000, cache_write_1h=10_000, cache_read=100_000, output=output)

    assert judged(alice, CENT, used=used).unusual == why


def test_the_ceilings_are_settings(alice, judged, settings):
    settings.CALL_CEILING_DOLLARS, settings.CALL_CEILING_TOKENS = 1, 10

    assert judged(alice, NANO + 1).unusual == "dear"
    assert judged(alice, NANO, used=Usage(input=6, output=5)).unusual == "long"


def test_a_ceiling_beyond_all_money_stops_nothing(alice, judged, settings):
    settings.CALL_CEILING_DOLLARS = 10**30

    assert judged(alice, nano("6")).unusual == ""


# --- Far above the usual


@pytest.mark.parametrize(("cost", "why"), [(20 * CENT, ""), (20 * CENT + 1, "far")])
def test_more_than_ten_times_the_usual_is_far_above_it(cost, why, alice, judged):
    for earlier in [1 * CENT, 3 * CENT] * 5:
        judged(alice, earlier)

    assert judged(alice, cost).unusual == why


def test_nine_replies_are_too_few_to_say_what_is_usual(alice, judged):
    for _ in range(9):
        judged(alice, 1_000)

    assert judged(alice, 2 * CENT).unusual == ""
    assert judged(alice, 4 * CENT).unusual == "far"  # the tenth is there now; their mean is a fifth of a cent


def test_a_cent_is_never_far_above_the_usual(alice, judged):
    for _ in range(10):
        judged(alice, 1_000)

    assert judged(alice, CENT).unusual == ""
    assert judged(alice, CENT + 1).unusual == "far"


def test_only_the_last_fifty_replies_say_what_is_usual(alice, judged):
    for _ in range(5):
        judged(alice, 2 * NANO)
    for _ in range(49):
        judged(alice, 1_000)

    assert judged(alice, 2 * CENT).unusual == ""  # one of the dear ones is still among the fifty
    for _ in range(3):
        judged(alice, 1_000)
    assert judged(alice, 2 * CENT).unusual == "far"


def test_only_the_person_s_own_settled_replies_say_what_is_usual(alice, bob, judged):
    for _ in range(10):
        judged(bob, 1_000)
        judged(alice, 1_000, purpose="title")
        judged(alice, 1_000, purpose="summary")
        spend.void(admit(alice, purpose="reply"))

    assert judged(alice, 2 * CENT).unusual == ""
    assert judged(bob, 2 * CENT).unusual == "far"


# --- Who is judged


def test_an_estimated_call_is_judged_too(alice, judged, settings):
    settings.CALL_CEILING_TOKENS = 10

    record = judged(alice, 1_000, exact=False)

    assert (record.confidence, record.unusual) == ("estimated", "long")


@pytest.mark.parametrize(("purpose", "why"), [("title", ""), ("reply", "dear"), ("summary", "dear")])
def test_everything_but_a_title_is_judged(purpose, why, alice, judged):
    assert judged(alice, nano("6"), purpose=purpose).unusual == why


def test_a_call_that_was_not_billed_is_not_judged(alice, settings):
    settings.CALL_CEILING_TOKENS = 0
    record = admit(alice, purpose="reply")
    spend.void(record)

    calls.note(record)

    assert UsageRecord.objects.get(id=record.id).unusual == ""


@pytest.mark.django_db(transaction=True)
def test_an_answer_from_the_chat_is_judged(ask, worker, settings, caplog):
    settings.CALL_CEILING_TOKENS = 1

    turn = ask("Hello")

    wait_until(lambda: turn.usage_records.get().unusual == "long", "the answer was not judged")
    [line] = events(caplog, "unusual_call")
    assert (line["turn"], line["level"]) == (str(turn.id), "warning")


# --- What comes of it


def test_the_log_has_ids_and_figures_and_nothing_else(alice, judged, caplog):
    for _ in range(10):
        judged(alice, 1_000)

    record = judged(alice, 2 * CENT)

    [line] = events(caplog, "unusual_call")
    figures = {key: line[key] for key in ("record", "turn", "user", "cost_nano", "usual_nano", "why")}
    assert figures == {
        "record": str(record.id),
        "turn": None,
        "user": alice.pk,
        "cost_nano": 2 * CENT,
        "usual_nano": 1_000,
        "why": "far",
    }
    assert set(line) - set(figures) <= {"event", "level", "logger", "timestamp"}


def test_the_metric_counts_them_by_why(alice, judged):
    for _ in range(2):
        judged(alice, nano("6"))
    judged(alice, 1_000, used=Usage(input=600_000))
    judged(alice, 1_000)

    [family] = [family for family in registry().collect() if family.name == "tally_unusual_calls"]

    assert {sample.labels["why"]: sample.value for sample in family.samples} == {"dear": 2, "long": 1}


def test_an_administrator_can_list_them(alice, ada, judged, browse):
    dear, usual = judged(alice, nano("6")), judged(alice, 1_000)

    listed = browse(ada).get("/admin/chat/usagerecord/?unusual__exact=dear").content.decode()

    assert str(dear.id) in listed
    assert str(usual.id) not in listed


def test_judging_asks_the_database_once_at_most(alice, judged, django_assert_num_queries):
    for _ in range(10):
        judged(alice, CENT)
    record = judged(alice, 2 * CENT)

    with CaptureQueriesContext(connection) as asked:
        unusual.judge(record)

    assert len(asked) == 1
    assert connection.vendor != "sqlite" or "usage_by_user" in _plan(asked[0]["sql"])
    record.cost = CENT
    with django_assert_num_queries(0):
        unusual.judge(record)


def _plan(sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        return str(cursor.fetchall())


def test_a_call_that_cannot_be_judged_fails_nobody(alice, judged, monkeypatch, caplog):
    def broken(record):
        raise OperationalError("the database is away")

    monkeypatch.setattr(unusual, "_mark", broken)

    record = judged(alice, nano("6"))

    assert (record.state, record.unusual) == ("settled", "")
    [line] = events(caplog, "call_not_judged")
    assert line["record"] == str(record.id)


# --- Tokens of a kind that nobody knows


@pytest.mark.parametrize("purpose", ["reply", "title"])
def test_tokens_that_no_price_names_sound_an_alarm_about_the_model(purpose, alice, judged):
    raw = {"input_tokens": 10, "output_tokens": 20, "telepathy_tokens": 7}

    judged(alice, 1_000, used=Usage.read(raw), purpose=purpose)
    judged(alice, 1_000, used=Usage.read(raw), purpose=purpose)

    alarm = Alarm.objects.get(kind="unknown_usage")
    assert (alarm.subject, alarm.count, alarm.closed_at) == (SONNET, 2, None)
    assert "7 tokens" in alarm.words
    assert "dearest rate" in alarm.words


def test_tokens_that_are_known_sound_none(alice, judged):
    judged(alice, 1_000)

    assert not Alarm.objects.exists()
