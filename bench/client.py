"""Readers over raw HTTP/1.1: as little work as possible, because they share the cores with what they measure.

Every token is "<number>@<CLOCK_MONOTONIC ns at the upstream's sending>; ", so its lag is measured from end to end,
whatever lies between and however often the same text comes again.
"""

import asyncio
import gc
import html
import json
import os
import random
import re
import time
import uuid
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlencode

import uvloop

from bench.stand import FIRST, KEY, LOOPBACK, Stand

STREAM = re.compile(rb'hx-sse:connect="([^"]+)"')
STAMP = re.compile(rb"(\d+)@(\d+);")
REFUSED = b'data-status="failed"'
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
CSRF = "b" * 32
PATIENCE_SECONDS = 90


@dataclass(slots=True)
class Answer:
    """What one reader saw. Times in nanoseconds of CLOCK_MONOTONIC, lags in milliseconds."""

    wanted: int
    pressed: int = 0
    first: int = 0
    ended: int = 0
    tokens: int = 0
    lags: array = field(default_factory=lambda: array("d"))
    body: bytes = b""
    problem: str = ""

    @property
    def is_whole(self) -> bool:
        return not self.problem and self.ended > 0 and self.tokens == self.wanted

    @property
    def first_ms(self) -> float:
        return (self.first - self.pressed) / 1e6

    def take(self, text: bytes, now: int) -> None:
        """The tokens in it that were not seen before. They come in order, so the search begins at the next one."""
        at = text.find(b"%d@" % self.tokens)
        if at < 0:
            return
        if not self.first:
            self.first = now
        for number, stamp in STAMP.findall(text, at):
            if int(number) == self.tokens:
                self.tokens += 1
                self.lags.append((now - int(stamp)) / 1e6)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in and has a conversation open."""

    id: int
    session: str
    conversation: str = ""

    @property
    def cookies(self) -> str:
        return f"sessionid={self.session}; csrftoken={CSRF}"


class Connection(asyncio.Protocol):
    """One keep-alive connection that asks for one thing after the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._over = asyncio.get_running_loop().create_future()
        self._buffer = b""
        self._take: Callable[[bytes], bool] = bool

    def connection_made(self, transport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over.done():
            self._over.set_exception(ConnectionError("the connection was closed before the end"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._over.done() and self._take(self._buffer):
            self._over.set_result(self._buffer)

    def keep(self, rest: bytes) -> None:
        """Forget what has been read, but for the unfinished rest."""
        self._buffer = rest

    async def ask(self, request: bytes, take: Callable[[bytes], bool]) -> bytes:
        """Send, and wait until `take`, which is given all that is unread, says that it is complete."""
        self._buffer, self._take = b"", take
        self._over = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await asyncio.wait_for(self._over, PATIENCE_SECONDS)

    def close(self) -> None:
        if not self._over.done():
            self._over.cancel()
        self._transport.abort()


class Tally:
    """A browser with a conversation's page open."""

    def __init__(self, stand: Stand):
        self._port = stand.port

    async def ask(self, person: Person, text: str, tokens: int, *, on_stream: Callable[[str], object] = str) -> Answer:
        """Press Send and read the answer to its end. What went wrong is in `problem`; nothing is raised.

        `on_stream` is told the address of the stream when it is known.
        """
        answer = Answer(tokens, pressed=time.monotonic_ns())
        with _noting(answer):
            connection = await _connect(self._port)
            try:
                page = await connection.ask(self._send(person, text), _is_complete)
                stream = STREAM.search(page)
                if REFUSED in page:
                    answer.body = page
                    return answer
                if not page.startswith(b"HTTP/1.1 200") or stream is None:
                    raise ConnectionError(page[:200].decode(errors="replace"))
                path = html.unescape(stream[1].decode())
                on_stream(path)
                listen = _get(path, person.cookies)
                await connection.ask(listen, _frames(connection, answer, b"event: done\n"))
            finally:
                connection.close()
        return answer

    async def stop(self, person: Person, stream: str) -> None:
        connection = await _connect(self._port)
        path = f"{stream.partition('/stream/')[0]}/stop/"
        with suppress(OSError, TimeoutError):
            await connection.ask(_post(path, b"", _form_headers(person)), lambda page: b"\r\n\r\n" in page)
        connection.close()

    def _send(self, person: Person, text: str) -> bytes:
        form = urlencode({"text": text, "client_id": uuid.uuid4()}).encode()
        return _post(f"/conversations/{person.conversation}/messages/", form, _form_headers(person))


class Upstream:
    """The same reader without a product between."""

    def __init__(self, stand: Stand):
        self._port = stand.upstream_port

    async def ask(self, person: Person | None, text: str, tokens: int) -> Answer:
        answer = Answer(tokens, pressed=time.monotonic_ns())
        body = {
            "model": "claude-sonnet-5-5",
            "max_tokens": 16_000,
            "stream": True,
            "messages": [{"role": "user", "content": text}],
        }
        headers = f"x-api-key: {KEY}\r\nanthropic-version: 2023-06-01\r\ncontent-type: application/json\r\n"
        with _noting(answer):
            connection = await _connect(self._port)
            try:
                request = _post("/v1/messages", json.dumps(body).encode(), headers)
                await connection.ask(request, _frames(connection, answer, b"event: message_stop\n"))
            finally:
                connection.close()
        return answer


def run[T](work: Awaitable[T]) -> T:
    """Run it on a loop of its own, before everybody else on this machine if we may."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
    gc.disable()
    try:
        return uvloop.run(_await(work))
    finally:
        gc.enable()
        os.setpriority(os.PRIO_PROCESS, 0, 0)


async def together(asks: Iterable[Callable[[], Awaitable[Answer]]], within: float) -> list[Answer]:
    """Each of them once, at random moments within so many seconds."""
    luck = random.Random(1)  # noqa: S311  the same moments in each run

    async def one(ask: Callable[[], Awaitable[Answer]]) -> Answer:
        await asyncio.sleep(luck.random() * within)
        return await ask()

    return await asyncio.gather(*(one(ask) for ask in asks))


async def one_by_one(asks: Iterable[Callable[[], Awaitable[Answer]]]) -> list[Answer]:
    return [await ask() for ask in asks]


async def steadily(asks: Iterable[Iterable[Callable[[], Awaitable[Answer]]]], within: float) -> list[Answer]:
    """People who ask again as soon as they have their answer, and who came evenly within so many seconds."""
    queues = [list(queue) for queue in asks]

    async def one(number: int, queue: list[Callable[[], Awaitable[Answer]]]) -> list[Answer]:
        await asyncio.sleep(number * within / len(queues))
        return await one_by_one(queue)

    lists = await asyncio.gather(*(one(number, queue) for number, queue in enumerate(queues)))
    return [answer for answers in lists for answer in answers]


async def _await[T](work: Awaitable[T]) -> T:
    return await work


@contextmanager
def _noting(answer: Answer) -> Iterator[None]:
    try:
        yield
        answer.ended = time.monotonic_ns()
    except (OSError, TimeoutError) as error:
        answer.problem = f"{type(error).__name__}: {error}"


def _frames(connection: Connection, answer: Answer, end: bytes) -> Callable[[bytes], bool]:
    """Reads whole server-sent events; what follows the last of them waits for its rest."""

    def take(unread: bytes) -> bool:
        rest = unread.rfind(b"\n\n") + 2
        if rest < 2:
            return False
        answer.take(unread[:rest], time.monotonic_ns())
        if end in unread:
            answer.body = unread
            return True
        connection.keep(unread[rest:])
        return False

    return take


def _is_complete(response: bytes) -> bool:
    head, separator, body = response.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    return bool(separator) and length is not None and len(body) >= int(length[1])


async def _connect(port: int) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(Connection, LOOPBACK, port)
    return connection


def _get(path: str, cookies: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: {LOOPBACK}\r\ncookie: {cookies}\r\naccept: text/event-stream\r\n\r\n".encode()


def _post(path: str, body: bytes, headers: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: {LOOPBACK}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


def _form_headers(person: Person) -> str:
    return (
        f"cookie: {person.cookies}\r\nx-csrftoken: {CSRF}\r\nhx-request: true\r\n"
        "content-type: application/x-www-form-urlencoded\r\n"
    )
