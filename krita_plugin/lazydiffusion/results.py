"""The fills of this session: what each is, its picture, and the row of thumbnails to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from lazydiffusion.client.edit import FillPixels
from lazydiffusion.client.words import layer_name, tr
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import Box, Size

from .document import Document
from .pictures import THUMBNAIL, Mipmap, thumbnail
from .qt import QtCore, QtGui, QtWidgets
from .snapshot import Snapshot

CELL = THUMBNAIL + 6
MOST_ROWS = 3
"""Rows of thumbnails that show at once."""
LIVE = "#d04545"
"""Colour of what Live makes and has not kept."""
MOST_BYTES = 1 << 29
"""Of the fills that the docker holds."""


@dataclass(eq=False)
class Result:
    """A fill that can be looked at and applied."""

    fill: FillPixels
    settings: EditSettings
    """As the artist gave them; the seed of this fill is `fill.seed`."""
    canvas_size: Size
    document: Optional[Document]
    """The document that it was made for; None for one from the history."""
    picture: Mipmap
    """Its pixels."""
    thumbnail: QtGui.QPixmap
    notice: str = ""
    """Why it could not be saved, if it could not."""
    applied: bool = False
    """Whether a layer was made of it."""
    draft: bool = False
    """Whether it is Live's, which the next one replaces, and not in the history."""

    @classmethod
    def made(
        cls,
        prepared: tuple[FillPixels, Mipmap],
        snapshot: Snapshot,
        settings: EditSettings,
        ratio: float,
        notice: str = "",
        draft: bool = False,
    ) -> Result:
        """Of a fill that was just made of a snapshot. `ratio`: the screen's px for each, for its thumbnail."""
        fill, picture = prepared
        shown = thumbnail(picture, fill.box, snapshot, ratio)
        size = snapshot.request.canvas_size
        return cls(fill, settings, size, snapshot.document, picture, shown, notice, draft=draft)

    @property
    def box(self) -> Box:
        """Where it belongs on the canvas, px."""
        return self.fill.box

    @property
    def is_lost(self) -> bool:
        """Whether the document that it was made for was closed."""
        return self.document is not None and not self.document.is_open

    @property
    def layer_name(self) -> str:
        """What its layer is called."""
        return layer_name(self.settings.prompt, self.fill.seed)


class ResultList(QtWidgets.QListWidget):
    """Thumbnails in a grid; one is chosen at most. A click on the chosen one chooses none."""

    chosen = QtCore.pyqtSignal(object)
    """A Result, or None."""
    put_aside = QtCore.pyqtSignal()
    """The artist clicked the chosen one, so that none is."""

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        self.setObjectName("lazyResults")
        self.setViewMode(QtWidgets.QListView.ViewMode.IconMode)
        self.setResizeMode(QtWidgets.QListView.ResizeMode.Adjust)
        self.setMovement(QtWidgets.QListView.Movement.Static)
        self.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.SingleSelection)
        self.setGridSize(QtCore.QSize(CELL, CELL))
        self.setItemDelegate(_ThumbnailDelegate(self))
        self.setUniformItemSizes(True)
        self.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        # Or Qt would choose the first one by itself; the buttons below have the keyboard.
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self.setAccessibleName(tr("Results"))
        self._results: list[Result] = []
        self._told: Optional[Result] = None
        self._pressed: Optional[Result] = None
        self.currentRowChanged.connect(lambda row: self._tell())
        self.itemClicked.connect(lambda item: self._clicked())
        self._fit()

    @property
    def results(self) -> list[Result]:
        """All, in the order in which they came."""
        return list(self._results)

    @property
    def current(self) -> Optional[Result]:
        """The chosen one."""
        row = self.currentRow()
        return self._results[row] if 0 <= row < len(self._results) else None

    def add(self, result: Result, choose: bool) -> None:
        """Put one at the end. Where memory gets too full, the oldest go: they are in the history."""
        item = QtWidgets.QListWidgetItem()
        item.setData(QtCore.Qt.ItemDataRole.UserRole, result)
        item.setToolTip("%s\n%s" % (result.layer_name, tr("Click: show it on the canvas, or hide it")))
        item.setSizeHint(QtCore.QSize(CELL, CELL))
        self._results.append(result)
        self.addItem(item)
        if choose:
            self.choose(result)
        while len(self._results) > 1 and sum(it.picture.nbytes for it in self._results) > MOST_BYTES:
            self.remove(self._results[0])
        self._fit()
        self.scrollToItem(item)

    def replace(self, old: Result, new: Result) -> None:
        """Put one in the place of another; it is the chosen one where that was."""
        row = self._results.index(old)
        self._results[row] = new
        self.item(row).setData(QtCore.Qt.ItemDataRole.UserRole, new)
        self._tell()

    def choose(self, result: Optional[Result]) -> None:
        """Make one the chosen one, or none."""
        self.setCurrentRow(-1 if result is None else self._results.index(result))

    def step(self, by: int) -> None:
        """Choose the next (1) or the previous (-1), round and round."""
        if self._results:
            row = self.currentRow()
            self.setCurrentRow((row + by if row >= 0 else min(by, 0)) % len(self._results))

    def remove(self, result: Result) -> None:
        """Take one out; if it was the chosen one, its neighbour is."""
        row, current = self._results.index(result), self.current
        was = self.blockSignals(True)  # while rows and results do not agree
        del self._results[row]
        self.takeItem(row)
        if current is not None and current is not result:
            self.choose(current)
        elif current is result:
            self.setCurrentRow(min(row, len(self._results) - 1))
        self.blockSignals(was)
        self._fit()
        self._tell()

    def mark_applied(self, result: Result) -> None:
        """Show that a layer was made of it."""
        result.applied = True
        self.viewport().update()

    def mark_kept(self, result: Result) -> None:
        """Show that it is no draft any more."""
        result.draft = False
        self.viewport().update()

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        """Remember what was chosen before."""
        self._pressed = self.current
        super().mousePressEvent(event)

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        """Another width takes another number of rows."""
        super().resizeEvent(event)
        self._fit()

    def _clicked(self) -> None:
        if self._pressed is not None and self._pressed is self.current:
            self.choose(None)
            self.put_aside.emit()

    def _tell(self) -> None:
        if self.current is not self._told:
            self._told = self.current
            self.chosen.emit(self.current)

    def _fit(self) -> None:
        """Be as high as the thumbnails need, up to three rows."""
        width = self.width() - 2 * self.frameWidth()
        rows = self._rows(width)
        # Of Qt's own choice, a scroll bar may come only because it takes the room of a column itself.
        policy = QtCore.Qt.ScrollBarPolicy
        self.setVerticalScrollBarPolicy(
            policy.ScrollBarAlwaysOn if rows > MOST_ROWS else policy.ScrollBarAlwaysOff
        )
        self.setFixedHeight(min(rows, MOST_ROWS) * CELL + 2 * self.frameWidth() + 4)

    def _rows(self, width: int) -> int:
        columns = max(1, width // CELL)
        return max(1, -(-len(self._results) // columns))


class _ThumbnailDelegate(QtWidgets.QStyledItemDelegate):
    """Draws a thumbnail in the middle of its cell: framed when chosen, ticked when applied, dotted while a draft."""

    def paint(
        self, painter: QtGui.QPainter, option: QtWidgets.QStyleOptionViewItem, index: QtCore.QModelIndex
    ) -> None:
        """Qt's own hook."""
        result: Result = index.data(QtCore.Qt.ItemDataRole.UserRole)
        size = QtCore.QSizeF(result.thumbnail.size()) / result.thumbnail.devicePixelRatio()
        cell = QtCore.QRectF(option.rect)
        shown = QtCore.QRectF(QtCore.QPointF(0, 0), size)
        shown.moveCenter(cell.center())
        painter.save()
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.drawPixmap(shown.topLeft(), result.thumbnail)
        if option.state & QtWidgets.QStyle.StateFlag.State_Selected:
            painter.setPen(QtGui.QPen(option.palette.color(QtGui.QPalette.ColorRole.Highlight), 3))
            painter.drawRect(shown.adjusted(-1, -1, 1, 1))
        if result.draft:
            painter.setPen(QtGui.QPen(QtGui.QColor("white"), 1.5))
            painter.setBrush(QtGui.QColor(LIVE))
            painter.drawEllipse(QtCore.QRectF(shown.left() + 3, shown.top() + 3, 9, 9))
        if result.applied:
            badge = QtCore.QRectF(shown.right() - 18, shown.bottom() - 18, 16, 16)
            painter.setPen(QtGui.QPen(QtGui.QColor("white"), 1.5))
            painter.setBrush(QtGui.QColor("#2e8b57"))
            painter.drawEllipse(badge)
            painter.drawPolyline(
                QtGui.QPolygonF(
                    [badge.topLeft() + QtCore.QPointF(*at) for at in ((4.5, 8.5), (7, 11), (11.5, 5.5))]
                )
            )
        painter.restore()
