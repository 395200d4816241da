"""PostgreSQL, with connections that stay open for whoever needs one next.

psycopg's pool has everybody wait for a server that is away (measured: each page of an outage took 20 s, and /healthz
waited behind them), looks for it again after 1, 2, 4, 8 … seconds, so that a minute without it becomes two, and hands
out what a restart of the server has broken. Here one gets a connection that still stands or asks the server there and
then, and hears at once that it is away.
"""

import select
import threading
import time
from collections import deque

import psycopg
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from psycopg.pq import TransactionStatus

# Of one process, in use and idle.
MOST = 16
# Seconds.
LONGEST_WAIT = 20
LONGEST_IDLE = 600

_places = threading.BoundedSemaphore(MOST)
_idle: deque[tuple[psycopg.Connection, float]] = deque()
_idle_lock = threading.Lock()


class DatabaseWrapper(base.DatabaseWrapper):
    """`close` gives the connection back; `close_pool`, as Django calls it, ends those that nobody uses."""

    def get_new_connection(self, conn_params):
        if self.alias == NO_DB_ALIAS:
            return super().get_new_connection(conn_params)
        if not _places.acquire(timeout=LONGEST_WAIT):
            raise psycopg.OperationalError(f"all {MOST} connections of this process are in use")
        try:
            return _kept(conn_params["dbname"]) or super().get_new_connection(conn_params)
        except BaseException:
            _places.release()
            raise

    def _close(self):
        if self.alias == NO_DB_ALIAS:
            return super()._close()  # type: ignore[misc]
        try:
            if self.in_atomic_block or self.connection.pgconn.transaction_status != TransactionStatus.IDLE:
                super()._close()  # type: ignore[misc]
            else:
                _keep(self.connection)
        finally:
            _places.release()

    def close_pool(self):
        with _idle_lock:
            while _idle:
                _idle.pop()[0].close()


def _kept(name: str) -> psycopg.Connection | None:
    """The one that was used last, if it still stands."""
    while True:
        with _idle_lock:
            if not _idle:
                return None
            connection, _ = _idle.pop()
        if connection.info.dbname == name and _stands(connection):
            return connection
        connection.close()


def _keep(connection: psycopg.Connection) -> None:
    now = time.monotonic()
    with _idle_lock:
        _idle.append((connection, now))
        while _idle[0][1] < now - LONGEST_IDLE:
            _idle.popleft()[0].close()


def _stands(connection: psycopg.Connection) -> bool:
    """Nobody has asked it anything: if there is something to read, it is the server's goodbye."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
