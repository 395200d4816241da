"""`make run`: prepare this clone, start everything, say where it is, stop it all on Ctrl-C or SIGTERM."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from urllib.parse import urlsplit

from local import KEYS, ROOT, VAR, CannotRun, envfile, redis
from local.ports import LOOPBACK, choose_port
from local.processes import LOGS, configuration, programs
from local.supervise import end_of, serve

CLAUDE = "https://api.anthropic.com"


def main() -> int:
    os.chdir(ROOT)
    os.umask(0o077)
    LOGS.mkdir(parents=True, exist_ok=True)
    VAR.chmod(0o700)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _one_at_a_time(), _socket_directory() as directory:
            return run(directory / "redis.sock")
    except CannotRun as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run(socket: Path) -> int:
    """Serve until told to stop. A private Redis, where one is needed, listens on `socket`."""
    _tidy(os.environ)
    port = choose_port(os.environ)
    values = envfile.refresh(VAR / "local.env", os.environ, socket)
    supervisord = VAR / "supervisord.conf"
    supervisord.write_text(configuration(programs(os.environ, values, port=port)))
    if "SANDBOX" in values:
        print(f"Sandbox model: {values['ANTHROPIC_BASE_URL']}")
    print("Preparing the database and the static files", flush=True)
    print(f"Admin: {_prepare()}", flush=True)
    answers = _who_answers({**values, **os.environ})

    def announce() -> None:
        print(f"Ready: http://{LOOPBACK}:{port}")
        print(answers)
        print(f"Logs: {LOGS}/   Stop: Ctrl-C", flush=True)

    return 0 if serve(supervisord, port=port, on_ready=announce) else 1


def _who_answers(settings: Mapping[str, str]) -> str:
    if "SANDBOX" in settings:
        return "Answers come from the sandbox model, not from Claude. Set ANTHROPIC_API_KEY to talk to Claude."
    url = urlsplit(settings.get("ANTHROPIC_BASE_URL", CLAUDE))
    return f"Talking to Claude at {url.scheme}://{url.netloc.rpartition('@')[2]}"


def _tidy(environ: MutableMapping[str, str]) -> None:
    for name in [name for name, value in environ.items() if not value]:
        del environ[name]  # An empty one would win over a line of var/local.env.
    environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    # The sandbox model is on this machine; no proxy of the network can reach it.
    for name in ("NO_PROXY", "no_proxy"):
        environ[name] = ",".join(filter(None, [environ.get(name), LOOPBACK, "localhost"]))


def _prepare() -> str:
    """Migrate, collect, make sure of an admin. Returns the words about the admin."""
    log = LOGS / "prepare.log"
    environ = {name: value for name, value in os.environ.items() if name not in KEYS}
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-m", "local.prepare"],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    if done.returncode:
        raise CannotRun(f"The database could not be prepared.\n{end_of(log)}")
    os.environ.pop("DJANGO_SUPERUSER_PASSWORD", None)
    return done.stdout.splitlines()[-1]


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    with open(VAR / "run.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRun("This clone is running already: press Ctrl-C where it was started.") from None
        yield


@contextlib.contextmanager
def _socket_directory() -> Iterator[Path]:
    if redis.can_hold_socket(VAR):
        yield VAR
    else:
        with tempfile.TemporaryDirectory(prefix="tally-") as directory:
            yield Path(directory)


if __name__ == "__main__":
    sys.exit(main())
