"""What dead workers left behind. Two sweepers at once are harmless: every step is a compare-and-swap.

All times are the database's.
"""

import time
from datetime import timedelta
from functools import partial

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from chat import doorbell, next_messages, spend, streams, unusual
from chat.models import Summary, Turn, UsageRecord

log = structlog.get_logger(__name__)

# A turn that kills every worker before it has sent anything is not tried for ever.
MOST_ATTEMPTS = 5
# Seconds after which a call without a turn (a title) must be over.
SIDE_CALL_SECONDS = 120


class Sweeper:
    """`sweep` is one round; the object remembers who waits, and when it has rung for them."""

    def __init__(self):
        self._rung: dict = {}

    def sweep(self) -> None:
        """End or requeue what has lost its worker, ring for what nobody has picked up, settle what is left open, and
        send what was to follow."""
        for turn in Turn.objects.filter(state=Turn.State.RUNNING, lease_until__lt=Now()):
            recover(turn)
        self._ring_again()
        for record in _unsent():
            spend.void(record)
        for record in _orphans():
            log.warning("orphan_settled", record=str(record.id), purpose=record.purpose)
            settle_unseen(record)
            unusual.judge(record)
        Summary.objects.give_up()
        for conversation_id in next_messages.forgotten():
            next_messages.go_on(conversation_id)

    def _ring_again(self) -> None:
        now, patience = time.monotonic(), settings.RING_AGAIN_SECONDS
        is_old = Q(created_at__lt=Now() - timedelta(seconds=patience))
        waiting = Turn.objects.filter(state=Turn.State.QUEUED).annotate(is_old=is_old).order_by("created_at")
        turns = list(waiting.values_list("id", "is_old")[:1000])
        # Fewer bells than turns: Redis has lost them, or a worker took them and died.
        lost = bool(self._rung) and doorbell.unheard() < len(turns)
        rung = {}
        for turn_id, old in turns:
            # `created_at` is by a clock of the web's, which may be ahead: then it counts how long we have seen it wait.
            last, pause = self._rung.get(turn_id, (now - patience if old else now, patience))
            if now >= last + (patience if lost else pause):
                if not doorbell.ring(turn_id):
                    break  # no broker; ask again next time
                # When all workers are busy the bell is not lost: twice the pause, lest the queue fills with bells.
                last, pause = now, min(60, 2 * pause)
            rung[turn_id] = last, pause
        self._rung = rung


@transaction.atomic
def recover(turn: Turn) -> None:
    """A turn whose lease ran out: back into the queue if nothing was sent, else INTERRUPTED with its text kept."""
    row = (
        Turn.objects.select_for_update()
        .filter(id=turn.id, attempt=turn.attempt, state=Turn.State.RUNNING, lease_until__lt=Now())
        .first()
    )
    if row is None:
        return
    unsent = [UsageRecord.State.VOID, UsageRecord.State.HELD]
    calls = UsageRecord.objects.filter(turn=row)
    if not calls.exclude(state__in=unsent).exists() and not row.stop_requested and row.attempt < MOST_ATTEMPTS:
        Turn.objects.filter(id=row.id).update(state=Turn.State.QUEUED, lease_until=None)
        log.warning("requeued", turn=str(row.id), attempt=row.attempt)
        transaction.on_commit(lambda: doorbell.ring(row.id), robust=True)
        return
    sent = list(calls.filter(state=UsageRecord.State.SENT))
    for record in sent:
        settle_unseen(record, row)
    for record in calls.filter(state=UsageRecord.State.HELD):
        spend.void(record)
    kept = {"thinking": row.checkpoint_thinking, "text": row.checkpoint_text}
    row.reply.write([{"type": kind, kind: words} for kind, words in kept.items() if words])
    row.reply.keep()
    stopped = row.stop_requested
    Turn.objects.filter(id=row.id).update(
        state=Turn.State.STOPPED if stopped else Turn.State.INTERRUPTED,
        error="" if stopped else "worker_lost",
        lease_until=None,
        finished_at=Now(),
    )
    log.warning("interrupted", turn=str(row.id), attempt=row.attempt)
    transaction.on_commit(lambda: streams.end(row.id, row.attempt), robust=True)
    for record in sent:
        transaction.on_commit(partial(unusual.judge, record), robust=True)


def settle_unseen(record: UsageRecord, turn: Turn | None = None) -> None:
    """Charge a call whose end nobody saw by what is known: its checkpoint, and the time until its lease ran out."""
    if turn is None or turn.lease_until is None:
        seconds: float = SIDE_CALL_SECONDS
    elif turn.checkpoint_at and record.usage:
        seconds = record.hidden_ms / 1000 + (turn.lease_until - turn.checkpoint_at).total_seconds()
    else:
        seconds = (turn.lease_until - (record.sent_at or record.admitted_at)).total_seconds()
    # Bytes are a bound of the tokens; only the worker could ask Claude for the number.
    visible = len(turn.checkpoint_text.encode()) if turn else 0
    spend.settle(record, spend.estimate(record, record.usage, visible, seconds), exact=False)


def _unsent():
    """Money that was held for turns that never came to be sent: their chats were deleted before."""
    held = UsageRecord.objects.filter(state=UsageRecord.State.HELD)
    return held.filter(Q(turn=None) | ~Q(turn__state__in=Turn.LIVE))


def _orphans():
    """Open calls that no running turn accounts for: titles whose worker died, answers of deleted conversations."""
    side_call = ~Q(purpose=UsageRecord.Purpose.REPLY) & Q(sent_at__lt=Now() - timedelta(seconds=SIDE_CALL_SECONDS))
    longest = settings.TURN_DEADLINE_SECONDS + settings.LEASE_SECONDS
    deleted = Q(turn=None, sent_at__lt=Now() - timedelta(seconds=longest))
    ended = Q(purpose=UsageRecord.Purpose.REPLY, turn__isnull=False) & ~Q(turn__state=Turn.State.RUNNING)
    return UsageRecord.objects.filter(side_call | deleted | ended, state=UsageRecord.State.SENT)
