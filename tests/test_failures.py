"""Everything that can go wrong between us and Claude, and around us: what people read, what is sent, what is charged.

C14-C21 and C29 of the list of faults; Redis away. What kills processes is in test_crashes.py.
"""

import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import redis
from celery import Celery
from django.conf import settings as django_settings

from chat import doorbell
from chat.engine import engine
from chat.models import Message, Price, Turn, UsageRecord
from chat.sandbox import Sandbox, tokens
from chat.sweeper import Sweeper
from tests.conftest import over, streams_in, wait_until
from tests.servers import free_port

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("worker")]

SHORTEN = ["Summarise the older turns", "Try again"]


@pytest.fixture
def rebuild(settings):
    """`rebuild(ANTHROPIC_BASE_URL=…)`: from now on Claude's client is one that was made with those settings."""
    before = engine()._claude

    def rebuild(**values) -> None:
        for name, value in values.items():
            setattr(settings, name, value)
        engine()._claude = None

    yield rebuild
    made, engine()._claude = engine()._claude, before
    if made not in (None, before):
        engine().wait(made._client.close())


@pytest.fixture
def silent_port():
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def broker_at(url: str):
    """The web process rings there, with the product's own timeouts; the worker does not notice."""
    elsewhere = Celery("elsewhere", set_as_current=False)
    elsewhere.config_from_object(django_settings, namespace="CELERY")
    elsewhere.conf.broker_url = url
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(doorbell, "current_app", elsewhere)
        yield


def posts(sandbox) -> int:
    return len(streams_in(sandbox))


def billed(sandbox, turn) -> int:
    """What the provider wants for a turn, also for calls whose id we never got to know."""
    sandbox.wait_until_idle()
    asked = {request["request_id"] for request in sandbox.requests if request["body"].get("stream")}
    return sum(line.cost_nanos for line in sandbox.invoice if line.request_id in asked)


# --- Claude says no: nothing is charged


@pytest.mark.parametrize(
    ("scenario", "words", "buttons", "sent"),
    [
        ({"status": "401"}, "Claude did not accept our key. The administrators have been told.", ["Try again"], 1),
        ({"status": "402"}, "our account with Claude is out of money", ["Try again"], 1),
        ({"status": "spend_limit"}, "our account with Claude is out of money", ["Try again"], 1),
        ({"status": "org_limit"}, "our account with Claude is out of money", ["Try again"], 1),
        ({"status": "workspace_limit"}, "our account with Claude is out of money", ["Try again"], 1),
        ({"status": "400"}, "Claude could not read this request. Nothing was charged.", ["Try again"], 1),
        ({"status": "413"}, "are too long for the model. Nothing was charged. Summarise", SHORTEN, 1),
        ({"status": "too_long"}, "are too long for the model. Nothing was charged. Summarise", SHORTEN, 1),
        (
            {"status": "429", "retry_after": 3600},
            "Too many questions at once for Claude. Nothing was",
            ["Try again"],
            1,
        ),
        ({"status": "529", "retry_after": 0, "times": 3}, "Claude is busy. Nothing was charged.", ["Try again"], 3),
        ({"status": "500", "retry_after": 0, "times": 3}, "Claude had a fault. Nothing was charged.", ["Try again"], 3),
        ({"status": "502html", "retry_after": 0, "times": 3}, "Claude had a fault. Nothing", ["Try again"], 3),
    ],
    ids=lambda value: value["status"] if isinstance(value, dict) else "",
)
def test_what_claude_refuses_is_said_in_plain_words_and_costs_nothing(
    ask, sandbox, page, scenario, words, buttons, sent
):
    sandbox.enqueue(**scenario)
    began = time.monotonic()

    turn = ask()

    shown = page(turn)
    assert (shown.status, shown.buttons, shown.footer) == ("failed", buttons, "")
    assert words in shown.ending
    assert posts(sandbox) == turn.usage_records.filter(state="void", cost=0).count() == sent
    assert time.monotonic() - began < 10
    assert turn.question.text == "Hello"


def test_a_first_event_that_says_overloaded_is_asked_again_and_billed_once(ask, sandbox, page):
    sandbox.enqueue(error_at=0)
    sandbox.enqueue(say="Forty-two.")

    turn = ask()

    assert page(turn).text == "Forty-two."
    assert posts(sandbox) == 2
    assert [r.state for r in turn.usage_records.order_by("admitted_at")] == ["void", "settled"]
    assert sum(r.cost for r in turn.usage_records.all()) == billed(sandbox, turn)


def test_what_was_too_long_is_not_sent_again_with_what_follows_it(ask, sandbox, page):
    sandbox.enqueue(status="413")
    ask("A question that is far too long")
    sandbox.enqueue(say="Forty-two.", match="A shorter one")

    turn = ask("A shorter one")

    [asked] = sandbox.requests[1]["body"]["messages"]
    assert asked["content"][0]["text"] == "A shorter one"
    assert page(turn).text == "Forty-two."


def test_a_model_that_claude_does_not_know_is_said_so(ask, sandbox, page, settings):
    settings.MODELS = ["claude-sonnet-5-5", "claude-next-9"]
    known = Price.objects.filter(model="claude-sonnet-5-5").latest("effective_from")
    known.pk, known._state.adding, known.model = None, True, "claude-next-9"
    known.save()

    turn = ask(model="claude-next-9")

    assert page(turn).ending.startswith("Claude does not know this model. Choose another one and send it again.")
    assert posts(sandbox) == turn.usage_records.filter(state="void").count() == 1


def test_without_a_key_nothing_is_sent_and_the_reader_is_told(ask, sandbox, page, rebuild):
    rebuild(ANTHROPIC_API_KEY="", ANTHROPIC_BASE_URL="")

    turn = ask()

    shown = page(turn)
    assert shown.ending.startswith("Tally has no key for Claude yet, so nothing was sent.")
    assert shown.buttons == ["Try again"]
    assert not sandbox.requests
    assert turn.usage_records.get().state == "void"


def test_where_nobody_listens_three_tries_are_made_and_nothing_is_charged(ask, page, rebuild):
    rebuild(ANTHROPIC_BASE_URL=f"http://127.0.0.1:{free_port()}")

    turn = ask()

    shown = page(turn)
    assert (shown.status, shown.ending) == ("failed", "Claude could not be reached. Nothing was charged.")
    assert shown.buttons == ["Try again"]
    assert [(r.state, r.cost) for r in turn.usage_records.all()] == [("void", 0)] * 3


def test_another_server_with_another_key_works_by_its_address_alone(ask, sandbox, page, rebuild):
    with Sandbox(key="another-key", ttft_ms=5, rate=2000) as other:
        rebuild(ANTHROPIC_BASE_URL=other.url, ANTHROPIC_API_KEY="another-key")
        other.enqueue(say="Here I am.")

        turn = ask()

        assert page(turn).text == "Here I am."
        assert turn.usage_records.get().cost == other.invoice[0].cost_nanos
        assert not sandbox.requests
        wait_until(lambda: UsageRecord.objects.filter(purpose="title", state="settled").exists(), "no title")


# --- It was sent, and what became of it is not known: charged by an estimate, never asked again


@pytest.mark.parametrize(
    ("scenario", "status", "words", "buttons"),
    [
        ({"hang": 30}, "failed", "Claude did not answer in time.", ["Try again"]),
        ({"rst_before_headers": True}, "interrupted", "the connection to Claude broke.", ["Try again"]),
        ({"tokens": 50, "stall_at": 10}, "interrupted", "Claude stopped writing.", ["Continue", "Try again"]),
        ({"tokens": 50, "ping_forever_at": 10}, "interrupted", "Claude stopped writing.", ["Continue", "Try again"]),
        ({"thinking": 50, "tokens": 9, "stall_at": 5}, "interrupted", "Claude stopped writing.", ["Try again"]),
        (
            {"tokens": 50, "rate": 50, "bad_utf8_at": 10},
            "interrupted",
            "the connection to Claude broke.",
            ["Continue", "Try again"],
        ),
        ({"tokens": 50, "no_delta": True}, "interrupted", "the connection to Claude broke.", ["Continue", "Try again"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_an_answer_that_broke_is_never_asked_for_again_by_itself(
    ask, sandbox, page, rebuild, scenario, status, words, buttons
):
    rebuild(NO_PROGRESS_SECONDS=2)
    sandbox.enqueue(**scenario)

    turn = ask()

    shown, record = page(turn), turn.usage_records.get()
    assert (shown.status, shown.buttons) == (status, buttons)
    assert words in shown.ending
    assert posts(sandbox) == 1
    assert (record.state, record.confidence) == ("settled", "estimated")
    assert 0 < billed(sandbox, turn) <= record.cost <= record.held
    assert "estimated" in shown.footer


def test_a_broken_answer_that_claude_will_not_count_is_charged_by_its_bytes(ask, sandbox):
    sandbox.enqueue(say="Forty-two is the answer. " * 40, cut_at=150)
    sandbox.enqueue(on="count_tokens", status="500", times=5)

    turn = ask()

    record = turn.usage_records.get()
    assert record.confidence == "estimated"
    assert record.output_tokens >= len(turn.reply.text.encode()) > 100
    assert 0 < billed(sandbox, turn) <= record.cost <= record.held


def test_an_answer_that_takes_too_long_is_ended_and_can_be_continued(ask, sandbox, page, settings):
    settings.TURN_DEADLINE_SECONDS = 3
    sandbox.enqueue(tokens=2_000, rate=50)

    turn = ask()

    shown, record = page(turn), turn.usage_records.get()
    assert (shown.status, shown.buttons) == ("interrupted", ["Continue", "Try again"])
    assert shown.ending == "Interrupted: the answer took too long. The text so far is kept."
    assert shown.text
    assert billed(sandbox, turn) <= record.cost <= record.held


# --- It is odd, and arrives all the same


@pytest.mark.parametrize(
    "oddity",
    [
        {"unknown_event": True},
        {"unknown_block": True},
        {"one_byte": True},
        {"nul": True},
        {"surrogate": True},
    ],
    ids=lambda value: next(iter(value)),
)
def test_what_nobody_has_heard_of_does_not_end_an_answer(ask, sandbox, page, oddity):
    sandbox.enqueue(tokens=40, **oddity)

    turn = ask()

    shown = page(turn)
    assert (shown.status, shown.ending) == ("done", "")
    assert len(shown.text) > 60
    assert turn.usage_records.get().cost == billed(sandbox, turn)
    sandbox.enqueue(match="And then?", say="Go on.")
    assert page(ask("And then?")).text == "Go on."  # what is stored can be sent back


def test_a_text_may_have_the_line_ends_of_others_in_it(ask, sandbox):
    """Python and the transport take more characters for the end of a line than server-sent events do."""
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei"
    sandbox.enqueue(say=text)

    turn = ask()

    assert (turn.state, turn.reply.text) == (Turn.State.DONE, text)


def test_figures_that_nobody_has_heard_of_are_kept_and_do_not_lower_the_bill(ask, sandbox):
    sandbox.enqueue(tokens=40, unknown_usage=True)

    turn = ask()

    record = turn.usage_records.get()
    assert record.usage["sandbox_units"] == 7
    assert record.cost >= billed(sandbox, turn)


def test_five_megabytes_in_one_event_are_stored_and_shown(ask, sandbox, page, monkeypatch):
    # They are more tokens than anybody asks for, so the sandbox has to be told that they are one.
    monkeypatch.setattr("chat.sandbox.plan.tokens", SimpleNamespace(split=tokens.split, count=lambda *of: 1))
    sandbox.enqueue(tokens=10, big_event=5_000_000)

    turn = ask()

    assert turn.state == Turn.State.DONE
    assert len(turn.reply.text) >= 5_000_000
    assert len(page(turn).text) > 4_000_000


# --- Redis is away


@pytest.mark.parametrize("away", ["refuses", "hangs"])
def test_with_the_broker_away_the_question_is_taken_in_four_seconds_and_rung_for_later(
    send, sandbox, page, silent_port, away
):
    began = time.monotonic()

    with broker_at(f"redis://127.0.0.1:{silent_port if away == 'hangs' else free_port()}/0"):
        response = send("Hello")

    took = time.monotonic() - began
    assert response.status_code == 302
    _is_rung_for_later(sandbox, page)
    assert took < 4


def _is_rung_for_later(sandbox, page) -> None:
    turn = Turn.objects.get()
    assert turn.state == Turn.State.QUEUED
    assert page(turn).status == "queued"
    sandbox.enqueue(say="Forty-two.")
    broom = Sweeper()
    wait_until(lambda: broom.sweep() or not Turn.objects.live().exists(), "nobody rang again")
    assert page(over(turn)).text == "Forty-two."


def test_an_answer_ends_right_while_redis_does_not_answer(send, sandbox, page):
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    impatient = redis.Redis.from_url(django_settings.REDIS_URL, socket_timeout=0.05, retry=None)
    sandbox.enqueue(tokens=60, rate=60)
    send("Hello")
    turn = Turn.objects.get()
    wait_until(lambda: Turn.objects.exclude(checkpoint_text="").exists(), "no text arrived")

    client.client_pause(2_800)  # less than the worker's Celery would wait: this is about the answer

    turn = over(turn)
    with pytest.raises(redis.TimeoutError):
        impatient.ping()
    assert page(turn).status == "done"
    assert turn.usage_records.get().output_tokens == 60
    client.ping()


# --- The ground moves under a running answer


def test_a_limit_lowered_in_mid_answer_lets_it_end(send, sandbox, page, limit, alice):
    sandbox.enqueue(tokens=60, rate=100)
    send("Hello")
    turn = Turn.objects.get()
    wait_until(lambda: posts(sandbox), "nothing was sent")

    limit(alice, "0.000001")

    assert page(over(turn)).status == "done"
    assert turn.usage_records.get().cost == billed(sandbox, turn)


def test_a_person_deactivated_in_mid_answer_owes_what_was_used(send, sandbox, alice):
    sandbox.enqueue(tokens=60, rate=100)
    send("Hello")
    turn = Turn.objects.get()
    wait_until(lambda: posts(sandbox), "nothing was sent")

    alice.is_active = False
    alice.save(update_fields=["is_active"])

    over(turn)
    assert billed(sandbox, turn) <= turn.usage_records.get().cost


def test_a_question_sent_in_the_instant_in_which_an_answer_ends_is_taken_or_refused(send, sandbox, monkeypatch):
    ending, keep = threading.Event(), Message.keep

    def keep_slowly(message) -> None:
        ending.set()
        time.sleep(0.5)  # in the middle of the transaction; the question waits in the database, where nobody sees it
        keep(message)

    monkeypatch.setattr(Message, "keep", keep_slowly)
    send("Hello")
    assert ending.wait(10)

    response = send("And another")

    assert response.status_code in (302, 409)
