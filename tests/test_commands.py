"""What an operator types."""

import io
import uuid
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from django.utils import timezone

from chat import catalogue
from chat.models import Budget, BudgetPeriod, LedgerEntry, Price, Turn
from chat.money import nano
from chat.spend import OverBudget
from tests.books import HELD, admit, paris, row, spent_call, undone

pytestmark = pytest.mark.django_db


def run(*command: str, **options) -> str:
    out = io.StringIO()
    call_command(*command, stdout=out, stderr=out, **options)
    return out.getvalue()


# --- set_budget


def test_set_budget_sets_a_monthly_limit(alice):
    said = run("set_budget", "alice", "25")

    budget = Budget.objects.get(user=alice)
    assert (budget.limit, budget.period, budget.mode, budget.kind) == (nano("25"), "month", "block", "personal")
    assert said == "alice may spend $25.00 a month.\n"


@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_set_budget_takes_a_period(alice, period):
    run("set_budget", "alice", "0.50", "--period", period)

    assert Budget.objects.get(user=alice).period == period


def test_set_budget_again_changes_the_limit_and_leaves_the_others_alone(alice, limit):
    own = limit(alice, "3", set_by_self=True)
    raised = limit(alice, "90", valid_until=paris(2999, 1, 1))
    run("set_budget", "alice", "25")

    run("set_budget", "alice", "10", "--period", "week")

    assert Budget.objects.filter(user=alice).count() == 3
    assert Budget.objects.exclude(id__in=[own.id, raised.id]).get(user=alice).limit == nano("10")


def test_set_budget_keeps_what_was_spent(alice):
    record = spent_call(alice)

    run("set_budget", "alice", "25")
    spent_call(alice)

    assert row(f"user:{alice.pk}").spent == 2 * record.cost


def test_set_budget_of_nothing_stops_a_person(alice):
    run("set_budget", "alice", "0")

    with pytest.raises(OverBudget):
        admit(alice)


@pytest.mark.parametrize("dollars", ["ten", "NaN", "Infinity", "1,5", "9000000001", ""])
def test_set_budget_refuses_what_is_no_amount(alice, dollars):
    with pytest.raises(CommandError):
        run("set_budget", "alice", dollars)

    assert not Budget.objects.filter(user=alice).exists()


def test_set_budget_refuses_less_than_nothing(alice):
    with pytest.raises(CommandError, match="zero or more"):
        call_command("set_budget", "--", "alice", "-5")


def test_set_budget_does_not_know_a_stranger():
    with pytest.raises(CommandError, match="nobody called 'mallory'"):
        run("set_budget", "mallory", "5")


def test_set_budget_refuses_a_period_it_does_not_know(alice):
    with pytest.raises(CommandError, match="year"):
        run("set_budget", "alice", "5", "--period", "year")


def test_set_budget_copes_with_two_limits_of_one_person(alice, limit):
    limit(alice, "3")
    limit(alice, "5")

    run("set_budget", "alice", "25")

    assert Budget.objects.filter(user=alice).latest("created_at").limit == nano("25")


# --- sync_prices


def test_every_shipped_model_has_a_usable_price():
    for model in catalogue.shipped():
        price = Price.objects.in_force(model.id, timezone.now()).first()

        assert price.is_usable, model.id
        assert price.source


def test_sync_prices_again_adds_nothing():
    before = list(Price.objects.order_by("id").values())

    assert run("sync_prices") == "0 price(s) added.\n"
    assert list(Price.objects.order_by("id").values()) == before


def test_sync_prices_adds_what_is_missing_and_changes_nothing(monkeypatch):
    model = catalogue.find("claude-haiku-5-5")
    new = {**model.prices[0], "effective_from": "2027-02-01", "output": "0.75"}
    changed = {**model.prices[0], "output": "99"}
    later = catalogue.ClaudeModel(id=model.id, name=model.name, prices=(changed, new))
    monkeypatch.setattr(catalogue, "shipped", lambda: (later,))

    assert run("sync_prices") == "Added claude-haiku-5-5 from 2027-02-01\n1 price(s) added.\n"

    assert list(Price.objects.filter(model=model.id).order_by("effective_from").values_list("output", flat=True)) == [
        nano("0.50"),
        nano("0.75"),
    ]


def test_a_price_set_in_the_admin_outlives_a_sync():
    Price.objects.create(
        model="claude-haiku-5-5",
        effective_from=paris(2026, 11, 1),
        source="our contract",
        **dict.fromkeys(("input", "output", "cache_write_5m", "cache_write_1h", "cache_read"), 1),
    )

    run("sync_prices")

    assert Price.objects.in_force("claude-haiku-5-5", paris(2026, 11, 23)).first().source == "our contract"


# --- sweep


def test_one_round_of_the_sweeper_ends_a_turn_whose_worker_died(alice, conversation):
    turn = Turn.objects.claim(conversation.start_turn("Hello", uuid.uuid4()).id)
    record = admit(alice, turn=turn, purpose="reply")
    Turn.objects.update(lease_until=F("lease_until") - timedelta(minutes=1), checkpoint_text="So far")

    run("sweep", once=True)

    turn.refresh_from_db()
    record.refresh_from_db()
    assert (turn.state, turn.error, turn.reply.text) == ("interrupted", "worker_lost", "So far")
    assert (record.state, record.confidence) == ("settled", "estimated")
    assert 0 < record.cost <= HELD
    assert row(f"user:{alice.pk}").held == 0


def test_the_sweeper_leaves_a_turn_alone_whose_lease_still_runs(alice, conversation):
    turn = Turn.objects.claim(conversation.start_turn("Hello", uuid.uuid4()).id)
    record = admit(alice, turn=turn, purpose="reply")

    run("sweep", once=True)

    record.refresh_from_db()
    assert record.state == "sent"
    # A second sweep after the end of the lease, so that nothing stays open.
    Turn.objects.update(lease_until=F("lease_until") - timedelta(minutes=1))
    run("sweep", once=True)


def test_sweeping_again_changes_nothing(alice, conversation):
    turn = Turn.objects.claim(conversation.start_turn("Hello", uuid.uuid4()).id)
    admit(alice, turn=turn, purpose="reply")
    Turn.objects.update(lease_until=F("lease_until") - timedelta(minutes=1))
    run("sweep", once=True)
    entries = LedgerEntry.objects.count()

    run("sweep", once=True)

    assert LedgerEntry.objects.count() == entries


# --- audit_ledger


def test_audit_ledger_says_that_the_books_agree_and_how_many_entries_it_read(alice):
    spent_call(alice)

    assert run("audit_ledger") == "The books agree: 3 entries.\n"


def test_audit_ledger_fails_and_names_each_problem(alice):
    spent_call(alice)
    out = io.StringIO()
    with undone():
        BudgetPeriod.objects.update(held=5)

        with pytest.raises(CommandError, match=r"do not agree: 1 problem"):
            call_command("audit_ledger", stdout=io.StringIO(), stderr=out)

    assert f"user:{alice.pk}, month from" in out.getvalue()
