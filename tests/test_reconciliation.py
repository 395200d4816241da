"""Our books against the provider's own: the invoice of the sandbox, and reports that nobody should believe."""

import inspect
import io
import json
import threading
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F, Sum
from django.db.models.functions import Now

from chat import periodic, reconciliation, spend
from chat.claude import ClaudeError, Request, organization
from chat.engine import engine
from chat.models import Alarm, LedgerEntry, PeriodicTask, UsageRecord
from chat.money import nano
from chat.pricing import Usage
from chat.reconciliation import Compared
from chat.sandbox import Sandbox
from local import envfile
from local.processes import configuration, programs
from tests.books import COST, HAIKU, SONNET, admit, spent_call
from tests.conftest import wait_until
from tests.servers import free_port

pytestmark = pytest.mark.django_db

DAY = date(2026, 11, 20)


@pytest.fixture(autouse=True)
def _with_an_admin_key(settings):
    settings.ANTHROPIC_ADMIN_KEY = envfile.SANDBOX_ADMIN_KEY


@pytest.fixture
def answered(sandbox):
    """`answered(alice)`: a call that Claude really answered, in our books and on its invoice."""

    def answered(person, model=SONNET) -> UsageRecord:
        record = admit(person, model=model, bound=500)
        message = _asked(model)
        spend.settle(record, Usage.read(message["usage"]), exact=True)
        return record

    return answered


@pytest.fixture
def reported(settings):
    """A provider that answers with the pages it is given, and keeps what it was asked: `reported(page, …)`."""
    asked, pages = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((urlsplit(self.path).path, parse_qs(urlsplit(self.path).query), self.headers))
            status, body = pages[min(len(asked), len(pages)) - 1]
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    settings.ANTHROPIC_BASE_URL = f"http://127.0.0.1:{server.server_port}"

    def reported(*answers, status=200):
        pages[:] = [(status, page if isinstance(page, bytes) else json.dumps(page).encode()) for page in answers]
        asked.clear()
        return asked

    yield reported
    server.shutdown()
    thread.join()
    server.server_close()


def page(*lines, day=DAY, next_page=None) -> dict:
    bucket = {
        "starting_at": f"{day}T00:00:00Z",
        "ending_at": f"{day + timedelta(days=1)}T00:00:00Z",
        "results": [{"currency": "USD", "model": SONNET, **line} for line in lines],
    }
    return {"data": [bucket], "has_more": next_page is not None, "next_page": next_page}


def run(day=None) -> str:
    out = io.StringIO()
    call_command("reconcile", *(["--day", str(day)] if day else []), stdout=out)
    return out.getvalue()


def refusal(day=DAY) -> str:
    """What `reconcile` says when it compares nothing: one sentence, and nothing has changed."""
    with pytest.raises(CommandError) as refused:
        run(day)
    assert not Alarm.objects.exists()
    words = str(refused.value)
    assert "\n" not in words
    return words


def today() -> date:
    return datetime.now(UTC).date()


def _asked(model: str) -> dict:
    request = Request(
        model=model, messages=[{"role": "user", "content": "[[sandbox tokens=20]] Hello"}], system="", wanted_tokens=50
    )
    return engine().wait(engine().ask(lambda claude: claude.complete(request, 50)))


# --- Days that agree


def test_a_day_of_settled_calls_agrees_with_the_invoice_to_the_nano_dollar(answered, sandbox, alice, bob):
    for person, model in ((alice, SONNET), (bob, SONNET), (alice, HAIKU)):
        answered(person, model)

    result = reconciliation.reconcile(today())

    invoiced = {
        model: sum(line.cost_nanos for line in sandbox.invoice if line.model == model) for model in (HAIKU, SONNET)
    }
    assert result.models == [Compared(model, cost, cost) for model, cost in invoiced.items()]
    assert (result.total.difference, result.total.drift) == (0, 0)
    assert result.agrees
    assert not Alarm.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_turn_and_its_title_are_both_on_the_invoice_and_in_the_books(ask, worker, sandbox):
    ask("Hello")
    wait_until(lambda: UsageRecord.objects.filter(purpose="title", state="settled").exists(), "no title")

    result = reconciliation.reconcile(today())

    assert result.total.ours == result.total.theirs == sum(line.cost_nanos for line in sandbox.invoice) > 0
    assert len(sandbox.invoice) == 2


@pytest.mark.django_db(transaction=True)
def test_an_answer_that_broke_is_drift_until_it_is_corrected(ask, worker, sandbox, conversation, ada):
    conversation.title = "A title already"
    conversation.save()
    sandbox.enqueue(tokens=50, cut_at=20)
    turn = ask("Hello")
    sandbox.wait_until_idle()

    before = reconciliation.reconcile(today())
    [record] = turn.usage_records.all()
    spend.adjust(record, before.total.difference, actor=ada, reason="Met the invoice")
    after = reconciliation.reconcile(today())

    assert before.total.ours == before.estimated == record.cost > before.total.theirs > 0
    assert not before.agrees
    assert after.total.ours == after.total.theirs
    assert after.agrees
    alarm = Alarm.objects.get()
    assert (alarm.kind, alarm.subject, alarm.closed_at is not None) == ("drift", str(today()), True)


def test_a_day_with_nothing_on_either_side_has_no_drift(sandbox):
    assert "0.00 %" in run()
    assert not Alarm.objects.exists()


def test_the_command_shows_each_model_exactly_and_says_the_sum(answered, sandbox, alice):
    answered(alice)
    answered(alice, HAIKU)

    lines = run(today()).splitlines()

    costs = {line.model: line.cost_nanos for line in sandbox.invoice}
    for line, model in zip(lines[1:3], (HAIKU, SONNET), strict=True):
        exact = f"0.{costs[model]:09d}"
        assert line.split() == [model, exact, exact, "$0.00", "0.00", "%"]
    assert lines[3].split()[:3] == ["total"] + [f"0.{sum(costs.values()):09d}"] * 2
    assert lines[4].startswith(f"On {today()} (UTC) Anthropic charged $0.")


# --- Drift


def test_a_call_that_is_only_on_the_invoice_is_all_drift_and_an_alarm(sandbox):
    _asked(SONNET)

    with pytest.raises(CommandError, match=r"our books say \$0\.00, .* 100\.00 % apart"):
        run(today())

    alarm = Alarm.objects.get(kind="drift", closed_at=None)
    assert alarm.subject == str(today())
    assert f"reconcile --day {today()}" in alarm.words


def test_a_call_that_is_only_in_our_books_is_all_drift(sandbox, alice):
    spent_call(alice)

    result = reconciliation.reconcile(today())

    assert (result.total.ours, result.total.theirs, result.total.drift) == (COST, 0, 100)
    assert Alarm.objects.filter(kind="drift", closed_at=None).count() == 1


def test_a_day_that_goes_on_drifting_is_one_alarm(sandbox, alice):
    spent_call(alice)

    reconciliation.reconcile(today())
    reconciliation.reconcile(today())

    assert Alarm.objects.get().count == 2


def test_a_billed_call_that_was_voided_is_seen(answered, sandbox, alice):
    answered(alice)
    lost = admit(alice)
    _asked(SONNET)
    spend.void(lost)

    result = reconciliation.reconcile(today())

    assert result.total.difference == sandbox.invoice[1].cost_nanos
    assert not result.agrees


@pytest.mark.parametrize(
    ("ours", "theirs", "drift", "agrees"),
    [
        (0, 0, 0, True),
        (0, 1, 100, False),
        (1, 0, 100, False),
        (10_000, 10_000, 0, True),
        (9_900, 10_000, 1, True),
        (10_000, 9_900, 1, True),
        (989_999_999, 1_000_000_000, pytest.approx(1.0000001), False),
        (10**18, 10**18 - 1, pytest.approx(1e-16), True),
        (50, 100, 50, False),
    ],
)
def test_drift_is_a_share_of_the_larger_side_and_one_per_cent_is_tolerated(ours, theirs, drift, agrees):
    compared = Compared("total", ours, theirs)

    assert float(compared.drift) == drift
    assert reconciliation.Reconciliation(DAY, [], compared, 0).agrees is agrees


# --- What belongs to a day


@pytest.mark.parametrize(
    ("sent", "counted"),
    [
        ("00:00:00.000000", True),
        ("23:59:59.999999", True),
        ("-1", False),
        ("+1", False),
    ],
)
def test_a_call_belongs_to_the_utc_day_in_which_it_was_sent(sandbox, alice, sent, counted):
    """It was admitted and settled today; only when it was sent is moved."""
    record = spent_call(alice)
    day = today() - timedelta(days=1)
    moment = {
        "-1": datetime.combine(day, datetime.min.time(), UTC) - timedelta(microseconds=1),
        "+1": datetime.combine(today(), datetime.min.time(), UTC),
    }.get(sent) or datetime.fromisoformat(f"{day}T{sent}+00:00")
    UsageRecord.objects.filter(id=record.id).update(sent_at=moment)

    ours, _ = reconciliation._our_books(day)

    assert ours == ({SONNET: COST} if counted else {})


def test_calls_that_run_or_were_not_billed_are_in_no_sum(alice, sandbox):
    admit(alice)
    spend.void(admit(alice))

    assert reconciliation.reconcile(today()).models == []


def test_an_adjustment_counts_for_the_day_of_its_call(sandbox, alice, ada):
    record = spent_call(alice)
    UsageRecord.objects.filter(id=record.id).update(sent_at=F("sent_at") - timedelta(days=1))

    spend.adjust(record, -COST // 2, actor=ada, reason="Half of it was a fault")

    assert reconciliation._our_books(today() - timedelta(days=1)) == ({SONNET: COST // 2}, 0)
    assert reconciliation._our_books(today()) == ({}, 0)


def test_our_total_of_a_day_is_the_sum_of_the_ledger(answered, sandbox, alice, ada):
    record = answered(alice)
    answered(alice, HAIKU)
    spend.adjust(record, 12_345, actor=ada, reason="A test")

    ours, _ = reconciliation._our_books(today())

    booked = LedgerEntry.objects.filter(period__account=f"user:{alice.pk}", kind__in=["charge", "adjust"])
    assert sum(ours.values()) == booked.aggregate(sum=Sum("amount"))["sum"]


# --- The report, as it is documented


def test_the_report_of_one_day_is_asked_for_as_it_is_documented(reported, settings):
    asked = reported(page())

    run(DAY)

    [(path, query, headers)] = asked
    assert path == "/v1/organizations/cost_report"
    assert query == {
        "starting_at": ["2026-11-20T00:00:00Z"],
        "ending_at": ["2026-11-21T00:00:00Z"],
        "bucket_width": ["1d"],
        "group_by[]": ["description"],
    }
    assert headers["X-Api-Key"] == settings.ANTHROPIC_ADMIN_KEY
    assert settings.ANTHROPIC_API_KEY not in str(headers)


def test_every_page_and_every_line_is_counted_in_exact_cents(reported):
    """One line each for input, output and searches; a model goes by its dated name; cents have digits of their own."""
    asked = reported(
        page({"amount": "123.45"}, {"amount": "0.0000001"}, next_page="page_2"),
        page(
            {"amount": "0.1", "model": "claude-haiku-4-5-20251001"}, {"amount": "3", "model": None}, next_page="page_3"
        ),
        page({"amount": "1000"}, day=DAY + timedelta(days=1)),
    )

    charges = organization.charges(DAY)
    asked.clear()
    result = reconciliation.reconcile(DAY)

    assert sum(nano(charge.dollars) for charge in charges) == result.total.theirs == 1_265_500_001
    assert [query.get("page") for _, query, _ in asked] == [None, ["page_2"], ["page_3"]]
    assert {row.name: row.theirs for row in result.models} == {
        "claude-haiku-4-5": 1_000_000,
        SONNET: 1_234_500_001,
        "no model": 30_000_000,
    }


# --- What nobody should believe


@pytest.mark.parametrize(
    "line",
    [
        {"amount": "-1"},
        {"amount": "-0.0000000001"},
        {"amount": "NaN"},
        {"amount": "sNaN"},
        {"amount": "Infinity"},
        {"amount": "a lot"},
        {"amount": ""},
        {"amount": 12.5},
        {"amount": 12},
        {"amount": True},
        {"amount": None},
        {"amount": ["1"]},
        {"amount": "1e30"},
        {"amount": "1e999999999"},
        {"amount": "900000000000.01"},
        {"amount": "12.5", "currency": "EUR"},
        {"amount": "12.5", "currency": None},
        {},
    ],
    ids=str,
)
def test_an_amount_that_cannot_be_is_refused_in_one_sentence(reported, line):
    reported(page({"amount": "1"}, line))

    assert refusal().startswith("Nothing was compared, because there was no cost report to be had from Anthropic")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Bad gateway</html>",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{"data": 5}',
        b'{"data": [7], "has_more": false}',
        b'{"data": [{"starting_at": "2026-11-20T00:00:00Z"}], "has_more": false}',
    ],
)
def test_a_report_of_another_shape_is_refused_in_one_sentence(reported, body):
    reported(body)

    assert refusal().startswith("Nothing was compared")


def test_a_report_that_leaves_the_day_out_is_no_day_without_calls(reported):
    reported(page(day=DAY - timedelta(days=1)))

    assert "leaves that day out" in refusal()


def test_a_report_without_an_end_is_given_up(reported):
    asked = reported(page({"amount": "1"}, next_page="the-same"))

    assert "does not end" in refusal()
    assert len(asked) == organization.MOST_PAGES


@pytest.mark.parametrize("status", [400, 404, 429, 500, 529])
def test_a_provider_that_refuses_is_asked_once_and_changes_nothing(reported, status):
    asked = reported({"type": "error", "error": {"type": "api_error", "message": "no"}}, status=status)

    assert f"HTTP {status}" in refusal()
    assert len(asked) == 1


def test_a_provider_that_does_not_listen_changes_nothing(settings):
    settings.ANTHROPIC_BASE_URL = f"http://127.0.0.1:{free_port()}"

    assert "unreachable" in refusal()


def test_a_wrong_key_is_named_and_not_shown(sandbox, settings):
    settings.ANTHROPIC_ADMIN_KEY = "sk-ant-admin01-not-this-one"

    words = refusal()

    assert words.startswith("Anthropic did not accept ANTHROPIC_ADMIN_KEY (provider_auth: HTTP 401")
    assert "not-this-one" not in words


def test_the_key_for_answers_does_not_open_the_report(sandbox, settings):
    settings.ANTHROPIC_ADMIN_KEY = settings.ANTHROPIC_API_KEY

    assert refusal().startswith("Anthropic did not accept ANTHROPIC_ADMIN_KEY")


def test_without_an_admin_key_one_sentence_says_what_is_missing(reported, settings):
    settings.ANTHROPIC_ADMIN_KEY = ""
    asked = reported(page())

    assert refusal().startswith("ANTHROPIC_ADMIN_KEY is not set")
    assert asked == []


@pytest.mark.parametrize("day", ["tomorrow", "2026-13-01", "23.11.2026", "2999-01-01"])
def test_a_day_that_is_none_is_refused_before_anybody_is_asked(reported, day):
    asked = reported(page())

    assert day in refusal(day)
    assert asked == []


def test_a_day_that_could_not_be_read_leaves_its_alarm_as_it_was(reported, alice):
    reported(page(day=today()))
    spent_call(alice)
    reconciliation.reconcile(today())
    reported({}, status=500)

    with pytest.raises(ClaudeError):
        reconciliation.reconcile(today())

    assert Alarm.objects.get(closed_at=None).count == 1


# --- Each day


def test_each_day_the_day_before_is_compared(reported):
    asked = reported(page({"amount": "1"}, day=today() - timedelta(days=1)))

    reconciliation.reconcile_yesterday()

    assert [query["starting_at"] for _, query, _ in asked] == [[f"{today() - timedelta(days=1)}T00:00:00Z"]]
    assert Alarm.objects.get().subject == str(today() - timedelta(days=1))


@pytest.mark.parametrize(("name", "value"), [("ANTHROPIC_ADMIN_KEY", ""), ("SANDBOX", True)])
def test_without_an_admin_key_or_with_a_stand_in_a_day_passes_in_silence(reported, settings, name, value):
    setattr(settings, name, value)
    asked = reported(page())

    reconciliation.reconcile_yesterday()

    assert asked == []
    assert not Alarm.objects.exists()


def test_a_day_that_could_not_be_compared_is_an_alarm_and_tried_again_in_an_hour(reported):
    reported({}, status=529)
    assert periodic.claim("reconcile_yesterday", periodic.ONCE_A_DAY)

    reconciliation.reconcile_yesterday()

    alarm = Alarm.objects.get()
    assert (alarm.kind, alarm.subject) == ("not_reconciled", str(today() - timedelta(days=1)))
    assert not periodic.claim("reconcile_yesterday", periodic.ONCE_A_DAY)
    PeriodicTask.objects.update(begun_at=F("begun_at") - timedelta(hours=1))
    assert PeriodicTask.objects.filter(begun_at__lte=Now() - periodic.ONCE_A_DAY).exists()

    reported(page(day=today() - timedelta(days=1)))
    reconciliation.reconcile_yesterday()

    alarm.refresh_from_db()
    assert alarm.closed_at


# --- The key


def test_a_clone_with_a_sandbox_has_the_admin_key_that_it_takes(tmp_path):
    values = envfile.refresh(tmp_path / "local.env", {}, tmp_path / "redis.sock")

    assert values["ANTHROPIC_ADMIN_KEY"] == inspect.signature(Sandbox).parameters["admin_key"].default


def test_the_sandboxs_admin_key_goes_when_the_sandbox_does_and_ones_own_stays(tmp_path):
    path = tmp_path / "local.env"
    envfile.refresh(path, {}, tmp_path / "redis.sock")

    assert "ANTHROPIC_ADMIN_KEY" not in envfile.refresh(path, {"ANTHROPIC_API_KEY": "sk"}, tmp_path / "redis.sock")

    path.write_text("ANTHROPIC_ADMIN_KEY=mine\n")
    for _ in range(2):
        assert envfile.refresh(path, {}, tmp_path / "redis.sock")["ANTHROPIC_ADMIN_KEY"] == "mine"


def test_only_the_worker_gets_the_admin_key_and_the_file_holds_none():
    found = programs({"ANTHROPIC_ADMIN_KEY": "sk-ant-admin01-secret"}, {}, port=8000)

    assert [program.name for program in found if "ANTHROPIC_ADMIN_KEY" in program.environment] == ["worker"]
    assert "sk-ant-admin01-secret" not in configuration(found)
