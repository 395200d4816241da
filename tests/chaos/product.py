"""Tally as it runs in production: web, worker, sweeper and Redis as processes of their own, each of which may die.

The commands are those of `make run`. What listens for the browser is held open here, as supervisord holds it: while the
web process is away, connections wait.
"""

import http.client
import os
import shutil
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
        self.name, self.log, self.patience = program.name, log, program.patience
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
        self._popen.send_signal(signal.SIGTERM)  # not to somebody else who has its number by now

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

    @property
    def is_frozen(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

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
        self._fail_at = directory / "fail-at"
        self._of_worker = {"FAIL_AT": str(self._fail_at), "SANDBOX": "True"}
        counts = {"WORKER_CONCURRENCY": "80", "WEB_PROCESSES": "1"}
        found = programs(counts, {"REDIS_URL": self.redis_url, "SITE_URL": self.site}, port=self.port)
        self._programs = {program.name: program for program in found}
        self._processes: list[Process] = []

    def start(self, name: str, **environ: str) -> Process:
        """One more process of that name, once it works; `environ` is for this one alone."""
        process = self.launch(name, **environ)
        self._wait_until(lambda: self._works(process), process)
        return process

    def launch(self, name: str, *, log: Path | None = None, **environ: str) -> Process:
        """The same without waiting: it may never work."""
        program = self._programs[name]
        log = log or self._directory / f"{name}-{len(list(self._directory.glob(f'{name}-*.log')))}.log"
        stdin = self._listener.fileno() if program.port else subprocess.DEVNULL
        own = self._of_worker if name == "worker" else {}
        process = Process(program, {**self.environment, **own, **environ}, log, stdin)
        self._processes.append(process)
        return process

    def __getitem__(self, name: str) -> Process:
        """The newest process of that name."""
        return [process for process in self._processes if process.name == name][-1]

    def worker_fails_at(self, place: str) -> Process:
        """The first worker that gets there dies; with `:SIGSTOP` behind the place it freezes. Returns the newest."""
        self._fail_at.write_text(place)
        return self["worker"]

    def heal(self) -> None:
        """Everything runs again, once, and every wire is whole."""
        self._fail_at.unlink(missing_ok=True)
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

    def end(self, *names: str) -> None:
        """Whoever runs under these names leaves. `heal` starts them again, with the environment as it is then."""
        for process in [process for process in self._processes if process.name in names]:
            process.resume()
            self._end(process)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.resume()
            self._end(process)
        self._listener.close()

    def keep_for_clients(self, size: int) -> None:
        """How many bytes the kernel keeps for a client of the web who does not take them; by itself some megabytes."""
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url, retry=None, socket_timeout=5)

    def logs(self) -> str:
        logs = sorted(self._directory.glob("*.log"), key=lambda log: log.stat().st_mtime)
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs[-6:])

    def keep_logs(self, directory: Path) -> None:
        """Copy what all processes have logged to where it outlives the tests."""
        directory.mkdir(parents=True, exist_ok=True)
        for log in self._directory.glob("*.log"):
            shutil.copy(log, directory)

    def log_lines(self, word: str) -> list[str]:
        """What any process has logged with that word in it, each with the name of its log."""
        logs = sorted(self._directory.glob("*.log"), key=lambda log: log.stat().st_mtime)
        lines = ((log.stem, line) for log in logs for line in log.read_text(errors="replace").splitlines())
        return [f"{name}: {line}" for name, line in lines if word in line]

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
