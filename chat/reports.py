"""Spend in figures. One place, so that the same question has the same answer on every page and in every file."""

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from chat.models import LedgerEntry, UsageRecord, User

PROMPT = F("input_tokens") + F("cache_write_5m_tokens") + F("cache_write_1h_tokens") + F("cache_read_tokens")

SPENT = Coalesce(Sum("cost"), 0)
CALLS = Count("id")
ESTIMATED = Coalesce(Sum("cost", filter=Q(confidence=UsageRecord.Confidence.ESTIMATED)), 0)

LEFT = "People who left"


def called_between(start: datetime, end: datetime) -> QuerySet[UsageRecord]:
    """The calls admitted in a period, in whatever state. What is not settled costs nothing, so sums are the same."""
    return UsageRecord.objects.filter(admitted_at__gte=start, admitted_at__lt=end)


def spent_between(start: datetime, end: datetime) -> QuerySet[UsageRecord]:
    """The settled calls admitted in a period: spend belongs to the moment of admission."""
    return called_between(start, end).filter(state=UsageRecord.State.SETTLED)


def booked_between(start: datetime, end: datetime) -> QuerySet[LedgerEntry]:
    """The entries of the accounts' periods that begin in it, also those written later: so that they add up to these."""
    return LedgerEntry.objects.filter(period__start__gte=start, period__start__lt=end)


def totals(records: QuerySet[UsageRecord]) -> dict:
    return records.aggregate(spent=SPENT, calls=CALLS, estimated=ESTIMATED)


def by(records: QuerySet[UsageRecord], *names: str) -> QuerySet:
    """Sums for each value of the named columns, the dearest first."""
    return (
        records.values(*names)
        .annotate(
            spent=SPENT,
            calls=CALLS,
            estimated=ESTIMATED,
            tokens_in=Coalesce(Sum(PROMPT), 0),
            tokens_out=Coalesce(Sum("output_tokens"), 0),
        )
        .order_by("-spent", *names)
    )


def by_person(start: datetime, end: datetime) -> Iterator[tuple[User | None, dict]]:
    """Everybody by name with the sums of `by`, whether they spent or not; then None for those who left, if they did."""
    people = list(User.objects.order_by("username"))
    sums = {row["user"]: row for row in by(spent_between(start, end), "user")}
    nothing = {"spent": 0, "calls": 0, "estimated": 0, "tokens_in": 0, "tokens_out": 0}
    for person in people:
        yield person, sums.get(person.pk, nothing)
    if gone := sums.get(None):
        yield None, gone
