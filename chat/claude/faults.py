"""What the SDK, the transport and the wire can raise, as a ClaudeError."""

import json

import aiohttp
import anthropic
import httpx2

from chat.claude.errors import ClaudeError

SPEND_LIMITS = {"enforced_spend_limit_reached", "contract_spend_limit_reached"}


def from_status(error: anthropic.APIStatusError) -> ClaudeError:
    """An HTTP error before the stream. Branches on type, code and status; a message only where no code exists."""
    status, kind, code = error.status_code, error.type or "", getattr(error, "error_code", None)
    facts = {
        "unbilled": True,
        "request_id": error.request_id or "",
        "why": f"HTTP {status} {kind or code or ''}",
    }
    spent = (error.api_message or "").startswith("You have reached your specified") if status == 400 else False
    if code in SPEND_LIMITS or status == 402 or kind == "billing_error" or spent:
        return ClaudeError("provider_budget", alarm=True, **facts)
    if status in (401, 403):
        return ClaudeError("provider_auth", alarm=True, **facts)
    if status == 429:
        return ClaudeError("rate_limited", again=True, retry_after=_retry_after(error), **facts)
    if status == 529 or kind == "overloaded_error":
        return ClaudeError("busy", again=True, retry_after=_retry_after(error), **facts)
    if status >= 500 or status == 408:
        return ClaudeError("provider_error", again=True, retry_after=_retry_after(error), **facts)
    if status == 404:
        return ClaudeError("unknown_model", alarm=True, **facts)
    if status == 413 or (status == 400 and "too long" in (error.api_message or "")):
        return ClaudeError("too_large", **facts)
    return ClaudeError("bad_request", alarm=True, **facts)


def from_event(error: dict, *, started: bool, request_id: str) -> ClaudeError:
    """An `error` event inside a stream: HTTP said 200. Before `message_start` nothing can have been billed."""
    facts = {"request_id": request_id, "why": f"error event {error.get('type', '')}"}
    if started:
        return ClaudeError("cut", **facts)
    if error.get("type") == "overloaded_error":
        return ClaudeError("busy", unbilled=True, again=True, **facts)
    return ClaudeError("provider_error", unbilled=True, again=True, **facts)


def from_exception(error: Exception, *, opened: bool) -> ClaudeError | None:
    """A transport's exception; None if it is not one that a provider or a network can cause.

    `opened`: the response had begun. A connection that was refused or never made carried no request, so nothing
    can have been billed; one that broke after the request was written may have been.
    """
    if isinstance(error, anthropic.APIStatusError):
        return from_status(error)
    cause = error.__cause__ if isinstance(error, anthropic.APIConnectionError) else error
    if isinstance(cause, httpx2.PoolTimeout) or _never_connected(cause):
        return ClaudeError("unreachable", unbilled=True, again=True, why=type(cause).__name__)
    if isinstance(error, anthropic.APITimeoutError | TimeoutError) or isinstance(cause, httpx2.TimeoutException):
        return ClaudeError("stalled" if opened else "timeout", why=type(cause).__name__)
    if isinstance(error, anthropic.APIConnectionError | httpx2.HTTPError | httpx2.StreamError):
        return ClaudeError("cut", why=type(cause).__name__)
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return ClaudeError("cut", why="unreadable frame")
    return None


def _never_connected(error: BaseException | None) -> bool:
    """The transport says ConnectError also of a connection that had carried a request; aiohttp knows better."""
    return isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout) and isinstance(
        error.__cause__, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
    )


def _retry_after(error: anthropic.APIStatusError) -> float | None:
    try:
        return max(0.0, float(error.response.headers.get("retry-after", "")))
    except ValueError:
        return None
