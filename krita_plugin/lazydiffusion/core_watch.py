"""What the core is doing, looked at every other second while somebody can see it."""

from __future__ import annotations

from typing import Optional

from lazydiffusion.client.core_view import CoreView

from .background import Background
from .qt import QtCore
from .session import CLIENT

INTERVAL = 2000
"""Milliseconds between two looks."""


class CoreWatch(QtCore.QObject):
    """Has the docker's view of the core brought up to date while the docker can be seen."""

    changed = QtCore.pyqtSignal()
    """What is in `core` may have changed."""
    news = QtCore.pyqtSignal(str, bool)
    """A sentence about a download, and whether that failed."""

    def __init__(self, parent: Optional[QtCore.QObject] = None) -> None:
        super().__init__(parent)
        # Kept, or PyQt lets the Python half of it go; the signal is looked up anew each time for the same reason.
        self._background = Background(self)
        self.core = CoreView(
            lambda: self.changed.emit(),
            self._background.run,
            CLIENT,
            lambda text, bad: self.news.emit(text, bad),
        )
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(INTERVAL)
        self._timer.timeout.connect(self.core.look)

    def watch(self, visible: bool) -> None:
        """Begin to look, or stop."""
        if visible and not self._timer.isActive():
            self._timer.start()
            self.core.look()
        elif not visible:
            self._timer.stop()
