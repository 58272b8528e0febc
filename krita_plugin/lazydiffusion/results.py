"""The fills of this session: what each is, its picture, and the row of thumbnails to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from lazydiffusion.client.edit import FillPixels
from lazydiffusion.client.words import layer_name, tr
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import Box, Size

from .document import Document
from .qt import QtCore, QtGui, QtWidgets
from .snapshot import Snapshot

THUMBNAIL = 84
"""Side of a thumbnail, px: three stand side by side in a docker of 300 px."""
SURROUNDINGS = 0.15
"""How much of the canvas a thumbnail shows around the fill, as a share of the fill's longer side."""


@dataclass(eq=False)
class Result:
    """A fill that can be looked at and applied."""

    fill: FillPixels
    settings: EditSettings
    """As the artist gave them; the seed of this fill is `fill.seed`."""
    canvas_size: Size
    document: Optional[Document]
    """The document that it was made for; None for one from the history."""
    thumbnail: QtGui.QPixmap
    notice: str = ""
    """Why it could not be saved, if it could not."""

    @property
    def box(self) -> Box:
        """Where it belongs on the canvas, px."""
        return self.fill.box

    @property
    def layer_name(self) -> str:
        """What its layer is called."""
        return layer_name(self.settings.prompt, self.fill.seed)

    def picture(self) -> QtGui.QImage:
        """Its pixels, sRGB with straight alpha. The picture shares the fill's memory: keep the result as long."""
        box = self.fill.box
        return QtGui.QImage(
            self.fill.rgba, box.w, box.h, 4 * box.w, QtGui.QImage.Format.Format_RGBA8888
        )


def thumbnail(fill: FillPixels, snapshot: Optional[Snapshot], ratio: float = 1.0) -> QtGui.QPixmap:
    """The fill in its surroundings, THUMBNAIL px a side at most. `ratio`: the screen's px for each."""
    box = fill.box
    picture = QtGui.QImage(fill.rgba, box.w, box.h, 4 * box.w, QtGui.QImage.Format.Format_RGBA8888)
    around = box
    if snapshot is not None:
        around = box.enlarged(round(SURROUNDINGS * max(box.w, box.h))).overlap(snapshot.region)
    side = round(THUMBNAIL * ratio)
    scale = min(side / around.w, side / around.h)
    shown = QtGui.QImage(
        max(1, round(around.w * scale)),
        max(1, round(around.h * scale)),
        QtGui.QImage.Format.Format_ARGB32_Premultiplied,
    )
    shown.fill(QtCore.Qt.GlobalColor.transparent)
    painter = QtGui.QPainter(shown)
    painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
    if snapshot is not None:
        at = around.moved(-snapshot.region.x, -snapshot.region.y)
        crop = snapshot.canvas.copy(at.x, at.y, at.w, at.h)
        painter.drawImage(shown.rect(), shrunk(crop, shown.width()))
    target = QtCore.QRectF(
        (box.x - around.x) * scale, (box.y - around.y) * scale, box.w * scale, box.h * scale
    )
    painter.drawImage(target, shrunk(picture, round(target.width())))
    painter.end()
    pixmap = QtGui.QPixmap.fromImage(shown)
    pixmap.setDevicePixelRatio(ratio)
    return pixmap


def shrunk(picture: QtGui.QImage, width: int) -> QtGui.QImage:
    """A picture that is much wider than it will be shown, made smaller: without flicker, and fast for huge ones."""
    width = max(1, width)
    if picture.width() <= 2 * width:
        return picture
    if picture.width() > 8 * width:
        picture = picture.scaledToWidth(4 * width, QtCore.Qt.TransformationMode.FastTransformation)
    return picture.scaledToWidth(width, QtCore.Qt.TransformationMode.SmoothTransformation)


class ResultList(QtWidgets.QListWidget):
    """Thumbnails in a grid; one is chosen at most."""

    chosen = QtCore.pyqtSignal(object)
    """A Result, or None."""

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        self.setObjectName("lazyResults")
        self.setViewMode(QtWidgets.QListView.ViewMode.IconMode)
        self.setResizeMode(QtWidgets.QListView.ResizeMode.Adjust)
        self.setMovement(QtWidgets.QListView.Movement.Static)
        self.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.SingleSelection)
        self.setIconSize(QtCore.QSize(THUMBNAIL, THUMBNAIL))
        self.setGridSize(QtCore.QSize(THUMBNAIL + 6, THUMBNAIL + 6))
        self.setUniformItemSizes(True)
        self.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName(tr("Results"))
        self._results: list[Result] = []
        self.currentRowChanged.connect(lambda row: self.chosen.emit(self.current))

    @property
    def results(self) -> list[Result]:
        """All, in the order in which they came."""
        return list(self._results)

    @property
    def current(self) -> Optional[Result]:
        """The chosen one."""
        row = self.currentRow()
        return self._results[row] if 0 <= row < len(self._results) else None

    def add(self, result: Result) -> None:
        """Put one at the end; the first of all is chosen at once."""
        item = QtWidgets.QListWidgetItem(QtGui.QIcon(result.thumbnail), "")
        item.setToolTip("%s\n%s" % (result.layer_name, tr("Click: show it on the canvas. Double-click: apply.")))
        item.setSizeHint(QtCore.QSize(THUMBNAIL + 6, THUMBNAIL + 6))
        self._results.append(result)
        self.addItem(item)
        if self.currentRow() < 0:
            self.setCurrentRow(len(self._results) - 1)

    def choose(self, result: Result) -> None:
        """Make one the current one."""
        self.setCurrentRow(self._results.index(result))

    def step(self, by: int) -> None:
        """Choose the next (1) or the previous (-1), round and round."""
        if self._results:
            self.setCurrentRow((max(0, self.currentRow()) + by) % len(self._results))

    def remove(self, result: Result) -> None:
        """Take one out; its neighbour is chosen."""
        row = self._results.index(result)
        del self._results[row]
        self.takeItem(row)
        # Taking an item out emits its signal before the list of results and the rows agree again.
        self.chosen.emit(self.current)

    def discard_all(self) -> None:
        """Empty the list."""
        self._results.clear()
        self.clear()
        self.chosen.emit(None)
