"""The money is put aside with the question: whoever has none is told at once, and whoever waits keeps it."""

import asyncio
import uuid

import aiohttp
import pytest

from chat import doorbell, pricing, spend, warnings
from chat.claude import request_for, terms_of
from chat.endings import over_budget_words
from chat.models import BudgetPeriod, BudgetWarning, Price, Turn, UsageRecord
from chat.sweeper import Sweeper
from tests.books import COST, call, never_over_a_limit, row, spent_call, undone
from tests.conftest import over, streams_in, wait_until
from tests.test_crashes import expire

HELD = UsageRecord.State.HELD


@pytest.fixture
def rung(monkeypatch) -> list:
    """The bells that were rung; nobody hears them."""
    bells: list = []
    monkeypatch.setattr(doorbell, "ring", lambda turn_id: bells.append(turn_id) or True)
    return bells


@pytest.fixture
def waiting(send, rung) -> Turn:
    """A question that no worker has taken up yet."""
    send("Hello")
    return Turn.objects.get()


def price_of(conversation, text: str = "Hello") -> int:
    """What a question in a new conversation holds, in nano-dollars."""
    with undone():
        turn = conversation.start_turn(text, uuid.uuid4())
        request = request_for(turn)
        price, _ = spend.current_price(turn.model)
        return pricing.worst_case(price.numbers(), terms_of(request, turn), request.wanted_tokens)


@pytest.mark.django_db
def test_the_money_for_an_answer_is_put_aside_before_a_worker_has_seen_the_question(waiting, alice):
    record = waiting.usage_records.get()

    assert (record.state, record.sent_at, record.attempt) == (HELD, None, 0)
    assert row(f"user:{alice.pk}").held == record.held > 0
    assert waiting.state == Turn.State.QUEUED


@pytest.mark.django_db
def test_a_question_that_is_sent_twice_is_held_for_once(send, rung, alice):
    client_id = uuid.uuid4()

    send("Hello", client_id)
    send("Hello", client_id)

    assert row(f"user:{alice.pk}").held == UsageRecord.objects.get().held


@pytest.mark.django_db
def test_a_question_that_is_sent_again_when_the_money_is_gone_stays_as_it_was(send, waiting, alice, limit_nano):
    limit_nano(alice, 1)

    response = send("Hello", waiting.client_id)

    waiting.refresh_from_db()
    assert (response.status_code, waiting.state) == (302, Turn.State.QUEUED)
    assert waiting.usage_records.get().state == HELD


@pytest.mark.django_db(transaction=True)
def test_without_money_the_answer_to_send_is_the_refusal_and_no_worker_is_rung_for(send, rung, alice, limit_nano):
    limit_nano(alice, 1_000)

    response = send("Hello", htmx=True)

    turn = Turn.objects.get()
    assert (turn.state, turn.error) == (Turn.State.FAILED, "over_budget")
    assert turn.finished_at is not None
    assert "does not hold this answer" in response.content.decode()
    assert rung == []
    assert not UsageRecord.objects.exists()


@pytest.mark.django_db
def test_whoever_has_nothing_left_is_refused_without_waiting_for_a_lock(send, rung, alice, limit_nano, monkeypatch):
    limit_nano(alice, COST)
    spent_call(alice, bound=50, wanted=200, least=100)
    monkeypatch.setattr(spend, "hold", lambda call: pytest.fail("it tried to hold"))

    send("Hello")

    assert Turn.objects.get().error == "over_budget"


@pytest.mark.django_db
def test_a_limit_that_holds_no_further_answer_counts_as_used_up(send, rung, alice, limit_nano):
    limit_nano(alice, COST + 100_000)
    spent_call(alice, bound=50, wanted=200)

    send("Hello")
    send("Hello again")

    [warning] = BudgetWarning.objects.exclude(percent=80)
    assert (warning.percent, warning.spent, warning.limit) == (100, COST, COST + 100_000)
    assert "Until then new questions are refused" in warnings.words(warning)


@pytest.mark.django_db
def test_a_limit_is_not_used_up_while_money_is_held_that_may_come_back(send, rung, alice, limit_nano, conversation):
    limit_nano(alice, price_of(conversation))
    send("Hello", to=alice.conversations.create(model="claude-sonnet-5-5"))

    send("Hello again")

    assert Turn.objects.latest("created_at").error == "over_budget"
    assert not BudgetWarning.objects.exists()


@pytest.mark.django_db
def test_a_limit_is_not_used_up_while_a_cheaper_model_still_fits(send, rung, alice, limit):
    limit(alice, "0.002")

    send("Hello")

    assert "Still possible: Claude Haiku 5.5" in over_budget_words(Turn.objects.get().detail)
    assert not BudgetWarning.objects.exists()


@pytest.mark.django_db
def test_a_limit_is_not_used_up_by_one_question_that_is_too_long_for_it(send, rung, alice, limit):
    limit(alice, "0.10")

    send("Hello " * 60_000)

    assert not BudgetWarning.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_refused_question_leaves_the_conversation_free_for_the_next(send, rung, alice, limit_nano, limit):
    limit_nano(alice, 1_000)
    send("Hello")
    limit(alice, "5")

    response = send("Hello again")

    assert response.status_code == 302
    assert [turn.state for turn in Turn.objects.order_by("created_at")] == ["failed", "queued"]
    Sweeper().sweep()
    Turn.objects.filter(state="queued").update(state="stopped")
    Sweeper().sweep()


@pytest.mark.django_db
def test_a_model_whose_price_is_gone_is_refused_at_once_and_an_admin_is_told(send, rung, conversation, monkeypatch):
    monkeypatch.setattr(Price, "is_usable", False)

    send("Hello")

    turn = Turn.objects.get()
    assert (turn.state, turn.error) == (Turn.State.FAILED, "no_price")
    assert rung == []


@pytest.mark.django_db
def test_a_waiting_question_that_is_stopped_lets_its_money_go_at_once(waiting, browse, alice):
    browse(alice).post(f"/turns/{waiting.id}/stop/")

    record = waiting.usage_records.get()
    assert (record.state, record.cost) == ("void", 0)
    assert row(f"user:{alice.pk}").held == 0


@pytest.mark.django_db
def test_somebody_who_is_deactivated_holds_nothing_any_more(waiting, browse, alice, ada):
    fields = {"username": "alice", "date_joined_0": "2026-11-01", "date_joined_1": "00:00:00"}
    response = browse(ada).post(f"/admin/chat/user/{alice.pk}/change/", fields)

    alice.refresh_from_db()
    assert (response.status_code, alice.is_active) == (302, False)
    assert Turn.objects.get().state == Turn.State.STOPPED
    assert row(f"user:{alice.pk}").held == 0


@pytest.mark.django_db
def test_a_chat_that_is_deleted_while_it_waits_gives_its_money_back(waiting, browse, alice, conversation):
    browse(alice).post(f"/conversations/{conversation.id}/deletion/")

    Sweeper().sweep()

    assert UsageRecord.objects.get().state == "void"
    assert row(f"user:{alice.pk}").held == 0


@pytest.mark.django_db
def test_what_was_never_sent_can_never_be_charged(waiting, alice):
    record = waiting.usage_records.get()

    assert not spend.settle(record, pricing.Usage(input=10, output=10), exact=True)

    assert row(f"user:{alice.pk}").spent == 0
    assert UsageRecord.objects.get().state == HELD


@pytest.mark.django_db
def test_a_worker_that_was_replaced_cannot_send_what_is_held(waiting):
    turn = Turn.objects.claim(waiting.id)
    Turn.objects.filter(id=turn.id).update(attempt=2)

    with pytest.raises(spend.Replaced):
        spend.send(waiting.usage_records.get(), turn)

    assert UsageRecord.objects.get().state == HELD


@pytest.mark.django_db
def test_two_workers_cannot_both_send_what_is_held(waiting):
    turn = Turn.objects.claim(waiting.id)
    record = waiting.usage_records.get()
    spend.send(record, turn)

    with pytest.raises(spend.Replaced):
        spend.send(record, turn)

    spend.void(record)


@pytest.mark.django_db
def test_a_worker_that_dies_before_it_sends_leaves_turn_and_money_to_the_next(waiting, alice):
    Turn.objects.claim(waiting.id)
    expire(waiting)

    Sweeper().sweep()

    waiting.refresh_from_db()
    assert waiting.state == Turn.State.QUEUED
    assert row(f"user:{alice.pk}").held == UsageRecord.objects.get().held > 0


@pytest.mark.django_db
def test_a_turn_that_kills_every_worker_holds_nothing_in_the_end(waiting, alice):
    Turn.objects.filter(id=waiting.id).update(attempt=4)
    Turn.objects.claim(waiting.id)
    expire(waiting)

    Sweeper().sweep()

    waiting.refresh_from_db()
    assert waiting.state == Turn.State.INTERRUPTED
    assert row(f"user:{alice.pk}").held == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker")
def test_a_prompt_that_only_its_exact_count_lets_in_is_counted_and_answered(ask, alice, limit_nano, conversation):
    long = "All work and no play makes Jack a dull boy. " * 200
    # Our bound of the prompt and 512 tokens do not fit; what Claude counts, a quarter of it, does.
    limit_nano(alice, price_of(conversation, long) - (16_000 - 300) * 11_000)

    turn = ask(long)

    record = turn.usage_records.get()
    assert turn.state == Turn.State.DONE
    assert record.fitted
    assert record.prompt_tokens <= record.input_bound < len(long) // 2


@pytest.mark.django_db
def test_a_refusal_is_certain_only_when_no_count_could_help(alice):
    asked = call(alice, bound=1_600)
    price, _ = spend.current_price(asked.model)
    fits = pricing.worst_case(price.numbers(), pricing.Terms(input_bound=100), asked.least)

    for left, is_certain in ((fits, False), (fits - 1, True)):
        period = BudgetPeriod(limit=left)
        assert spend.OverBudget(None, period, asked, price.numbers()).is_certain == is_certain


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker")
def test_what_is_held_is_what_is_sent_and_charged(ask, sandbox, alice):
    turn = ask("Hello")

    record = turn.usage_records.get()
    assert (record.state, record.attempt) == ("settled", 1)
    assert record.admitted_at <= record.sent_at <= record.settled_at
    wait_until(lambda: row(f"user:{alice.pk}").held == 0, "money is still held")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker")
def test_two_hundred_questions_at_once_with_money_for_fifty_are_fifty_calls(alice, browse, site, sandbox, limit_nano):
    named = {"title": "No title is asked for", "model": "claude-sonnet-5-5", "effort": "quick"}
    conversations = [alice.conversations.create(**named) for _ in range(200)]
    limit_nano(alice, 50 * price_of(conversations[0]))
    sandbox.enqueue(times=50, tokens=5, ttft=50_000)  # nothing is paid back while they press
    cookies = {name: morsel.value for name, morsel in browse(alice).cookies.items()}

    with never_over_a_limit():
        pages = asyncio.run(pressed_together(site, conversations, cookies))
        wait_until(lambda: len(streams_in(sandbox)) == 50, "Claude was not asked fifty times", 60)
        sandbox.skip(50)
        turns = [over(turn, 60) for turn in Turn.objects.all()]

    refused = [page for page in pages if "does not hold this answer" in page]
    assert sum(turn.state == Turn.State.DONE for turn in turns) == 50
    assert len(refused) == sum(turn.error == "over_budget" for turn in turns) == 150
    sandbox.wait_until_idle()
    assert len(streams_in(sandbox)) == 50
    wait_until(lambda: row(f"user:{alice.pk}").held == 0, "money is still held")


async def pressed_together(site: str, conversations: list, cookies: dict) -> list[str]:
    token = "c" * 32
    headers = {"HX-Request": "true", "X-CSRFToken": token, "Origin": site}

    async def press(session: aiohttp.ClientSession, conversation) -> str:
        fields = {"text": "Hello", "client_id": str(uuid.uuid4())}
        async with session.post(f"{site}/conversations/{conversation.id}/messages/", data=fields) as response:
            assert response.status == 200
            return await response.text()

    connector = aiohttp.TCPConnector(limit=0)
    cookies = {**cookies, "csrftoken": token}
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, cookies=cookies, cookie_jar=aiohttp.CookieJar(unsafe=True)
    ) as session:
        return await asyncio.gather(*(press(session, conversation) for conversation in conversations))
