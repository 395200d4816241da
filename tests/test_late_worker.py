"""The sweeper took a worker for dead and guessed what its call had cost; then the worker comes back and knows."""

import pytest

from chat import audit, spend
from chat.models import LedgerEntry, UsageRecord
from chat.pricing import Usage
from tests.books import COST, HELD, USED, admit, row

pytestmark = pytest.mark.django_db

GUESSED, LESS, MORE = Usage(input=50, output=300), Usage(input=50, output=200), Usage(input=50, output=400)
GUESS = 50 * 2_000 + 300 * 10_000


@pytest.fixture
def guessed(alice):
    record = admit(alice)
    spend.settle(record, GUESSED, exact=False)
    return record


def now(record) -> UsageRecord:
    return UsageRecord.objects.get(id=record.id)


@pytest.mark.parametrize("used", [LESS, GUESSED, MORE], ids=["less", "the same", "more"])
def test_an_end_that_was_seen_takes_the_place_of_the_guess(guessed, alice, used):
    cost = 50 * 2_000 + used.output * 10_000

    assert spend.settle_again(guessed, used, exact=True)

    record = now(guessed)
    assert (record.cost, record.confidence, record.output_tokens) == (cost, "exact", used.output)
    assert row(f"user:{alice.pk}").spent == cost
    corrections = record.entries.filter(kind="adjust")
    assert [entry.amount for entry in corrections] == ([cost - GUESS] if cost != GUESS else [])
    assert {entry.actor for entry in corrections} <= {""}
    assert audit.problems() == []


def test_a_higher_guess_takes_the_place_of_the_guess(guessed, alice):
    assert spend.settle_again(guessed, MORE, exact=False)

    record = now(guessed)
    assert (record.cost, record.confidence) == (GUESS + 100 * 10_000, "estimated")
    assert row(f"user:{alice.pk}").spent == record.cost


def test_a_lower_guess_does_not(guessed):
    assert not spend.settle_again(guessed, LESS, exact=False)

    assert now(guessed).cost == GUESS
    assert not LedgerEntry.objects.filter(kind="adjust").exists()


def test_no_guess_goes_above_what_was_held(guessed):
    spend.settle_again(guessed, Usage(input=50, output=1_000_000), exact=False)

    assert now(guessed).cost == HELD


def test_a_correction_may_pass_a_limit_and_nobody_may_hold_anything_after_it(guessed, alice, limit_nano):
    limit_nano(alice, GUESS + HELD)
    other = admit(alice)

    spend.settle_again(guessed, MORE, exact=True)

    assert row(f"user:{alice.pk}").spent + other.held > GUESS + HELD
    with pytest.raises(spend.OverBudget):
        admit(alice)


def test_what_is_exact_already_stays(alice):
    record = admit(alice)
    spend.settle(record, USED, exact=True)

    assert not spend.settle_again(record, MORE, exact=True)

    assert now(record).cost == COST


def test_what_a_person_has_corrected_stays(guessed, ada):
    spend.adjust(guessed, -1_000, actor=ada, reason="The invoice says so.")

    assert not spend.settle_again(guessed, MORE, exact=True)

    assert now(guessed).cost == GUESS - 1_000


def test_a_call_that_still_runs_is_not_touched(alice):
    record = admit(alice)

    assert not spend.settle_again(record, MORE, exact=True)

    assert now(record).state == UsageRecord.State.SENT


def test_a_refusal_without_a_word_costs_nothing_though_it_was_guessed_at(guessed, alice):
    assert spend.settle_again(guessed, Usage(input=50), exact=True, cost=0, stop_reason="refusal")

    assert (now(guessed).cost, row(f"user:{alice.pk}").spent) == (0, 0)


def test_it_counts_only_once(guessed):
    spend.settle_again(guessed, MORE, exact=True)

    assert not spend.settle_again(guessed, MORE, exact=True)

    assert now(guessed).entries.filter(kind="adjust").count() == 1
