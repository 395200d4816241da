"""What does the damage. Two hands, so that two things may be wrong at the same time: one for our own processes, one for
Redis, the wires and the database. Each hand does one thing after the other, and puts it right again.

What dies is started again after a moment, as supervisord does; also what ended because something else was away.
"""

import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import redis
from django.conf import settings
from django.db import connection
from kombu.exceptions import OperationalError

from chat import failpoints
from chat.models import Turn
from config.celery import app
from tests.chaos.product import Product
from tests.chaos.proxy import Proxy
from tests.chaos.soak.diary import Diary

_LOCKS = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
database.execute("BEGIN IMMEDIATE")
time.sleep(float(sys.argv[2]))
database.execute("ROLLBACK")
"""


class Hand:
    """`faults` are (how often, name, act), `gap` seconds apart on average; `keeps` names the processes that this hand
    looks after."""

    gap: float
    keeps: tuple[str, ...]

    def __init__(self, product: Product, diary: Diary, seed: str):
        self.product, self.diary = product, diary
        self.name = type(self).__name__
        self.rng = random.Random(f"{seed} {self.name}")

    def run(self) -> None:
        try:
            weights, names, acts = zip(*self.faults(), strict=True)
            while self.rest(self.rng.uniform(0.3, 1.7) * self.gap):
                [chosen] = self.rng.choices(range(len(acts)), weights)
                with self.diary.fault(names[chosen]):
                    acts[chosen]()
        except BaseException as error:
            self.diary.broken.append(error)
        finally:
            connection.close()

    def faults(self) -> list[tuple[int, str, Callable[[], None]]]:
        raise NotImplementedError

    def rest(self, seconds: float) -> bool:
        """So long, or until it is enough for today: then False. Whoever died meanwhile is started again."""
        enough = self.diary.finished.wait(seconds)
        for name in self.keeps:
            if not self.product[name].is_alive:
                with self.diary.fault(f"{name} had ended by itself"):
                    self.product.launch(name)
        return not enough

    def crash(self, name: str) -> None:
        self.product[name].kill()
        self.diary.finished.wait(self.rng.uniform(0.2, 2))
        self.product.launch(name)

    def sleep(self, name: str, at_most: float) -> None:
        process = self.product[name]
        process.pause()
        self.diary.finished.wait(self.rng.uniform(0.5, at_most))
        process.resume()


class OnProcesses(Hand):
    gap = 5
    keeps = ("web", "worker", "sweeper")

    def faults(self):
        asleep = 2 * settings.LEASE_SECONDS
        return [
            (3, "worker killed", lambda: self.crash("worker")),
            (3, "worker killed at a place", self._crash_at_a_place),
            (3, "worker deployed", lambda: self._deploy("worker")),
            (3, "worker asleep", lambda: self.sleep("worker", asleep)),
            (2, "web killed", lambda: self.crash("web")),
            (2, "web deployed", lambda: self._deploy("web")),
            (1, "sweeper killed", lambda: self.crash("sweeper")),
            (1, "sweeper asleep", lambda: self.sleep("sweeper", asleep)),
        ]

    def _crash_at_a_place(self) -> None:
        """It dies, with all that it carries, as soon as any of its turns gets there."""
        doomed = self.product.worker_fails_at(self.rng.choice(failpoints.PLACES))
        with suppress(subprocess.TimeoutExpired):
            doomed.wait(10)
        self.product.worker_fails_at("")  # nowhere, if no turn has been there
        doomed.kill()
        self.product.launch("worker")

    def _deploy(self, name: str) -> None:
        """The new one first. If it does not come up, the old one goes on."""
        old = self.product[name]
        try:
            self.product.start(name)
        except RuntimeError:
            return
        try:
            old.leave(old.patience)
        except subprocess.TimeoutExpired:
            old.kill()


class OnWires(Hand):
    gap = 2.5
    keeps = ("redis",)

    def faults(self):
        found = [
            (2, "Redis killed", lambda: self.crash("redis")),
            (1, "Redis restarted", self._restart_redis),
            (2, "Redis asleep", lambda: self.sleep("redis", 6)),
            (2, "Redis emptied", lambda: self._redis(lambda client: client.flushall())),
            (1, "Redis full", self._fill_redis),
            (3, "bells rung again", self._ring_again),
            *self._on_wire("Claude", self.product.claude),
        ]
        if self.product.database:
            return found + self._on_wire("the database", self.product.database)
        return [*found, (4, "database locked", self._lock_database)]

    def _on_wire(self, whom: str, wire: Proxy):
        return [
            (1, f"wire to {whom} cut", wire.cut),
            (1, f"wire to {whom} reset", lambda: wire.cut(reset=True)),
            (1, f"wire to {whom} deaf", lambda: self._without(wire, wire.deafen)),
            (1, f"wire to {whom} away", lambda: self._without(wire, wire.away)),
        ]

    def _without(self, wire: Proxy, take_away: Callable[[], None]) -> None:
        take_away()
        self.diary.finished.wait(self.rng.uniform(0.5, 5))
        wire.heal()

    def _redis(self, act: Callable[[redis.Redis], object]) -> None:
        with suppress(redis.RedisError), self.product.redis() as client:
            act(client)

    def _restart_redis(self) -> None:
        self.product["redis"].leave()
        self.product.launch("redis")

    def _fill_redis(self) -> None:
        self._redis(lambda client: client.config_set("maxmemory", "1mb"))
        self.diary.finished.wait(self.rng.uniform(0.5, 5))
        self._redis(lambda client: client.config_set("maxmemory", "0"))

    def _ring_again(self) -> None:
        """Ten bells for each of ten turns, of which some are over."""
        url = self.product.redis_url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
        turns = list(Turn.objects.order_by("-created_at").values_list("id", flat=True)[:40])
        chosen = self.rng.sample(turns, min(10, len(turns)))
        with (
            suppress(OSError, redis.RedisError, OperationalError),
            app.connection_for_write(url=url, transport_options=settings.CELERY_BROKER_TRANSPORT_OPTIONS) as broker,
        ):
            for turn in 10 * chosen:
                app.send_task("chat.tasks.run_turn", [str(turn)], connection=broker, retry=False)

    def _lock_database(self) -> None:
        """Another program writes, and takes its time."""
        seconds = str(self.rng.uniform(0.5, 5))
        path = connection.settings_dict["NAME"]
        subprocess.run([sys.executable, "-c", _LOCKS, path, seconds], check=True, timeout=60)


def hands(product: Product, diary: Diary, seed: str) -> list[Hand]:
    return [OnProcesses(product, diary, seed), OnWires(product, diary, seed)]
