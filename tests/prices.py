"""Prices for the tests of the arithmetic: one that is shipped, and any."""

from hypothesis import strategies as st

from chat.pricing import KINDS

HAIKU_NUMBERS = {
    "input": 100_000_000,
    "cache_write_5m": 125_000_000,
    "cache_write_1h": 200_000_000,
    "cache_read": 10_000_000,
    "output": 500_000_000,
    "long_above": 100_000,
    "long_input": 500_000_000,
    "long_cache_write_5m": 625_000_000,
    "long_cache_write_1h": 1_000_000_000,
    "long_cache_read": 50_000_000,
    "long_output": 2_500_000_000,
    "us_percent": 110,
    "search": 10_000_000_000,
}

RATES = st.integers(1, 10**11)
TOKENS = st.integers(0, 1_000_000)


@st.composite
def prices(draw, *, sane=True):
    """Any price. A long band, where there is one, is dearer in everything; or in anything, if that is not sane."""
    numbers = {kind: draw(RATES) for kind in KINDS}
    if draw(st.booleans()):
        numbers["long_above"] = draw(st.sampled_from([0, 1, 1_000, 100_000, 999_999]))
        numbers |= {f"long_{kind}": numbers[kind] * draw(st.integers(1, 6)) if sane else draw(RATES) for kind in KINDS}
    numbers["search"] = draw(st.integers(0, 10**11))
    if draw(st.booleans()):
        numbers["us_percent"] = draw(st.integers(100, 150))
    if draw(st.booleans()):
        numbers["fast_percent"] = draw(st.integers(100, 600))
    return numbers
