"""One turn, in the thread of its task: claim, hold, send, finish.

Every write after the claim carries the attempt number. Where a write finds no row, another worker or the sweeper has
the turn, and this one leaves without a word (`spend.Replaced`).
"""

import random
import time
from collections.abc import Callable
from functools import partial

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from chat import (
    calls,
    catalogue,
    failpoints,
    next_messages,
    pricing,
    spend,
    streams,
    submission,
    summaries,
    titles,
    warnings,
)
from chat.citations import text_of
from chat.claude import ClaudeError, Request, terms_of
from chat.claude.enclosures import with_files
from chat.desks import away
from chat.endings import TRIES, trying_again
from chat.engine import Run, engine
from chat.keeper import keeper
from chat.models import Conversation, Turn, UsageRecord
from chat.pricing import Terms

log = structlog.get_logger(__name__)

PAUSES = 4
# Away, full, or locked for too long.
NO_DATABASE = (OperationalError, InterfaceError)


def run(turn_id) -> None:
    """Carry a queued turn to its end. Returns at once if somebody else has it."""
    try:
        _run(turn_id)
    except NO_DATABASE:
        # What is queued is rung for again; the lease of what was claimed runs out.
        log.warning("left_to_the_sweeper", turn=str(turn_id), exc_info=True)


def _run(turn_id) -> None:
    failpoints.reached("before_claim")
    turn = Turn.objects.claim(turn_id)
    if turn is None:
        return
    failpoints.reached("after_claim")
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
    except (spend.Replaced, *NO_DATABASE):
        raise
    except Exception:
        log.exception("turn_failed", turn=str(turn.id))
        sent = UsageRecord.objects.filter(turn=turn, state__in=UsageRecord.OPEN).first()
        return _finish(turn, run, Turn.State.FAILED, error="internal", record=sent, failure=ClaudeError("internal"))


def _carry(turn: Turn, run: Run) -> str:
    """Send the request, and again where nothing can have been billed or Claude only paused. Returns the last state."""
    request = with_files(summaries.made_to_fit(turn, run))
    terms = _terms(turn, request)
    held = _held_for(turn, terms)
    tries, pauses = 1, 0
    while True:
        if run.stopping.is_set():
            return _finish(turn, run, *_ended_by_us(run), record=held)
        try:
            record = _send(held, turn) if held else _admit(turn, request, terms)
            held = None
        except spend.OverBudget as over:
            return _finish_without_money(turn, run, over)
        except spend.Unpriceable:
            submission.no_price(turn.model)
            return _finish(turn, run, Turn.State.FAILED, error="no_price")
        failpoints.reached("after_sent")
        connection.close()  # a stream may last for minutes, and the pool is small
        try:
            answer = engine().carry(run, request, record.max_tokens)
        except ClaudeError as error:
            if error.unbilled and error.again and tries < TRIES and not run.stopping.is_set():
                _persist(partial(spend.void, record, request_id=error.request_id))
                calls.note(record, error)
                if _wait_for_claude(run, error, tries):
                    tries += 1
                    continue
                if not run.stopping.is_set():
                    return _finish(turn, run, Turn.State.FAILED, error=error.kind)
                continue
            return _fail(turn, run, record, error)
        failpoints.reached("after_last_byte")
        if answer.stop_reason == "pause_turn" and pauses < PAUSES:
            pauses += 1
            _persist(partial(calls.settle, record, answer, None))
            calls.note(record)
            request = request.continued_after(answer.blocks)
            terms = _terms(turn, request)
            continue
        return _finish(turn, run, Turn.State.DONE, record=record)


def _terms(turn: Turn, request: Request) -> Terms:
    """As what the request may be billed. Where our bound is the whole window, as with a PDF, Claude counts first."""
    terms = terms_of(request, turn)
    if terms.input_bound < catalogue.find(request.model).context:
        return terms
    connection.close()
    counted = calls.counted(request)
    return terms if counted is None else terms_of(request, turn, counted=counted)


def _held_for(turn: Turn, terms: Terms) -> UsageRecord | None:
    """What was held when the question was asked; unless that is not enough, since the conversation's instructions or
    Claude's count are more than was expected, or has made the answer shorter than it has to be."""
    held = UsageRecord.objects.filter(turn=turn, state=UsageRecord.State.HELD).first()
    if held is None:
        return None
    too_little = pricing.worst_case(held.price_numbers, terms, held.max_tokens) > held.held
    if too_little or (held.fitted and terms.input_bound < held.input_bound):
        spend.void(held)
        return None
    return held


def _send(held: UsageRecord, turn: Turn) -> UsageRecord:
    sent = UsageRecord.objects.filter(id=held.id, state=UsageRecord.State.SENT, attempt=turn.attempt)
    _persist(partial(spend.send, held, turn), sent)
    return held


def _admit(turn: Turn, request: Request, terms: Terms) -> UsageRecord:
    """Hold money for one call. Where our own bound does not fit, Claude is asked how many tokens it really is."""
    try:
        return spend.admit(submission.call_of(turn, terms, request.wanted_tokens))
    except spend.OverBudget as over:
        if over.is_certain:
            raise
        connection.close()
        counted = calls.counted(request)
        if counted is None or (exact := terms_of(request, turn, counted=counted)).input_bound >= terms.input_bound:
            raise
        return spend.admit(submission.call_of(turn, exact, request.wanted_tokens))


def _finish_without_money(turn: Turn, run: Run, over: spend.OverBudget) -> str:
    """Refused before the first call; after a pause of Claude's, stopped with what there is."""
    error, state = ("over_budget_paused", Turn.State.INTERRUPTED) if run.blocks else ("over_budget", Turn.State.FAILED)
    return _finish(turn, run, state, error=error, detail=submission.refused(over))


def _wait_for_claude(run: Run, error: ClaudeError, tries: int) -> bool:
    """Wait before the next try and say so. False if it would take longer than a reader should wait."""
    delay = error.retry_after if error.retry_after is not None else 2 ** (tries - 1)
    if delay > settings.RETRY_PATIENCE_SECONDS:
        return False
    run.say(trying_again(tries + 1))
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
            thinking_ms=run.thinking_ms,
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
        failpoints.reached("in_commit")

    try:
        _persist(write, Turn.objects.filter(id=turn.id, attempt=turn.attempt, state=state, error=error))
        failpoints.reached("after_commit")
    except spend.Replaced:
        if not Turn.objects.filter(id=turn.id).exists():  # the conversation was deleted; its money is kept
            if record:
                calls.settle(record, answer, failure, visible)
            streams.end(turn.id, turn.attempt)
        elif record and answer:  # the sweeper took us for dead, and could only guess
            _persist(partial(calls.settle_again, record, answer))
        raise
    try:
        # After the commit: a new question locks the conversation first and the turn then.
        Conversation.objects.filter(id=turn.conversation_id).update(updated_at=timezone.now())
        if record and record.sent_at:
            calls.note(record, failure)
        # Before the readers hear of the end, so that what they get then has the warning, and what follows by itself.
        warnings.note_crossings(f"user:{turn.user_id}")
        next_messages.go_on(turn.conversation_id)
    finally:
        streams.end(turn.id, turn.attempt)
    return state


def _persist(write: Callable[[], object], written: QuerySet | None = None) -> None:
    """Write even if the database is away for a while: what Claude wrote is paid for, and nobody else has it.

    A connection may break after the commit and before its answer, so from the second try on `written` is asked whether
    it has happened: rows that nobody but this attempt can have made. However long it takes, the fence keeps a second
    one out; an answer that was not written after the longest time that one may take is left to the sweeper.
    """
    patience = time.monotonic() + settings.TURN_DEADLINE_SECONDS
    tries = 0
    while True:
        try:
            if not (tries and written is not None and written.exists()):
                write()
            return
        except NO_DATABASE:
            connection.close()
            if time.monotonic() > patience:
                raise
            if not tries:
                log.warning("waiting_for_database")
            tries += 1
            with away():
                time.sleep(0.5)
