"""A few desks for the database work of a worker process.

Hundreds of threads wait for their answers, and any number of them may wake at once. Python runs one at a time and gives
each the same share, so a hundred of them would leave the engine, which carries every stream, one percent. With a few
desks the others queue, in order, and the streams keep their pace.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

DESKS = 4

_desks = threading.Semaphore(DESKS)


@contextmanager
def at_a_desk() -> Iterator[None]:
    """Do database work. Not reentrant."""
    with _desks:
        yield


@contextmanager
def away() -> Iterator[None]:
    """Give up one's desk while waiting for something else, and take one again afterwards."""
    _desks.release()
    try:
        yield
    finally:
        _desks.acquire()
