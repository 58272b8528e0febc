"""Whether the artist's pen, mouse or finger is on a canvas."""

from __future__ import annotations

import contextlib
from typing import Any, Optional

from .qt import QtCore, QtGui, QtWidgets

_Type = QtCore.QEvent.Type
_DOWN = (_Type.MouseButtonPress, _Type.MouseButtonDblClick, _Type.TabletPress, _Type.TouchBegin)
_UP = (_Type.MouseButtonRelease, _Type.TabletRelease, _Type.TouchEnd, _Type.TouchCancel)
LOST = 5000
"""Milliseconds without any event after which the pen is taken to be up: somebody else had its release."""


class Pen(QtCore.QObject):
    """Hears what one canvas is given, and leaves it alone.

    Krita's canvas keeps its events from everybody else, so they are heard in the window, which has them before.
    """

    moved = QtCore.pyqtSignal(bool)
    """Whether it is down now."""

    def __init__(self, parent: Optional[QtCore.QObject] = None) -> None:
        super().__init__(parent)
        self._canvas: Optional[QtWidgets.QWidget] = None
        self._window: Optional[QtGui.QWindow] = None
        self._down = False
        self._last = QtCore.QElapsedTimer()
        self._last.start()

    @property
    def down(self) -> bool:
        """Whether something is drawn, or the canvas is moved."""
        if self._down and self._last.elapsed() > LOST:
            self._set(False)
        return self._down

    def watch(self, controller: Optional[QtWidgets.QAbstractScrollArea]) -> None:
        """Hear this canvas (the scroll area around it) and no other; None: none."""
        canvas = controller.viewport() if controller is not None else None
        window = canvas.window().windowHandle() if canvas is not None else None
        if canvas is not self._canvas:
            self._set(False)
        self._canvas = canvas
        if window is not self._window:
            with contextlib.suppress(RuntimeError):  # it was closed
                if self._window is not None:
                    self._window.removeEventFilter(self)
            if window is not None:
                window.installEventFilter(self)
            self._window = window

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        """Qt's own hook."""
        kind = event.type()
        if kind in _DOWN:
            self._set(self._down or self._is_on_canvas(event))
        elif kind in _UP:
            self._set(False)
        if self._down:
            self._last.restart()
        return False

    def _set(self, down: bool) -> None:
        if down != self._down:
            self._down = down
            self._last.restart()
            self.moved.emit(down)

    def _is_on_canvas(self, event: Any) -> bool:
        if event.type() == _Type.TouchBegin:
            return True  # of several points: where they are does not matter much
        is_qt6 = hasattr(event, "globalPosition")
        at = event.globalPosition().toPoint() if is_qt6 else event.globalPos()
        try:
            canvas = self._canvas
            return canvas is not None and canvas.rect().contains(canvas.mapFromGlobal(at))
        except RuntimeError:
            return False  # it was closed
