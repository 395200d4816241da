"""Proof that the books are right: every total again from its entries."""

from django.db import connection, transaction
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce

from chat import pricing, spend
from chat.models import BudgetPeriod, LedgerEntry, Turn, UsageRecord, User
from chat.money import spoken

SPENT = Q(entries__kind__in=["charge", "adjust"])
HELD = Q(entries__kind__in=["hold", "release"])


def problems() -> list[str]:
    """What is wrong with the books, a sentence each; empty when everything adds up.

    On PostgreSQL all of it is read as it stood at one instant. SQLite would keep everybody from writing for as long, so
    there a call that ends meanwhile may be seen in one sum and not in the other: look again.
    """
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        return _found()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return _found()


def _found() -> list[str]:
    return [*_periods(), *_people(), *_records(), *_exact_costs(), *_open_calls()]


def _periods():
    totals = BudgetPeriod.objects.annotate(
        entries_spent=Coalesce(Sum("entries__amount", filter=SPENT), 0),
        entries_held=Coalesce(Sum("entries__amount", filter=HELD), 0),
    )
    for period in totals.exclude(spent=F("entries_spent"), held=F("entries_held")):
        yield (
            f"{period}: the row says {spoken(period.spent)} spent and {spoken(period.held)} held, "
            f"its entries {spoken(period.entries_spent)} and {spoken(period.entries_held)}."
        )


def _people():
    """What the pages add up from calls is what a person's period says; calls count from when they were admitted."""
    personal = BudgetPeriod.objects.filter(account__startswith="user:")
    for start, end in set(personal.values_list("start", "end")):
        calls = UsageRecord.objects.filter(admitted_at__gte=start, admitted_at__lt=end).order_by()
        costs = {f"user:{user}": cost for user, cost in calls.values_list("user").annotate(Sum("cost"))}
        known = {f"user:{user}" for user in User.objects.values_list("id", flat=True)}
        for period in personal.filter(start=start, end=end, account__in=known):
            if period.spent != costs.get(period.account, 0):
                yield (
                    f"{period}: the row says {spoken(period.spent)} spent, "
                    f"the calls say {spoken(costs.get(period.account, 0))}."
                )


def _records():
    """Per call and period: the hold is open while it runs and gone afterwards; the charges are its cost."""
    sums = (
        LedgerEntry.objects.exclude(record=None)
        .values("record", "period", "record__state", "record__cost", "record__held")
        .annotate(
            held=Coalesce(Sum("amount", filter=Q(kind__in=["hold", "release"])), 0),
            spent=Coalesce(Sum("amount", filter=Q(kind__in=["charge", "adjust"])), 0),
            releases=Count("id", filter=Q(kind="release")),
        )
    )
    running = Q(record__state__in=UsageRecord.OPEN)
    right = running & Q(held=F("record__held"), spent=0, releases=0)
    right |= ~running & Q(held=0, spent=F("record__cost"), releases=1)
    for row in sums.exclude(right):
        yield f"Call {row['record']} ({row['record__state']}) in period {row['period']}: its entries do not fit it."
    for record in UsageRecord.objects.filter(entries=None):
        yield f"Call {record.id} was made without a hold."
    wrong = Q(confidence=UsageRecord.Confidence.ESTIMATED, cost__gt=F("held")) & ~Q(entries__kind="adjust")
    for record in UsageRecord.objects.filter(wrong):
        yield f"Call {record.id} is an estimate above its hold."


def _exact_costs():
    """What was charged as exact is what the provider reported, at the prices that the call keeps."""
    exact = UsageRecord.objects.filter(
        state=UsageRecord.State.SETTLED, confidence=UsageRecord.Confidence.EXACT
    ).exclude(Q(usage={}) | Q(stop_reason="refusal", cost=0) | Q(entries__kind="adjust"))
    for record in exact.only("usage", "terms", "input_bound", "price_numbers", "cost").iterator():
        due = pricing.cost(record.price_numbers, spend.usage_of(record, record.usage))
        if record.cost != due:
            yield f"Call {record.id} cost {spoken(record.cost)}, but its tokens come to {spoken(due)}."


def _open_calls():
    replies = UsageRecord.objects.filter(purpose=UsageRecord.Purpose.REPLY).exclude(turn=None)
    sent = replies.filter(state=UsageRecord.State.SENT).exclude(turn__state=Turn.State.RUNNING)
    for record in [*sent, *replies.filter(state=UsageRecord.State.HELD).exclude(turn__state__in=Turn.LIVE)]:
        yield f"Call {record.id} holds money, but its turn is over."
