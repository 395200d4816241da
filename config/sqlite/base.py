"""SQLite with a queue at its door.

SQLite lets one writer in at a time; the others sleep and try again, ever longer, and whoever comes at the right moment
wins. With a hundred threads in three processes that costs seconds. A lock on a file beside the database makes them
queue in the kernel instead, which wakes the next one at once and lets go when a process dies.

Each connection also knows how to take text apart for the search.
"""

import fcntl
import os

from django.db.backends.sqlite3 import base

from chat import search_index


class DatabaseWrapper(base.DatabaseWrapper):
    """Takes the place in the queue with BEGIN IMMEDIATE and gives it up with COMMIT or ROLLBACK."""

    _queue: int | None = None
    _inside = False

    def get_new_connection(self, conn_params):
        connection = super().get_new_connection(conn_params)
        search_index.register(connection)
        return connection

    def _start_transaction_under_autocommit(self):
        self._enter()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._leave()
            raise

    def _commit(self):
        super()._commit()  # type: ignore[misc]
        self._leave()

    def _rollback(self):
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._leave()

    def _close(self):
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._leave()
            if self._queue is not None:
                os.close(self._queue)
                self._queue = None

    def _enter(self) -> None:
        if self.is_in_memory_db():
            return
        if self._queue is None:
            self._queue = os.open(f"{self.settings_dict['NAME']}-queue", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._queue, fcntl.LOCK_EX)
        self._inside = True

    def _leave(self) -> None:
        if self._inside and self._queue is not None:
            fcntl.flock(self._queue, fcntl.LOCK_UN)
        self._inside = False
