"""Identifiers."""

import os
import threading
import time
import uuid


def as_uuid(value: object) -> uuid.UUID | None:
    """The identifier that somebody sent; None if it is none."""
    try:
        return uuid.UUID(str(value))
    except ValueError:
        return None


_lock = threading.Lock()
_latest = 0


def uuid7() -> uuid.UUID:
    """A version 7 UUID (RFC 9562, with method 3 for what is made in one millisecond), sorted by time: so indexes stay
    dense, and of two that one process makes the later one is greater. Python has one from 3.14 on."""
    global _latest
    with _lock:
        _latest = moment = max(_latest + 1, (time.time_ns() << 12) // 1_000_000)
    milliseconds, fraction = moment >> 12, moment & 0xFFF
    value = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0x2 << 62 | int.from_bytes(os.urandom(8), "big") >> 2
    return uuid.UUID(int=value)
