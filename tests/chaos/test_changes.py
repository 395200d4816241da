"""C29, C40: what somebody takes away while an answer is written, and models that nobody can pay for."""

import re

from django.core.management import call_command
from django.utils import timezone

from chat.endings import ENDINGS
from chat.models import Alarm, Price, Turn, UsageRecord
from tests.books import SONNET
from tests.chaos.conftest import begun, ended
from tests.chaos.test_people import ENDLESS, WORDS, assert_settled_once
from tests.conftest import wait_until
from tests.pages import composer_error


def out_of_service(model: str, **amounts: int) -> None:
    """A price from now on of which no call can be paid: zero, unless amounts are given in nano-dollars."""
    kinds = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
    row = {kind: amounts.get(kind, 0) for kind in kinds}
    Price.objects.create(model=model, effective_from=timezone.now(), source="a test", **row)


# --- C29: what others do while it is written


def test_c29_a_conversation_deleted_in_mid_answer_is_gone_and_paid_for(product, me, conversation, sandbox, posts):
    sandbox.enqueue(**ENDLESS)
    turn = begun(me.ask("Tell me a story without end", to=conversation))
    tab = me.watch(turn)
    wait_until(lambda: tab.events, "the tab sees nothing")

    response = me.http.post(f"/conversations/{conversation.id}/deletion/")
    tab.wait()
    wait_until(lambda: UsageRecord.objects.filter(state="settled").exists(), "the call was not settled")

    assert (response.status_code, response.headers["Location"]) == (302, "/conversations/")
    assert me.http.get(f"/conversations/{conversation.id}/").status_code == 404
    assert me.http.get(f"/turns/{turn.id}/stream/").status_code == 404
    assert me.http.get("/conversations/").status_code == 200
    record = UsageRecord.objects.get()
    assert (record.turn, record.confidence) == (None, "estimated")
    assert record.cost > 0
    sandbox.wait_until_idle()
    assert sandbox.invoice[-1].ended == "client_left"
    assert posts() == 1


def test_c29_whoever_is_deactivated_reads_and_asks_nothing_more(product, me, person, ada, alice, chats, sandbox, posts):
    sandbox.enqueue(**ENDLESS)
    one, other = chats(2)
    worker = product.worker_fails_at("mid_answer:SIGSTOP")
    running = me.ask("Tell me a story without end", to=one)
    tab = me.watch(running)
    wait_until(lambda: worker.is_frozen and tab.events, "it did not get there")
    queued = me.ask("And another", to=other)

    fields = {"username": "alice", "date_joined_0": "2026-11-01", "date_joined_1": "00:00:00"}
    response = person(ada).http.post(f"/admin/chat/user/{alice.pk}/change/", data=fields)
    waiting = Turn.objects.get(id=queued.id).state
    worker.resume()

    assert (response.status_code, waiting) == (302, Turn.State.STOPPED)
    tab.wait(10)
    turn = ended(running)
    assert turn.state == Turn.State.STOPPED
    assert_settled_once(turn)
    sandbox.wait_until_idle()
    assert sandbox.invoice[-1].ended == "client_left"
    assert me.http.get(f"/conversations/{one.id}/").headers["Location"].startswith("/accounts/login/")
    assert me.send("Hello?", to=one).status_code == 302
    assert me.http.get(f"/turns/{turn.id}/stream/").status_code == 404
    assert posts() == 1


def test_c29_a_budget_that_is_lowered_lets_a_running_answer_end_and_no_other_begin(
    product, me, conversation, alice, limit, sandbox, posts
):
    limit(alice, "5")
    sandbox.enqueue(say=WORDS, rate=50)
    turn = begun(me.ask("Tell me about the tide", to=conversation))

    call_command("set_budget", "alice", "0.0001", verbosity=0)
    turn = ended(turn)
    refused = ended(me.ask("And again", to=conversation))

    assert (me.page(turn).status, me.page(turn).text) == ("done", WORDS.strip())
    assert assert_settled_once(turn).cost > 0
    assert (refused.state, refused.error) == (Turn.State.FAILED, "over_budget")
    assert "$0.0001" in me.page(refused).ending
    assert posts() == 1


def test_c29_a_model_taken_out_of_service_lets_a_running_answer_end_and_no_other_begin(
    product, me, conversation, sandbox, posts
):
    sandbox.enqueue(say=WORDS, rate=50)
    turn = begun(me.ask("Tell me about the tide", to=conversation))

    out_of_service(SONNET)
    turn = ended(turn)
    refused = ended(me.ask("And again", to=conversation))

    assert (me.page(turn).status, me.page(turn).text) == ("done", WORDS.strip())
    assert assert_settled_once(turn).cost > 0
    assert (me.page(refused).status, me.page(refused).ending) == ("failed", ENDINGS["no_price"].words)
    assert not refused.usage_records.exists()
    assert Alarm.objects.filter(kind="no_price", subject=SONNET).count() == 1
    assert posts() == 1


# --- C40: what has no price


def test_c40_a_model_without_a_price_can_neither_be_chosen_nor_called(product, me, conversation, restarted, posts):
    unpriced = {"claude-unheard-of": "no price", "claude-for-free": "zero", "claude-that-pays": "negative"}
    out_of_service("claude-for-free")
    out_of_service("claude-that-pays", input=2_000_000_000, output=-1)
    offered = {"MODELS": ",".join([SONNET, *unpriced])}
    restarted(web=offered, worker=offered)

    page = me.http.get(f"/conversations/{conversation.id}/").text
    refused = [ended(me.ask("Hello", to=conversation, model=model)) for model in unpriced]
    unknown = me.send("Hello", to=conversation, model="claude-not-in-the-list")

    for model, turn in zip(unpriced, refused, strict=True):
        assert re.search(rf'<option value="{model}"\s+disabled', page)
        assert (me.page(turn).status, me.page(turn).ending) == ("failed", ENDINGS["no_price"].words)
        assert Alarm.objects.get(kind="no_price", subject=model).closed_at is None
    assert re.search(rf'<option value="{SONNET}"\s+selected\s*>', page)
    assert (unknown.status_code, composer_error(unknown.text)) == (
        422,
        "This model is not offered here. Choose one from the list.",
    )
    assert not UsageRecord.objects.exists()
    assert posts() == 0
