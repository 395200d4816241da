"""Server-sent events without Django's machinery: one task a reader, no thread, no database connection.

Every request goes through Django first, with all of its middleware. Where a view answers with a ticket (a header
that never reaches the browser), the check has been made and the connection to the database is back in its pool; then
the relay takes over the response, with the headers that Django gave it.

A reader gets what is in the stream after the last id they saw, then what comes. Where Redis lost something or is
gone, they get the checkpoint from the database until the stream fits again. The end is always the database's.
"""

import asyncio
import json
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from chat.streams import Entry, EntryId, Hub, Lost

TICKET = "X-Tally-Ticket"
HEARTBEAT_SECONDS = 10
POLL_SECONDS = 1.0
LONGEST_SECONDS = 1800  # then the browser comes back by itself

Send = Callable[[dict], Awaitable[None]]


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
            await asyncio.wait({talking, leaving, closing}, return_when=asyncio.FIRST_COMPLETED)
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
        self._shown = ""

    async def follow(self) -> None:
        """Send until the turn is over, the reader may no longer read, or half an hour has passed."""
        deadline = asyncio.get_running_loop().time() + LONGEST_SECONDS
        await self._write(b"retry: 1000\n\n")
        while asyncio.get_running_loop().time() < deadline:
            try:
                if await self._from_redis(deadline):
                    return
            except Lost:
                pass
            if await self._from_database():
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _from_redis(self, deadline: float) -> bool:
        """Relay the stream. True at the end of the turn; False when something is missing from it; raises Lost."""
        queue = self._hub.join(self._turn, self._last)
        try:
            for entry in await self._hub.replay(self._turn, self._last):
                if (ended := await self._relay(entry)) is not None:
                    return ended
            await self._hub.wake()
            clock = asyncio.get_running_loop().time
            look_at = clock() + HEARTBEAT_SECONDS
            while clock() < deadline:
                try:
                    item = await asyncio.wait_for(queue.get(), max(0, look_at - clock()))
                except TimeoutError:
                    item = None
                    await self._write(b": \n\n")
                if clock() >= look_at:
                    # However much there is to tell: may they still read it, and is it over without a word?
                    look_at = clock() + HEARTBEAT_SECONDS
                    if await self._is_over():
                        return await self._from_database()
                if item is None:
                    continue
                if isinstance(item, Lost):
                    raise item
                if item.id > self._last and (ended := await self._relay(item)) is not None:
                    return ended
            return True
        finally:
            self._hub.leave(self._turn, queue)

    async def _relay(self, entry: Entry) -> bool | None:
        if entry.is_end:
            return await self._from_database()
        if not entry.continues(self._last):
            return False
        self._last = entry.id
        await self._write(b"id: %s\n%s\n" % (str(entry.id).encode(), entry.data))
        return None

    async def _from_database(self) -> bool:
        """The final message, or what the last checkpoint has. True if there is nothing to come."""
        frame, last, over = await sync_to_async(_from_database, thread_sensitive=False)(
            self._turn, self._session, self._csrf_token
        )
        if over or (frame and last != self._shown and EntryId.read(last) >= self._last):
            self._shown = last
            self._last = max(self._last, EntryId.read(last))
            await self._write(frame)
        return over

    async def _is_over(self) -> bool:
        return await sync_to_async(_is_over, thread_sensitive=False)(self._turn, self._session)

    async def _write(self, body: bytes) -> None:
        if body:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})


def _from_database(turn_id: str, session_key: str, csrf_token: str) -> tuple[bytes, str, bool]:
    """Frame, id of the last entry that it contains, whether it is the end."""
    from chat.views import turns  # imports this module

    try:
        turn = turns.may_follow(turn_id, session_key)
        if turn is None:
            return b"event: done\ndata: 1\n\n", "", True
        if not turn.is_live:
            return turns.final_message(turn, csrf_token), "", True
        return turns.checkpoint(turn), turn.checkpoint_id, False
    finally:
        close_old_connections()


def _is_over(turn_id: str, session_key: str) -> bool:
    from chat.views import turns

    try:
        turn = turns.may_follow(turn_id, session_key)
        return turn is None or not turn.is_live
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
