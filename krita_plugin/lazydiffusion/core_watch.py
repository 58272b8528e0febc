"""What the core is doing, looked at every other second while somebody can see it."""

from __future__ import annotations

from typing import Any, Optional

from lazydiffusion.client import connect, look
from lazydiffusion.client.words import core_state, tr

from .background import Background
from .qt import QtCore
from .session import CLIENT

INTERVAL = 2000
"""Milliseconds between two looks."""


class CoreWatch(QtCore.QObject):
    """Looks at the core without keeping it from ending when it is idle, and starts it ahead of the first edit."""

    changed = QtCore.pyqtSignal()
    """`info`, `problem` or `starting` may have changed."""

    def __init__(self, parent: Optional[QtCore.QObject] = None) -> None:
        super().__init__(parent)
        self._background = Background(self)
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(INTERVAL)
        self._timer.timeout.connect(self.look)
        self._looking = False
        self.info: Optional[dict[str, Any]] = None
        """What the core says about itself; None where none is running."""
        self.problem = ""
        """Why none can be used: a sentence."""
        self.starting = False

    @property
    def text(self) -> str:
        """The core's state in plain words."""
        if self.problem:
            return self.problem
        if self.info is None and self.starting:
            return tr("Starting…")
        return core_state(self.info, CLIENT)

    @property
    def models(self) -> list[str]:
        """The models that an edit may name."""
        return [str(model.get("name")) for model in (self.info or {}).get("models", [])]

    def window_tokens(self, model: str, default: int) -> int:
        """Side of a model's window, tokens; `default` as long as the core has not said."""
        for known in (self.info or {}).get("models", []):
            if known.get("name") == model:
                return int(known.get("window_tokens") or default)
        return default

    def watch(self, visible: bool) -> None:
        """Begin to look, or stop."""
        if visible and not self._timer.isActive():
            self._timer.start()
            self.look()
        elif not visible:
            self._timer.stop()

    def look(self) -> None:
        """Ask once, in the background."""
        if not self._looking:
            self._looking = True
            self._background.run(look, self._told, self._refused)

    def warm(self) -> None:
        """Start the core where it is not running, so that the first edit need not wait for it."""
        if self.info is None and not self.starting:
            self.starting = True
            self.changed.emit()
            self._background.run(lambda: connect(client=CLIENT).info(), self._started, self._not_started)

    def _told(self, info: Optional[dict[str, Any]]) -> None:
        self._looking = False
        self._set(info, "")

    def _refused(self, error: Exception) -> None:
        self._looking = False
        self._set(None, str(error))

    def _started(self, info: dict[str, Any]) -> None:
        self.starting = False
        self._set(info, "")

    def _not_started(self, error: Exception) -> None:
        self.starting = False
        self._set(None, str(error))

    def _set(self, info: Optional[dict[str, Any]], problem: str) -> None:
        self.info, self.problem = info, problem
        self.changed.emit()
