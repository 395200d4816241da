"""Calls that somebody should look at: marked, logged and counted when they are settled, and never stopped."""

import structlog
from django.conf import settings
from django.db import Error
from django.db.models import Count, Sum

from chat import alarms
from chat.models import UsageRecord
from chat.money import NANO, dollars

log = structlog.get_logger(__name__)

# Far above the usual: more than this many times the mean of a person's latest replies, if there are enough of them.
TIMES_THE_USUAL, LATEST, ENOUGH = 10, 50, 10
# What costs less is nobody's worry, however unusual.
NOT_WORTH_A_LOOK = NANO // 100


def judge(record: UsageRecord) -> None:
    """Look at a call that has just been settled. Never fails its caller; asks the database once, or not at all."""
    if record.state != UsageRecord.State.SETTLED:
        return
    if record.unknown_tokens:
        alarms.sound(
            "unknown_usage",
            f"Claude counted {record.unknown_tokens} tokens of a kind of which the price row says nothing. They were "
            "priced at its dearest rate; the call's usage field has the kind's name.",
            subject=record.model,
            record=str(record.id),
        )
    if record.purpose == UsageRecord.Purpose.TITLE:
        return
    try:
        _mark(record)
    except Error:
        log.warning("call_not_judged", record=str(record.id), exc_info=True)


def _mark(record: UsageRecord) -> None:
    usual = None
    if dollars(record.cost) > settings.CALL_CEILING_DOLLARS:
        why = UsageRecord.Unusual.DEAR
    elif record.prompt_tokens + record.output_tokens > settings.CALL_CEILING_TOKENS:
        why = UsageRecord.Unusual.LONG
    elif record.cost > NOT_WORTH_A_LOOK and (usual := _usual(record)) is not None:
        if record.cost <= TIMES_THE_USUAL * usual:
            return
        why = UsageRecord.Unusual.FAR
    else:
        return
    UsageRecord.objects.filter(id=record.id).update(unusual=why)
    log.warning(
        "unusual_call",
        record=str(record.id),
        turn=str(record.turn_id) if record.turn_id else None,
        user=record.user_id,
        cost_nano=record.cost,
        usual_nano=usual,
        why=str(why),
    )


def _usual(record: UsageRecord) -> int | None:
    """What a reply of this person costs on average, in nano-dollars; None while there are too few to say."""
    replies = UsageRecord.objects.filter(
        user=record.user_id,
        admitted_at__lte=record.admitted_at,
        state=UsageRecord.State.SETTLED,
        purpose=UsageRecord.Purpose.REPLY,
    ).exclude(id=record.id)
    latest = replies.order_by("-admitted_at")[:LATEST].aggregate(cost=Sum("cost"), count=Count("id"))
    return latest["cost"] // latest["count"] if latest["count"] >= ENOUGH else None
