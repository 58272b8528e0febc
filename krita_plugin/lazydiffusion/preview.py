"""A fill shown over the canvas, without a layer: the document is not touched, so there is nothing to undo."""

from __future__ import annotations

import contextlib
from typing import Optional

from lazydiffusion.window import Box

from .document import CanvasView, Document
from .pictures import Mipmap
from .qt import QtCore, QtGui, QtWidgets

LOOK_AGAIN = 100
"""Milliseconds after which the overlay looks whether the canvas was turned, or another document is shown."""
ENLARGED = 2.0
"""Zoom from which px are shown as squares, as Krita shows them."""


class Preview(QtCore.QObject):
    """Shows one picture at a time on the canvas of a window, as long as that shows the picture's document."""

    def __init__(self, parent: Optional[QtCore.QObject] = None) -> None:
        super().__init__(parent)
        self._overlay: Optional[_Overlay] = None
        self._view: Optional[CanvasView] = None
        self._document: Optional[Document] = None
        self._aside = False
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(LOOK_AGAIN)
        self._timer.timeout.connect(self._look)

    @property
    def visible(self) -> bool:
        """Whether something is on the canvas."""
        try:
            return self._overlay is not None and self._overlay.isVisible()
        except RuntimeError:
            return False  # its canvas was closed, and the overlay with it

    def show(self, view: CanvasView, document: Document, box: Box, picture: Mipmap) -> None:
        """Show a picture (with alpha) in the box. Where another document is shown, nothing is."""
        self._view, self._document = view, document
        if view.document != document:
            self.hide()
            return
        controller = view.controller()
        if controller is None:
            self.hide()
            return
        if self._overlay is not None and self._overlay.controller is not controller:
            self._remove()
        if self._overlay is None:
            self._overlay = _Overlay(controller)
        self._overlay.set_picture(picture, box)
        self._overlay.follow(view)
        self._overlay.setVisible(not self._aside)
        self._overlay.raise_()
        self._timer.start()

    def step_aside(self, aside: bool) -> None:
        """Let the artist see what is painted below it, as long as the pen is down."""
        self._aside = aside
        with contextlib.suppress(RuntimeError):  # its canvas was closed, and the overlay with it
            if self._overlay is not None:
                self._overlay.setVisible(not aside)

    def hide(self) -> None:
        """Take it off the canvas."""
        self._timer.stop()
        self._remove()

    def _remove(self) -> None:
        overlay, self._overlay = self._overlay, None
        if overlay is not None:
            try:
                overlay.hide()
                overlay.deleteLater()
            except RuntimeError:
                pass  # its canvas was closed, and the overlay with it

    def _look(self) -> None:
        try:
            if self._overlay is None or self._view is None or self._view.document != self._document:
                self.hide()
            else:
                self._overlay.follow(self._view)
        except RuntimeError:
            self.hide()


class _Overlay(QtWidgets.QWidget):
    """A transparent widget over a canvas; mouse and pen go through it."""

    def __init__(self, controller: QtWidgets.QAbstractScrollArea) -> None:
        super().__init__(controller.viewport())
        self.controller = controller
        self.setObjectName("lazyPreview")
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_NoSystemBackground)
        self._picture = Mipmap(QtGui.QImage())
        self._shown: Optional[QtGui.QImage] = None
        self._box = Box(0, 0, 1, 1)
        self._transform = QtGui.QTransform()
        self._view: Optional[CanvasView] = None
        for bar in (controller.horizontalScrollBar(), controller.verticalScrollBar()):
            bar.valueChanged.connect(self._moved)

    def set_picture(self, picture: Mipmap, box: Box) -> None:
        """What to show, and where."""
        self._picture, self._box, self._shown = picture, box, None
        self.update()

    def follow(self, view: CanvasView) -> None:
        """Lie over the canvas as it is now."""
        self._view = view
        self.setGeometry(self.parentWidget().rect())
        transform = view.image_to_widget(self.controller)
        if transform != self._transform:
            self._transform, self._shown = transform, None
            self.update()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        """Draw the picture as the canvas would."""
        scale = abs(self._transform.determinant()) ** 0.5
        if self._shown is None:
            width = round(self._box.w * scale * self.devicePixelRatioF())
            self._shown = self._picture.shown(width)
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform, scale < ENLARGED)
        painter.setTransform(self._transform)
        box = self._box
        painter.drawImage(QtCore.QRectF(box.x, box.y, box.w, box.h), self._shown)
        painter.end()

    def _moved(self) -> None:
        # Krita moves its canvas after its scroll bars.
        QtCore.QTimer.singleShot(0, self._follow_again)

    def _follow_again(self) -> None:
        try:
            if self._view is not None:
                self.follow(self._view)
        except RuntimeError:
            pass  # closed meanwhile
