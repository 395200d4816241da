"""The SDK's client: built once per process and event loop, with our timeouts and without its retries."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import anthropic
import httpx2
from anthropic import AsyncAnthropic, DefaultAioHttpClient
from django.conf import settings

from chat.claude.answer import Answer
from chat.claude.errors import ClaudeError
from chat.claude.faults import from_event, from_exception
from chat.claude.request import Request

# `read` is the longest silence; pings end it, so the engine has its own watch for progress.
TIMEOUT = httpx2.Timeout(connect=5, read=75, write=30, pool=5)
SHORT = httpx2.Timeout(connect=5, read=10, write=10, pool=5)
# A gateway that needs no key gets a word that no real one would accept.
NO_KEY = "no-key"


class Claude:
    """Belongs to the event loop in which it is first used. Raises ClaudeError and nothing else of the wire."""

    def __init__(self):
        key = settings.ANTHROPIC_API_KEY or (NO_KEY if settings.ANTHROPIC_BASE_URL else "")
        if not key:
            raise ClaudeError("no_key", unbilled=True, alarm=True)
        self._client = AsyncAnthropic(
            api_key=key,
            base_url=settings.ANTHROPIC_BASE_URL or None,
            timeout=TIMEOUT,
            # The SDK would wait as long as a server says and would send again what may have been billed.
            max_retries=0,
            http_client=DefaultAioHttpClient(),
            # Trace headers would tell the provider about our other services.
            open_telemetry=False,
        )

    async def stream(self, request: Request, max_tokens: int, answer: Answer, progress: Callable[[], None]) -> None:
        """Send one request and feed `answer` until its stream ends; `progress` is called after each event.

        Returns only when `message_stop` was seen. Cancelling the task shuts the connection, which is all that
        "stop" can mean to the provider.
        """
        opened = False
        # Before the engine's watch, which cannot tell silence before an answer from silence in the middle of one.
        patience = asyncio.timeout(0.8 * settings.NO_PROGRESS_SECONDS)
        call = self._client.messages.with_streaming_response.create(
            **request.parameters(), max_tokens=max_tokens, stream=True
        )
        try:
            async with patience, call as response:
                patience.reschedule(None)
                opened = True
                answer.request_id = response.headers.get("request-id", "")
                async for line in _lines(response.iter_bytes()):
                    if line.startswith(b"data:"):
                        self._take(json.loads(line[5:].decode()), answer)
                        progress()
        except ClaudeError:
            raise
        except Exception as error:
            if known := from_exception(error, opened=opened):
                known.request_id = known.request_id or answer.request_id
                raise known from error
            raise
        finally:
            answer.end()
        if not answer.finished:
            raise ClaudeError("cut", request_id=answer.request_id, why="the stream ended without message_stop")

    async def complete(self, request: Request, max_tokens: int) -> dict:
        """Send one short request without a stream and return the message as it came, with `request_id` in it."""
        try:
            response = await self._client.messages.with_raw_response.create(
                **request.parameters(), max_tokens=max_tokens, timeout=SHORT
            )
            return {**json.loads(await response.text()), "request_id": response.headers.get("request-id", "")}
        except Exception as error:
            if known := from_exception(error, opened=False):
                raise known from error
            raise

    async def count(self, request: Request) -> int | None:
        """How many tokens the provider counts in a request (free of charge), or None when it would not say."""
        try:
            counted = await self._client.messages.count_tokens(**request.countable(), timeout=SHORT)
            return counted.input_tokens
        except (anthropic.AnthropicError, httpx2.HTTPError):
            return None

    @staticmethod
    def _take(event: dict, answer: Answer) -> None:
        try:
            if event.get("type") == "error":
                started = answer.started_at is not None
                raise from_event(event.get("error") or {}, started=started, request_id=answer.request_id)
            answer.feed(event)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ClaudeError("cut", request_id=answer.request_id, why="unreadable frame") from error


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
    """The lines of a stream. The transport's own would also end one at U+2028 or U+0085, which a text may have in it,
    and would let bytes that are no UTF-8 pass as words that Claude never wrote."""
    begun = bytearray()
    async for piece in pieces:
        begun += piece
        if b"\n" in piece:
            *lines, begun = begun.split(b"\n")
            for line in lines:
                yield line
    if begun:
        yield begun
