"""The end of one provider call: what it used, in the books and in the log."""

import structlog

from chat import alarms, catalogue, spend, unusual
from chat.claude import Answer, ClaudeError, Request
from chat.engine import engine
from chat.models import UsageRecord
from chat.money import spoken

log = structlog.get_logger(__name__)

# So long Claude may write on, and bill it, before it has noticed that nobody listens any more.
UNNOTICED_SECONDS = 1.0


def settle(record: UsageRecord, answer: Answer | None, failure: ClaudeError | None, visible: int = 0) -> bool:
    """Close the record of a call that was streamed: exact when it finished, else by what is known. False if the
    sweeper had closed it.

    `visible` is `visible_tokens`, which has to be asked for before the transaction begins.
    """
    facts = _facts(answer)
    if answer is None:  # it is made just before the POST
        return spend.void(record)
    if failure and failure.unbilled:
        return spend.void(record, request_id=failure.request_id or answer.request_id)
    if failure is None:
        return charge(record, **facts)
    unseen = answer.hidden_seconds() + UNNOTICED_SECONDS
    usage = spend.estimate(record, answer.start_usage, visible, unseen)
    return spend.settle(record, usage, exact=False, **facts)


def charge(record: UsageRecord, *, usage: dict, stop_reason: str, **facts) -> bool:
    """Close the record of a call that finished by what the provider reported. As `settle`."""
    reported = _reported(record, usage, stop_reason)
    return spend.settle(record, **reported, usage=usage, stop_reason=stop_reason, **facts)


def settle_again(record: UsageRecord, answer: Answer) -> bool:
    """The end of a call whose worker was taken for dead, as that worker has seen it. False if that changes nothing.

    Claude does not know who is asleep, and writes on into the buffers of a connection that stands: unless the end was
    seen, the whole time since the question counts.
    """
    facts = _facts(answer)
    if answer.finished:
        return spend.settle_again(record, **_reported(record, answer.usage, facts["stop_reason"]), **facts)
    used = spend.estimate(record, answer.start_usage, 0, answer.duration_ms() / 1000 + UNNOTICED_SECONDS)
    return spend.settle_again(record, used, exact=False, **facts)


def visible_tokens(model: str, answer: Answer | None, failure: ClaudeError | None) -> int:
    """How many tokens the text of a broken answer has. Claude's own count where it can be had, else a bound."""
    if failure is None or failure.unbilled or answer is None:
        return 0
    text = answer.text
    if not text:
        return 0
    request = Request(
        model=catalogue.find(model).id,
        messages=[{"role": "user", "content": text}],
        system="",
        wanted_tokens=0,
    )
    tokens = counted(request)
    return tokens if tokens is not None else len(text.encode())


def counted(request: Request) -> int | None:
    """Claude's own count of a request's tokens (free of charge), or None when it is not to be had."""
    try:
        return engine().wait(engine().ask(lambda claude: claude.count(request)))
    except ClaudeError:
        return None


def note(record: UsageRecord, failure: ClaudeError | None = None) -> None:
    """One line per provider call; never a word of the text. And an alarm where an administrator has to act."""
    if failure and failure.alarm:
        about = record.model if failure.kind == "unknown_model" else ""
        alarms.sound(failure.kind, str(failure), subject=about, request_id=failure.request_id)
    if record.cost > record.held:
        words = f"A call cost {spoken(record.cost)}, but {spoken(record.held)} was held: our worst case is wrong."
        alarms.sound("above_hold", words, subject=record.model, record=str(record.id))
    log.info(
        "provider_call",
        purpose=record.purpose,
        turn=str(record.turn_id) if record.turn_id else None,
        attempt=record.attempt,
        model=record.model,
        input=record.input_tokens,
        cache_write_5m=record.cache_write_5m_tokens,
        cache_write_1h=record.cache_write_1h_tokens,
        cache_read=record.cache_read_tokens,
        output=record.output_tokens,
        thinking=record.thinking_tokens,
        stop_reason=record.stop_reason,
        first_token_ms=record.first_token_ms,
        duration_ms=record.duration_ms,
        cost_nano=record.cost,
        confidence=record.confidence,
        request_id=record.request_id,
        error=failure.kind if failure else None,
    )
    unusual.judge(record)


def _reported(record: UsageRecord, usage: dict, stop_reason: str) -> dict:
    """What the provider says a finished call used, as `spend` takes it. A refusal before any output is free."""
    used = spend.usage_of(record, usage)
    free = stop_reason == "refusal" and not used.output
    return {"used": used, "exact": True, "cost": 0 if free else None}


def _facts(answer: Answer | None) -> dict:
    if answer is None:
        return {}
    return {
        "usage": answer.usage,
        "stop_reason": answer.stop_reason or "",
        "request_id": answer.request_id,
        "message_id": answer.message_id,
        "first_token_ms": answer.first_token_ms(),
        "duration_ms": answer.duration_ms(),
        "hidden_ms": round(1000 * answer.hidden_seconds()),
    }
