"""The stand-in as a process of its own, or in a thread of a test."""

import asyncio
import resource
import signal
import socket
import threading
import time
import weakref

import uvloop

from .api import Api
from .wire import Connection

_BACKLOG = 4_096


class Sandbox:
    """`with Sandbox() as sandbox:` serves from a thread; `serve_forever` takes over the process."""

    def __init__(
        self,
        *,
        key="sandbox-key",
        admin_key="sandbox-admin-key",
        host="127.0.0.1",
        port=0,
        ttft_ms=350.0,
        rate=80.0,
    ):
        self._host = host
        self._port = port
        self._loop = uvloop.new_event_loop()
        self._api = Api(key=key, admin_key=admin_key, ttft_ms=ttft_ms, rate=rate, loop=self._loop)
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self.url = ""

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc_info):
        self.stop()

    def start(self):
        self._loop.run_until_complete(self._listen())
        self._thread.start()

    def stop(self):
        """Close every connection, answers under way included. It cannot be started again."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._close()

    def serve_forever(self, on_ready):
        """Serve until SIGTERM or SIGINT; `on_ready(url)` is called once connections are accepted."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._loop.stop)
        self._loop.run_until_complete(self._listen())
        on_ready(self.url)
        self._loop.run_forever()
        self._close()

    @property
    def requests(self):
        """Every POST to /v1/messages that was JSON, oldest first: dicts of request_id, headers and body."""
        return list(self._api.requests)

    @property
    def invoice(self):
        """The lines so far. A client that leaves has its line a moment later: `wait_until_idle` first."""
        return list(self._api.invoice.lines)

    def enqueue(self, match="", **settings):
        """Script the next request whose text contains `match`; keys as in a directive (see `faults`)."""
        self._call(self._api.script.enqueue, {"match": match, **settings})

    def skip(self, seconds):
        """Let every answer under way go on as if so many seconds had passed."""
        self._call(self._api.pacer.skip, seconds)

    def reset(self):
        self._call(self._api.reset)

    def wait_until_idle(self, timeout=5.0):
        """Wait until no answer is under way; TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self._call(len, self._api.live):
            if time.monotonic() > deadline:
                raise TimeoutError("the sandbox is still answering")
            time.sleep(0.005)

    def _call(self, function, *args):
        async def run():
            return function(*args)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=10)

    async def _listen(self):
        listening = socket.create_server((self._host, self._port), backlog=_BACKLOG)
        self._server = await self._loop.create_server(self._connection, sock=listening, backlog=_BACKLOG)
        self.url = f"http://{self._host}:{listening.getsockname()[1]}"

    def _connection(self):
        connection = Connection(self._api.handle, self._api.headers)
        self._connections.add(connection)
        return connection

    def _close(self):
        self._server.close()
        self._api.reset()
        # Clients keep idle connections open, and the server waits for the last one.
        for connection in list(self._connections):
            connection.cut()
        self._loop.run_until_complete(self._server.wait_closed())
        self._loop.close()
