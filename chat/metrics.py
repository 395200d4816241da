"""Figures for Prometheus, read from the database: the same from whichever process is asked."""

from collections.abc import Iterable

from django.db.models import Count, Sum
from django.utils import timezone
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from chat.models import BudgetPeriod, Turn, UsageRecord
from chat.money import dollars


class _Books:
    def collect(self) -> Iterable[Metric]:
        turns = GaugeMetricFamily("tally_turns", "Turns that are not over.", labels=["state"])
        live = dict(Turn.objects.live().order_by().values_list("state").annotate(Count("id")))
        for state in Turn.LIVE:
            turns.add_metric([state], live.get(state, 0))
        yield turns
        calls = CounterMetricFamily("tally_calls", "Provider calls.", labels=["model", "purpose", "state"])
        cost = CounterMetricFamily(
            "tally_cost_dollars", "What settled calls cost.", labels=["model", "purpose", "confidence"]
        )
        rows = UsageRecord.objects.order_by().values_list("model", "purpose", "state", "confidence")
        counts: dict[tuple, int] = {}
        for model, purpose, state, confidence, number, spent in rows.annotate(Count("id"), Sum("cost")):
            counts[model, purpose, state] = counts.get((model, purpose, state), 0) + number
            if state == UsageRecord.State.SETTLED:
                cost.add_metric([model, purpose, confidence], float(dollars(spent)))
        for labels, number in counts.items():
            calls.add_metric(list(labels), number)
        yield calls
        yield cost
        unusual = CounterMetricFamily("tally_unusual_calls", "Calls that somebody should look at.", labels=["why"])
        marked = UsageRecord.objects.exclude(unusual="").order_by().values_list("unusual").annotate(Count("id"))
        for why, number in marked:
            unusual.add_metric([why], number)
        yield unusual
        held = BudgetPeriod.objects.filter(account__startswith="user:", end__gt=timezone.now()).aggregate(s=Sum("held"))
        yield GaugeMetricFamily("tally_held_dollars", "Held for calls that run.", value=float(dollars(held["s"] or 0)))


def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Books())
    return registry
