"""A private Tally with the processes of `make run`: its own port, database and Redis, all gone at the end."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

import psutil

from local import ROOT, redis
from local.ports import LOOPBACK, free_port
from local.processes import Program, programs

KEY = "key-of-the-bench"
READY_WITHIN_SECONDS = 60
# `make run` has 200: enough for a team. Each is a thread that waits.
WORKER_CONCURRENCY = 400
# Client and upstream are other machines in real life. Here they share the cores, and stamps must not wait for them.
FIRST = -5

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Stand:
    """`with Stand() as stand:` serves at `stand.port`; the upstream listens at `stand.upstream_port`."""

    def __init__(self, *, postgres: bool = False):
        self.on_postgres = postgres
        self.directory = Path(tempfile.mkdtemp(prefix="tally-bench-"))
        self.port = self.upstream_port = 0
        self._servers: list[subprocess.Popen] = []
        self._product: list[psutil.Process] = []
        self._names: dict[int, str] = {}
        self._postgres: subprocess.Popen | None = None
        self._postgres_directory: Path | None = None

    def __enter__(self) -> "Stand":
        _allow_open_files()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info) -> None:
        for server in reversed(self._servers):
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        if self._postgres:
            self._postgres.send_signal(signal.SIGQUIT)
            self._postgres.wait(15)
        for directory in filter(None, [self.directory, self._postgres_directory]):
            shutil.rmtree(directory, ignore_errors=True)

    def seed(self, what: str, **arguments) -> dict:
        """Have one of the functions of bench/seed.py done, by its own process: this one stays small."""
        asked, answered = cast(IO[str], self._seeder.stdin), cast(IO[str], self._seeder.stdout)
        asked.write(json.dumps([what, arguments]) + "\n")
        asked.flush()
        answer = answered.readline()
        if not answer:
            raise RuntimeError(f"bench.seed {what} failed.\n{self._ends_of_logs()}")
        return json.loads(answer)

    def upstream(self, path: str, body: dict | None = None) -> dict:
        """Ask the sandbox model, for its own figures or as a bare client."""
        request = urllib.request.Request(
            f"http://{LOOPBACK}:{self.upstream_port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"x-api-key": KEY, "anthropic-version": "2023-06-01", "content-type": "application/json"},
        )
        with _direct.open(request, timeout=30) as response:
            return json.load(response)

    def time_page(self, path: str, session: str) -> float:
        """Seconds until somebody has a page of the product."""
        request = urllib.request.Request(
            f"http://{LOOPBACK}:{self.port}{path}", headers={"cookie": f"sessionid={session}"}
        )
        start = time.perf_counter()
        with _direct.open(request, timeout=60) as response:
            response.read()
        return time.perf_counter() - start

    def wait_until_quiet(self, seconds: float = 30) -> None:
        """No answer is under way at the upstream, and the product has written up the last one and its title."""
        deadline, quiet = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(0.3)
            live = self.upstream("/_sandbox/invoice")["live"]
            quiet = 0 if live or self.cpu_seconds() - before > 0.06 else quiet + 1
            if quiet == 2:
                return

    def cpu_seconds(self) -> float:
        """Of the product: web, worker, sweeper, Redis, database. Not of the sandbox model."""
        total = 0.0
        for process in self._all():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def memory(self) -> dict[str, float]:
        """MiB of the product by program: each page counted once, however many processes share it (PSS)."""
        found: dict[str, float] = {}
        for process in self._all():
            with suppress(psutil.NoSuchProcess):
                name = self._names.get(process.pid, "database")
                found[name] = found.get(name, 0) + process.memory_full_info().pss / 2**20
        return found

    def _all(self) -> list[psutil.Process]:
        found = []
        for process in self._product:
            with suppress(psutil.NoSuchProcess):
                found += [process, *process.children(recursive=True)]
        return found

    def _start(self) -> None:
        self.port, self.upstream_port = free_port(), free_port()
        socket_path = self.directory / "redis.sock"
        own = {
            "SANDBOX": "True",
            "ANTHROPIC_BASE_URL": f"http://{LOOPBACK}:{self.upstream_port}",
            "ANTHROPIC_API_KEY": KEY,
            "REDIS_URL": redis.url(socket_path),
        }
        self._environment = {
            **os.environ,
            **own,
            "DATABASE_URL": self._database(),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SECRET_KEY": "secret-of-the-bench-0123456789-0123456789-0123456789",
            "HTTPS": "False",
            "DEBUG": "False",
            "ALLOWED_HOSTS": LOOPBACK,
            "TIME_ZONE": "UTC",
            "EMAIL_URL": "console://",
            "DEFAULT_MODEL": "claude-sonnet-5-5",
            "TITLE_MODEL": "claude-haiku-5-5",
            "DEFAULT_LIMIT": "1000000",
        }
        subprocess.run(
            [sys.executable, "-m", "local.prepare"],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        with (self.directory / "seed.log").open("ab") as log:
            self._seeder = subprocess.Popen(
                [sys.executable, "-m", "bench.seed"],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._servers.append(self._seeder)
        wanted = programs({"WORKER_CONCURRENCY": str(WORKER_CONCURRENCY)}, own, port=self.port)
        with socket.create_server((LOOPBACK, self.port), backlog=1024) as listener:
            for program in sorted(wanted, key=lambda program: program.priority):
                for _ in range(program.processes):
                    self._run(program, listener)
        if self._postgres:
            self._product.append(psutil.Process(self._postgres.pid))
        self._wait_until_ready()

    def _run(self, program: Program, listener: socket.socket) -> None:
        with (self.directory / f"{program.name}.log").open("ab") as log:
            server = subprocess.Popen(
                program.command,
                cwd=ROOT,
                env={**self._environment, **program.environment},
                stdin=listener.fileno() if program.port else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._servers.append(server)
        if program.name == "sandbox":
            with suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, server.pid, FIRST)
        else:
            self._names[server.pid] = program.name
            self._product.append(psutil.Process(server.pid))

    def _database(self) -> str:
        if not self.on_postgres:
            return f"sqlite:///{self.directory / 'tally.sqlite3'}"
        from tests.servers import start_postgres

        # Not below our own directory, into which its user could not look.
        self._postgres_directory = Path(tempfile.mkdtemp(prefix="tally-bench-postgres-"))
        url, self._postgres = start_postgres(self._postgres_directory)
        return url

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not self._is_ready():
            for server in self._servers:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"The product did not start.\n{self._ends_of_logs()}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with _direct.open(f"http://{LOOPBACK}:{self.port}/readyz", timeout=5) as response:
                return response.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def _ends_of_logs(self) -> str:
        logs = sorted(self.directory.glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)


def _allow_open_files() -> None:
    """One for each stream, here and in every process that is started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
