"""A host whose clock is wrong by CLOCK_SKEW seconds: with this directory on PYTHONPATH, for that process alone.

What Python reads is wrong; what the database and Redis read is not, nor is the time that only counts durations.
"""

import datetime
import os
import time

SKEW = float(os.environ["CLOCK_SKEW"])
_right, _real = time.time, datetime.datetime


class _AnyMoment(type):
    """Moments that were made before this class, or by C code, are moments too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _real)


class Skewed(_real, metaclass=_AnyMoment):
    @classmethod
    def now(cls, tz=None):
        return _real.fromtimestamp(_right() + SKEW, tz)

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls):
        return cls.now()


time.time = lambda: _right() + SKEW
time.time_ns = lambda: int(time.time() * 1_000_000_000)
datetime.datetime = Skewed
