"""One turn, in the thread of its task: claim, hold, send, finish.

Every write after the claim carries the attempt number. Where a write finds no row, another worker or the sweeper has
the turn, and this one leaves without a word (`spend.Replaced`).
"""

import random
import time
from collections.abc import Callable

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from chat import budgets, calls, catalogue, pricing, spend, streams, titles
from chat.claude import ClaudeError, Request, bound_of, request_for
from chat.desks import away
from chat.engine import Run, engine
from chat.keeper import keeper
from chat.models import Conversation, Price, Turn, UsageRecord
from chat.models.message import text_of

log = structlog.get_logger(__name__)

TRIES = 3
PAUSES = 4
# What count_tokens may be wrong by, and what it does not know of.
COUNT_MARGIN, COUNT_EXTRA = 1.05, 200


def run(turn_id) -> None:
    """Carry a queued turn to its end. Returns at once if somebody else has it."""
    turn = Turn.objects.claim(turn_id)
    if turn is None:
        return
    run = Run(turn)
    engine().show(run)
    try:
        with keeper().watching(run):
            state = _to_its_end(turn, run)
    except spend.Replaced:
        log.warning("replaced", turn=str(turn.id), attempt=turn.attempt)
        return
    finally:
        engine().forget(run)
    if state == Turn.State.DONE and turn.question.parent_id is None:
        titles.write(turn.conversation_id)


def _to_its_end(turn: Turn, run: Run) -> str:
    """`_carry`; a fault of ours ends the turn too, and settles what had been sent."""
    try:
        return _carry(turn, run)
    except spend.Replaced:
        raise
    except Exception:
        log.exception("turn_failed", turn=str(turn.id))
        sent = UsageRecord.objects.filter(turn=turn, state=UsageRecord.State.SENT).first()
        return _finish(turn, run, Turn.State.FAILED, error="internal", record=sent, failure=ClaudeError("internal"))


def _carry(turn: Turn, run: Run) -> str:
    """Send the request, and again where nothing can have been billed or Claude only paused. Returns the last state."""
    request = request_for(turn)
    tries, pauses = 1, 0
    while True:
        if run.stopping.is_set():
            return _finish(turn, run, *_ended_by_us(run))
        try:
            record = _admit(turn, request)
        except spend.OverBudget as refusal:
            return _finish(turn, run, Turn.State.FAILED, error="over_budget", detail=_refusal(refusal))
        except spend.Unpriceable:
            log.error("alarm", kind="no_price", model=turn.model)
            return _finish(turn, run, Turn.State.FAILED, error="no_price")
        connection.close()  # a stream may last for minutes, and the pool is small
        try:
            answer = engine().carry(run, request, record.max_tokens)
        except ClaudeError as error:
            if error.unbilled and error.again and tries < TRIES and not run.stopping.is_set():
                spend.void(record, request_id=error.request_id)
                calls.note(record, error)
                if _wait_for_claude(run, error, tries):
                    tries += 1
                    continue
                if not run.stopping.is_set():
                    return _finish(turn, run, Turn.State.FAILED, error=error.kind)
                continue
            return _fail(turn, run, record, error)
        if answer.stop_reason == "pause_turn" and pauses < PAUSES:
            pauses += 1
            calls.settle(record, answer, None)
            request = request.continued_after(answer.blocks)
            continue
        return _finish(turn, run, Turn.State.DONE, record=record)


def _admit(turn: Turn, request: Request) -> UsageRecord:
    """Hold money for one call. Where our own bound does not fit, Claude is asked how many tokens it really is."""

    def call(bound: int) -> spend.Call:
        return spend.Call(
            user=turn.user,
            purpose=UsageRecord.Purpose.REPLY,
            model=turn.model,
            input_bound=bound,
            wanted_tokens=request.wanted_tokens,
            turn=turn,
        )

    bound = bound_of(request, turn)
    try:
        return spend.admit(call(bound))
    except spend.OverBudget:
        connection.close()
        counted = calls.counted(request)
        if counted is None or counted * COUNT_MARGIN + COUNT_EXTRA >= bound:
            raise
        return spend.admit(call(int(counted * COUNT_MARGIN) + COUNT_EXTRA))


def _wait_for_claude(run: Run, error: ClaudeError, tries: int) -> bool:
    """Wait before the next try and say so. False if it would take longer than a reader should wait."""
    delay = error.retry_after if error.retry_after is not None else 2 ** (tries - 1)
    if delay > settings.RETRY_PATIENCE_SECONDS:
        return False
    run.say(f"Claude is busy, trying again ({tries + 1} of {TRIES})")
    connection.close()
    with away():
        return not run.stopping.wait(delay * random.uniform(1, 1.25))  # noqa: S311  jitter, not a secret


def _fail(turn: Turn, run: Run, record: UsageRecord, error: ClaudeError) -> str:
    if run.stopping.is_set():
        return _finish(turn, run, *_ended_by_us(run), record=record, failure=error)
    if error.unbilled:
        return _finish(turn, run, Turn.State.FAILED, error=error.kind, record=record, failure=error)
    # Words that were written may be read on; silence is a failure.
    state = Turn.State.INTERRUPTED if text_of(run.blocks) or error.kind in ("cut", "stalled") else Turn.State.FAILED
    return _finish(turn, run, state, error=error.kind, record=record, failure=error)


def _ended_by_us(run: Run) -> tuple[str, str]:
    """The state and the error of a run that was told to end; if it was replaced, the fence will say so."""
    return (Turn.State.STOPPED, "") if run.why == "stopped" else (Turn.State.INTERRUPTED, run.why)


def _finish(
    turn: Turn,
    run: Run,
    state: str,
    error: str = "",
    *,
    record: UsageRecord | None = None,
    failure: ClaudeError | None = None,
    detail: dict | None = None,
) -> str:
    """Write reply, usage, ledger, budget and turn in one transaction, then tell the readers.

    Returns the state. Raises Replaced.
    """
    answer = run.answer
    refused = answer is not None and answer.stop_reason == "refusal"
    blocks = [] if refused else run.blocks
    visible = calls.visible_tokens(turn.model, answer, failure)

    @transaction.atomic
    def write() -> None:
        held = Turn.objects.held_by(turn).update(
            state=state,
            error=error,
            detail=detail or {},
            stop_reason=(answer.stop_reason or "") if answer and record and not failure else "",
            finished_at=Now(),
            lease_until=None,
        )
        if not held:
            raise spend.Replaced
        turn.reply.write(blocks)
        turn.reply.keep()
        if record:
            calls.settle(record, answer, failure, visible)

    try:
        _persist(write)
    except spend.Replaced:
        if record and not Turn.objects.filter(id=turn.id).exists():
            calls.settle(record, answer, failure, visible)  # the conversation was deleted; its money is kept
        raise
    # After the commit: a new question locks the conversation first and the turn then.
    Conversation.objects.filter(id=turn.conversation_id).update(updated_at=timezone.now())
    if record:
        calls.note(record, failure)
    streams.end(turn.id, turn.attempt)
    return state


def _refusal(refusal: spend.OverBudget) -> dict:
    """What the words of a refusal need, as figures in nano-dollars."""
    account, period = refusal.account, refusal.period
    fits = []
    for model in catalogue.offered():
        price = Price.objects.current(model.id, timezone.now())
        if price and price.is_usable:
            tokens = pricing.affordable_tokens(price.numbers(), refusal.input_bound, refusal.left)
            if tokens >= spend.LEAST_TOKENS:
                fits.append(model.name)
    return {
        "spent": period.spent,
        "held": period.held,
        "limit": account.limit,
        "left": refusal.left,
        "period_words": f"this {account.period}",
        "source": account.source,
        "resets": budgets.day_words(account.end),
        "fits": fits,
    }


def _persist(write: Callable[[], None]) -> None:
    """Write even if the database is away for a while: what Claude wrote is paid for."""
    patience = time.monotonic() + 2 * settings.LEASE_SECONDS
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError):
            connection.close()
            if time.monotonic() > patience:
                raise
            log.warning("waiting_for_database")
            with away():
                time.sleep(0.5)
