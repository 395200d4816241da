"""The stage of the machine: the database's clock, and workers that stand still wherever the real ones wait.

A worker is a greenlet, so that it can be left standing, killed there, or woken when another has long taken its place.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from math import inf
from types import SimpleNamespace, coroutine

import pytest
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from greenlet import GreenletExit, getcurrent, greenlet

from chat import calls, doorbell, keeper, streams, summaries, titles, turns, window
from chat.claude import Answer
from chat.keeper import Keeper
from chat.prepared import Prepared
from tests.books import paris


class Clock:
    """The database's clock, which stands still until somebody moves it."""

    def __init__(self):
        self.now = paris(2026, 11, 30, 22, 0, 0, 500_000)

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def __call__(self) -> float:
        return self.now.timestamp()

    def __str__(self) -> str:
        return str(connection.ops.adapt_datetimefield_value(self.now))

    def as_sql(self, *args, **kwargs) -> tuple[str, list]:
        return ("%s::timestamptz" if connection.vendor == "postgresql" else "%s"), [str(self)]


class KeeperByHand(Keeper):
    """The keeper of one worker: it makes its round when it is told to, and dies with its worker."""

    def __init__(self):
        super().__init__()
        self._beaten = inf

    def _main(self) -> None:
        """No thread."""

    def look(self, clock: Clock) -> None:
        if self._runs:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(keeper, "_CHECKPOINT", keeper._CHECKPOINT.replace("CURRENT_TIMESTAMP", f"'{clock}'"))
                self._round(clock())


class Worker(greenlet):
    """One bell that was heard, standing still at `waits_for`: "claimed", "posted" or "between tries". `ordered` is the
    turn or the summary that it was rung for."""

    def __init__(self, begin: Callable[[object], None], ordered):
        super().__init__()
        self._begin, self.ordered = begin, ordered
        self.keeper, self.task, self.listening = KeeperByHand(), Task(), []
        self.waits_for, self.post = "", None

    def run(self, *_) -> None:
        self._begin(self.ordered)

    def go_on(self, outcome: str = "") -> None:
        self.waits_for = self.switch(outcome)

    def look(self, clock: Clock) -> None:
        """Whether it is still wanted."""
        self.keeper.look(clock)
        for listening in self.listening:
            listening.look()

    def die(self) -> None:
        """As by kill -9: not one line of its code runs any more."""
        self.throw(GreenletExit)


class Listening:
    """A task beside the one request, which looks around when it is told to."""

    def __init__(self, coroutine):
        self._coroutine = coroutine
        here().listening.append(self)
        self.look()

    def look(self) -> None:
        if inspect.getcoroutinestate(self._coroutine) != inspect.CORO_CLOSED:
            with suppress(StopIteration):
                self._coroutine.send(None)

    def cancel(self) -> None:
        self._coroutine.close()
        here().listening.remove(self)


@coroutine
def until_told(seconds: float) -> Iterator[None]:
    yield


async def at_once(function, *args):
    return function(*args)


class Task:
    """What the loop of a worker has of its one request beside the streams."""

    is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def uncancel(self) -> None:
        self.is_cancelled = False

    def get_loop(self) -> SimpleNamespace:
        return SimpleNamespace(call_soon_threadsafe=lambda call: call())


def here() -> Worker:
    """The worker whose code is running."""
    return getcurrent()


def wait_for_the_machine(reason: str) -> str:
    return here().parent.switch(reason)


@contextmanager
def stage(clock: Clock, claude) -> Iterator[None]:
    """The real code, between the clock, the bell and the Claude of the play."""

    @contextmanager
    def away():
        wait_for_the_machine("between tries")
        yield

    loop = SimpleNamespace(
        current_task=lambda: here().task,
        timeout=lambda seconds: nullcontext(),
        create_task=Listening,
        sleep=until_told,
        to_thread=at_once,
        CancelledError=asyncio.CancelledError,
        Task=asyncio.Task,
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in (turns, calls, titles, summaries):
            patch.setattr(module, "engine", lambda: claude)
        for module in (turns, titles, summaries):
            patch.setattr(module, "connection", SimpleNamespace(close=lambda: None))
        patch.setattr(turns, "keeper", lambda: here().keeper)
        patch.setattr(turns, "away", away)
        patch.setattr(summaries, "asyncio", loop)
        patch.setattr(summaries, "Answer", lambda: Answer(clock))
        patch.setattr(streams, "end", lambda *_: None)
        patch.setattr(doorbell, "begin", lambda *_, **ids: True)
        # What is long to these people: a thousand tokens, of which the newest exchange is always sent as it is.
        patch.setattr(settings, "SUMMARISE_AT_PERCENT", 0.1)
        patch.setattr(window, "KEPT_EXCHANGES", 1)
        for name in ("as_sql", "as_sqlite", "as_postgresql"):
            patch.setattr(Now, name, lambda now, *args, **kwargs: clock.as_sql())
        # A query that is kept would keep the moment at which it was written, here and in the tests after this one.
        patch.setattr(Prepared, "__call__", lambda query, *values: list(query._build(*values)))
        yield
