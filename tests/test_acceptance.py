"""The eighteen cases: what went wrong in other products, through our front door, with a real worker and a real SDK.

One test for each case, or for the moments of one. What a case says is asserted here, also where other tests go deeper.
"""

import csv
import io
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import httpx2
import pytest
import redis
from celery import current_app
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from django.utils import timezone
from playwright.sync_api import expect, sync_playwright

from chat import catalogue, doorbell, rendering, submission, summaries, warnings
from chat.models import Alarm, Budget, BudgetPeriod, Conversation, LedgerEntry, Message, Price, Turn, UsageRecord, User
from chat.money import dollars, nano
from chat.sweeper import Sweeper
from local import browser as local_browser
from tests import environment
from tests.books import HAIKU, OPUS, SONNET, at_once, never_over_a_limit, paris, row
from tests.conftest import over, wait_until
from tests.pages import composer_error, composer_text
from tests.servers import free_port
from tests.test_crashes import QUEUE, doomed, swept  # noqa: F401  a fixture
from tests.test_failures import billed, broker_at, posts
from tests.test_submission import price_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("worker")]

LARGEST = "claude-fable-5-2"  # 128k tokens of output
NAMED = {"title": "No title is asked for", "model": SONNET, "effort": "quick"}
LEFT = re.compile(r"\b(left|remain\w*|available|balance|unused)\b", re.IGNORECASE)


@pytest.fixture
def conversation(alice):
    """With a title, so that none is asked for: that would be a call of its own."""
    return alice.conversations.create(model=SONNET, title="Named")


def replies():
    return UsageRecord.objects.filter(purpose="reply")


def nothing_is_held() -> None:
    wait_until(lambda: not BudgetPeriod.objects.exclude(held=0).exists(), "money is still held")


def downloaded(client: Client, path: str) -> list[dict[str, str]]:
    response = client.get(path)
    assert response.status_code == 200
    return list(csv.DictReader(io.StringIO(response.getvalue().decode(), newline="")))


def test_case_01_fifty_parallel_submissions_with_money_for_three(send, alice, sandbox, limit_nano):
    chats = [alice.conversations.create(**NAMED) for _ in range(50)]
    budget = limit_nano(alice, 3 * price_of(chats[0]))
    sandbox.enqueue(times=3, tokens=5, ttft=50_000)  # nothing is paid back while they press

    with never_over_a_limit():
        answers = at_once(50, lambda number: send("Hello", to=chats[number], htmx=True))
        wait_until(lambda: posts(sandbox) == 3, "Claude was not asked three times")
        sandbox.skip(50)
        ended = [over(turn, 40) for turn in Turn.objects.all()]

    refused = [answer for answer in answers if "does not hold this answer" in answer.content.decode()]
    assert [answer.status_code for answer in answers] == [200] * 50
    assert len(refused) == sum(turn.error == "over_budget" for turn in ended) == 47
    assert posts(sandbox) == sum(turn.state == Turn.State.DONE for turn in ended) == 3
    nothing_is_held()
    assert row(f"user:{alice.pk}").spent == sum(line.cost_nanos for line in sandbox.invoice) <= budget.limit


def test_case_02_five_parallel_turns_on_2000_dollars_with_14_cents_used(send, alice, sandbox, limit, spent):
    limit(alice, "2000")
    spent("0.14")
    chats = [alice.conversations.create(title="Named", model=OPUS, effort="deep") for _ in range(5)]

    at_once(5, lambda number: send("Hello", to=chats[number]))

    ended = [over(turn) for turn in Turn.objects.all()]
    assert [turn.state for turn in ended] == ["done"] * 5
    assert not replies().filter(fitted=True).exists()
    assert posts(sandbox) == 5


@pytest.mark.parametrize(("money", "fitted"), [("25", False), ("0.5", True)])
def test_case_03_25_dollars_and_a_model_with_128k_output(ask, alice, sandbox, limit, page, money, fitted):
    """With $25 there is room for all that is wanted; with less the answer is made to fit, and says so."""
    limit(alice, money)
    sandbox.enqueue(say="Forty-two.")

    turn = ask(model=LARGEST, effort="deep")

    shown, record = page(turn), turn.usage_records.get()
    assert catalogue.find(LARGEST).max_output == 128_000
    assert (shown.status, shown.text, shown.ending) == ("done", "Forty-two.", "")
    assert record.held <= nano(money)
    assert record.fitted == fitted == ("Made to fit your budget" in shown.footer)


@pytest.mark.parametrize(
    ("scenario", "searches", "moment"),
    [
        ({"ttft": 30_000}, 0, "sent"),
        ({"thinking": 4_000, "tokens": 10, "rate": 50}, 0, "begun"),
        ({"tokens": 4_000, "rate": 50}, 0, "text"),
        ({"searches": 3, "stall_at": 9}, 3, "searching"),
    ],
    ids=["before the first token", "in silent thinking", "in mid-answer", "during a search"],
)
def test_case_04_stop(send, browse, alice, conversation, sandbox, page, scenario, searches, moment):
    conversation.max_searches = searches
    conversation.save(update_fields=["max_searches"])
    sandbox.enqueue(**scenario)
    send("Tell me a long story")
    turn = Turn.objects.get()
    reached = {
        "sent": lambda: posts(sandbox),
        "begun": lambda: replies().exclude(usage={}).exists(),
        "text": lambda: Turn.objects.exclude(checkpoint_text="").exists(),
        "searching": lambda: Turn.objects.exclude(checkpoint_text="").exists(),
    }
    wait_until(reached[moment], "that moment did not come")

    browse(alice).post(f"/turns/{turn.id}/stop/")

    turn = over(turn)
    record = turn.usage_records.get()
    assert turn.state == Turn.State.STOPPED
    assert page(turn).ending == "Stopped."
    wait_until(lambda: sandbox.invoice, "the provider's connection is still open")
    assert sandbox.invoice[-1].ended == "client_left"
    assert (record.state, record.confidence) == ("settled", "estimated")
    assert record.prompt_tokens >= sandbox.invoice[-1].input_tokens > 0
    assert 0 < billed(sandbox, turn) <= record.cost <= record.held
    assert [(-entry.amount) for entry in record.entries.filter(kind="release")] == [record.held]
    nothing_is_held()
    assert posts(sandbox) == 1


def test_case_05_a_worker_killed_in_mid_answer(doomed, send, alice, sandbox, monkeypatch, page):  # noqa: F811
    monkeypatch.setattr(
        doorbell,
        "ring",
        lambda turn_id: current_app.send_task("chat.tasks.run_turn", [str(turn_id)], queue=QUEUE),
    )
    sandbox.enqueue(tokens=4_000, rate=50)
    process = doomed()
    send("Tell me a long story")
    turn = Turn.objects.get()
    wait_until(lambda: Turn.objects.exclude(checkpoint_text="").exists(), "no text arrived", 40)

    os.killpg(process.pid, signal.SIGKILL)
    turn = swept(turn)

    record, shown = turn.usage_records.get(), page(turn)
    assert (shown.status, shown.buttons) == ("interrupted", ["Continue", "Try again"])
    assert shown.text
    assert turn.reply.text == turn.checkpoint_text
    assert (record.state, record.confidence) == ("settled", "estimated")
    assert billed(sandbox, turn) <= record.cost <= record.held
    assert row(f"user:{alice.pk}").held == 0
    Sweeper().sweep()
    assert posts(sandbox) == 1


@pytest.mark.browser
def test_case_06_the_web_restarted_in_mid_answer(conversation, browse, alice, sandbox):
    """A web process of its own, which is ended and started again at the same address while Chromium reads."""
    port = free_port()
    cookie = {"name": "sessionid", "value": browse(alice).cookies["sessionid"].value, "httpOnly": True}
    sandbox.enqueue(tokens=240, rate=40)
    webs = [web := start_web(port)]
    restart = threading.Event()

    def read() -> str:
        # In a thread of its own: the other browser tests have a Playwright in this one.
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=local_browser.find(), args=["--no-sandbox"])
            context = browser.new_context(base_url=f"http://127.0.0.1:{port}")
            context.add_cookies([{**cookie, "url": f"http://127.0.0.1:{port}"}])
            page = context.new_page()
            page.goto(conversation.get_absolute_url())
            page.get_by_label("Message").fill("Tell me a long story")
            page.get_by_role("button", name="Send").click()
            answer = page.locator('[data-role="assistant"]').last
            expect(answer.locator(".message__body")).not_to_have_text("", timeout=10_000)
            page.evaluate("window.sameDocument = true")
            restart.set()
            expect(answer).to_have_attribute("data-status", "done", timeout=30_000)
            assert page.evaluate("window.sameDocument"), "the page was loaded again"
            return answer.locator(".message__body").inner_text()

    try:
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            wait_until(lambda: restart.is_set() or reading.done(), "no text arrived", 30)
            assert Turn.objects.get().state == Turn.State.RUNNING
            stop_web(web)
            webs.append(start_web(port))
            shown = reading.result(45)
    finally:
        for process in webs:
            stop_web(process)

    stored = Message.objects.get(role="assistant").text
    assert shown.split() == words_of(rendering.render(stored))
    assert posts(sandbox) == 1
    assert replies().get().cost == billed(sandbox, Turn.objects.get())


def start_web(port: int) -> subprocess.Popen:
    name = connection.settings_dict["NAME"]
    url = environment.postgres_named(name) if environment.on_postgres else f"sqlite:///{name}"
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--timeout-graceful-shutdown", "1"],
        cwd=django_settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        except httpx2.HTTPError:
            return False

    wait_until(answers, "the web did not start", 30)
    return process


def stop_web(process: subprocess.Popen) -> None:
    process.terminate()
    process.wait(20)


def words_of(html: str) -> list[str]:
    return re.sub(r"<[^>]+>", " ", html).split()


def test_case_07_double_click_retry_by_the_network_and_back_button(send, conversation, sandbox):
    client_id = uuid.uuid4()
    sandbox.enqueue(tokens=20, rate=40)

    double = at_once(2, lambda _: send("Hello", client_id))
    retried = send("Hello", client_id)
    turn = over(Turn.objects.get())
    back = send("Hello", client_id)

    assert [answer.status_code for answer in (*double, retried, back)] == [302] * 4
    assert conversation.messages.count() == 2
    assert posts(sandbox) == replies().count() == 1
    assert turn.usage_records.get().cost == billed(sandbox, turn)


@pytest.mark.parametrize("away", ["when it is sent", "in mid-answer"])
def test_case_08_redis_down(send, alice, sandbox, page, away):
    """A slower answer, never a free one: the money is held with the question, whether anybody hears the bell or not."""
    sandbox.enqueue(tokens=60, rate=60)
    if away == "when it is sent":
        with broker_at(f"redis://127.0.0.1:{free_port()}/0"):
            response = send("Hello")
        assert page(Turn.objects.get()).status == "queued"
        assert row(f"user:{alice.pk}").held == replies().get().held > 0
        broom = Sweeper()
        wait_until(lambda: broom.sweep() or not Turn.objects.live().exists(), "nobody rang again")
    else:
        response = send("Hello")
        wait_until(lambda: Turn.objects.exclude(checkpoint_text="").exists(), "no text arrived")
        redis.Redis.from_url(django_settings.REDIS_URL).client_pause(2_500)

    turn = over(Turn.objects.get())

    assert response.status_code == 302
    assert turn.state == Turn.State.DONE
    assert page(turn).text.split() == words_of(rendering.render(turn.reply.text))
    assert turn.usage_records.get().cost == billed(sandbox, turn) > 0
    assert posts(sandbox) == 1
    redis.Redis.from_url(django_settings.REDIS_URL).ping()


@pytest.mark.parametrize("amounts", [None, {"input": 0}, {"output": -nano("1")}], ids=["none", "zero", "negative"])
def test_case_09_a_model_without_a_price(ask, sandbox, page, settings, browse, ada, amounts):
    model = SONNET if amounts else "claude-without-price"
    settings.MODELS = [model, HAIKU]
    if amounts:
        price = Price.objects.in_force(SONNET, timezone.now()).first()
        for name, value in {"effective_from": timezone.now(), "pk": None, **amounts}.items():
            setattr(price, name, value)
        price._state.adding = True
        price.save()

    turn = ask(model=model)

    assert page(turn).ending.startswith("This model has no price yet, so nothing was sent. Choose another model.")
    assert not sandbox.requests
    assert not UsageRecord.objects.exists()
    alarm = Alarm.objects.get(kind="no_price")
    listed = browse(ada).get("/admin/chat/alarm/").content.decode()
    assert alarm.subject == model
    assert model in listed


@pytest.mark.parametrize("ttl", ["5m", "1h"])
def test_case_10_cache_writes_and_reads_are_priced_apart(ask, sandbox, monkeypatch, ttl):
    """Nothing in the product asks for an hour yet, so the request is made to."""
    for module in (submission, summaries):
        made = module.request_for
        monkeypatch.setattr(module, "request_for", lambda turn, made=made: replace(made(turn), ttl=ttl))
    long = "All work and no play makes Jack a dull boy. " * 400

    first = ask(long).usage_records.get()
    second = ask("And then?").usage_records.get()

    lines = {line.message_id: line for line in sandbox.invoice}
    written = "cache_write_1h_tokens" if ttl == "1h" else "cache_write_5m_tokens"
    other = "cache_write_5m_tokens" if ttl == "1h" else "cache_write_1h_tokens"
    assert getattr(first, written) > 1_000
    assert second.cache_read_tokens >= getattr(first, written)
    rates = {"input": 2_000, "5m": 2_500, "1h": 4_000, "read": 100, "output": 10_000}
    for record in (first, second):
        assert getattr(record, other) == 0
        by_hand = record.input_tokens * rates["input"] + getattr(record, written) * rates[ttl]
        by_hand += record.cache_read_tokens * rates["read"] + record.output_tokens * rates["output"]
        assert record.cost == by_hand == lines[record.message_id].cost_nanos


@pytest.mark.parametrize("gone", ["the chat", "the person"])
def test_case_11_a_chat_and_a_person_deleted(ask, browse, alice, ada, conversation, gone):
    ask("Hello")
    admin = browse(ada)
    before = admin.get("/admin/spend/").context["totals"]["spent"]
    booked = list(LedgerEntry.objects.order_by("id").values_list("amount", "kind"))

    if gone == "the chat":
        browse(alice).post(f"/conversations/{conversation.id}/deletion/")
    else:
        User.objects.get(username="alice").delete()

    assert not Conversation.objects.exists()
    assert User.objects.filter(username="alice").exists() == (gone == "the chat")
    assert admin.get("/admin/spend/").context["totals"]["spent"] == before > 0
    assert sum(Decimal(line["cost_dollars"]) for line in downloaded(admin, "/admin/spend/calls.csv")) == dollars(before)
    assert list(LedgerEntry.objects.order_by("id").values_list("amount", "kind")) == booked
    assert row(f"user:{alice.pk}").spent == before


def test_case_11_an_administrator_can_delete_a_person_who_has_asked_something(ask, browse, alice, ada):
    ask("Hello")

    response = browse(ada).post(f"/admin/chat/user/{alice.pk}/delete/", {"post": "yes"})

    assert response.status_code == 302
    assert not User.objects.filter(username="alice").exists()


def test_case_12_a_loop_of_many_steps_with_money_for_two(ask, alice, sandbox, limit, page):
    limit(alice, "0.07")
    sandbox.enqueue(times=5, match="Research", stop="pause_turn", tokens=2_500, rate=20_000)

    with never_over_a_limit():
        turn = ask("Research this")

    shown = page(turn)
    assert (turn.state, turn.error) == (Turn.State.INTERRUPTED, "over_budget_paused")
    assert shown.ending.startswith("Your budget does not hold the next step. The text so far is kept.")
    assert len(shown.text) > 1_000
    assert posts(sandbox) == turn.usage_records.filter(state="settled").count() == 2
    assert sum(record.cost for record in turn.usage_records.all()) == billed(sandbox, turn) <= nano("0.07")
    nothing_is_held()


def test_case_12_searches_within_one_call_never_pass_its_hold(ask, alice, sandbox, limit, page, conversation):
    conversation.max_searches = 3
    conversation.save(update_fields=["max_searches"])
    limit(alice, "2")

    with never_over_a_limit():
        turn = ask("What is new? [[sandbox searches=9 tokens=50]]")

    record = turn.usage_records.get()
    assert turn.state == Turn.State.DONE
    assert record.searches == 3
    assert record.cost == billed(sandbox, turn) <= record.held <= nano("2")


def test_case_13_a_call_across_midnight_at_the_end_of_the_month(ask, send, alice, sandbox, clock, conversation):
    """The organisation is in Paris: its month begins an hour before that of Greenwich."""
    clock(paris(2026, 11, 30, 23, 59, 59))
    sandbox.enqueue(tokens=40, rate=40)
    send("Hello")
    turn = Turn.objects.get()
    wait_until(lambda: posts(sandbox), "nothing was sent")

    clock(paris(2026, 12, 1))
    turn = over(turn)

    nothing_is_held()
    ask("And in December?")
    late, early = replies().order_by("admitted_at")
    november, december = BudgetPeriod.objects.filter(account=f"user:{alice.pk}").order_by("start")
    assert (november.start, november.end) == (paris(2026, 11, 1), paris(2026, 12, 1))
    assert november.spent == late.cost > 0
    assert december.spent == early.cost > 0
    assert late.cost + early.cost == billed(sandbox, turn)


@pytest.mark.parametrize(
    ("day", "hours"),
    [(paris(2026, 10, 25), 25), (paris(2026, 3, 29), 23)],
    ids=["the clocks go back", "the clocks go forward"],
)
def test_case_13_a_day_on_which_the_clocks_change_is_one_budget(ask, alice, limit, clock, conversation, day, hours):
    limit(alice, "5", period="day")
    start = day.astimezone(timezone.get_fixed_timezone(0))

    for moment in (start, start + timedelta(hours=hours, seconds=-1), start + timedelta(hours=hours)):
        clock(moment)
        assert ask("Hello").state == Turn.State.DONE

    periods = BudgetPeriod.objects.filter(account=f"user:{alice.pk}", period="day").order_by("start")
    assert [period.entries.filter(kind="charge").count() for period in periods] == [2, 1]
    assert periods[0].end - periods[0].start == timedelta(hours=hours)


def test_case_14_ones_own_page_the_admins_page_the_rows_and_the_files_have_one_sum(ask, browse, alice, ada):
    Conversation.objects.update(title="")  # a title is a call too
    ask("Hello")
    ask("[[sandbox tokens=40 cut_at=20]] again")
    ask("[[sandbox status=400]] and again")
    wait_until(lambda: UsageRecord.objects.filter(purpose="title", state="settled").exists(), "no title")
    me, admin = browse(alice), browse(ada)

    rows = sum(record.cost for record in UsageRecord.objects.filter(user=alice))

    [own] = [period for period in me.get("/spend/").context["periods"] if period["label"] == "This month"]
    [team] = [line for line in admin.get("/admin/spend/").context["rows"] if line["username"] == "alice"]
    [person] = [line for line in downloaded(admin, "/admin/spend/people.csv") if line["person"] == "alice"]
    assert own["spent"] == team["spent"] == row(f"user:{alice.pk}").spent == rows > 0
    assert Decimal(person["spent_dollars"]) == dollars(rows)
    for client, path in ((me, "/spend/calls.csv"), (admin, "/admin/spend/calls.csv")):
        lines = downloaded(client, path)
        assert len(lines) == UsageRecord.objects.count() == 4
        assert sum(Decimal(line["cost_dollars"]) for line in lines) == dollars(rows)


@pytest.mark.parametrize("htmx", [True, False], ids=["with htmx", "without JavaScript"])
def test_case_15_two_tabs_and_one_conversation(send, sandbox, conversation, htmx):
    sandbox.enqueue(ttft=50_000)
    send("From the first tab")
    wait_until(lambda: posts(sandbox), "nothing was sent")

    second = send("From the second tab", htmx=htmx)

    sandbox.skip(50)
    body = second.content.decode()
    assert second.status_code == 409
    assert composer_error(body).startswith("An answer is still being written here. Your text stays")
    assert "composer-text" not in body if htmx else composer_text(body) == "From the second tab"
    assert over(Turn.objects.get()).state == Turn.State.DONE
    assert conversation.messages.filter(role="user").count() == 1
    assert posts(sandbox) == replies().count() == 1


def test_case_16_529_and_then_an_answer(ask, alice, sandbox, limit_nano, conversation):
    """With money for exactly one hold: a second one would be refused, or make the answer shorter."""
    limit_nano(alice, price_of(conversation))
    sandbox.enqueue(status="529", retry_after=0)
    sandbox.enqueue(say="Forty-two.")

    with never_over_a_limit():
        turn = ask("Hello")

    refused, answered = turn.usage_records.order_by("admitted_at")
    assert turn.reply.text == "Forty-two."
    assert posts(sandbox) == 2
    assert (refused.state, refused.cost, answered.state) == ("void", 0, "settled")
    assert not answered.fitted
    assert answered.held == refused.held
    assert answered.cost == billed(sandbox, turn) == row(f"user:{alice.pk}").spent
    kinds = LedgerEntry.objects.filter(period__account=f"user:{alice.pk}").order_by("id").values_list("kind", flat=True)
    assert list(kinds) == ["hold", "release", "hold", "release", "charge"]


def test_case_17_a_person_at_the_limit_can_still_read_and_export(ask, alice, browse, limit, spent, page, sandbox):
    """Searching one's conversations is no feature yet: the sidebar, which lists them, stands for it here."""
    sandbox.enqueue(say="An answer of better days.")
    before = ask("What is the answer?")
    limit(alice, "0.30")
    spent("0.30")
    me = browse(alice)

    refused = ask("One more?")

    assert refused.error == "over_budget"
    assert page(before).text == "An answer of better days."
    assert before.conversation.get_absolute_url() in me.get("/conversations/").content.decode()
    assert "$0.30" in me.get("/spend/").content.decode()
    assert len(downloaded(me, "/spend/calls.csv")) == UsageRecord.objects.filter(user=alice).count() == 2


def test_case_18_every_threshold_text_says_used(alice, ada, browse, limit, spent, mailoutbox, settings):
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    limit(alice, "10")
    Budget.objects.create(kind="pot", limit=nano("10"))
    texts = []
    for amount in ("8.50", "1.50"):
        spent(amount)
        warnings.note_crossings()
        page = browse(alice).get("/conversations/").content.decode()
        notices = re.findall(r'<div class="notice" id="warning-[^>]*>\s*<p>(.*?)</p>', page, re.DOTALL)
        assert len(notices) == 1
        texts += notices
        texts += [warnings.pot_words(w) for w in warnings.current() if w.period.account == "everyone"]
        texts += re.findall(r'aria-label="Used[^"]*"', browse(alice).get("/spend/").content.decode())

    assert len(texts) >= 6
    for text in texts:
        assert "used" in text.lower()
        assert not LEFT.search(text)
