"""What Claude reads instead of the older turns: written when a person asks for it, or before an answer that needs it.

One call of its own, admitted and charged like every other. The row is made first, and the database allows one at work
per conversation. Whatever goes wrong, the messages themselves are there and are sent as before.
"""

import asyncio
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import structlog
from django.db import DatabaseError, IntegrityError, InterfaceError, connection, transaction
from django.db.models.functions import Now

from chat import calls, catalogue, doorbell, spend, submission, window
from chat.claude import Answer, ClaudeError, Request, bound_of, request_for, summarised, summary_request, terms_of
from chat.endings import SIMPLE_STOPS, over_budget_words
from chat.engine import Run, engine
from chat.models import Conversation, Draft, Message, Summary, Turn, UsageRecord

log = structlog.get_logger(__name__)

NOTICE = "Summarising the older turns"
# Less than the sweeper waits for a call without a turn.
LONGEST_CALL = 90
LISTEN_SECONDS = 0.5
# A branch of many windows is summarised piece by piece.
ROUNDS = 4

FAILURES = {
    "unheard": "Nobody was free to write the summary, and nothing was charged. Try again.",
    "worker_lost": "The summary was not finished: our worker went away. What it cost is an estimate. Try again.",
    "over_budget": "Your budget does not hold a summary.",
    "no_price": "The model that writes summaries has no price yet. The administrators have been told.",
    "unfinished": "The summary became too long and was not finished, so it is not used. Try again.",
    "refusal": "Claude declined to summarise this. Start a new chat, and tell it what it has to know.",
    "empty": "Claude wrote no summary. Try again.",
    "stopped": "Stopped. Your messages are sent as before.",
    "busy": "Claude is busy. Nothing was charged. Try again in a minute.",
    "rate_limited": "Too many questions at once for Claude. Nothing was charged. Try again shortly.",
}
FAILED = "The summary could not be written. Your messages are sent as before. Try again in a minute."


class TooLong(Exception):
    """More than the writer of summaries can read at once."""


def ask_for(conversation: Conversation, *, begins_a_chat: bool = False) -> Summary | None:
    """Begin a summary of the active branch: of its older turns, or of all of it for a new chat. Then the bell.

    None where there is nothing to summarise. The one that is at work already is returned again, and one that was
    written before for the same messages is put to use again. Raises TooLong: of the older turns a part is a beginning,
    but a new chat that does not know what was said last is none.
    """
    if live := conversation.summaries.live().first():
        return live
    _, kept = summarised(conversation, conversation.branch())
    if begins_a_chat:
        messages = window.readable(kept, len(kept))
        if any(message.role == Message.Role.ASSISTANT and message.text for message in kept[len(messages) :]):
            raise TooLong
    else:
        messages = window.older(kept, catalogue.find(conversation.model))
    if not messages:
        return None
    if not begins_a_chat and (known := _written_before(messages[-1])):
        Summary.objects.filter(id=known.id).update(in_use=True)
        return known
    try:
        with transaction.atomic():
            summary = conversation.summaries.create(last=messages[-1], begins_a_chat=begins_a_chat)
            transaction.on_commit(partial(_ring, summary.id), robust=True)
    except IntegrityError:
        return conversation.summaries.live().first()
    return summary


def stop(summary: Summary) -> None:
    """End one that waits or is being written. Whoever writes it hears of that within a second, and ends the call; what
    was used by then is charged."""
    Summary.objects.live().filter(id=summary.id).update(state=Summary.State.FAILED, error="stopped")


def write(summary_id) -> None:
    """Carry a summary that waits to its end. Returns at once if somebody else has it."""
    summary = Summary.objects.claim(summary_id)
    if summary is None:
        return
    branch = summary.conversation.branch(summary.last_id)
    before, messages = summarised(summary.conversation, branch)
    _write(summary, messages, before)


def made_to_fit(turn: Turn, run: Run) -> Request:
    """The turn's request; where it would fill too much of the window, after its older turns have been summarised.

    Without money, or when it fails, it is sent as it is. What stands for the older messages is noted in the turn before
    it is sent, since the count of its prompt holds for that summary alone. Raises Replaced.
    """
    request, rounds = request_for(turn), 0
    while rounds < ROUNDS and not run.stopping.is_set() and _is_due(request, turn):
        rounds += 1
        if not _write_before(turn, run):
            break
        request = request_for(turn)
    if request.summary != turn.summary_read:
        if not Turn.objects.held_by(turn).update(summary_read=request.summary):
            raise spend.Replaced
        turn.summary_read = request.summary
    return request


def _is_due(request: Request, turn: Turn) -> bool:
    model = catalogue.find(request.model)
    # A bound that needs no query: most conversations are far from it.
    return window.is_too_full(bound_of(request), model) and window.is_too_full(
        window.prompt_of(request, turn).tokens, model
    )


def _write_before(turn: Turn, run: Run) -> bool:
    if turn.question.parent_id is None:
        return False
    conversation = turn.conversation
    before, kept = summarised(conversation, conversation.branch(turn.question.parent_id))
    messages = window.older([*kept, turn.question], catalogue.find(turn.model))
    if not messages:
        return False
    try:
        with transaction.atomic():
            summary = conversation.summaries.create(
                last=messages[-1], automatic=True, state=Summary.State.WRITING, begun_at=Now()
            )
    except IntegrityError:  # somebody has asked for one at the same time
        return False
    waited_for = run.notice
    run.say(NOTICE)
    try:
        return _write(summary, messages, before, run)
    finally:
        run.say(waited_for)


def _write(summary: Summary, messages: list[Message], before: Summary | None, run: Run | None = None) -> bool:
    """One call, and what came of it, in one transaction. Whether there is a summary now."""
    conversation = summary.conversation
    request = summary_request(messages, before, conversation.owner_id)
    try:
        record = _admit(conversation, request)
    except spend.OverBudget as over:
        return _fail(summary, "over_budget", submission.refused(over))
    except spend.Unpriceable:
        submission.no_price(request.model)
        return _fail(summary, "no_price")
    Summary.objects.filter(id=summary.id).update(record=record)
    connection.close()
    answer, failure = Answer(), None
    try:
        engine().wait(_carry(request, record.max_tokens, answer, summary, run))
    except ClaudeError as error:
        failure = error
    except Exception:
        log.exception("summary_failed", summary=str(summary.id))
        failure = ClaudeError("internal")
    text = answer.text.strip()
    kind = failure.kind if failure else _kind(answer.stop_reason, text)
    visible = calls.visible_tokens(request.model, answer, failure)
    with transaction.atomic():
        is_ours = calls.settle(record, answer, failure, visible)
        if kind:
            kept = _fail(summary, kind)
        else:
            kept = _keep(summary, text)
    if not is_ours:
        calls.settle_again(record, answer)  # the sweeper has taken us for dead, and could only guess
    calls.note(record, failure)
    return kept


async def _carry(request: Request, max_tokens: int, answer: Answer, summary: Summary, run: Run | None) -> None:
    """Stream the summary into `answer`, until somebody stops it, or the run that it is written for."""
    task = cast(asyncio.Task, asyncio.current_task())
    listening = asyncio.create_task(_listen(summary, task))
    try:
        if run:
            run.attach(task)
        async with asyncio.timeout(LONGEST_CALL):
            await engine().ask(lambda claude: claude.stream(request, max_tokens, answer, lambda: None))
    except TimeoutError:
        raise ClaudeError("deadline", request_id=answer.request_id) from None
    except asyncio.CancelledError:
        task.uncancel()
        raise ClaudeError(run.why if run and run.why else "stopped", request_id=answer.request_id) from None
    finally:
        listening.cancel()
        if run:
            run.detach()


async def _listen(summary: Summary, task: asyncio.Task) -> None:
    is_wanted = True
    while is_wanted:
        await asyncio.sleep(LISTEN_SECONDS)
        is_wanted = await asyncio.to_thread(_is_wanted, summary)
    task.cancel()


def _is_wanted(summary: Summary) -> bool:
    """Also while the database is away: nobody has said otherwise."""
    with suppress(DatabaseError, InterfaceError), closing(connection):
        return Summary.objects.filter(id=summary.id, state=Summary.State.WRITING).exists()
    return True


def _admit(conversation: Conversation, request: Request) -> UsageRecord:
    """Hold money for it. Where our own bound does not fit, Claude is asked how many tokens it really is."""
    call = submission.call_beside(conversation, UsageRecord.Purpose.SUMMARY, request)
    try:
        return spend.admit(call)
    except spend.OverBudget as over:
        if over.is_certain:
            raise
        connection.close()
        counted = calls.counted(request)
        if counted is None:
            raise
        return spend.admit(replace(call, terms=terms_of(request, counted=counted)))


def _keep(summary: Summary, text: str) -> bool:
    """Store what was written; one for a new chat becomes its draft. False if the sweeper has given it up, or it is
    gone with its chat."""
    written = Summary.objects.filter(id=summary.id, state=Summary.State.WRITING)
    if not written.update(state=Summary.State.DONE, text=text):
        return False
    if summary.begins_a_chat:
        old = summary.conversation
        new = Conversation.objects.create(
            owner=old.owner,
            title=f"{old.title[:180]}, continued" if old.title else "",
            system_prompt=old.system_prompt,
            model=old.model,
            effort=old.effort,
            max_searches=old.max_searches,
        )
        Draft.objects.create(user=old.owner, conversation=new, text=_as_draft(text))
        Summary.objects.filter(id=summary.id).update(successor=new)
    return True


def _as_draft(text: str) -> str:
    """What a chat begins with that goes on from another one: the summary as a quotation, to be changed at will."""
    quoted = "\n".join(f"> {line}".rstrip() for line in text.splitlines())
    return f"We have talked before. This is a summary of it:\n\n{quoted}\n\n"


def _kind(stop_reason: str | None, text: str) -> str:
    """Why an answer that came is no summary; nothing if it is one."""
    if stop_reason == "refusal":
        return "refusal"
    if not text:
        return "empty"
    # Half a summary would leave out what came last, and Claude would never see that it did.
    return "" if (stop_reason or "") in SIMPLE_STOPS else "unfinished"


def _fail(summary: Summary, error: str, detail: dict | None = None) -> bool:
    """Always False, as what `_write` returns."""
    log.info("no_summary", conversation=str(summary.conversation_id), why=error)
    written = Summary.objects.filter(id=summary.id, state=Summary.State.WRITING)
    written.update(state=Summary.State.FAILED, error=error, detail=detail or {})
    return False


def _written_before(last: Message) -> Summary | None:
    return last.summaries.filter(state=Summary.State.DONE, begins_a_chat=False).last()


def _ring(summary_id) -> None:
    if not doorbell.begin("write_summary", str(summary_id), summary=str(summary_id)):
        waiting = Summary.objects.filter(id=summary_id, state=Summary.State.WAITING)
        waiting.update(state=Summary.State.FAILED, error="unheard")


@dataclass(frozen=True)
class OnPage:
    """The summaries of a conversation as its page shows them. `divider` stands after its last message; `origin` is the
    one that this chat began with, in another one."""

    live: Summary | None = None
    failed: Summary | None = None
    ready: Summary | None = None
    divider: Summary | None = None
    origin: Summary | None = None

    @property
    def failure(self) -> str:
        """Why the newest one failed, in words."""
        if self.failed is None:
            return ""
        if self.failed.error == "over_budget" and self.failed.detail:
            return over_budget_words(self.failed.detail)
        return FAILURES.get(self.failed.error, FAILED)


def on_page(conversation: Conversation) -> OnPage:
    """Two queries, and another one where something was summarised."""
    rows = list(conversation.summaries.select_related("record", "successor"))
    origin = conversation.begun_with.select_related("conversation").first()
    if not rows:
        return OnPage(origin=origin)
    places = {
        message_id: place for place, message_id in enumerate(conversation.tree().path(conversation.active_leaf_id))
    }
    standing = [row for row in rows if row.state == row.State.DONE and not row.begins_a_chat and row.last_id in places]
    divider = max(standing, key=lambda row: (row.in_use, places[row.last_id], row.id), default=None)
    newest = rows[-1]
    # What came of it is news until the next message. Ids are sorted by time.
    is_news = not newest.automatic and newest.id > (conversation.active_leaf_id or newest.id)
    return OnPage(
        live=newest if newest.is_live and not newest.automatic else None,
        failed=newest if is_news and newest.state == newest.State.FAILED else None,
        ready=newest if is_news and newest.state == newest.State.DONE and newest.successor else None,
        divider=divider,
        origin=origin,
    )
