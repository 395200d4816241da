"""Days, weeks and months begin at the organisation's midnight, whatever the clocks do."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.periods import window
from tests.books import bounded, paris

HOUR = timedelta(hours=1)
# Among them zones that change their clocks at midnight, and one a day ahead of the other.
ZONES = st.sampled_from(
    [
        "Europe/Paris",
        "UTC",
        "Africa/Cairo",
        "America/Havana",
        "Pacific/Apia",
        "Pacific/Pago_Pago",
        "Australia/Lord_Howe",
    ]
)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
PERIODS = st.sampled_from(["day", "week", "month"])


def _utc(period, at):
    return tuple(end.astimezone(UTC) for end in window(period, at))


@pytest.mark.parametrize(
    ("period", "at", "start", "end"),
    [
        ("day", paris(2026, 11, 23, 13), paris(2026, 11, 23), paris(2026, 11, 24)),
        ("day", paris(2026, 12, 31, 23, 59, 59), paris(2026, 12, 31), paris(2027, 1, 1)),
        ("week", paris(2026, 11, 23), paris(2026, 11, 23), paris(2026, 11, 30)),
        ("week", paris(2026, 11, 29, 23, 59), paris(2026, 11, 23), paris(2026, 11, 30)),
        ("week", paris(2026, 12, 31), paris(2026, 12, 28), paris(2027, 1, 4)),
        ("month", paris(2026, 12, 31, 23), paris(2026, 12, 1), paris(2027, 1, 1)),
        ("month", paris(2028, 2, 29), paris(2028, 2, 1), paris(2028, 3, 1)),
        ("month", paris(2026, 1, 31), paris(2026, 1, 1), paris(2026, 2, 1)),
    ],
)
def test_a_period_runs_from_midnight_to_midnight(period, at, start, end):
    assert window(period, at) == (start, end)


def test_a_month_ends_at_midnight_in_paris_and_not_in_greenwich():
    before = datetime(2026, 11, 30, 22, 59, 59, tzinfo=UTC)

    assert window("month", before)[0] == paris(2026, 11, 1)
    assert window("month", before + timedelta(seconds=1))[0] == paris(2026, 12, 1)


@pytest.mark.parametrize(
    ("day", "hours"), [(paris(2026, 3, 29, 12), 23), (paris(2026, 10, 25, 12), 25), (paris(2026, 6, 1, 12), 24)]
)
def test_a_day_on_which_the_clocks_change_has_23_or_25_hours(day, hours):
    start, end = _utc("day", day)

    assert end - start == hours * HOUR


@pytest.mark.parametrize(("period", "hours"), [("week", 7 * 24 + 1), ("month", 31 * 24 + 1)])
def test_the_hour_that_october_gives_back_belongs_to_its_week_and_month(period, hours):
    start, end = _utc(period, paris(2026, 10, 25, 12))

    assert end - start == hours * HOUR


def test_both_two_thirties_of_an_october_night_are_the_same_day():
    first = paris(2026, 10, 25, 2, 30)

    assert _utc("day", first) == _utc("day", first.replace(fold=1))


@bounded
@given(period=PERIODS, at=MOMENTS, zone=ZONES)
def test_every_moment_lies_in_its_period(settings, period, at, zone):
    settings.TIME_ZONE = zone

    start, end = _utc(period, at)

    assert start <= at < end


@bounded
@given(period=PERIODS, at=MOMENTS, zone=ZONES)
def test_periods_follow_each_other_without_gap_or_overlap(settings, period, at, zone):
    settings.TIME_ZONE = zone

    start, end = _utc(period, at)

    assert _utc(period, start) == (start, end)
    assert _utc(period, end)[0] == end
    assert _utc(period, start - timedelta(microseconds=1))[1] == start
