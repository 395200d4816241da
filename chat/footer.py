"""What stands under an answer."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from chat import catalogue, pricing, spend
from chat.endings import SIMPLE_STOPS
from chat.models import Turn, UsageRecord
from chat.models.conversation import Effort

ENDED: dict[str, str] = {
    Turn.State.STOPPED: "stopped",
    Turn.State.INTERRUPTED: "interrupted",
    Turn.State.FAILED: "failed",
}
STOPPED_BY = {
    "max_tokens": "cut at its limit",
    "model_context_window_exceeded": "the model's memory is full",
    "pause_turn": "paused",
    "refusal": "declined",
}


@dataclass(frozen=True)
class Footer:
    """What an answer took: tokens, nano-dollars, milliseconds; over all calls that were made for it.

    None: nobody knows. `saved` is what caching saved over all, less what writing the cache cost more.
    """

    model_name: str
    effort: str
    calls: int
    tokens_in: int
    tokens_new: int
    tokens_written: int
    tokens_cached: int
    saved: int
    tokens_out: int
    tokens_thinking: int
    searches: int
    search_fee: int
    cost: int
    first_token_ms: int | None
    duration_ms: int | None
    estimated: bool
    fitted_to: int | None
    ended: str


def footer_of(turn: Turn, records: list[UsageRecord]) -> Footer | None:
    """Of a turn that is over; None if nothing was charged for it. `records` are its settled calls, oldest first."""
    if not records:
        return None
    return Footer(
        model_name=catalogue.find(turn.model).name,
        effort="" if turn.effort == Effort.BALANCED else str(Effort(turn.effort).label).lower(),
        calls=len(records),
        tokens_in=sum(record.prompt_tokens for record in records),
        tokens_new=sum(record.input_tokens for record in records),
        tokens_written=sum(record.cache_write_5m_tokens + record.cache_write_1h_tokens for record in records),
        tokens_cached=sum(record.cache_read_tokens for record in records),
        saved=sum(map(_saved, records)),
        tokens_out=sum(record.output_tokens for record in records),
        tokens_thinking=sum(record.thinking_tokens for record in records),
        searches=sum(record.searches for record in records),
        search_fee=sum(record.searches * record.price_numbers.get("search", 0) // 1000 for record in records),
        cost=sum(record.cost for record in records),
        first_token_ms=records[0].first_token_ms,
        duration_ms=_total(record.duration_ms for record in records),
        estimated=any(record.confidence == UsageRecord.Confidence.ESTIMATED for record in records),
        fitted_to=records[-1].max_tokens if records[-1].fitted else None,
        ended=_ended(turn),
    )


def _saved(record: UsageRecord) -> int:
    """What the call would have cost without a cache, less what it cost."""
    if record.confidence == UsageRecord.Confidence.ESTIMATED or not record.cache_read_tokens:
        return 0
    used = spend.usage_of(record, record.usage)
    plain = replace(used, input=used.prompt, cache_write_5m=0, cache_write_1h=0, cache_read=0)
    with suppress(pricing.Unpriced):
        return pricing.cost(record.price_numbers, plain) - pricing.cost(record.price_numbers, used)
    return 0


def _total(durations: Iterable[int | None]) -> int | None:
    known = list(durations)
    return None if None in known else sum(duration or 0 for duration in known)


def _ended(turn: Turn) -> str:
    """Why it ended, in a word or two; nothing if it is simply done."""
    if turn.state in ENDED:
        return ENDED[turn.state]
    return "" if turn.stop_reason in SIMPLE_STOPS else STOPPED_BY.get(turn.stop_reason, "ended early")
