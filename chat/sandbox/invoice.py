"""The provider's side of the books: one line for each call that is billed, in integer nano-dollars.

The arithmetic is this file's own, on purpose: it is what the product's figures are compared with.
"""

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from .errors import invalid

NANOS_PER_CENT = 10_000_000
_SEARCHES_PER_1000 = "10"
_LONGEST_REPORT = 31


@dataclass(frozen=True, slots=True)
class Line:
    request_id: str
    message_id: str
    model: str
    input_tokens: int
    cache_write_5m: int
    cache_write_1h: int
    cache_read: int
    output_tokens: int
    thinking_tokens: int
    web_searches: int
    fast: bool
    us: bool
    # complete, cut (by us), client_left, refused, or error (an error event in mid-stream)
    ended: str
    cost_nanos: int
    at: str

    def as_json(self):
        return asdict(self)


class Invoice:
    def __init__(self):
        self.lines = []

    def add(self, model, *, request_id, message_id, usage, ended, free=False):
        """`usage`: the fields of Line from input_tokens to us. `free`: refused before any output."""
        cost = 0 if free else cost_nanos(model.price, **usage)
        line = Line(
            request_id=request_id,
            message_id=message_id,
            model=model.id,
            **usage,
            ended=ended,
            cost_nanos=cost,
            at=datetime.now(UTC).isoformat(),
        )
        self.lines.append(line)

    def cost_report(self, query):
        """The cost report of the Admin API: buckets of one UTC day, amounts in cents as decimal strings."""
        start = _day(_one(query, "starting_at"), "starting_at")
        end = _day(_one(query, "ending_at"), "ending_at") if "ending_at" in query else _tomorrow()
        limit = _limit(_one(query, "limit", "7"))
        if _one(query, "bucket_width", "1d") != "1d":
            raise invalid("bucket_width: Input should be '1d'")
        start = _day(_one(query, "page"), "page") if "page" in query else start
        days = [start + timedelta(days=n) for n in range(max(0, min(limit, (end - start).days)))]
        following = start + timedelta(days=len(days))
        more = bool(days) and following < end
        return {
            "data": [self._bucket(day, grouped="description" in query.get("group_by[]", [])) for day in days],
            "has_more": more,
            "next_page": _rfc3339(following) if more else None,
        }

    def _bucket(self, day, grouped):
        totals: dict[str | None, int] = {}
        for line in list(self.lines):
            if line.at[:10] == day.date().isoformat() and line.cost_nanos:
                name = line.model if grouped else None
                totals[name] = totals.get(name, 0) + line.cost_nanos
        return {
            "starting_at": _rfc3339(day),
            "ending_at": _rfc3339(day + timedelta(days=1)),
            "results": [
                {
                    "currency": "USD",
                    "amount": f"{Decimal(nanos) / NANOS_PER_CENT:f}",
                    "workspace_id": None,
                    "description": f"{model} usage" if model else None,
                    "model": model,
                }
                for model, nanos in totals.items()
            ],
        }


def cost_nanos(
    price,
    *,
    input_tokens,
    cache_write_5m,
    cache_write_1h,
    cache_read,
    output_tokens,
    thinking_tokens=0,
    web_searches=0,
    fast=False,
    us=False,
):
    """`price`: dollars per million tokens, and per thousand searches. Rounded up once, at the end.

    Thinking is part of the output and not billed beside it.
    """
    prompt = input_tokens + cache_write_5m + cache_write_1h + cache_read
    band = price["long"] if price.get("long") and prompt > price["long_above"] else price
    dollars_times_million = (
        input_tokens * Fraction(band["input"])
        + cache_write_5m * Fraction(band["cache_write_5m"])
        + cache_write_1h * Fraction(band["cache_write_1h"])
        + cache_read * Fraction(band["cache_read"])
        + output_tokens * Fraction(band["output"])
    )
    if fast:
        dollars_times_million *= Fraction(price["fast"])
    if us:
        dollars_times_million *= Fraction(price["us"])
    searches = web_searches * Fraction(price.get("search") or _SEARCHES_PER_1000) * 1_000_000
    return math.ceil(dollars_times_million * 1000 + searches)


def _one(query, name, default=None):
    values = query.get(name, [default])
    if values[-1] is None:
        raise invalid(f"{name}: Field required")
    return values[-1]


def _limit(text):
    if not text.isdecimal() or not 1 <= int(text) <= _LONGEST_REPORT:
        raise invalid(f"limit: Input should be between 1 and {_LONGEST_REPORT}")
    return int(text)


def _day(text, name):
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(f"{name}: Input should be a valid datetime") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _tomorrow():
    return _day(datetime.now(UTC).isoformat(), "ending_at") + timedelta(days=1)


def _rfc3339(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
