"""The hold of a call is never below its bill: against the sandbox's own arithmetic, for every price and every use."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chat import pricing
from chat.models import Price
from chat.pricing import KINDS, MOST_SEARCHES, SEARCH_TOKENS, Terms, Usage
from chat.sandbox.catalogue import Catalogue
from chat.sandbox.invoice import cost_nanos
from tests.books import HAIKU, OPUS, bounded
from tests.prices import HAIKU_NUMBERS, TOKENS, prices

MODELS = Catalogue().models
WRITES = {"": (), "5m": ("cache_write_5m",), "1h": ("cache_write_5m", "cache_write_1h")}
# Small, ordinary, and around the edge of the long band.
BOUNDS = st.one_of(st.integers(0, 300), TOKENS, st.integers(99_990, 100_010))


@st.composite
def terms(draw, *, priced=()):
    """Any terms; fast mode only where `priced` has a price for it."""
    return Terms(
        input_bound=draw(BOUNDS),
        ttl=draw(st.sampled_from(["", "5m", "1h"])),
        searches=draw(st.sampled_from([0, 0, 1, 3, MOST_SEARCHES])),
        fast="fast_percent" in priced and draw(st.booleans()),
        us=draw(st.booleans()),
    )


def up_to(most: int):
    """Any number; the largest one often, since that is where a bound breaks, and the edge of the long band."""
    return st.one_of(st.just(most), st.integers(0, most), st.sampled_from([min(most, 1_000), min(most, 100_000)]))


@st.composite
def used(draw, under: Terms, max_tokens: int):
    """Whatever a call may use under its terms: a prompt that is read again after each search, and billed in any way."""
    output, sent, made = draw(up_to(max_tokens)), draw(up_to(under.input_bound)), draw(up_to(under.searches))
    found = [draw(up_to(SEARCH_TOKENS)) for _ in range(made)]
    written = [draw(up_to(output)) for _ in range(made)]
    prompt = sent + sum(sent + sum(found[: n + 1]) + written[n] for n in range(made))
    kinds = draw(st.permutations(["input", "cache_read", *WRITES[under.ttl]]))
    cuts = sorted(draw(up_to(prompt)) for _ in kinds[1:])
    shares = [after - before for before, after in zip([0, *cuts], [*cuts, prompt], strict=True)]
    return Usage(
        **dict(zip(kinds, shares, strict=True)),
        output=output,
        searches=made,
        fast=under.fast and draw(st.booleans()),
        us=under.us and draw(st.booleans()),
    )


def invoiced(price: dict, usage: Usage) -> int:
    """What the sandbox bills: arithmetic of its own."""
    return cost_nanos(
        price,
        input_tokens=usage.input,
        cache_write_5m=usage.cache_write_5m,
        cache_write_1h=usage.cache_write_1h,
        cache_read=usage.cache_read,
        output_tokens=usage.output,
        web_searches=usage.searches,
        fast=usage.fast,
        us=usage.us and bool(price.get("us")),
    )


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_no_invoice_of_a_shipped_model_is_higher_than_what_was_held(model):
    numbers = Price.objects.filter(model=model.id).order_by("effective_from").last().numbers()

    @bounded
    @given(data=st.data(), max_tokens=st.integers(0, model.max_output))
    def check(data, max_tokens):
        under = data.draw(terms(priced=numbers))
        usage = data.draw(used(under, max_tokens))

        assert pricing.worst_case(numbers, under, max_tokens) >= invoiced(model.price, usage)
        assert pricing.cost(numbers, usage) == invoiced(model.price, usage)

    check()


@bounded
@given(data=st.data(), numbers=prices(sane=False), max_tokens=TOKENS)
def test_no_use_within_the_terms_costs_more_than_was_held_whatever_the_price(data, numbers, max_tokens):
    under = data.draw(terms(priced=numbers))
    usage = data.draw(used(under, max_tokens))

    assert pricing.worst_case(numbers, under, max_tokens) >= pricing.cost(numbers, usage)


@bounded
@given(data=st.data(), numbers=prices(), max_tokens=TOKENS)
def test_what_is_held_is_not_a_nano_dollar_more_than_what_can_happen(data, numbers, max_tokens):
    under = data.draw(terms(priced=numbers))

    dearest = pricing.unfinished(numbers, under, max_tokens)

    assert pricing.cost(numbers, dearest) == pricing.worst_case(numbers, under, max_tokens)
    assert dearest.prompt == under.prompt(max_tokens)


@bounded
@given(data=st.data(), numbers=prices(sane=False), tokens=TOKENS, more=st.integers(0, 1_000))
def test_what_is_held_never_falls_when_more_is_allowed(data, numbers, tokens, more):
    under = data.draw(terms(priced=numbers))
    dearer = replace(
        under,
        input_bound=under.input_bound + more,
        searches=under.searches + more % 2,
        ttl=data.draw(st.sampled_from({"": ["", "5m", "1h"], "5m": ["5m", "1h"], "1h": ["1h"]}[under.ttl])),
        us=under.us or data.draw(st.booleans()),
    )

    assert pricing.worst_case(numbers, dearer, tokens + more) >= pricing.worst_case(numbers, under, tokens)


@bounded
@given(data=st.data(), numbers=st.one_of(st.just(HAIKU_NUMBERS), prices(sane=False)), available=st.integers(0, 10**13))
def test_the_affordable_answer_is_the_longest_that_fits(data, numbers, available):
    under = data.draw(terms(priced=numbers))

    tokens = pricing.affordable_tokens(numbers, under, available)

    if tokens >= 0:
        assert pricing.worst_case(numbers, under, tokens) <= available
    assert tokens == pricing.MOST_TOKENS - 1 or pricing.worst_case(numbers, under, tokens + 1) > available


@bounded
@given(data=st.data(), numbers=prices(), visible=TOKENS)
def test_a_call_whose_end_was_not_seen_is_charged_no_less_than_it_used(data, numbers, visible):
    under = data.draw(terms(priced=numbers))
    usage = data.draw(used(under, visible))
    assume(usage.us == under.us and usage.fast == under.fast)

    unseen = pricing.unfinished(numbers, under, usage.output)

    assert pricing.cost(numbers, unseen) >= pricing.cost(numbers, usage)


@bounded
@given(data=st.data(), numbers=prices(), output=TOKENS)
def test_a_beginning_that_was_seen_is_believed_and_the_searches_after_it_are_not_forgotten(data, numbers, output):
    under = data.draw(terms(priced=numbers))
    first = data.draw(used(replace(under, searches=0), 0))
    made = data.draw(st.integers(0, under.searches))
    start = {
        "input_tokens": first.input,
        "cache_creation_input_tokens": first.cache_write_5m + first.cache_write_1h,
        "cache_creation": {
            "ephemeral_5m_input_tokens": first.cache_write_5m,
            "ephemeral_1h_input_tokens": first.cache_write_1h,
        },
        "cache_read_input_tokens": first.cache_read,
        "output_tokens": 1,
        "speed": "fast" if first.fast else "standard",
        "inference_geo": "us" if first.us else "global",
    }

    seen = pricing.unfinished(numbers, under, output, start, made)

    assert seen.prompt == replace(under, input_bound=first.prompt, searches=made).prompt(output)
    assert all(getattr(seen, kind) >= getattr(first, kind) for kind in KINDS)
    assert (seen.output, seen.searches, seen.fast, seen.us) == (output, made, first.fast, first.us)
    assert pricing.cost(numbers, seen) <= pricing.worst_case(numbers, under, output)


# --- By hand


@pytest.mark.parametrize(
    ("ttl", "nanos"),
    [("", 1_000 * 100), ("5m", 1_000 * 125), ("1h", 1_000 * 200)],
)
def test_each_prompt_token_is_held_as_dearly_as_its_cache_allows(ttl, nanos):
    assert pricing.worst_case(HAIKU_NUMBERS, Terms(1_000, ttl), 10) == nanos + 10 * 500


@pytest.mark.parametrize(
    ("bound", "nanos"),
    [(100_000, 100_000 * 125 + 10 * 500), (100_001, 100_001 * 625 + 10 * 2_500)],
)
def test_beyond_the_edge_all_of_it_is_held_at_the_long_price(bound, nanos):
    assert pricing.worst_case(HAIKU_NUMBERS, Terms(bound), 10) == nanos


def test_a_prompt_that_may_lie_on_either_side_of_the_edge_is_held_at_the_dearer_price_of_the_two():
    odd = {**HAIKU_NUMBERS, "long_cache_write_5m": 50_000_000, "long_input": 50_000_000}

    assert pricing.worst_case(odd, Terms(100_001), 10) == 100_001 * 125 + 10 * 2_500


def test_the_edge_is_the_sum_of_what_is_read_again_and_again():
    """One search of a prompt of 40,000: 40,000 + 40,000 + 20,000 + the 10 tokens written, which are read again."""
    assert pricing.worst_case(HAIKU_NUMBERS, Terms(40_000, searches=1), 10) == 100_010 * 625 + 10 * 2_500 + 10_000_000
    assert pricing.worst_case(HAIKU_NUMBERS, Terms(39_000, searches=1), 10) == 98_010 * 125 + 10 * 500 + 10_000_000


def test_three_searches_are_held_by_the_formula_of_the_reference():
    fees, read = 3 * 10_000_000, (3 + 1) * 1_000 + SEARCH_TOKENS * 3 * (3 + 1) // 2

    assert pricing.worst_case({**HAIKU_NUMBERS, "long_above": 10**9}, Terms(1_000, searches=3), 0) == fees + read * 125


def test_the_us_are_held_at_their_price_and_the_searches_are_not_multiplied():
    without = pricing.worst_case(HAIKU_NUMBERS, Terms(1_000), 100)

    assert pricing.worst_case(HAIKU_NUMBERS, Terms(1_000, us=True), 100) == without * 110 // 100
    free = {**HAIKU_NUMBERS, "search": 0}
    dear = pricing.worst_case(HAIKU_NUMBERS, Terms(1_000, searches=2, us=True), 100)
    assert dear - pricing.worst_case(free, Terms(1_000, searches=2, us=True), 100) == 20_000_000


@pytest.mark.django_db
def test_fast_mode_is_held_at_its_price_and_refused_where_it_has_none():
    opus = Price.objects.filter(model=OPUS).latest("effective_from").numbers()
    haiku = Price.objects.filter(model=HAIKU).latest("effective_from").numbers()

    slow = pricing.worst_case(opus, Terms(1_000), 100)

    assert pricing.worst_case(opus, Terms(1_000, fast=True), 100) == 2 * slow
    with pytest.raises(pricing.Unpriced):
        pricing.worst_case(haiku, Terms(1_000, fast=True), 100)


@pytest.mark.parametrize(("ttl", "kind"), [("5m", "cache_write_5m"), ("1h", "cache_write_1h")])
def test_what_was_cached_at_the_beginning_is_paid_for_the_lifetime_that_was_asked_for(ttl, kind):
    """In a stream the split by lifetime may come late, or never."""
    start = {"input_tokens": 10, "cache_creation_input_tokens": 1_000, "output_tokens": 1}

    seen = pricing.unfinished(HAIKU_NUMBERS, pricing.Terms(input_bound=2_000, ttl=ttl), 50, start)

    assert (seen.input, getattr(seen, kind), seen.output) == (10, 1_000, 50)


@bounded
@given(data=st.data(), numbers=prices(), max_tokens=TOKENS)
def test_an_amount_is_never_a_float(data, numbers, max_tokens):
    under = data.draw(terms(priced=numbers))
    usage = data.draw(used(under, max_tokens))

    amounts = [pricing.worst_case(numbers, under, max_tokens), pricing.cost(numbers, usage), under.prompt(max_tokens)]

    assert [type(amount) for amount in amounts] == [int, int, int]
