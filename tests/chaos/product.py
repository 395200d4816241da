"""Tally as it runs in production: web, worker, sweeper and Redis as processes of their own, each of which may die.

The commands are those of `make run`. What listens for the browser is held open here, as supervisord holds it: while the
web process is away, connections wait.
"""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import redis
from django.conf import settings

from local import redis as local_redis
from local.ports import LOOPBACK, free_port
from local.processes import Program, programs
from tests import environment
from tests.chaos.proxy import Proxy

START_WITHIN_SECONDS = 40
NAMES = ("redis", "web", "worker", "sweeper")


class Process:
    """One process and all that it starts, until it has ended."""

    def __init__(self, program: Program, environ: dict[str, str], log: Path, stdin):
        self.name, self.log = program.name, log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                program.command,
                cwd=settings.BASE_DIR,
                env={**environ, **program.environment},
                stdin=stdin,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def kill(self) -> None:
        """As a crash: no word, no end."""
        self._signal(signal.SIGKILL)
        self._popen.wait()

    def ask_to_leave(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def leave(self, seconds: float = 20) -> float:
        """As a deploy: SIGTERM, and wait. Returns how long it took, in seconds."""
        began = time.monotonic()
        self.ask_to_leave()
        self._popen.wait(seconds)
        return time.monotonic() - began

    def wait(self, seconds: float = 20) -> None:
        """Until it has ended by itself."""
        self._popen.wait(seconds)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class Product:
    """Use the fixture `product`. `claude` and `database` are the wires to the sandbox model and to PostgreSQL."""

    def __init__(self, directory: Path, database_url: str, claude: Proxy, database: Proxy | None):
        self.claude, self.database = claude, database
        self._directory = directory
        self.port = free_port()
        self.site = f"http://{LOOPBACK}:{self.port}"
        self._listener = socket.create_server((LOOPBACK, self.port), backlog=1024)
        self.redis_url = local_redis.url(directory / "redis.sock")
        self.environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "REDIS_URL": self.redis_url,
            "ANTHROPIC_BASE_URL": f"http://{LOOPBACK}:{claude.port}",
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        counts = {"WORKER_CONCURRENCY": "80", "WEB_PROCESSES": "1"}
        found = programs(counts, {"REDIS_URL": self.redis_url, "SITE_URL": self.site}, port=self.port)
        self._programs = {program.name: program for program in found}
        self._processes: list[Process] = []

    def start(self, name: str, **environ: str) -> Process:
        """One more process of that name, once it works; `environ` is for this one alone."""
        program = self._programs[name]
        log = self._directory / f"{name}-{len(list(self._directory.glob(f'{name}-*.log')))}.log"
        stdin = self._listener.fileno() if program.port else subprocess.DEVNULL
        process = Process(program, {**self.environment, **environ}, log, stdin)
        self._processes.append(process)
        self._wait_until(lambda: self._works(process), process)
        return process

    def __getitem__(self, name: str) -> Process:
        """The newest process of that name."""
        return [process for process in self._processes if process.name == name][-1]

    def heal(self) -> None:
        """Everything runs again, once, and every wire is whole."""
        for wire in filter(None, [self.claude, self.database]):
            wire.heal()
        for process in self._processes:
            process.resume()
        self._processes = [process for process in self._processes if process.is_alive]
        for name in NAMES:
            running = [process for process in self._processes if process.name == name]
            for extra in running[1:]:
                self._end(extra)
            if not running:
                self.start(name)
        self._processes = [process for process in self._processes if process.is_alive]

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.resume()
            self._end(process)
        self._listener.close()

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url, retry=None, socket_timeout=5)

    def logs(self) -> str:
        logs = sorted(self._directory.glob("*.log"), key=lambda log: log.stat().st_mtime)
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs[-6:])

    @staticmethod
    def _end(process: Process) -> None:
        try:
            process.leave(5)
        except subprocess.TimeoutExpired:
            process.kill()

    def _works(self, process: Process) -> bool:
        if process.name == "redis":
            with suppress(redis.RedisError), self.redis() as client:
                return bool(client.ping())
            return False
        if process.name == "web":
            return self.answers("/healthz")
        # The sweeper says nothing when it begins, and nobody waits for it.
        return process.name == "sweeper" or b" ready." in process.log.read_bytes()

    def answers(self, path: str, timeout: float = 5) -> bool:
        connection = http.client.HTTPConnection(urlsplit(self.site).netloc, timeout=timeout)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _wait_until(self, works: Callable[[], bool], process: Process) -> None:
        deadline = time.monotonic() + START_WITHIN_SECONDS
        while not works():
            if not process.is_alive or time.monotonic() > deadline:
                raise RuntimeError(f"{process.name} did not start.\n{self.logs()}")
            time.sleep(0.05)


def upstream_address() -> tuple[str, int]:
    url = urlsplit(environment.sandbox.url)
    return url.hostname, url.port
