"""Proof that the tests of money can fail: each seeded fault of the real code has to be found by them.

A fault is shown by a search of the state machine, or by a story: the steps of the machine that lead to it, in which
nothing is left to luck. Without the fault every story ends well; so does the search, which is a test of its own.
"""

import uuid
from collections.abc import Callable
from contextlib import suppress

import pytest
from django.db import IntegrityError
from django.db.models import F
from django.db.models.functions import Now
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from chat import pricing, spend, submission, sweeper
from chat.claude import ClaudeError
from chat.models import BudgetPeriod, LedgerEntry, Turn, UsageRecord
from chat.models.turn import TurnQuerySet
from tests.test_money_machine import A_LONG_WHILE, NEXT_MONTH, MoneyMachine, thorough

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("alice", "bob", "ada")]

quick = settings(thorough, max_examples=60, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False)


# --- Stories


def a_worker_comes_back_that_was_replaced_before_it_sent(play: MoneyMachine):
    play.ask(0, 1, "claimed")
    [old] = play.workers
    play.time_passes(4, False)
    play.sweep()
    play.ring_again(0)
    new = play.workers[1]
    play._go_on(new)

    play._go_on(old)

    play._check()


def a_worker_comes_back_after_the_sweeper_has_billed_its_deleted_chat(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.claude_writes(0, 25, True)
    play.delete_a_conversation(0)
    play.time_passes(A_LONG_WHILE, False)
    play.sweep()

    play.go_on(0, "end_turn")

    play._check()


def an_answer_ends_in_the_next_month(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.time_passes(NEXT_MONTH, True)
    play.ask(2, 1, "posted")

    play.go_on(0, "end_turn")

    play._check()


def a_waiting_question_is_stopped(play: MoneyMachine):
    play.ask(0, 1, "")

    play.stop(0)

    play._check()


def an_answer_breaks_in_the_middle(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.claude_writes(0, 25, True)

    play.go_on(0, "cut")

    play._check()


def a_worker_dies_in_silent_thinking(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.claude_writes(0, 25, False)
    play.keeper_looks(0)
    play.kill(0)

    play.time_passes(4, False)
    play.sweep()

    play._check()


def a_worker_dies_after_it_has_sent(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.claude_writes(0, 25, True)
    play.kill(0)

    play.time_passes(4, False)
    play.sweep()
    play.ring_again(0)
    for worker in play.workers:
        play._go_on(worker)

    play._check()


def two_ask_with_money_for_one(play: MoneyMachine):
    play.set_a_limit(0, "pot", "0.05", False)
    play.ask(0, 1, "posted")

    play.ask(1, 1, "posted")

    play._check()


def a_call_that_is_over_ends_again(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.go_on_to_the_end(0)

    for record in UsageRecord.objects.all():
        spend.settle(record, pricing.Usage(output=1), exact=True)

    play._check()


STORIES = [
    a_worker_comes_back_that_was_replaced_before_it_sent,
    a_worker_comes_back_after_the_sweeper_has_billed_its_deleted_chat,
    an_answer_ends_in_the_next_month,
    a_waiting_question_is_stopped,
    an_answer_breaks_in_the_middle,
    a_worker_dies_in_silent_thinking,
    a_worker_dies_after_it_has_sent,
    two_ask_with_money_for_one,
    a_call_that_is_over_ends_again,
]


def tell(story: Callable) -> None:
    play = MoneyMachine()
    play.begin()
    try:
        story(play)
    finally:
        play.teardown()


# --- Faults


def the_fence_ignores_the_attempt(patch):
    patch.setattr(TurnQuerySet, "held_by", lambda self, turn: self.filter(id=turn.id))


def a_call_is_closed_whatever_its_state(patch):
    patch.setattr(spend, "_close", _close_blindly)


def a_call_is_closed_whatever_its_state_and_its_entries_have_no_keys(patch):
    made = spend._entries

    def entries(*args, **why):
        found = made(*args, **why)
        for entry in found:
            entry.key = str(uuid.uuid4())
        return found

    patch.setattr(spend, "_entries", entries)
    patch.setattr(spend, "_close", _close_blindly)


def a_call_is_charged_where_it_ends_and_not_where_it_began(patch):
    def close(record, state, cost, columns):
        now = UsageRecord.objects.annotate(now=Now()).values_list("now", flat=True)[0]
        today = BudgetPeriod.objects.filter(start__lte=now, end__gt=now, account=f"user:{record.user_id}")
        return _close_blindly(record, state, cost, columns, list(today))

    patch.setattr(spend, "_close", close)


def budgets_are_looked_at_and_then_added_to(patch):
    """Somebody else's hold comes between the look and the update, which has no condition any more."""
    _somebody_comes_between(patch)
    patch.setattr(spend, "_hold", _add)


def budgets_are_not_locked(patch):
    """The update's condition stands alone then: nobody passes a limit, and the call fails."""
    _somebody_comes_between(patch)


def what_is_held_does_not_count(patch):
    patch.setattr(spend, "_left", lambda period: (period.limit or 0) - period.spent)
    patch.setattr(spend, "_hold", _add)


def pots_are_forgotten(patch):
    found = spend.accounts_for
    patch.setattr(spend, "accounts_for", lambda *args: [account for account in found(*args) if account.is_personal])


def the_sweeper_queues_again_what_was_sent(patch):
    def recover(turn):
        Turn.objects.filter(id=turn.id, state="running").update(state="queued", lease_until=None)

    patch.setattr(sweeper, "recover", recover)


def stop_forgets_the_money(patch):
    patch.setattr(submission, "stop", lambda turns: turns.stop())


def what_may_have_been_billed_is_given_back(patch):
    made = ClaudeError.__init__
    patch.setattr(ClaudeError, "__init__", lambda self, kind, **facts: made(self, kind, **{**facts, "unbilled": True}))


def silence_costs_nothing(patch):
    patch.setattr(pricing, "hidden_tokens", lambda seconds: 0)


def what_is_held_can_be_charged_without_having_been_sent(patch):
    def send(record, turn):
        return record

    patch.setattr(spend, "send", send)


def _close_blindly(record, state, cost, columns, periods=None):
    UsageRecord.objects.filter(id=record.id).update(state=state, settled_at=Now(), **columns)
    if periods is None:
        periods = list(BudgetPeriod.objects.filter(entries__record=record, entries__kind="hold"))
    for period in periods:
        BudgetPeriod.objects.filter(id=period.id).update(held=F("held") - record.held, spent=F("spent") + cost)
    entries = spend._entries(record, periods, LedgerEntry.Kind.RELEASE, -record.held)
    if cost:
        entries += spend._entries(record, periods, LedgerEntry.Kind.CHARGE, cost)
    LedgerEntry.objects.bulk_create(entries)
    return True


def _add(period, amount: int) -> None:
    BudgetPeriod.objects.filter(id=period.id).update(limit=period.limit, held=F("held") + amount)


def _somebody_comes_between(patch) -> None:
    look = spend._periods
    asking: list = []

    def look_without_a_lock(*args, **how):
        periods = look(*args, **how)
        if not asking:
            asking.append(args)
            turn = Turn.objects.latest("created_at")
            with suppress(spend.OverBudget):
                spend.admit(_title(turn))
        return periods

    patch.setattr(spend, "_periods", look_without_a_lock)


def _title(turn: Turn) -> spend.Call:
    """A call that takes most of what is in the pot."""
    terms = pricing.Terms(input_bound=100)
    return spend.Call(turn.user, "summary", turn.model, terms, 8_000, conversation_id=turn.conversation_id)


FAULTS = [
    (the_fence_ignores_the_attempt, a_worker_comes_back_that_was_replaced_before_it_sent, AssertionError),
    (a_call_is_closed_whatever_its_state, a_call_that_is_over_ends_again, IntegrityError),
    (
        a_call_is_closed_whatever_its_state_and_its_entries_have_no_keys,
        a_call_that_is_over_ends_again,
        (AssertionError, IntegrityError),
    ),
    (
        a_call_is_charged_where_it_ends_and_not_where_it_began,
        an_answer_ends_in_the_next_month,
        (AssertionError, IntegrityError),
    ),
    (stop_forgets_the_money, a_waiting_question_is_stopped, AssertionError),
    (what_may_have_been_billed_is_given_back, an_answer_breaks_in_the_middle, AssertionError),
    (silence_costs_nothing, a_worker_dies_in_silent_thinking, AssertionError),
    (what_is_held_can_be_charged_without_having_been_sent, an_answer_breaks_in_the_middle, AssertionError),
    (the_sweeper_queues_again_what_was_sent, a_worker_dies_after_it_has_sent, AssertionError),
    (budgets_are_looked_at_and_then_added_to, two_ask_with_money_for_one, AssertionError),
    (budgets_are_not_locked, two_ask_with_money_for_one, AssertionError),
    (pots_are_forgotten, two_ask_with_money_for_one, AssertionError),
    (what_is_held_does_not_count, two_ask_with_money_for_one, AssertionError),
]
FOUND_BY_SEARCH = [
    a_call_is_charged_where_it_ends_and_not_where_it_began,
    what_is_held_can_be_charged_without_having_been_sent,
    what_is_held_does_not_count,
    what_may_have_been_billed_is_given_back,
]


def _name(value) -> str:
    return getattr(value, "__name__", "")


@pytest.mark.parametrize("story", STORIES, ids=_name)
def test_without_a_fault_the_story_ends_well(story):
    tell(story)


@pytest.mark.parametrize(("fault", "story", "complaint"), FAULTS, ids=_name)
def test_a_story_ends_badly_as_soon_as(monkeypatch, fault, story, complaint):
    fault(monkeypatch)

    with pytest.raises(complaint):
        tell(story)


@pytest.mark.parametrize("fault", FOUND_BY_SEARCH, ids=_name)
def test_the_search_finds_that(monkeypatch, fault):
    fault(monkeypatch)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(MoneyMachine, settings=quick)
