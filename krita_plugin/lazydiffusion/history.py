"""The edits that the core keeps, also those from before Krita was started: to look at, to apply, to do again."""

from __future__ import annotations

from functools import partial
from typing import Optional

from lazydiffusion.client import FillPixels, connect
from lazydiffusion.client.kept import Kept
from lazydiffusion.client.words import tr
from lazydiffusion.errors import BadInput

from .background import Background, GuiThread
from .pictures import Mipmap, thumbnail
from .qt import QtCore, QtGui, QtWidgets
from .results import Result
from .session import CLIENT

Qt = QtCore.Qt

LIMIT = 50
"""Edits that are listed; the core keeps more."""
SIDE = 56
"""Side of a thumbnail, px."""


class HistoryView(QtWidgets.QWidget):
    """A list of fills, the newest first, with what can be done with the chosen one."""

    fetched = QtCore.pyqtSignal(object, bool)
    """A Result that was asked for, and whether it is to be applied."""
    reuse = QtCore.pyqtSignal(object)
    """EditSettings that are to be used again."""
    failed = QtCore.pyqtSignal(str)
    asked = QtCore.pyqtSignal(str, str, object)
    """A question, what its button says, and what that does: a function without arguments."""

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        self._background, self._gui = Background(self), GuiThread(self)
        self._kept: list[Kept] = []
        self._icons: dict[tuple[str, int], QtGui.QIcon] = {}
        self._loads = 0
        self.list = QtWidgets.QListWidget()
        self.list.setObjectName("lazyHistory")
        self.list.setAccessibleName(tr("History"))
        self.list.setIconSize(QtCore.QSize(SIDE, SIDE))
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.list.setUniformItemSizes(True)
        self.list.setFixedHeight(4 * (SIDE + 8))
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.customContextMenuRequested.connect(self._menu)
        self.list.currentRowChanged.connect(lambda row: self._enable())
        self.list.itemDoubleClicked.connect(lambda item: self._fetch(False))
        self._empty = QtWidgets.QLabel()
        self._empty.setObjectName("lazyHistoryEmpty")
        self._empty.setWordWrap(True)
        self._show = _button(tr("Show"), tr("Show it on the canvas"), "lazyHistoryShow")
        self._apply = _button(tr("Apply"), tr("Make it a layer of the open picture"), "lazyHistoryApply")
        self._again = _button(
            tr("Use settings"), tr("Take its prompt, seed and settings"), "lazyHistoryReuse"
        )
        self._show.clicked.connect(lambda: self._fetch(False))
        self._apply.clicked.connect(lambda: self._fetch(True))
        self._again.clicked.connect(self._reuse)
        buttons = QtWidgets.QHBoxLayout()
        for button in (self._show, self._apply, self._again):
            buttons.addWidget(button)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._empty)
        layout.addWidget(self.list)
        layout.addLayout(buttons)
        self._enable()

    @property
    def current(self) -> Optional[Kept]:
        """The chosen one."""
        row = self.list.currentRow()
        return self._kept[row] if 0 <= row < len(self._kept) else None

    def load(self) -> None:
        """Ask the core for it, which is started if need be, in the background."""
        self._loads += 1
        number, known = self._loads, set(self._icons)
        if not self._kept:
            self._say(tr("Asking the core…"))

        def ask() -> None:
            core = connect(client=CLIENT)
            entries = core.history(LIMIT)
            kept = [Kept(entry, fill) for entry in entries for fill in entry.fills]
            self._gui(lambda: self._list(kept, number))
            for row, it in enumerate(kept):
                if number != self._loads:
                    return  # a newer list is being loaded
                if it.key not in known:
                    self._gui(partial(self._picture, row, core.thumbnail(it.entry.id, it.fill.fill), number))

        self._background.run(ask, lambda nothing: None, lambda error: self._not_loaded(error, number))

    def _list(self, kept: list[Kept], number: int) -> None:
        if number != self._loads:
            return
        chosen = self.current.key if self.current is not None else None
        self._kept = kept
        self._icons = {it.key: self._icons[it.key] for it in kept if it.key in self._icons}
        self.list.clear()
        blank = QtGui.QPixmap(SIDE, SIDE)
        blank.fill(Qt.GlobalColor.transparent)
        for it in kept:
            item = QtWidgets.QListWidgetItem(self._icons.get(it.key, QtGui.QIcon(blank)), it.caption)
            item.setToolTip(it.caption)
            item.setSizeHint(QtCore.QSize(SIDE, SIDE + 6))
            self.list.addItem(item)
            if it.key == chosen:
                self.list.setCurrentItem(item)
        self._say(
            ""
            if kept
            else tr("No fills yet. Each one that is made will be here, also after Krita's restart.")
        )
        self._enable()

    def _picture(self, row: int, png: bytes, number: int) -> None:
        if number != self._loads:
            return
        ratio = self.devicePixelRatioF()
        side = round(SIDE * ratio)
        picture = QtGui.QPixmap.fromImage(QtGui.QImage.fromData(png))
        if picture.isNull():
            return
        picture = picture.scaled(
            side, side, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
        )
        # On a square, or captions would start at different places.
        square = QtGui.QPixmap(side, side)
        square.fill(Qt.GlobalColor.transparent)
        painter = QtGui.QPainter(square)
        painter.drawPixmap((side - picture.width()) // 2, (side - picture.height()) // 2, picture)
        painter.end()
        square.setDevicePixelRatio(ratio)
        icon = self._icons[self._kept[row].key] = QtGui.QIcon(square)
        self.list.item(row).setIcon(icon)

    def _not_loaded(self, error: Exception, number: int) -> None:
        if number == self._loads:
            self._say(str(error) if not self._kept else "")

    def _say(self, text: str) -> None:
        self._empty.setText(text)
        self._empty.setVisible(bool(text))

    def _enable(self) -> None:
        for button in (self._show, self._apply, self._again):
            button.setEnabled(self.current is not None)

    def _fetch(self, apply: bool) -> None:
        it = self.current
        if it is None:
            return
        ratio = self.devicePixelRatioF()

        def fetch() -> tuple[FillPixels, Mipmap]:
            fill = connect(client=CLIENT).edit(it.entry.id).fill(it.fill.fill)
            return fill, Mipmap.of_fill(fill)

        def done(fetched: tuple[FillPixels, Mipmap]) -> None:
            fill, picture = fetched
            shown = thumbnail(picture, fill.box, None, ratio)
            self.fetched.emit(
                Result(fill, it.entry.settings, it.entry.canvas_size, None, picture, shown), apply
            )

        self._background.run(fetch, done, self._tell)

    def _reuse(self) -> None:
        it = self.current
        if it is None:
            return
        try:
            settings = it.settings_again()
        except BadInput as error:  # a later fill of an edit with the largest seed
            self._tell(error)
            return
        self.reuse.emit(settings)

    def _tell(self, error: Exception) -> None:
        self.failed.emit(str(error))

    def _menu(self, at: QtCore.QPoint) -> None:
        it = self.current
        if it is None:
            return
        menu = QtWidgets.QMenu(self)
        forget = menu.addAction(tr("Forget this edit"))
        forget.triggered.connect(lambda checked=False: self._may_forget(it))
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(self.list.viewport().mapToGlobal(at))

    def _may_forget(self, it: Kept) -> None:
        """Ask first where more would go than the fill that is chosen."""
        count = len(it.entry.fills)
        if count == 1:
            self._forget(it)
        else:
            text = tr("This edit has %d fills. All of them would be deleted for good.") % count
            self.asked.emit(text, tr("Forget all %d") % count, lambda: self._forget(it))

    def _forget(self, it: Kept) -> None:
        self._background.run(
            lambda: connect(client=CLIENT).delete_history(it.entry.id),
            lambda nothing: self.load(),
            self._tell,
        )


def _button(text: str, tip: str, name: str) -> QtWidgets.QPushButton:
    button = QtWidgets.QPushButton(text)
    button.setObjectName(name)
    button.setToolTip(tip)
    return button
