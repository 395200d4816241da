"""Spend in figures. One place, so that the same question has the same answer on every page."""

from datetime import datetime

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from chat.models import UsageRecord

PROMPT = F("input_tokens") + F("cache_write_5m_tokens") + F("cache_write_1h_tokens") + F("cache_read_tokens")

SPENT = Coalesce(Sum("cost"), 0)
CALLS = Count("id")
ESTIMATED = Coalesce(Sum("cost", filter=Q(confidence=UsageRecord.Confidence.ESTIMATED)), 0)


def spent_between(start: datetime, end: datetime) -> QuerySet[UsageRecord]:
    """The settled calls admitted in a period: spend belongs to the moment of admission."""
    return UsageRecord.objects.filter(state=UsageRecord.State.SETTLED, admitted_at__gte=start, admitted_at__lt=end)


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
