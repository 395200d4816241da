"""What runs, as a configuration for supervisord."""

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from local import KEYS, CannotRun, redis
from local.ports import LOOPBACK

# Relative, like the configuration: supervisord runs in the root of the clone, and a path of the user's
# own may hold characters that mean something in its syntax.
LOGS = Path("var/log")
# supervisord raises the limit of open files to this for itself and for what it starts: one per open stream.
OPEN_FILES = 4096


@dataclass(frozen=True)
class Program:
    name: str
    command: list[str]
    # Started from the lowest on; stopped from the highest on, one after the other.
    priority: int
    # Seconds between SIGTERM and SIGKILL.
    patience: int = 5
    environment: dict[str, str] = field(default_factory=dict)
    # With a port, all processes of the program share one listening socket, handed over as standard input:
    # when one dies, connections wait for another instead of being refused.
    port: int | None = None
    processes: int = 1


def programs(environ: Mapping[str, str], values: Mapping[str, str], *, port: int) -> list[Program]:
    """Everything that runs in a clone. `values` are those of var/local.env: they name what is our own."""
    python = [sys.executable, "-m"]
    uvicorn = "uvicorn config.asgi:application --fd 0 --loop uvloop --http httptools --no-access-log"
    # Quiet, because it dies of a banner for which there is no room where its words go.
    celery = "celery --quiet -A config worker -P threads --without-gossip --without-mingle"
    # supervisord fills the values in from its own environment, so the keys themselves are never on disk.
    keys = {name: f"%(ENV_{name})s" for name in KEYS if environ.get(name)}
    # Its mails link to what is served here, unless the site is said to be elsewhere.
    named = "SITE_URL" in environ or "SITE_URL" in values
    address = {} if named else {"SITE_URL": f"http://{LOOPBACK}:{port}"}
    found = [
        Program(
            "web",
            # Whoever can reach this server is on this machine; a forwarded address would be a made-up one.
            [*python, *uvicorn.split(), "--no-proxy-headers", "--timeout-graceful-shutdown", "5"],
            priority=20,
            patience=8,
            port=port,
            processes=_count(environ, "WEB_PROCESSES", 2),
        ),
        Program(
            "worker",
            [*python, *celery.split(), "-c", str(_count(environ, "WORKER_CONCURRENCY", 200)), "-l", "INFO"],
            priority=20,
            patience=15,
            environment=keys,
        ),
        Program("sweeper", [sys.executable, "manage.py", "sweep"], priority=20, environment=address),
    ]
    if "SANDBOX" in values:
        sandbox_port = urlsplit(values["ANTHROPIC_BASE_URL"]).port
        sandbox = ["chat.sandbox", "--port", str(sandbox_port), "--key", values["ANTHROPIC_API_KEY"]]
        found.append(Program("sandbox", [*python, *sandbox], priority=10))
    if "REDIS_URL" in values:
        socket = Path(urlsplit(values["REDIS_URL"]).path)
        found.append(Program("redis", redis.command(socket), priority=10))
    return found


def configuration(programs: list[Program]) -> str:
    supervisord = {
        "nodaemon": "true",
        "silent": "true",
        # Said out loud, or supervisord warns about it.
        "user": "root" if os.geteuid() == 0 else None,
        "minfds": OPEN_FILES,
        "logfile": LOGS / "supervisor.log",
        "pidfile": "var/supervisor.pid",
        "childlogdir": LOGS,
    }
    return "\n".join([_section("supervisord", supervisord), *map(_program, programs)])


def _program(program: Program) -> str:
    name = "%(program_name)s-%(process_num)d" if program.port else "%(program_name)s"
    options = {
        "socket": f"tcp://{LOOPBACK}:{program.port}" if program.port else None,
        "command": shlex.join(program.command).replace("%", "%%"),
        "environment": ",".join(f'{key}="{value}"' for key, value in program.environment.items()) or None,
        "process_name": name,
        "numprocs": program.processes,
        "priority": program.priority,
        "autorestart": "true",
        "startsecs": 2,
        # After each failure in a row it waits a second longer. Giving up is for the person at the terminal.
        "startretries": 1_000_000,
        "stopwaitsecs": program.patience,
        "stopasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": f"{LOGS}/{name}.log",
        "stdout_logfile_maxbytes": "5MB",
        "stdout_logfile_backups": 1,
    }
    return _section(f"{'fcgi-program' if program.port else 'program'}:{program.name}", options)


def _section(title: str, options: Mapping[str, object]) -> str:
    return f"[{title}]\n" + "".join(f"{key}={value}\n" for key, value in options.items() if value is not None)


def _count(environ: Mapping[str, str], name: str, default: int) -> int:
    given = environ.get(name) or str(default)
    if not (given.isascii() and given.isdigit() and int(given) > 0):
        raise CannotRun(f"{name} must be a whole number above zero, not {given!r}.")
    return int(given)
