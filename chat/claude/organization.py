"""What the provider says about itself: what it charged on a day, and for how long it keeps its models.

Nothing here is billed, and every failure is a ClaudeError whose words fit into a sentence.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import anthropic
import httpx2
from anthropic.types import ModelInfo
from django.conf import settings

from chat.claude.client import NO_KEY, SHORT
from chat.claude.errors import ClaudeError
from chat.money import LARGEST

COST_REPORT = "/v1/organizations/cost_report"
# A day is one bucket. Whoever has more pages than these goes in circles.
MOST_PAGES = 31
MODELS_PER_PAGE = 100


@dataclass(frozen=True)
class Charge:
    """A line of the cost report, in exact US dollars. No model: not for tokens, but for web searches and the like."""

    model: str
    dollars: Decimal


@dataclass(frozen=True)
class Life:
    """How long a model is kept. `stage` is active, deprecated or retired."""

    stage: str
    retires_on: date | None


def charges(day: date) -> list[Charge]:
    """What the organisation was charged on a day, which begins and ends at midnight UTC. Needs the admin key.

    It takes the provider hours to complete a day. Raises ClaudeError, also for a report with anything in it that is
    no amount of dollars: half a bill is none.
    """
    if not settings.ANTHROPIC_ADMIN_KEY:
        raise ClaudeError("no_key", unbilled=True, why="ANTHROPIC_ADMIN_KEY is not set")
    try:
        of_the_day = [bucket for bucket in _buckets(day) if bucket["starting_at"].startswith(day.isoformat())]
        if not of_the_day:
            raise _unreadable("the cost report leaves that day out")
        return [_charge(line) for bucket in of_the_day for line in bucket["results"]]
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise _unreadable("the cost report has a shape that Tally does not know") from error


def lives(names: set[str]) -> dict[str, Life | None]:
    """For how long each of these models is kept; None for one that the provider does not know. Raises ClaudeError."""
    key = settings.ANTHROPIC_API_KEY or (NO_KEY if settings.ANTHROPIC_BASE_URL else "")
    if not key:
        raise ClaudeError("no_key", unbilled=True, why="ANTHROPIC_API_KEY is not set")
    try:
        with _client(key) as client:
            listed = _asked(lambda: {info.id: _life(info) for info in _every_model(client)})
            # An undated name may stand for a dated model, and is then not in the list.
            return {name: listed.get(name) or _life_of(client, name) for name in names}
    except (TypeError, AttributeError) as error:  # a gateway with a list of its own
        raise _unreadable("the list of models has a shape that Tally does not know") from error


def _buckets(day: date) -> Iterator[dict]:
    start = datetime.combine(day, time(), UTC)
    params = {
        "starting_at": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "ending_at": f"{start + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}",
        "bucket_width": "1d",
        "group_by[]": "description",
    }
    key = settings.ANTHROPIC_ADMIN_KEY
    # The SDK sends a key as a bearer token; the Admin API is documented with this header.
    options: Any = {"params": params, "headers": {"X-Api-Key": key}}
    with _client(key) as client:
        for _ in range(MOST_PAGES):
            page: Any = _asked(lambda: client.get(COST_REPORT, cast_to=object, options=options))
            yield from page["data"]
            if not page["has_more"]:
                return
            params["page"] = page["next_page"]
    raise _unreadable(f"the cost report does not end after {MOST_PAGES} pages")


def _charge(line: dict) -> Charge:
    amount, currency = line["amount"], line["currency"]
    # A number of JSON would be a float by now.
    cents = Decimal(amount) if isinstance(amount, str) else Decimal("NaN")
    if currency != "USD" or not (cents.is_finite() and 0 <= cents <= LARGEST * 100):
        raise _unreadable(f"the cost report has an amount that cannot be: {str(amount)[:40]} {str(currency)[:10]}")
    return Charge(line.get("model") or "", cents / 100)


def _every_model(client: anthropic.Anthropic) -> Iterator[ModelInfo]:
    """Page after page. Retired ones have to be asked for."""
    return iter(client.models.list(limit=MODELS_PER_PAGE, lifecycle=["active", "deprecated", "retired"]))


def _life_of(client: anthropic.Anthropic, name: str) -> Life | None:
    try:
        return _life(_asked(lambda: client.models.retrieve(name)))
    except ClaudeError as error:
        if isinstance(error.__cause__, anthropic.NotFoundError):
            return None
        raise


def _life(info: ModelInfo) -> Life:
    return Life(info.lifecycle, info.retires_at.date() if info.retires_at else None)


def _client(key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        api_key=key,
        base_url=settings.ANTHROPIC_BASE_URL or None,
        timeout=SHORT,
        max_retries=0,
        open_telemetry=False,
    )


def _asked[T](ask: Callable[[], T]) -> T:
    try:
        return ask()
    except anthropic.APIStatusError as error:
        refused = error.status_code in (401, 403)
        raise ClaudeError(
            "provider_auth" if refused else "provider_error",
            unbilled=True,
            request_id=error.request_id or "",
            why=f"HTTP {error.status_code} {error.type or ''}".strip(),
        ) from error
    except (anthropic.AnthropicError, httpx2.HTTPError, ValueError) as error:
        raise ClaudeError("unreachable", unbilled=True, why=type(error).__name__) from error


def _unreadable(why: str) -> ClaudeError:
    return ClaudeError("provider_error", unbilled=True, why=why)
