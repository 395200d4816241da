"""Admit, settle, void, adjust, estimate: one call at a time."""

import uuid
from dataclasses import replace
from unittest.mock import ANY

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import strategies as st

from chat import pricing, spend
from chat.models import Budget, BudgetPeriod, LedgerEntry, Price, Turn, UsageRecord
from chat.money import nano
from chat.pricing import Terms, Usage
from tests.books import (
    COST,
    HAIKU,
    HELD,
    SONNET,
    USED,
    admit,
    call,
    few,
    paris,
    row,
    spent_call,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def price():
    """`price("a-model", input="0")`: a price of one dollar a million for everything else."""

    def price(model: str, **dollars) -> Price:
        names = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read", *dollars)
        return Price.objects.create(
            model=model,
            effective_from=paris(2026, 1, 1),
            source="a test",
            **{name: nano(dollars.get(name, "1")) for name in names},
        )

    return price


# --- Admission


def test_a_call_holds_its_worst_case_before_it_is_sent(alice):
    record = admit(alice)

    period = row(f"user:{alice.pk}")
    assert (period.held, period.spent) == (HELD, 0)
    assert (record.state, record.held, record.cost, record.max_tokens) == ("sent", HELD, 0, 1_000)
    assert [(entry.kind, entry.amount) for entry in record.entries.all()] == [("hold", HELD)]
    spend.void(record)


def test_the_price_is_copied_into_the_record(alice):
    record = admit(alice)

    assert record.price_numbers == record.price.numbers()
    assert record.price_numbers["output"] == 10_000_000_000
    spend.void(record)


def test_a_later_price_does_not_change_a_call_that_runs(alice, price):
    price("a-model")
    record = admit(alice, model="a-model")
    Price.objects.create(
        model="a-model",
        effective_from=paris(2026, 2, 1),
        source="a test",
        **dict.fromkeys(pricing.KINDS, nano("9")),
    )

    spend.settle(record, Usage(output=1_000), exact=True)

    assert record.cost == 1_000 * 1_000


@pytest.mark.parametrize("alias", ["claude-haiku-4-5-20251001", "claude-haiku-4-5"])
def test_a_model_by_its_alias_has_the_price_of_the_model(alice, alias):
    record = admit(alice, model=alias)

    assert record.model == "claude-haiku-4-5"
    assert record.held == 100 * 1_250 + 1_000 * 5_000
    spend.void(record)


@pytest.mark.parametrize(
    "dollars",
    [
        {"input": "0"},
        {"output": "0"},
        {"cache_read": "0"},
        {"cache_write_1h": "-1"},
        {"output": "-5"},
        {"search": "-1"},
    ],
)
def test_a_model_with_a_zero_or_negative_price_is_refused_before_the_call(alice, price, dollars):
    price("a-model", **dollars)

    with pytest.raises(spend.Unpriceable):
        admit(alice, model="a-model")

    assert not UsageRecord.objects.exists()


def test_a_long_band_with_a_hole_in_it_is_refused(alice, price):
    row = Price.objects.in_force(HAIKU, paris(2026, 11, 22)).first()
    row.pk, row._state.adding, row.model, row.long_output = None, True, "a-model", None
    row.save()

    with pytest.raises(spend.Unpriceable):
        admit(alice, model="a-model")


def test_a_model_without_a_price_is_refused_before_the_call(alice):
    with pytest.raises(spend.Unpriceable):
        admit(alice, model="claude-unheard-of")

    assert not UsageRecord.objects.exists()
    assert not BudgetPeriod.objects.exists()


def test_a_price_that_is_not_in_force_yet_does_not_count(alice, price):
    row = price("a-model")
    row.pk, row._state.adding, row.model, row.effective_from = None, True, "next-model", paris(2999, 1, 1)
    row.save()

    with pytest.raises(spend.Unpriceable):
        admit(alice, model="next-model")


def test_what_fits_exactly_is_admitted_and_a_nano_dollar_less_is_not(alice, bob, limit_nano):
    limit_nano(alice, HELD)
    limit_nano(bob, HELD - 1)

    record = admit(alice)

    assert row(f"user:{alice.pk}").left == 0
    spend.void(record)
    with pytest.raises(spend.OverBudget):
        admit(bob)


def test_a_refusal_writes_nothing(alice, limit_nano):
    limit_nano(alice, HELD - 1)
    Budget.objects.create(kind="pot", limit=nano("5"))

    with pytest.raises(spend.OverBudget):
        admit(alice)

    assert not UsageRecord.objects.exists()
    assert not LedgerEntry.objects.exists()


def test_a_refusal_names_the_tightest_budget_and_what_is_left_of_it(alice, limit_nano):
    spent_call(alice)
    limit_nano(alice, 5 * HELD)
    Budget.objects.create(kind="pot", limit=COST + 123, period="week")
    Budget.objects.create(kind="pot", limit=nano("5"), period="day")

    with pytest.raises(spend.OverBudget) as refusal:
        admit(alice)

    assert refusal.value.account.source == "the pot of everyone"
    assert (refusal.value.account.period, refusal.value.left, refusal.value.call.terms.input_bound) == (
        "week",
        123,
        100,
    )
    assert (refusal.value.period.spent, refusal.value.period.limit) == (COST, COST + 123)


def test_a_limit_that_only_warns_stands_beside_the_one_that_stops_in_the_row_of_the_period(alice, limit):
    limit(alice, "5")
    limit(alice, "2", set_by_self=True, mode="warn")

    spent_call(alice)

    period = row(f"user:{alice.pk}")
    assert (period.limit, period.warn_limit) == (nano("5"), nano("2"))


def test_of_what_is_used_up_nothing_is_left(alice, limit_nano):
    spent_call(alice)
    limit_nano(alice, COST)

    with pytest.raises(spend.OverBudget) as refusal:
        admit(alice)

    assert refusal.value.left == 0


def test_a_call_says_what_it_is_for(alice):
    record = admit(alice, purpose="title", attempt=3)

    assert UsageRecord.objects.values("purpose", "attempt", "turn", "input_bound", "price").get() == {
        "purpose": "title",
        "attempt": 3,
        "turn": None,
        "input_bound": 100,
        "price": ANY,
    }
    assert call(alice).least_tokens == 1_000
    spend.void(record)


# --- Fit, do not refuse


def test_an_answer_is_made_to_fit_rather_than_refused(alice, limit_nano):
    limit_nano(alice, 100 * 2_500 + 700 * 10_000 + 9_999)

    record = admit(alice, least=512)

    assert (record.max_tokens, record.fitted) == (700, True)
    assert row(f"user:{alice.pk}").left == 9_999
    spend.void(record)


def test_an_answer_that_fits_as_wanted_is_not_called_fitted(alice):
    record = admit(alice, least=512)

    assert (record.max_tokens, record.fitted) == (1_000, False)
    spend.void(record)


@pytest.mark.parametrize(("tokens", "admitted"), [(512, True), (511, False)])
def test_below_a_useful_length_it_is_refused(alice, limit_nano, tokens, admitted):
    limit_nano(alice, 100 * 2_500 + tokens * 10_000)

    if admitted:
        assert spend.void(admit(alice, least=512))
    else:
        with pytest.raises(spend.OverBudget):
            admit(alice, least=512)


def test_a_call_that_wants_less_than_a_useful_length_gets_what_it_wants(alice, limit_nano):
    limit_nano(alice, 100 * 2_500 + 40 * 10_000)

    record = admit(alice, wanted=40, least=512)

    assert record.max_tokens == 40
    spend.void(record)


@pytest.mark.parametrize("model", ["claude-fable-5", "claude-opus-5-5", SONNET, HAIKU])
def test_25_dollars_and_a_model_with_128k_output_still_answer(alice, limit, model):
    limit(alice, "25")

    first = admit(alice, model=model, wanted=128_000, least=512, bound=2_000)
    spend.settle(first, USED, exact=True)
    second = admit(alice, model=model, wanted=128_000, least=512, bound=900_000)

    assert second.max_tokens >= 512
    assert second.held <= nano("25") - first.cost
    spend.void(second)


def test_five_calls_at_once_of_a_person_with_2000_dollars_are_all_admitted(alice, limit):
    limit(alice, "2000")
    spent_call(alice)

    records = [admit(alice, wanted=128_000, model="claude-fable-5-2") for _ in range(5)]

    assert not any(record.fitted for record in records)
    for record in records:
        spend.void(record)


def test_a_warning_never_refuses_and_counts_all_the_same(alice, limit_nano):
    limit_nano(alice, 1, mode="warn")

    records = [spent_call(alice) for _ in range(3)]

    period = row(f"user:{alice.pk}")
    assert (period.spent, period.limit) == (3 * COST, None)
    assert not any(record.fitted for record in records)


# --- The fence


def test_a_replaced_worker_can_hold_nothing(alice, conversation):
    turn = Turn.objects.claim(conversation.start_turn("Hello", uuid.uuid4()).id)
    Turn.objects.filter(id=turn.id).update(attempt=turn.attempt + 1)

    with pytest.raises(spend.Replaced):
        admit(alice, turn=turn)

    assert not UsageRecord.objects.exists()


def test_a_turn_has_one_open_call(alice, conversation):
    turn = Turn.objects.claim(conversation.start_turn("Hello", uuid.uuid4()).id)
    record = admit(alice, turn=turn, purpose="reply")

    with pytest.raises(IntegrityError), transaction.atomic():
        admit(alice, turn=turn, purpose="reply")

    assert (record.turn, record.conversation_id, record.attempt) == (turn, conversation.id, 1)
    spend.void(record)


def test_a_record_keeps_the_team_of_its_time(alice):
    first = Group.objects.create(name="Editors")
    alice.groups.add(first)
    record = spent_call(alice)

    alice.groups.set([Group.objects.create(name="Writers")])

    record.refresh_from_db()
    assert record.group == first


# --- The end


def test_settling_charges_the_cost_and_releases_the_hold(alice):
    record = admit(alice)

    assert spend.settle(record, USED, exact=True, stop_reason="end_turn", request_id="req_1")

    record.refresh_from_db()
    assert (record.state, record.cost, record.confidence) == ("settled", COST, "exact")
    assert (record.input_tokens, record.output_tokens, record.stop_reason) == (50, 200, "end_turn")
    assert record.settled_at >= record.admitted_at
    assert {(entry.kind, entry.amount) for entry in record.entries.all()} == {
        ("hold", HELD),
        ("release", -HELD),
        ("charge", COST),
    }
    assert row(f"user:{alice.pk}").left == nano("20") - COST


def test_settling_twice_charges_once(alice):
    record = admit(alice)

    assert spend.settle(record, USED, exact=True) is True
    assert spend.settle(record, Usage(output=900), exact=True) is False

    assert row(f"user:{alice.pk}").spent == COST


def test_a_void_call_costs_nothing_and_gives_everything_back(alice):
    record = admit(alice)

    assert spend.void(record, request_id="req_2") is True

    record.refresh_from_db()
    period = row(f"user:{alice.pk}")
    assert (record.state, record.cost, record.request_id) == ("void", 0, "req_2")
    assert (period.spent, period.held) == (0, 0)


def test_void_after_settle_and_settle_after_void_do_nothing(alice):
    settled, voided = admit(alice), admit(alice)
    spend.settle(settled, USED, exact=True)
    spend.void(voided)

    assert spend.void(settled) is False
    assert spend.settle(voided, USED, exact=True) is False

    assert row(f"user:{alice.pk}").spent == COST


def test_a_given_cost_counts_instead_of_the_price(alice):
    record = admit(alice)

    spend.settle(record, Usage(input=412), exact=True, cost=0)

    assert (record.cost, record.input_tokens) == (0, 412)
    assert set(record.entries.values_list("kind", flat=True)) == {"hold", "release"}


def test_an_exact_cost_is_charged_also_where_it_passes_the_hold(alice):
    record = admit(alice)

    spend.settle(record, Usage(input=1_000, output=1_000), exact=True)

    assert record.cost == 1_000 * 2_000 + 1_000 * 10_000 > record.held
    assert row(f"user:{alice.pk}").spent == record.cost


def test_unknown_tokens_are_charged_at_the_dearest_rate(alice):
    record = admit(alice)

    spend.settle(record, Usage.read({"input_tokens": 50, "output_tokens": 200, "dreaming_tokens": 3}), exact=True)

    assert record.cost == COST + 3 * 10_000


@few
@given(
    started=st.booleans(),
    usage=st.fixed_dictionaries(
        {"input_tokens": st.integers(1, 5_000)},
        optional={
            "cache_read_input_tokens": st.integers(0, 5_000),
            "cache_creation_input_tokens": st.integers(0, 5_000),
            "dreaming_tokens": st.integers(0, 5_000),
            "output_tokens": st.integers(1, 3),
        },
    ),
    visible=st.integers(0, 5_000),
    seconds=st.floats(-1, 1_000),
)
def test_an_estimate_is_never_above_the_hold_and_never_nothing(alice, started, usage, visible, seconds):
    with transaction.atomic():
        record = admit(alice)
        start = usage if started else {}

        spend.settle(record, spend.estimate(record, start, visible, seconds), exact=False)

        assert 0 < record.cost <= record.held
        assert record.confidence == "estimated"
        assert record.output_tokens == min(1_000, visible + pricing.hidden_tokens(seconds))


def test_a_call_keeps_its_terms_for_whoever_has_to_settle_it(alice):
    terms = Terms(input_bound=100, ttl="1h", searches=2, us=True)
    made = spend.admit(replace(call(alice), terms=terms))

    record = UsageRecord.objects.get(id=made.id)

    assert spend.terms_of(record) == terms
    assert spend.usage_of(record, {"cache_creation_input_tokens": 70}).cache_write_1h == 70
    unseen = spend.estimate(record, {}, 0, 10_000)
    assert pricing.cost(record.price_numbers, unseen) == record.held
    spend.void(record)


def test_an_estimate_without_a_beginning_pays_the_bound_of_the_input_as_dearly_as_it_could_be(alice):
    record = admit(alice)

    used = spend.estimate(record, {}, visible_tokens=0, hidden_seconds=2)

    assert used == Usage(cache_write_5m=100, output=500)
    spend.settle(record, used, exact=False)


def test_an_estimate_with_a_beginning_pays_the_input_that_it_named(alice):
    record = admit(alice)

    used = spend.estimate(record, {"input_tokens": 30, "cache_read_input_tokens": 60, "output_tokens": 1}, 20, 0.1)

    assert used == Usage(input=30, cache_read=60, output=20 + 25)
    spend.settle(record, used, exact=False)


# --- Corrections


@pytest.mark.parametrize("amount", [-COST, -1, 1, COST])
def test_a_correction_is_an_entry_of_its_own_with_its_actor_and_reason(alice, ada, amount):
    record = spent_call(alice)

    spend.adjust(record, amount, actor=ada, reason="The invoice says so")

    record.refresh_from_db()
    entry = record.entries.get(kind="adjust")
    assert (entry.amount, entry.actor, entry.reason) == (amount, f"user:{ada.pk}", "The invoice says so")
    assert record.cost == row(f"user:{alice.pk}").spent == COST + amount


def test_a_call_can_be_corrected_more_than_once_in_every_budget_it_was_in(alice, ada):
    Budget.objects.create(kind="pot", limit=nano("5"))
    record = spent_call(alice)

    for amount in (-5, 3, -1):
        spend.adjust(record, amount, actor=ada, reason="Again")

    assert row(f"user:{alice.pk}").spent == row("everyone").spent == COST - 3
    assert record.entries.filter(kind="adjust").count() == 6


@pytest.mark.parametrize("state", ["sent", "void", "settled"])
def test_only_a_settled_call_can_be_corrected_and_not_to_below_zero(alice, ada, state):
    record = admit(alice)
    if state == "settled":
        spend.settle(record, USED, exact=True)
    elif state == "void":
        spend.void(record)

    with pytest.raises(ValueError, match="settled"):
        spend.adjust(record, -COST - 1, actor=ada, reason="Too much")

    assert not record.entries.filter(kind="adjust").exists()
    spend.void(record)


def test_a_correction_reaches_a_budget_that_was_set_after_the_call(alice, ada, limit):
    record = spent_call(alice)
    limit(alice, "5", period="day")
    spent_call(alice)

    spend.adjust(record, -COST, actor=ada, reason="Written off")

    assert row(f"user:{alice.pk}", "day").spent == COST
