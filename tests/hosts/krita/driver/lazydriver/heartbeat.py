"""Measures how long Krita's GUI thread was busy at a stretch, and with what."""

import contextlib
import os
import threading
import time

from .qt import QtCore

INTERVAL_MS = 5
LONG = 0.025
"""Seconds from which a gap is kept with what ran in it."""


class Heartbeat:
    """A timer on the GUI thread: the longest gap between two of its ticks is the longest stall."""

    def __init__(self, parent):
        self._calls = []
        self._schedule = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self._timer = QtCore.QTimer(parent)
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(INTERVAL_MS)
        self.reset()

    def reset(self):
        """Forget what was; the next gap starts now."""
        self._started = self._last = time.perf_counter()
        self._used = self._spent()
        self._longest = 0.0
        self._longest_at = 0.0
        self._ticks = 0
        self._gaps = []

    def read(self):
        """The longest gap since the reset, when it ended, how long ago the reset was (all ms), the ticks, and the gaps.

        The gap that has not yet ended counts: a request may be served before the tick that was due. Of each long gap,
        in "gaps": when it began, how long it was, for how long of it the thread was on a processor ("cpu_ms"), and
        ready while others were on all of them ("queued_ms"); the rest it waited for something. "ran": [name, ms] of
        the calls in it that `during` was told of.
        """
        self._note(time.perf_counter())
        return {
            "longest_ms": 1000 * self._longest,
            "at_ms": 1000 * self._longest_at,
            "since_ms": 1000 * (self._last - self._started),
            "ticks": self._ticks,
            "gaps": self._gaps,
        }

    @contextlib.contextmanager
    def during(self, name):
        """Name what runs on the GUI thread in the with block."""
        call = [name, time.perf_counter(), None]
        self._calls.append(call)
        try:
            yield
        finally:
            call[2] = time.perf_counter()

    def _tick(self):
        self._ticks += 1
        self._note(time.perf_counter())

    def _note(self, now):
        gap, used = now - self._last, self._spent()
        if gap > self._longest:
            self._longest = gap
            self._longest_at = now - self._started
        if gap > LONG:
            self._gaps.append(
                {
                    "at_ms": 1000 * (self._last - self._started),
                    "ms": 1000 * gap,
                    "cpu_ms": 1000 * (used[0] - self._used[0]),
                    "queued_ms": 1000 * (used[1] - self._used[1]),
                    "ran": [
                        [name, 1000 * ((end or now) - max(began, self._last))]
                        for name, began, end in self._calls
                    ],
                }
            )
        # A call may go on over many ticks: Krita has event loops within its calls.
        self._calls = [call for call in self._calls if call[2] is None]
        self._last, self._used = now, used

    def _spent(self):
        """Seconds that this thread has been on a processor, and ready for one."""
        return time.thread_time(), int(os.pread(self._schedule, 64, 0).split()[1]) / 1e9
