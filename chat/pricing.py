"""Usage times price, in whole nano-dollars. Pure functions: no database, no clock.

A price is the `numbers` of a `Price` row: nano-dollars per million tokens. Every figure is rounded up,
once per call, after everything has been added.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

KINDS = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
PER_MILLION = 10**6

# No model writes faster. It bounds what we cannot see: silent thinking, and text lost after a cut.
TOKENS_PER_SECOND = 250

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
        the lifetime that was asked for. Fields that nobody has told us about are counted in `unknown`.
        """
        written = _int(raw, "cache_creation_input_tokens")
        split = raw.get("cache_creation") or {}
        hour, five = _int(split, "ephemeral_1h_input_tokens"), _int(split, "ephemeral_5m_input_tokens")
        rest = max(0, written - hour - five)
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
            thinking=_int(raw.get("output_tokens_details") or {}, "thinking_tokens"),
            searches=_int(raw.get("server_tool_use") or {}, "web_search_requests"),
            unknown=sum(_int(raw, key) for key in raw if key not in _KNOWN and key.endswith("_tokens")),
            us=raw.get("inference_geo") == "us",
            fast=raw.get("speed") == "fast",
            batch=raw.get("service_tier") == "batch",
        )


class Unpriced(Exception):
    """The price row says nothing about something that was used."""


def cost(numbers: Mapping, usage: Usage) -> int:
    """What a call costs, in nano-dollars. Raises Unpriced for fast mode on a model that has none."""
    rates = _rates(numbers, usage.prompt)
    amount = sum(getattr(usage, kind) * rates[kind] for kind in KINDS)
    amount += usage.unknown * max(rates.values())
    percents = 1
    if usage.fast:
        if "fast_percent" not in numbers:
            raise Unpriced("fast mode")
        amount, percents = amount * numbers["fast_percent"], percents * 100
    if usage.us:
        amount, percents = amount * numbers.get("us_percent", 100), percents * 100
    if usage.batch:
        amount, percents = amount * 50, percents * 100
    # Searches are not multiplied. Everything over one denominator, so that rounding happens once.
    amount += usage.searches * numbers.get("search", 0) * (PER_MILLION // 1000) * percents
    return -(-amount // (PER_MILLION * percents))


def worst_case(numbers: Mapping, input_bound: int, max_tokens: int, *, searches: int = 0) -> int:
    """The most that a call can cost, in nano-dollars.

    Every prompt token may be billed as a cache write, and a bound beyond the long band's edge pays it.
    """
    amount = input_bound * _input_rate(numbers, input_bound) + max_tokens * _rates(numbers, input_bound)["output"]
    amount += searches * numbers.get("search", 0) * (PER_MILLION // 1000)
    return -(-amount // PER_MILLION)


def affordable_tokens(numbers: Mapping, input_bound: int, available: int) -> int:
    """The largest `max_tokens` whose worst case fits into `available` nano-dollars; negative: the input does not."""
    rest = available * PER_MILLION - input_bound * _input_rate(numbers, input_bound)
    return rest // _rates(numbers, input_bound)["output"]


def hidden_tokens(seconds: float) -> int:
    """The most tokens that can have been made in a time in which none were seen."""
    return math.ceil(max(0.0, seconds) * TOKENS_PER_SECOND)


def _rates(numbers: Mapping, prompt: int) -> dict[str, int]:
    band = "long_" if "long_above" in numbers and prompt > numbers["long_above"] else ""
    return {kind: numbers[band + kind] for kind in KINDS}


def _input_rate(numbers: Mapping, prompt: int) -> int:
    rates = _rates(numbers, prompt)
    return max(rates["input"], rates["cache_write_5m"], rates["cache_read"])


def _int(raw: Mapping, key: str) -> int:
    value = raw.get(key)
    return max(0, value) if isinstance(value, int) else 0
