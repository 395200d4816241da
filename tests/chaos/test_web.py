"""C5, C34, C35: the web process dies or is replaced, its clients crawl, and a thousand of them come and go at once."""

import asyncio
import os
import resource
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from django.db import connection as database

from chat.models import Turn
from local.ports import LOOPBACK
from tests import environment
from tests.books import SONNET
from tests.chaos.conftest import begun
from tests.chaos.people import CSRF, Person
from tests.chaos.product import Process
from tests.conftest import wait_until

STORY = " ".join(f"word{n}" for n in range(120))
SHORT = "Forty-two."

THOUSAND = 1000
MEGABYTE = 1024  # kilobytes, as the kernel counts
# Seconds that another page may take; where the machine is so busy that pages are slow by themselves, so many times
# what they took before.
SOON, SLOWER = 0.2, 6
FOR_EVER = 3600


class Crowd:
    """Clients on bare sockets, in a loop of their own: `with Crowd(port) as crowd:`. In the end all vanish at once."""

    def __init__(self, port: int):
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crowd", daemon=True)
        self._listening: dict[socket.socket, asyncio.Task] = {}
        self.heard: dict[socket.socket, bytes] = {}  # how what each has been told begins

    def __enter__(self) -> "Crowd":
        self._thread.start()
        return self

    def __exit__(self, *exc_info) -> None:
        self.vanish()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def come(self, sayings: list[bytes], *, pause: float = 0) -> list[socket.socket]:
        """One for each saying, all at once. With a `pause` they take one byte at a time, and so many seconds later
        the next one."""

        async def all_of_them() -> list[socket.socket]:
            return await asyncio.gather(*(self._one(saying, pause) for saying in sayings))

        return self._run(all_of_them())

    def say(self, client: socket.socket, words: bytes) -> None:
        self._run(self._loop.sock_sendall(client, words))

    def vanish(self) -> None:
        """As when a network goes away: with a RST."""

        async def reset() -> None:
            for client, task in self._listening.items():
                task.cancel()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            self._listening.clear()
            self.heard.clear()

        self._run(reset())

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _one(self, saying: bytes, pause: float) -> socket.socket:
        client = socket.socket()
        client.setblocking(False)
        if pause:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        await self._loop.sock_connect(client, (LOOPBACK, self._port))
        await self._loop.sock_sendall(client, saying)
        self._listening[client] = asyncio.create_task(self._listen(client, pause))
        return client

    async def _listen(self, client: socket.socket, pause: float) -> None:
        while piece := await self._loop.sock_recv(client, 1 if pause else 65_536):
            self.heard[client] = (self.heard.get(client, b"") + piece)[:100]
            await asyncio.sleep(pause)


@pytest.fixture
def crowd(product):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * THOUSAND)), hard))
    with Crowd(product.port) as crowd:
        yield crowd
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def short_of_buffers(product):
    """What a client does not take is soon the web's own to keep."""
    product.keep_for_clients(4096)
    yield
    product.keep_for_clients(212_992)


@pytest.fixture
def others(person, bob):
    """`others()`: how long, in seconds, a page takes for somebody who has nothing to do with all this (p95)."""
    stranger = person(bob)
    path = bob.conversations.create(model=SONNET, title="Named").get_absolute_url()

    def others(*, until: Callable[[], bool] = lambda: True) -> float:
        took: list[float] = []
        while len(took) < 40 or not until():
            began = time.monotonic()
            assert stranger.http.get(path).status_code == 200
            took.append(time.monotonic() - began)
            assert len(took) < 2000, "it never came to that"
        return statistics.quantiles(took, n=20)[-1]

    others()
    return others


def get(person: Person, turn: Turn) -> bytes:
    """The request for a stream, as a browser writes it."""
    return _head(person, "GET", f"/turns/{turn.id}/stream/?after=0-0") + b"\r\n"


def post(person: Person, conversation, text: str) -> bytes:
    body = urlencode({"text": text, "client_id": "", "csrfmiddlewaretoken": CSRF}).encode()
    head = _head(person, "POST", f"/conversations/{conversation.id}/messages/")
    kind = b"Content-Type: application/x-www-form-urlencoded\r\nHX-Request: true\r\n"
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, kind, len(body), body)


def _head(person: Person, method: str, path: str) -> bytes:
    cookies = f"sessionid={person.session.cookies['sessionid'].value}; csrftoken={CSRF}"
    return f"{method} {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nCookie: {cookies}\r\n".encode()


def memory(process: Process) -> int:
    """In kilobytes."""
    return _status(process, "VmRSS")


def threads(process: Process) -> int:
    return _status(process, "Threads")


def _status(process: Process, name: str) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def open_files(process: Process) -> int:
    """Connections too, whoever is at the other end: browsers, Redis, the database."""
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def database_connections() -> int:
    with database.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return cursor.fetchone()[0]


@pytest.mark.parametrize("end", ["killed", pytest.param("told to leave", marks=pytest.mark.smoke)])
def test_c05_twenty_streams_outlive_their_web_process(product, me, chats, sandbox, posts, whole, end):
    sandbox.enqueue(say=STORY, rate=40, times=20)
    turns = [me.ask("Tell me a story", to=chat) for chat in chats(20)]
    tabs = [me.watch(turn) for turn in turns]
    for turn, tab in zip(turns, tabs, strict=True):
        begun(turn)
        wait_until(lambda tab=tab: tab.events, "a tab got nothing")

    web = product["web"]
    if end == "killed":
        web.kill()
    else:
        assert web.leave() < web.patience
    product.start("web")

    for turn, tab in zip(turns, tabs, strict=True):
        whole(turn, STORY, tab)
        pieces = [event.id for event in tab.events[:-1]]
        assert len(set(pieces)) == len(pieces)  # nothing came twice
        assert tab.breaks >= 1
    assert posts() == 20


@pytest.mark.usefixtures("short_of_buffers")
def test_c34_whoever_crawls_hangs_or_never_ends_holds_up_nobody(
    product, me, chats, crowd, others, sandbox, posts, whole
):
    sandbox.enqueue(tokens=6000, rate=2000, match="novel")
    sandbox.enqueue(say=SHORT, times=2, match="answer")
    long, short, slow = chats(3)
    usual = others()
    web = product["web"]

    turn = me.ask("Tell me a novel", to=long)
    tab = me.watch(turn)
    crowd.come([get(me, turn)] * 10, pause=1)
    crowd.come([get(me, turn)] * 10, pause=FOR_EVER)
    said = post(me, slow, "What is the answer?")
    half_open = crowd.come([said[:-20]] * 50)
    crowd.come([said[: len(said) // 2]] * 50)
    wait_until(lambda: len(crowd.heard) == 20, "the slow ones were not served")

    assert others() <= max(SOON, SLOWER * usual)
    whole(me.ask("What is the answer?", to=short), SHORT)
    assert tab.wait().breaks == 0
    # Late is not wrong.
    crowd.say(half_open[0], said[-20:])
    wait_until(lambda: half_open[0] in crowd.heard, "whoever ended late was not answered")
    assert crowd.heard[half_open[0]].startswith(b"HTTP/1.1 200")
    whole(slow.turns.get(), SHORT)
    assert web.leave() < web.patience
    product.start("web")
    assert posts() == 3


def test_c35_a_thousand_idle_readers_weigh_little_vanish_and_come_back(
    product, me, chats, crowd, others, whole, sandbox
):
    sandbox.enqueue(say=SHORT, times=10)
    product["worker"].pause()  # so that there is nothing to read
    turns = [me.ask("What is the answer?", to=chat) for chat in chats(10)]
    tabs = [me.watch(turn) for turn in turns]
    usual = others()
    limit = max(SOON, SLOWER * usual)
    web = product["web"]
    before = {"memory": memory(web), "threads": threads(web), "files": open_files(web)}
    held = database_connections() if environment.on_postgres else 0
    sayings = [get(me, turn) for turn in turns] * (THOUSAND // 10)

    for _ in range(2):
        crowd.come(sayings)
        assert others(until=lambda: len(crowd.heard) == THOUSAND) <= limit

        assert memory(web) - before["memory"] <= 100 * MEGABYTE
        # The thousand connections are theirs; what is more would be to Redis or to the database.
        assert open_files(web) - before["files"] <= THOUSAND + 30
        assert threads(web) - before["threads"] <= 10
        if environment.on_postgres:
            assert database_connections() - held <= 10

        assert others() <= limit

        crowd.vanish()
        wait_until(lambda: open_files(web) - before["files"] <= 30, "their connections are kept")

    product["worker"].resume()
    for turn, tab in zip(turns, tabs, strict=True):
        whole(turn, SHORT, tab)
        assert tab.breaks == 0
