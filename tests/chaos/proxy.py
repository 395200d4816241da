"""A wire that can be cut, stopped and slowed: a TCP proxy between two of our processes."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from local.ports import LOOPBACK

PIECE = 65_536


class Proxy:
    """`with Proxy(address) as proxy:` listens on `proxy.port`. `address` is (host, port), or the path of a socket.

    What is done to it counts for the connections that are open and for those to come, until `heal`.
    """

    def __init__(self, address: tuple[str, int] | Path):
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._wires: set[_Wire] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.bytes_per_second: float | None = None
        self.hears = asyncio.Event()
        self.hears.set()
        self.trap: _Trap | None = None

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *exc_info) -> None:
        self.away()
        self._run(self._quiet())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def away(self) -> None:
        """Nobody listens any more, and whoever was connected hears the end."""
        self._run(self._close(reset=True))

    def cut(self, *, reset: bool = False) -> None:
        """End what is connected: with a reset, or as if the other side had closed."""
        self._run(self._cut(reset))

    def deafen(self) -> None:
        """Everything stays connected and nothing passes, like a network that swallows its packets."""
        self._loop.call_soon_threadsafe(self.hears.clear)

    def slow_down(self, bytes_per_second: float) -> None:
        self.bytes_per_second = bytes_per_second

    def lie_in_wait(self, *words: bytes, answered: bool, act: Callable[[], object]) -> threading.Event:
        """Do `act`, once, when a client has said these words in this order on one connection, and then cut that one.

        `answered`: the last word goes through, and it is the answer that gets lost; else the word itself is lost.
        The event is set when it has happened.
        """
        self.trap = _Trap(words, answered, act)
        return self.trap.sprung

    def heal(self) -> None:
        self.bytes_per_second, self.trap = None, None
        self._loop.call_soon_threadsafe(self.hears.set)
        if self._server is None:
            self._run(self._listen())

    def _run(self, coroutine) -> None:
        future: Future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        future.result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self, *, reset: bool) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut(reset)

    async def _cut(self, reset: bool) -> None:
        for wire in list(self._wires):
            wire.cut(reset=reset)

    async def _quiet(self) -> None:
        """Let those who heard the end go."""
        if going := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(going, timeout=1)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self._address, Path):
                far = await asyncio.open_unix_connection(str(self._address))
            else:
                far = await asyncio.open_connection(*self._address)
        except OSError:
            _reset(writer)
            return
        wire = _Wire(self, (reader, writer), far)
        self._wires.add(wire)
        try:
            await wire.carry()
        finally:
            self._wires.discard(wire)


class _Trap:
    def __init__(self, words: tuple[bytes, ...], answered: bool, act: Callable[[], object]):
        self.words, self.answered, self.act = words, answered, act
        self.sprung = threading.Event()


class _Wire:
    """One connection: what the client says goes to the server, and back."""

    def __init__(self, proxy: Proxy, near, far):
        self._proxy, self._near, self._far = proxy, near, far
        self._heard = 0
        self._caught: _Trap | None = None

    async def carry(self) -> None:
        there = asyncio.create_task(self._pump(self._near[0], self._far[1], from_client=True))
        back = asyncio.create_task(self._pump(self._far[0], self._near[1], from_client=False))
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        if back.done() and not there.done():
            there.cancel()
        await asyncio.gather(there, back, return_exceptions=True)
        self.cut()

    def cut(self, *, reset: bool = False) -> None:
        for _, writer in (self._near, self._far):
            if reset:
                _reset(writer)
            else:
                writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool) -> None:
        try:
            while piece := await reader.read(PIECE):
                await self._proxy.hears.wait()
                if from_client:
                    self._listen_for_words(piece)
                if self._caught and (not self._caught.answered or not from_client):
                    self._spring(self._caught)
                    return
                await self._pass_on(piece, writer)
        except OSError:
            pass
        finally:
            writer.close()

    async def _pass_on(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        if not (rate := self._proxy.bytes_per_second):
            writer.write(piece)
            await writer.drain()
            return
        for number in range(len(piece)):
            writer.write(piece[number : number + 1])
            await writer.drain()
            await asyncio.sleep(1 / rate)

    def _listen_for_words(self, piece: bytes) -> None:
        trap = self._proxy.trap
        if trap is None:
            return
        while self._heard < len(trap.words):
            at = piece.find(trap.words[self._heard])
            if at < 0:
                return
            piece = piece[at + len(trap.words[self._heard]) :]
            self._heard += 1
        self._caught, self._proxy.trap = trap, None

    def _spring(self, trap: _Trap) -> None:
        self._caught = None
        trap.act()
        self.cut(reset=True)
        trap.sprung.set()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST instead of a FIN."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
