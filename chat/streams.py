"""The only door to Redis: live text, one stream per turn, and the worker's sign of life.

Nothing here is the truth. What has to answer may fail with `Lost`; whoever calls goes on with the database.

An entry's id is `{attempt}-{number}`, and it is the SSE id too. Redis refuses an id below the last one, so a
worker that was replaced cannot write into its successor's text. The first entry of an attempt brings everything
afresh, and numbers have no holes: a reader who finds one knows that Redis forgot something.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, cast

import redis
import redis.asyncio
import structlog
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

log = structlog.get_logger(__name__)

WHILE_RUNNING = 3600  # seconds that a stream is kept
AFTERWARDS = 300
HEARTBEAT = "tally:worker"
LAST_NUMBER = 2**64 - 1

# The SDK's defaults answer in shapes that depend on the version, wait for minutes and stop at 100 connections.
CONNECTION: dict[str, Any] = {
    "protocol": 3,
    "legacy_responses": False,
    "socket_connect_timeout": 2,
    "max_connections": 10_000,
}
# Once, and never after silence: what a restart of Redis has left dead in the pool. A Redis that hangs would hang again.
RETRIES, RETRIED = 1, (RedisConnectionError,)
# Seconds. A thread that asks has others waiting behind it, so a Redis that hangs is not asked by one after the other.
PATIENCE = 1
NOT_ASKED_AGAIN = 1


class Lost(Exception):
    """Redis is not there, does not answer, or has no room."""


class EntryId(NamedTuple):
    attempt: int
    number: int

    def __str__(self) -> str:
        return f"{self.attempt}-{self.number}"

    @classmethod
    def read(cls, text: str) -> "EntryId":
        """An id as a browser sends it back; anything else means "from the beginning".

        Redis refuses a number above its largest, and one such id would end the XREAD that all readers share.
        """
        match = re.fullmatch(r"(\d{1,9})-(\d{1,20})", text or "", re.ASCII)
        return cls(int(match[1]), int(match[2])) if match and int(match[2]) <= LAST_NUMBER else START


START = EntryId(0, 0)


@dataclass(frozen=True)
class Entry:
    """`afresh`: it brings everything, so whatever was missed before it does not matter."""

    id: EntryId
    data: bytes
    afresh: bool = False

    @property
    def is_end(self) -> bool:
        return self.id.number == LAST_NUMBER

    def continues(self, last: EntryId) -> bool:
        """Whether nothing can be missing between that entry and this one."""
        return self.afresh or self.is_end or self.id == (last.attempt, last.number + 1)


def key_of(turn_id) -> str:
    return f"tally:turn:{turn_id}"


def data_lines(html: str) -> bytes:
    """HTML as the data of an SSE message. A lone CR ends a line on that wire, so every kind of line end is one."""
    text = html.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\ndata: ")
    return f"data: {text}\n".encode()


def end(turn_id, attempt: int) -> None:
    """Tell the readers that the turn is over and the database has the answer.

    Never fails: a page that does not hear it hears it from the database, within seconds.
    """
    key = key_of(turn_id)

    def add_the_last(client: redis.Redis) -> None:
        pipe = client.pipeline(transaction=False)
        pipe.xadd(key, {"d": b""}, id=str(EntryId(attempt, LAST_NUMBER)))
        pipe.expire(key, AFTERWARDS)
        pipe.execute(raise_on_error=False)  # refused: it was said before, or a later attempt is writing

    try:
        _ask(add_the_last)
    except Lost:
        log.warning("no_redis")


def beat(seconds: int) -> None:
    """A worker says that it is there for the next seconds. Raises Lost."""
    _ask(lambda client: client.set(HEARTBEAT, "1", ex=seconds))


def pulse() -> bool:
    """Whether a worker said so lately. Raises Lost if Redis does not answer."""
    return bool(_ask(lambda client: client.exists(HEARTBEAT)))


class Publisher:
    """Writes entries from a worker's event loop, many in one round trip."""

    def __init__(self):
        self._redis = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, socket_timeout=2, retry=AsyncRetry(NoBackoff(), RETRIES, RETRIED), **CONNECTION
        )

    async def publish(self, entries: list[tuple[Any, Entry]]) -> list[bool]:
        """Add an entry to each turn's stream; tells for each whether Redis took it. Raises Lost for all of them."""
        pipe = self._redis.pipeline(transaction=False)
        for turn_id, entry in entries:
            fields: dict[Any, Any] = {"d": entry.data, "a": b"1"} if entry.afresh else {"d": entry.data}
            pipe.xadd(key_of(turn_id), fields, id=str(entry.id))
        for turn_id, entry in entries:
            if entry.afresh:
                pipe.expire(key_of(turn_id), WHILE_RUNNING)
        try:
            answers = await pipe.execute(raise_on_error=False)
        except (TimeoutError, RedisError, OSError) as error:
            raise Lost from error
        return [not isinstance(answer, Exception) for answer in answers[: len(entries)]]


class Hub:
    """Follows the streams of all readers of one web process with one blocking XREAD."""

    BLOCK_MS = 2000
    # Entries, some ten seconds of an answer. They stay in memory for a reader who does not take them.
    QUEUE = 200
    # A thousand who come at once take turns instead of opening a connection each.
    PLACES = 16

    def __init__(self):
        # The reader waits longer than any other command may take, so it has a client of its own.
        self._reader = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, socket_timeout=4, retry=AsyncRetry(NoBackoff(), 0), **CONNECTION
        )
        self._redis = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, socket_timeout=2, retry=AsyncRetry(NoBackoff(), RETRIES, RETRIED), **CONNECTION
        )
        self._is_down = False
        self._places = asyncio.Semaphore(self.PLACES)
        self._waking = asyncio.Lock()
        self._queues: dict[str, set[asyncio.Queue]] = {}
        self._positions: dict[str, EntryId] = {}
        self._asked = self._seen = 0
        self._reader_id: int | None = None
        self._task: asyncio.Task | None = None

    async def replay(self, turn_id, after: EntryId) -> list[Entry]:
        """The entries that are already there. Raises Lost.

        While Redis is away only the shared reader tries it, lest a thousand pages wait for it with a connection each.
        """
        if self._is_down:
            raise Lost
        try:
            async with self._places:
                rows = await cast(Awaitable, self._redis.xrange(key_of(turn_id), min=f"({after}"))
        except (TimeoutError, RedisError, OSError) as error:
            raise Lost from error
        return [_entry(row) for row in rows]

    def join(self, turn_id, after: EntryId) -> asyncio.Queue:
        """A queue of entries later than `after`, and of `Lost` when Redis goes away. Always `leave` it again."""
        key = key_of(turn_id)
        queue: asyncio.Queue[Entry | Lost | None] = asyncio.Queue(self.QUEUE)
        self._queues.setdefault(key, set()).add(queue)
        self._positions[key] = min(after, self._positions.get(key, after))
        self._asked += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._read())
        return queue

    async def wake(self) -> None:
        """End the current wait, so that a stream joined since is read at once. Raises Lost."""
        asked = self._asked
        async with self._waking:  # for all who have joined meanwhile
            for _ in range(200):
                if self._seen >= asked:
                    return
                if self._is_down:
                    raise Lost
                try:
                    if self._reader_id is not None:
                        await cast(Awaitable, self._redis.client_unblock(self._reader_id))
                except (TimeoutError, RedisError, OSError) as error:
                    raise Lost from error
                await asyncio.sleep(0.005)

    def leave(self, turn_id, queue: asyncio.Queue) -> None:
        key = key_of(turn_id)
        if queues := self._queues.get(key):
            queues.discard(queue)
            if not queues:
                del self._queues[key], self._positions[key]

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._reader.aclose()
        await self._redis.aclose()

    async def _read(self) -> None:
        while self._queues:
            try:
                async with self._reader.client() as connection:
                    self._reader_id = await cast(Awaitable, connection.client_id())
                    self._is_down = False
                    while self._queues:
                        self._seen = self._asked
                        positions: dict[Any, Any] = {key: str(position) for key, position in self._positions.items()}
                        answer = await cast(Awaitable, connection.xread(positions, block=self.BLOCK_MS))
                        for key, rows in (answer or {}).items():
                            self._deliver(key.decode(), [_entry(row) for row in rows])
            except (TimeoutError, RedisError, OSError):
                self._reader_id, self._is_down = None, True
                for queues in self._queues.values():
                    for queue in queues:
                        put(queue, Lost())
                await asyncio.sleep(0.5)

    def _deliver(self, key: str, entries: list[Entry]) -> None:
        if key not in self._positions or not entries:
            return
        self._positions[key] = max(self._positions[key], entries[-1].id)
        for queue in self._queues[key]:
            for entry in entries:
                put(queue, entry)


def put(queue: asyncio.Queue, item: Entry | Lost | None) -> None:
    """Add to a reader's queue. None means that the database has news."""
    if queue.full():  # a reader too slow to follow comes back and resumes by its last id
        while not queue.empty():
            queue.get_nowait()
        item = Lost()
    queue.put_nowait(item)


def _entry(row) -> Entry:
    entry_id, fields = row
    return Entry(EntryId(*map(int, entry_id.split(b"-"))), fields[b"d"], b"a" in fields)


_not_before = 0.0


def _ask(command: Callable[[redis.Redis], Any]) -> Any:
    """For threads. Raises Lost, and at once for a moment after Redis did not answer."""
    global _not_before
    if time.monotonic() < _not_before:
        raise Lost
    try:
        return command(_sync())
    except (RedisError, OSError) as error:
        if isinstance(error, RedisTimeoutError):
            _not_before = time.monotonic() + NOT_ASKED_AGAIN
        raise Lost from error


@cache
def _sync() -> redis.Redis:
    retry = Retry(NoBackoff(), RETRIES, RETRIED)
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=PATIENCE, retry=retry, **CONNECTION)
