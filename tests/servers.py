"""Private servers for the tests: nothing is shared with what runs on this machine, nothing is left behind."""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import quote

import psycopg
import redis

from local import redis as local_redis
from local.ports import free_port

__all__ = [
    "free_port",
    "postgres_crashed",
    "postgres_programs",
    "postgres_url",
    "start_postgres",
    "start_redis",
    "stop",
]

START_WITHIN_SECONDS = 30

_postgres_of_this_run: list[tuple[Path, subprocess.Popen]] = []


def start_redis(directory: Path) -> tuple[str, subprocess.Popen]:
    """A Redis on a socket in `directory`. Started there again it has the same URL, and no data."""
    socket, log = directory / "redis.sock", directory / "redis.log"
    process = _start(local_redis.command(socket), log)
    url = local_redis.url(socket)
    with redis.Redis.from_url(url, retry=None) as client:
        _wait_for(process, log, client.ping, redis.ConnectionError)
    return url, process


def start_postgres(directory: Path) -> tuple[str, subprocess.Popen]:
    """A PostgreSQL on a socket in `directory`, which it takes over. Fast, and not safe from a power cut.

    Started there again it has the same URL, and its data.
    """
    programs, user = postgres_programs(), _postgres_user()
    if user:
        shutil.chown(directory, user)
    data, log = directory / "data", directory / "postgres.log"
    port = 5432  # only a part of the socket's name
    if not data.exists():
        options = ["--username=tally", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        made = subprocess.run(
            [programs / "initdb", *options, data], cwd=directory, capture_output=True, text=True, **_as_user(user)
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr}")
    settings = {
        "unix_socket_directories": directory,
        "listen_addresses": "",
        "port": port,
        "max_connections": 300,
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
    }
    command = [programs / "postgres", "-D", data, *(f"--{name}={value}" for name, value in settings.items())]
    process = _start(command, log, user)
    url = f"postgresql://tally@{quote(str(directory), safe='')}:{port}/postgres"
    _wait_for(process, log, lambda: psycopg.connect(url).close(), psycopg.OperationalError)
    return url, process


@cache
def postgres_url() -> str:
    """The PostgreSQL of this test run: started on first use, gone at its end."""
    directory = Path(tempfile.mkdtemp(prefix="tally-postgres-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    url, process = start_postgres(directory)
    atexit.register(stop, process)
    _postgres_of_this_run.append((directory, process))
    return url


@contextmanager
def postgres_crashed() -> Iterator[None]:
    """Within, the PostgreSQL of this test run is not there: it was killed. Afterwards it recovers."""
    directory, process = _postgres_of_this_run.pop()
    stop(process)
    try:
        yield
    finally:
        _, process = start_postgres(directory)
        atexit.register(stop, process)
        _postgres_of_this_run.append((directory, process))


def stop(process: subprocess.Popen) -> None:
    """End it at once. Safe to repeat."""
    # PostgreSQL waits for its clients on SIGTERM; on SIGQUIT it does not, and takes its children along.
    process.send_signal(signal.SIGQUIT if Path(process.args[0]).name == "postgres" else signal.SIGTERM)
    process.wait(timeout=10)


def _start(command: list, log: Path, user: str | None = None) -> subprocess.Popen:
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for pytest; the servers outlive the teardown of the tests.
            start_new_session=True,
            **_as_user(user),
        )


def _wait_for(process: subprocess.Popen, log: Path, connect: Callable, not_yet: type[Exception]) -> None:
    deadline = time.monotonic() + START_WITHIN_SECONDS
    while True:
        try:
            connect()
            return
        except not_yet:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"{process.args[0]} did not start:\n{log.read_text()}") from None
        time.sleep(0.05)


def postgres_programs() -> Path:
    """Where initdb, pg_dump and the others are, of the newest installation.

    Debian keeps them apart by version, and off PATH.
    """
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    on_path = [Path(found).parent for found in [shutil.which("initdb")] if found]
    found = [path for path in [*on_path, *debian] if (path / "initdb").exists()]
    if not found:
        raise RuntimeError("There is no PostgreSQL here: install postgresql, or test on SQLite (make test).")
    return found[-1]


def _postgres_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    return "postgres" if "postgres" in {entry.pw_name for entry in pwd.getpwall()} else "nobody"


def _as_user(name: str | None) -> dict:
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []} if name else {}
