"""Usage times price: against hand-made figures and against other arithmetic."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, localcontext

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chat import pricing
from chat.models import Price
from chat.money import nano
from chat.pricing import KINDS, Usage
from tests.books import HAIKU, OPUS, SONNET, bounded
from tests.prices import HAIKU_NUMBERS, TOKENS, prices

READ_ON = datetime(2026, 11, 22, tzinfo=UTC)
MIXED = Usage(input=1_000, cache_write_5m=2_000, cache_write_1h=3_000, cache_read=4_000, output=500)
usages = st.builds(
    Usage,
    **dict.fromkeys((*KINDS, "searches", "unknown"), TOKENS),
    us=st.booleans(),
    fast=st.booleans(),
    batch=st.booleans(),
)


def _by_hand(numbers: dict, usage: Usage) -> int:
    """The formula of the vendor's price page, in dollars and Decimal."""
    with localcontext(prec=80):
        prompt = usage.input + usage.cache_write_5m + usage.cache_write_1h + usage.cache_read
        long = "long_above" in numbers and prompt > numbers["long_above"]
        per_token = {kind: Decimal(numbers["long_" + kind if long else kind]) / 10**15 for kind in KINDS}
        total = sum((getattr(usage, kind) * per_token[kind] for kind in KINDS), Decimal(0))
        dearest = max(value for name, value in numbers.items() if name.removeprefix("long_") in KINDS)
        total += usage.unknown * Decimal(dearest) / 10**15
        if usage.fast:
            total *= Decimal(numbers["fast_percent"]) / 100
        if usage.us:
            total *= Decimal(numbers.get("us_percent", 100)) / 100
        if usage.batch:
            total /= 2
        total += usage.searches * Decimal(numbers["search"]) / 10**12
        return int((total * 10**9).to_integral_value(ROUND_CEILING))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("models", "dollars"),
    [
        (["claude-fable-5-2", "claude-mythos-5-2"], "0.0968"),
        (["claude-fable-5-1", "claude-mythos-5-1"], "0.121"),
        (["claude-fable-5", "claude-mythos-5"], "0.124"),
        ([OPUS], "0.0488"),
        (["claude-opus-5", "claude-opus-4-8", "claude-opus-4-7", "claude-opus-4-6", "claude-opus-4-5"], "0.062"),
        ([SONNET], "0.0244"),
        (["claude-sonnet-5"], "0.0248"),
        (["claude-sonnet-4-6", "claude-sonnet-4-5"], "0.0372"),
        ([HAIKU], "0.00124"),
        (["claude-haiku-4-5"], "0.0124"),
    ],
)
def test_each_shipped_model_costs_what_its_price_page_says(models, dollars):
    for model in models:
        numbers = Price.objects.in_force(model, READ_ON).first().numbers()

        assert pricing.cost(numbers, MIXED) == nano(dollars)


@pytest.mark.django_db
def test_a_price_counts_from_its_day_on():
    usage = Usage(cache_read=1_000_000)

    before = Price.objects.in_force(SONNET, datetime(2026, 10, 6, 23, 59, tzinfo=UTC)).first()
    after = Price.objects.in_force(SONNET, datetime(2026, 10, 7, tzinfo=UTC)).first()

    assert pricing.cost(before.numbers(), usage) == nano("0.20")
    assert pricing.cost(after.numbers(), usage) == nano("0.10")
    assert Price.objects.in_force(SONNET, datetime(2026, 9, 27, tzinfo=UTC)).first() is None


@pytest.mark.django_db
def test_the_price_of_haiku_used_here_is_the_shipped_one():
    assert Price.objects.in_force(HAIKU, READ_ON).first().numbers() == HAIKU_NUMBERS


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(input=100_000, output=1_000), "0.0105"),
        (Usage(input=100_001, output=1_000), "0.0525005"),
        (Usage(input=1, cache_read=60_000, cache_write_5m=40_000, output=1_000), "0.0305005"),
        (Usage(input=1, cache_read=60_000, cache_write_5m=39_999, output=1_000), "0.006099975"),
        (Usage(output=128_000), "0.064"),
    ],
)
def test_a_prompt_beyond_the_edge_pays_the_long_price_for_everything(usage, dollars):
    assert pricing.cost(HAIKU_NUMBERS, usage) == nano(dollars)


def test_searches_cost_a_cent_each_and_are_not_multiplied():
    usage = Usage(input=1_000_000, searches=3, us=True, batch=True)

    short = {name: value for name, value in HAIKU_NUMBERS.items() if not name.startswith("long_")}

    assert pricing.cost(short, usage) == nano("0.10") * 110 // 100 // 2 + nano("0.03")


def test_fast_mode_doubles_every_token():
    numbers = {**HAIKU_NUMBERS, "fast_percent": 200}

    assert pricing.cost(numbers, replace(MIXED, fast=True)) == 2 * pricing.cost(numbers, MIXED)


def test_fast_mode_of_a_model_without_a_price_for_it_is_not_guessed():
    with pytest.raises(pricing.Unpriced):
        pricing.cost(HAIKU_NUMBERS, Usage(input=1, fast=True))


def test_thinking_is_a_part_of_the_output_and_not_paid_twice():
    assert pricing.cost(HAIKU_NUMBERS, Usage(output=90, thinking=80)) == 90 * 500


def test_less_than_a_nano_dollar_is_rounded_up_once():
    numbers = dict.fromkeys(KINDS, 1)

    assert pricing.cost(numbers, Usage(input=1, cache_read=1, output=1)) == 1
    assert pricing.cost(numbers, Usage(input=500_000, output=500_001)) == 2
    assert pricing.cost(numbers, Usage()) == 0


def test_tokens_that_nobody_has_told_us_about_are_paid_at_the_dearest_rate_of_either_band():
    usage = Usage.read({"input_tokens": 10, "output_tokens": 5, "dreaming_tokens": 7})

    assert pricing.cost(HAIKU_NUMBERS, usage) == 10 * 100 + 5 * 500 + 7 * 2_500


@bounded
@given(numbers=prices(), usage=usages)
def test_the_cost_is_the_same_in_other_arithmetic_rounded_up_once(numbers, usage):
    assume(not usage.fast or "fast_percent" in numbers)

    assert pricing.cost(numbers, usage) == _by_hand(numbers, usage)


@bounded
@given(numbers=prices(), usage=usages, kind=st.sampled_from([*KINDS, "searches", "unknown"]))
def test_more_usage_never_costs_less(numbers, usage, kind):
    usage = replace(usage, fast=False)
    more = replace(usage, **{kind: getattr(usage, kind) + 1})

    assert pricing.cost(numbers, more) >= pricing.cost(numbers, usage)


@pytest.mark.parametrize(("seconds", "tokens"), [(-3, 0), (0, 0), (0.001, 1), (1, 250), (2.001, 501)])
def test_silence_is_worth_what_the_fastest_model_could_have_written(seconds, tokens):
    assert pricing.hidden_tokens(seconds) == tokens


def test_cache_writes_of_five_minutes_and_of_an_hour_are_told_apart():
    split = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 12}

    usage = Usage.read({"cache_creation_input_tokens": 42, "cache_creation": split, "cache_read_input_tokens": 5})

    assert (usage.cache_write_5m, usage.cache_write_1h, usage.cache_read) == (30, 12, 5)
    assert usage.prompt == 47


@pytest.mark.parametrize(("ttl", "split"), [("5m", (32, 10)), ("1h", (20, 22))])
def test_writes_that_the_split_does_not_explain_count_at_the_lifetime_that_was_asked_for(ttl, split):
    raw = {
        "cache_creation_input_tokens": 42,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
    }

    usage = Usage.read(raw, ttl=ttl)

    assert (usage.cache_write_5m, usage.cache_write_1h) == split


def test_a_lifetime_that_nobody_has_told_us_about_is_no_write_of_five_minutes():
    split = {"ephemeral_5m_input_tokens": 30, "ephemeral_24h_input_tokens": 10}

    usage = Usage.read({"cache_creation_input_tokens": 42, "cache_creation": split})

    assert (usage.cache_write_5m, usage.unknown) == (32, 10)


def test_what_the_sums_leave_out_is_not_free():
    """Compaction is in `iterations` alone, and another model's answer has another price."""
    own = {"type": "message", "input_tokens": 100, "output_tokens": 20}
    other = {"type": "compaction", "input_tokens": 900, "cache_read_input_tokens": 50, "output_tokens": 7}

    assert Usage.read({"input_tokens": 100, "output_tokens": 20, "iterations": [own]}).unknown == 0
    assert Usage.read({"input_tokens": 100, "output_tokens": 20, "iterations": [own, other]}).unknown == 957


def test_details_of_the_sums_and_counts_of_other_things_are_not_billed_as_tokens():
    raw = {"input_tokens": 100, "input_tokens_details": {"image_tokens": 60}, "sandbox_units": 7, "latency_ms": 900}

    assert Usage.read(raw) == Usage(input=100)


@pytest.mark.parametrize("value", [None, "many", -5, [], {}, 1.5])
def test_what_is_not_a_number_of_tokens_counts_nothing_and_breaks_nothing(value):
    fields = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "odd_tokens")
    objects = ("cache_creation", "output_tokens_details", "server_tool_use")

    assert Usage.read(dict.fromkeys(fields, value)) == Usage()
    assert Usage.read(dict.fromkeys(objects, value) | {"iterations": [value]}) == Usage()
    assert Usage.read({"iterations": value}) == Usage()


def test_everything_that_changes_the_price_is_read():
    raw = {
        "input_tokens": 1,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 8},
        "inference_geo": "us",
        "speed": "fast",
        "service_tier": "batch",
        "iterations": None,
    }

    assert Usage.read(raw) == Usage(input=1, output=9, thinking=4, searches=2, us=True, fast=True, batch=True)
    assert Usage.read({"inference_geo": "global", "speed": "standard", "service_tier": "standard"}) == Usage()
