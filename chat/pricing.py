"""Usage times price, in whole nano-dollars. Pure functions: no database, no clock.

A price is the `numbers` of a `Price` row: nano-dollars per million tokens. Every figure is rounded up,
once per call, after everything has been added.
"""

import math
from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

KINDS = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
PER_MILLION = 10**6
MOST_TOKENS = 2**31  # one more than a record can count

# No model writes faster. It bounds what we cannot see: silent thinking, and text lost after a cut.
TOKENS_PER_SECOND = 250

# What one web search may add to the prompt. The vendor's published trace shows 5,300; users report 10,000 to 20,000.
SEARCH_TOKENS = 20_000
# Web searches that one call may make: what they can cost grows with their square.
MOST_SEARCHES = 5

_PROMPT_KINDS = {
    "": ("input", "cache_read"),
    "5m": ("input", "cache_write_5m", "cache_read"),
    "1h": ("input", "cache_write_5m", "cache_write_1h", "cache_read"),
}

_KNOWN = {
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "cache_creation",
    "output_tokens_details",
    "server_tool_use",
    "service_tier",
    "inference_geo",
    "speed",
    "iterations",
}


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, by what they are billed at."""

    input: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    output: int = 0
    thinking: int = 0
    searches: int = 0
    unknown: int = 0
    us: bool = False
    fast: bool = False
    batch: bool = False

    @property
    def prompt(self) -> int:
        return self.input + self.cache_write_5m + self.cache_write_1h + self.cache_read

    @classmethod
    def read(cls, raw: Mapping, *, ttl: str = "5m") -> "Usage":
        """Read the provider's usage object.

        In a stream the split by lifetime may lag behind the total of cache writes: the difference is counted at
        the lifetime that was asked for. Counts of tokens that nobody has told us about are `unknown`, and so are
        those of iterations that the sums leave out (compaction) or that another model may have made. Objects of other
        names are taken for details of the sums; what does not count tokens has no price that could be guessed.
        """
        written = _int(raw, "cache_creation_input_tokens")
        split = _object(raw, "cache_creation")
        hour, five = _int(split, "ephemeral_1h_input_tokens"), _int(split, "ephemeral_5m_input_tokens")
        unheard = sum(_int(split, key) for key in split) - hour - five
        rest = max(0, written - hour - five - unheard)
        if ttl == "1h":
            hour += rest
        else:
            five += rest
        return cls(
            input=_int(raw, "input_tokens"),
            cache_write_5m=five,
            cache_write_1h=hour,
            cache_read=_int(raw, "cache_read_input_tokens"),
            output=_int(raw, "output_tokens"),
            thinking=_int(_object(raw, "output_tokens_details"), "thinking_tokens"),
            searches=_int(_object(raw, "server_tool_use"), "web_search_requests"),
            unknown=unheard + _tokens(raw, but=_KNOWN) + sum(_tokens(entry) for entry in _other_iterations(raw)),
            us=raw.get("inference_geo") == "us",
            fast=raw.get("speed") == "fast",
            batch=raw.get("service_tier") == "batch",
        )


class Unpriced(Exception):
    """The price row says nothing about something that was used or asked for."""


def cost(numbers: Mapping, usage: Usage) -> int:
    """What a call costs, in nano-dollars. Raises Unpriced for fast mode on a model that has none.

    Tokens of a kind that nobody has told us about are paid at the dearest rate that the row has.
    """
    rates = _rates(numbers, usage.prompt)
    amount = sum(getattr(usage, kind) * rates[kind] for kind in KINDS)
    amount += usage.unknown * max(numbers[band + kind] for band in _bands(numbers) for kind in KINDS)
    factors = _factors(numbers, fast=usage.fast, us=usage.us)
    return _nanos(numbers, amount, usage.searches, [*factors, 50] if usage.batch else factors)


@dataclass(frozen=True)
class Terms:
    """What a call may be billed as, before anybody knows what it used.

    `input_bound`: tokens that the prompt, as it is sent, cannot exceed. `ttl`: the lifetime of what is cached ("5m" or
    "1h"), "" without caching. `searches`: how many web searches the answer may make. `fast`: whether fast mode is
    asked for. `us`: whether it may be billed as served in the US. `of_files`: the part of the bound that images and
    documents have, of which there may be far less.
    """

    input_bound: int
    ttl: str = "5m"
    searches: int = 0
    fast: bool = False
    us: bool = False
    of_files: int = 0

    def prompt(self, output: int) -> int:
        """The most prompt tokens that can be billed with an answer of `output` tokens.

        After each search the model reads everything again: what was sent, all results, and what it has written.
        """
        k = self.searches
        return (k + 1) * self.input_bound + k * (k + 1) // 2 * SEARCH_TOKENS + k * output


def worst_case(numbers: Mapping, terms: Terms, max_tokens: int) -> int:
    """The most that a call can cost, in nano-dollars. Never falls when anything grows. Raises Unpriced like `cost`."""
    prompt = terms.prompt(max_tokens)
    rates = _dearest_rates(numbers, prompt)
    amount = prompt * rates[_dearest(rates, terms.ttl)] + max_tokens * rates["output"]
    # What may be billed at a multiple need not be.
    factors = [max(100, percent) for percent in _factors(numbers, fast=terms.fast, us=terms.us)]
    return _nanos(numbers, amount, terms.searches, factors)


def affordable_tokens(numbers: Mapping, terms: Terms, available: int) -> int:
    """The largest `max_tokens` whose worst case fits into `available` nano-dollars; -1: not even the input does."""
    return bisect_right(range(MOST_TOKENS), available, key=partial(worst_case, numbers, terms)) - 1


def unfinished(
    numbers: Mapping, terms: Terms, output: int, start: Mapping | None = None, searches: int | None = None
) -> Usage:
    """The usage of a call whose end was not seen, as dear as it can have been: never below the truth.

    `output` is a bound of what was written. `start` is the usage of `message_start`, if that was seen: it is right
    about the prompt as it was sent, and knows nothing of searches. `searches`: the most that can have been made, where
    that is known; else all that were allowed. Without `start` it costs what `worst_case` says for that output.
    """
    made = terms.searches if searches is None else min(searches, terms.searches)
    if start:
        seen = Usage.read({**start, "output_tokens": output}, ttl=terms.ttl)
        sent = seen.prompt
    else:
        seen = Usage(output=output, fast=terms.fast, us=terms.us)
        sent = terms.input_bound
    prompt = replace(terms, input_bound=sent, searches=made).prompt(output)
    kind = _dearest(_rates(numbers, prompt), terms.ttl)
    more = getattr(seen, kind) + prompt - seen.prompt
    return replace(seen, searches=made, **{kind: more})


def hidden_tokens(seconds: float) -> int:
    """The most tokens that can have been made in a time in which none were seen."""
    return math.ceil(max(0.0, seconds) * TOKENS_PER_SECOND)


def _bands(numbers: Mapping) -> tuple[str, ...]:
    return ("", "long_") if "long_above" in numbers else ("",)


def _reachable(numbers: Mapping, prompt: int) -> tuple[str, ...]:
    """The bands in which a prompt of at most so many tokens may be billed; the one of that very number comes last."""
    return _bands(numbers) if prompt > numbers.get("long_above", prompt) else ("",)


def _rates(numbers: Mapping, prompt: int) -> dict[str, int]:
    band = _reachable(numbers, prompt)[-1]
    return {kind: numbers[band + kind] for kind in KINDS}


def _dearest_rates(numbers: Mapping, most: int) -> dict[str, int]:
    bands = _reachable(numbers, most)
    return {kind: max(numbers[band + kind] for band in bands) for kind in KINDS}


def _dearest(rates: Mapping[str, int], ttl: str) -> str:
    """As what a prompt token is dearest, given what is cached."""
    return max(_PROMPT_KINDS[ttl], key=rates.__getitem__)


def _factors(numbers: Mapping, *, fast: bool, us: bool) -> list[int]:
    """The percentages that multiply every token."""
    if fast and "fast_percent" not in numbers:
        raise Unpriced("fast mode")
    factors = [numbers["fast_percent"]] if fast else []
    return [*factors, numbers.get("us_percent", 100)] if us else factors


def _nanos(numbers: Mapping, amount: int, searches: int, factors: list[int]) -> int:
    """Everything over one denominator, so that rounding happens once. Searches are not multiplied."""
    parts = PER_MILLION * 100 ** len(factors)
    amount = amount * math.prod(factors) + searches * numbers.get("search", 0) * (parts // 1000)
    return -(-amount // parts)


def _int(raw: Mapping, key: str) -> int:
    value = raw.get(key)
    return max(0, value) if isinstance(value, int) else 0


def _object(raw: Mapping, key: str) -> Mapping:
    value = raw.get(key)
    return value if isinstance(value, Mapping) else {}


def _tokens(raw: Mapping, but: Collection[str] = ()) -> int:
    return sum(_int(raw, key) for key in raw if key.endswith("_tokens") and key not in but)


def _other_iterations(raw: Mapping) -> list[Mapping]:
    """The steps of a call that are not in its sums, or may not be: whatever is no message of the model's own."""
    steps = raw.get("iterations")
    steps = steps if isinstance(steps, list) else []
    return [step for step in steps if isinstance(step, Mapping) and step.get("type") != "message"]
