"""Measures how long Krita's GUI thread was busy at a stretch."""

import time

from .qt import QtCore

INTERVAL_MS = 5


class Heartbeat:
    """A timer on the GUI thread: the longest gap between two of its ticks is the longest stall."""

    def __init__(self, parent):
        self._timer = QtCore.QTimer(parent)
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(INTERVAL_MS)
        self.reset()

    def reset(self):
        """Forget what was; the next gap starts now."""
        self._started = self._last = time.perf_counter()
        self._longest = 0.0
        self._longest_at = 0.0
        self._ticks = 0

    def read(self):
        """The longest gap since the reset, when it ended, how long ago the reset was (all ms), and the ticks.

        The gap that has not yet ended counts: a request may be served before the tick that was due.
        """
        self._note(time.perf_counter())
        return {
            "longest_ms": 1000 * self._longest,
            "at_ms": 1000 * self._longest_at,
            "since_ms": 1000 * (self._last - self._started),
            "ticks": self._ticks,
        }

    def _tick(self):
        self._ticks += 1
        self._note(time.perf_counter())

    def _note(self, now):
        if now - self._last > self._longest:
            self._longest = now - self._last
            self._longest_at = now - self._started
        self._last = now
