"""Server-sent events without Django's machinery: one task a reader, no thread, no database connection.

Every request goes through Django first, with all of its middleware. Where a view answers with a ticket (a header
that never reaches the browser), the check has been made and the connection to the database is back in its pool; then
the relay takes over the response, with the headers that Django gave it.

A reader gets what is in the stream after the last id they saw, then what comes. Where Redis lost something or is
gone, they get the checkpoint from the database until the stream fits again. The end is always the database's.
"""

import asyncio
import json
import random
import signal
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.contrib.sessions.models import Session
from django.db import Error, close_old_connections
from django.db.models import F, Subquery
from django.db.models.functions import Now

from chat.models import Turn
from chat.prepared import Prepared
from chat.streams import Entry, EntryId, Hub, Lost, put

TICKET = "X-Tally-Ticket"
HEARTBEAT_SECONDS = 10
POLL_SECONDS = 1.0
LONGEST_SECONDS = 1800  # then the browser comes back by itself

Send = Callable[[dict], Awaitable[None]]

_marked = Prepared(
    lambda turn_id, session_key: (
        Turn.objects.filter(id=turn_id)
        .annotate(
            session=Subquery(
                Session.objects.filter(session_key=session_key, expire_date__gt=Now()).values("session_data")
            ),
            password=F("user__password"),
            is_active=F("user__is_active"),
        )
        .only("state", "checkpoint_id")
    ),
    Turn._meta.pk,
    Session._meta.pk,
)
# All readers together ask the database in two threads: whoever loads a page does not wait behind a thousand of them.
_threads = ThreadPoolExecutor(2, thread_name_prefix="readers")


class Relay:
    """Wraps Django's ASGI application."""

    def __init__(self, application):
        self._application = application
        self._hub: Hub | None = None
        self._closing = asyncio.Event()

    async def __call__(self, scope: dict, receive: Callable, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        if scope["type"] != "http" or not scope["path"].endswith("/stream/"):
            return await self._application(scope, receive, send)
        start: dict[str, Any] = {}

        async def intercept(event: dict) -> None:
            if event["type"] == "http.response.start" and (ticket := _ticket_in(event)):
                start.update(event, ticket=ticket)
            elif not start:
                await send(event)

        # `receive` is kept from Django, which would otherwise swallow the word that the reader has left.
        await self._application(scope, _empty_body(), intercept)
        if start:
            await self._serve(start, receive, send)

    async def _serve(self, start: dict, receive: Callable, send: Send) -> None:
        ticket = start.pop("ticket")
        await send({**start, "headers": [h for h in start["headers"] if h[0].lower() != b"content-length"]})
        if self._hub is None:
            self._hub = Hub()
        reader = _Reader(self._hub, ticket, send)
        talking = asyncio.create_task(reader.follow())
        leaving = asyncio.create_task(_gone(receive))
        closing = asyncio.create_task(self._closing.wait())
        try:
            ends = {talking, leaving, closing}
            await asyncio.wait(ends, timeout=LONGEST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if talking.done():
                talking.result()
            if not leaving.done():
                await send({"type": "http.response.body", "body": b""})
        finally:
            for task in (talking, leaving, closing):
                task.cancel()

    async def _lifespan(self, receive: Callable, send: Send) -> None:
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                self._end_streams_on_signals()
            elif self._hub is not None:
                await self._hub.close()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return

    def _end_streams_on_signals(self) -> None:
        """The server waits for its responses before it says "shutdown"; streams have to hear of it earlier.

        The browsers come back by themselves, to the process that takes over.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            then = signal.getsignal(number)

            def end(number: int, frame, then=then) -> None:
                loop.call_soon_threadsafe(self._closing.set)
                if callable(then):
                    then(number, frame)

            signal.signal(number, end)


class _Reader:
    """One browser that follows one turn."""

    def __init__(self, hub: Hub, ticket: dict, send: Send):
        self._hub, self._send = hub, send
        self._turn, self._session, self._csrf_token = ticket["turn"], ticket["session"], ticket["csrf_token"]
        self._last = EntryId.read(ticket["after"])
        self._marks: tuple | None = None

    async def follow(self) -> None:
        """Send until the turn is over or the reader may no longer read."""
        await self._write(b"retry: 1000\n\n")
        while True:
            try:
                if await self._from_redis():
                    return
            except Lost:
                pass
            if await self._from_database():
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _from_redis(self) -> bool:
        """Relay the stream. True at the end of the turn; False when something is missing from it; raises Lost."""
        queue = self._hub.join(self._turn, self._last)
        watching = asyncio.create_task(self._watch(queue))
        watching.add_done_callback(lambda _: put(queue, Lost()))  # nobody reads on unwatched
        try:
            for entry in await self._hub.replay(self._turn, self._last):
                if (ended := await self._relay(entry)) is not None:
                    return ended
            await self._hub.wake()
            while True:
                item = await queue.get()
                if isinstance(item, Lost):
                    raise item
                if item is None:
                    if await self._from_database():
                        return True
                elif item.id > self._last and (ended := await self._relay(item)) is not None:
                    return ended
        finally:
            watching.cancel()
            self._hub.leave(self._turn, queue)

    async def _relay(self, entry: Entry) -> bool | None:
        if entry.is_end:
            return await self._from_database()
        if not entry.continues(self._last):
            return False
        self._last = entry.id
        await self._write(b"id: %s\n%s\n" % (str(entry.id).encode(), entry.data))
        return None

    async def _watch(self, queue: asyncio.Queue) -> None:
        """However much there is to tell: may they still read it, and is it over without a word? Where Redis takes
        nothing for want of room, the checkpoint has what the stream lacks. No text waits for the answer.
        """
        # Whoever came back in the same instant does not ask in the same instant for ever.
        await asyncio.sleep(HEARTBEAT_SECONDS * random.uniform(0.5, 1))  # noqa: S311  a spread, not a secret
        while True:
            marks = await _ask(_marks, self._turn, self._session)
            if marks != self._marks:
                self._marks = marks
                put(queue, None)
            await self._write(b": \n\n")
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _from_database(self) -> bool:
        """The final message, or what the last checkpoint has. True if there is nothing to come."""
        about = self._turn, self._session, self._csrf_token, self._last
        try:
            frame, self._last, over = await _ask(_from_database, *about)
        except Error:
            self._marks = None  # the database is away: Redis has the text meanwhile, and we look again
            return False
        await self._write(frame)
        return over

    async def _write(self, body: bytes) -> None:
        if body:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})


async def _ask(question: Callable, *about) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_threads, question, *about)


def _marks(turn_id: str, session_key: str) -> tuple:
    """All that decides whether that session may read that turn, and whether there is more of it to read.

    One small query, since a thousand readers ask again and again; only where something has changed they look closer.
    """
    try:
        found: list[Any] = _marked(turn_id, session_key)
        return tuple((row.state, row.checkpoint_id, row.session, row.password, row.is_active) for row in found)
    except Error:
        return ()
    finally:
        close_old_connections()


def _from_database(turn_id: str, session_key: str, csrf_token: str, last: EntryId) -> tuple[bytes, EntryId, bool]:
    """What a page that has everything up to `last` lacks, the last entry that it has then, whether it is the end."""
    from chat.views import turns  # imports this module

    try:
        turn = turns.may_follow(turn_id, session_key)
        if turn is None:
            return b"event: done\ndata: 1\n\n", last, True
        if not turn.is_live:
            return turns.final_message(turn, csrf_token), last, True
        if (written := EntryId.read(turn.checkpoint_id)) <= last:
            return b"", last, False
        return turns.checkpoint(turn), written, False
    finally:
        close_old_connections()


def _ticket_in(event: dict) -> dict | None:
    wanted = TICKET.lower().encode()
    for name, value in event["headers"]:
        if name.lower() == wanted:
            event["headers"] = [header for header in event["headers"] if header[0].lower() != wanted]
            return json.loads(value)
    return None


def _empty_body() -> Callable:
    """A GET has no body; afterwards the connection is ours to listen to."""
    asked = False

    async def receive() -> dict:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


async def _gone(receive: Callable) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
