"""Long work in short turns of the event loop, so that Krita stays responsive."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Callable, Optional

from .qt import QtCore

BUDGET = 0.012
"""Seconds that a turn takes at most, but for its last piece of work."""

Work = Generator[float, None, Any]
"""Does a small piece of work up to each yield (some milliseconds). It yields the share that is done, 0..1; what it
returns is the result."""


class Turns(QtCore.QObject):
    """Runs one generator; `done(result)` or `failed(exception)` is called at its end, neither after `stop`."""

    def __init__(
        self,
        work: Work,
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        progressed: Optional[Callable[[float], None]] = None,
        parent: Optional[QtCore.QObject] = None,
    ) -> None:
        """`progressed(share)` is called after each turn but the last."""
        super().__init__(parent)
        self._work: Optional[Work] = work
        self._done, self._failed, self._progressed = done, failed, progressed
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._turn)
        self._timer.start()

    @property
    def running(self) -> bool:
        """Whether it has not come to its end yet."""
        return self._work is not None

    def stop(self) -> None:
        """End the work where it is; its `finally` blocks run."""
        work, self._work = self._work, None
        self._timer.stop()
        if work is not None:
            work.close()

    def _turn(self) -> None:
        end = time.perf_counter() + BUDGET
        share = 0.0
        try:
            while self._work is not None and time.perf_counter() < end:
                share = next(self._work)
        except StopIteration as finished:
            self._end()
            self._done(finished.value)
        except Exception as error:
            self._end()
            self._failed(error)
        else:
            if self._work is not None and self._progressed is not None:
                self._progressed(share)

    def _end(self) -> None:
        self._work = None
        self._timer.stop()
