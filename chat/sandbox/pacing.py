"""One heap and one timer for all answers under way."""

import heapq
import math
import time
import traceback

_HALF_A_TICK = 0.0005


class Pacer:
    """Wakes every generation when its next token is due."""

    def __init__(self, loop):
        self._loop = loop
        self._heap = []
        self._pushed = 0
        self._timer = None
        self._timer_due = math.inf
        self._skipped = 0.0

    def now(self):
        """Seconds of a monotonic clock that can be put forward."""
        return time.monotonic() + self._skipped

    def skip(self, seconds):
        """Whatever is under way goes on as if so many seconds had passed."""
        self._skipped += seconds
        self._fire()

    def advance(self, steps):
        """Run a generator of deadlines (seconds by `now`) up to its next one."""
        try:
            due = next(steps, None)
        except Exception:
            traceback.print_exc()
            return
        if due is None:  # done, or waiting for the client to leave
            return
        if due <= self.now() + _HALF_A_TICK:
            self._loop.call_soon(self.advance, steps)
            return
        self._pushed += 1
        heapq.heappush(self._heap, (due, self._pushed, steps))
        if due < self._timer_due:
            self._arm(due)

    def _arm(self, due):
        self._disarm()
        self._timer_due = due
        self._timer = self._loop.call_later(max(0.0, due - self.now()), self._fire)

    def _disarm(self):
        if self._timer:
            self._timer.cancel()
        self._timer, self._timer_due = None, math.inf

    def _fire(self):
        self._disarm()
        now = self.now() + _HALF_A_TICK
        while self._heap and self._heap[0][0] <= now:
            self.advance(heapq.heappop(self._heap)[2])
        if self._heap and self._heap[0][0] < self._timer_due:
            self._arm(self._heap[0][0])
