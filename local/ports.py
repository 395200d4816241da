import socket
from collections.abc import Mapping

from local import CannotRun

LOOPBACK = "127.0.0.1"
FIRST_PORT = 8000


def free_port() -> int:
    """A port nobody listens on now. Another process may take it before the caller does."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def choose_port(environ: Mapping[str, str]) -> int:
    """PORT if it is given, else the first free one from 8000 on."""
    given = environ.get("PORT", "")
    if not given:
        return next(port for port in range(FIRST_PORT, 65536) if _why_not(port) is None)
    if not (given.isascii() and given.isdigit() and 0 < int(given) < 65536):
        raise CannotRun(f"PORT must be a whole number from 1 to 65535, not {given!r}.")
    if (problem := _why_not(int(given))) is not None:
        raise CannotRun(f"Port {given} cannot be used ({problem}): choose another PORT or stop what uses it.")
    return int(given)


def _why_not(port: int) -> str | None:
    with socket.socket() as probe:
        # As the server will: connections of a run that just ended do not count as a taken port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return None
