"""Whether the artist's pen, mouse or finger is on a canvas."""

from __future__ import annotations

from typing import Optional

from .qt import QtCore, QtWidgets

_Type = QtCore.QEvent.Type
_DOWN = (_Type.MouseButtonPress, _Type.MouseButtonDblClick, _Type.TabletPress, _Type.TouchBegin)
_UP = (_Type.MouseButtonRelease, _Type.TabletRelease, _Type.TouchEnd, _Type.TouchCancel)
LOST = 5000
"""Milliseconds without any event of the canvas after which the pen is taken to be up: somebody else had its release."""


class Pen(QtCore.QObject):
    """Hears the events of one canvas, and leaves them alone."""

    moved = QtCore.pyqtSignal(bool)
    """Whether it is down now."""

    def __init__(self, parent: Optional[QtCore.QObject] = None) -> None:
        super().__init__(parent)
        self._controller: Optional[QtWidgets.QAbstractScrollArea] = None
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
        if controller is self._controller:
            return
        for widget in self._widgets():
            widget.removeEventFilter(self)
        self._controller = controller
        for widget in self._widgets():
            widget.installEventFilter(self)
        self._set(False)

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        """Qt's own hook."""
        kind = event.type()
        if kind in _DOWN:
            self._set(True)
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

    def _widgets(self) -> list[QtWidgets.QWidget]:
        """What gets a canvas's events: Krita's own widget lies in the viewport."""
        try:
            viewport = self._controller.viewport() if self._controller is not None else None
            return [viewport, *viewport.findChildren(QtWidgets.QWidget)] if viewport is not None else []
        except RuntimeError:
            return []  # it was closed
