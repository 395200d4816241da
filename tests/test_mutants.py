"""Proof that the tests of money can fail: each seeded fault of the real code has to be found by them.

A fault (tests/play/faults.py) is shown by a search of the state machine, or by a story (tests/play/stories.py): the
steps of the machine that lead to it, in which nothing is left to luck. Without the fault every story ends well; so does
the search, which is a test of its own.
"""

from collections.abc import Callable

import pytest
from django.db import IntegrityError
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.play import faults, stories
from tests.test_money_machine import MoneyMachine, thorough

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("alice", "bob", "ada")]

quick = settings(thorough, max_examples=200, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False)

STORIES = [
    stories.a_worker_comes_back_that_was_replaced_before_it_sent,
    stories.a_worker_comes_back_after_the_sweeper_has_billed_its_deleted_chat,
    stories.an_answer_ends_in_the_next_month,
    stories.a_waiting_question_is_stopped,
    stories.an_answer_breaks_in_the_middle,
    stories.a_worker_dies_in_silent_thinking,
    stories.a_worker_dies_after_it_has_sent,
    stories.two_ask_with_money_for_one,
    stories.a_call_that_is_over_ends_again,
    stories.a_title_is_refused,
    stories.a_long_chat_is_summarised,
    stories.a_summary_breaks_in_the_middle,
    stories.a_summary_is_stopped,
    stories.a_worker_dies_after_it_has_sent_for_a_summary,
    stories.an_answer_needs_a_summary_first,
    stories.two_summarise_with_money_for_one,
    stories.a_picture_is_sent,
    stories.a_pdf_has_more_on_its_pages_than_anybody_expects,
    stories.claude_searches_and_writes_as_much_as_it_may,
    stories.what_was_foreseen_is_sent,
    stories.the_next_message_waits_and_is_sent,
]


def tell(story: Callable) -> None:
    play = MoneyMachine()
    play.begin()
    try:
        story(play)
    finally:
        play.teardown()


FAULTS = [
    (
        faults.the_fence_ignores_the_attempt,
        stories.a_worker_comes_back_that_was_replaced_before_it_sent,
        AssertionError,
    ),
    (faults.a_call_is_closed_whatever_its_state, stories.a_call_that_is_over_ends_again, IntegrityError),
    (
        faults.a_call_is_closed_whatever_its_state_and_its_entries_have_no_keys,
        stories.a_call_that_is_over_ends_again,
        (AssertionError, IntegrityError),
    ),
    (
        faults.a_call_is_charged_where_it_ends_and_not_where_it_began,
        stories.an_answer_ends_in_the_next_month,
        (AssertionError, IntegrityError),
    ),
    (faults.stop_forgets_the_money, stories.a_waiting_question_is_stopped, AssertionError),
    (faults.what_may_have_been_billed_is_given_back, stories.an_answer_breaks_in_the_middle, AssertionError),
    (faults.silence_costs_nothing, stories.a_worker_dies_in_silent_thinking, AssertionError),
    (
        faults.what_is_held_can_be_charged_without_having_been_sent,
        stories.an_answer_breaks_in_the_middle,
        AssertionError,
    ),
    (faults.what_may_have_been_billed_is_given_back, stories.a_summary_is_stopped, AssertionError),
    (faults.the_sweeper_queues_again_what_was_sent, stories.a_worker_dies_after_it_has_sent, AssertionError),
    (faults.budgets_are_looked_at_and_then_added_to, stories.two_ask_with_money_for_one, AssertionError),
    (faults.budgets_are_not_locked, stories.two_ask_with_money_for_one, AssertionError),
    (faults.pots_are_forgotten, stories.two_ask_with_money_for_one, AssertionError),
    (faults.what_is_held_does_not_count, stories.two_ask_with_money_for_one, AssertionError),
    (faults.summaries_are_not_admitted, stories.a_long_chat_is_summarised, AssertionError),
    (faults.summaries_hold_nothing, stories.a_long_chat_is_summarised, AssertionError),
    (faults.what_is_held_does_not_count, stories.two_summarise_with_money_for_one, AssertionError),
    (faults.a_summary_that_is_closed_is_estimated_once_more, stories.a_summary_breaks_in_the_middle, AssertionError),
    (
        faults.a_summary_is_written_again_when_its_worker_dies,
        stories.a_worker_dies_after_it_has_sent_for_a_summary,
        AssertionError,
    ),
    (faults.pictures_have_no_pixels, stories.a_picture_is_sent, AssertionError),
    (
        faults.a_pdf_has_what_its_pages_have_as_a_rule,
        stories.a_pdf_has_more_on_its_pages_than_anybody_expects,
        AssertionError,
    ),
    (faults.the_fee_of_searches_is_not_held, stories.claude_searches_and_writes_as_much_as_it_may, AssertionError),
    (faults.what_is_found_is_read_only_once, stories.claude_searches_and_writes_as_much_as_it_may, AssertionError),
    (faults.foresight_forgets_the_files, stories.what_was_foreseen_is_sent, AssertionError),
    (faults.foresight_forgets_the_searches, stories.what_was_foreseen_is_sent, AssertionError),
    (
        faults.what_waits_is_sent_and_waits_on,
        stories.the_next_message_waits_and_is_sent,
        (AssertionError, IntegrityError),
    ),
    (faults.what_waits_is_forgotten, stories.the_next_message_waits_and_is_sent, AssertionError),
]
FOUND_BY_SEARCH = [
    faults.a_call_is_charged_where_it_ends_and_not_where_it_began,
    faults.what_is_held_can_be_charged_without_having_been_sent,
    faults.what_is_held_does_not_count,
    faults.what_may_have_been_billed_is_given_back,
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

    with pytest.raises((AssertionError, IntegrityError)):  # a law of ours, or one of the database's
        run_state_machine_as_test(MoneyMachine, settings=quick)
