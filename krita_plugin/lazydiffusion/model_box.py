"""The list of models: those that cannot be used yet are shown, say why, and cannot be chosen; and how to have them."""

from __future__ import annotations

from functools import partial

from lazydiffusion.client.model_choice import Download, ModelChoice, chosen_of, tip_of_list, with_chosen

from .qt import QtCore, QtGui, QtWidgets
from .widgets import wrapped

NAME = QtCore.Qt.ItemDataRole.UserRole


class ModelBox(QtWidgets.QComboBox):
    """Rows that carry a model's name as their data."""

    def __init__(self, tip: str) -> None:
        """`tip`: what the field is for."""
        super().__init__()
        self._tip = tip
        self._choices: list[ModelChoice] = []
        self._rows = QtGui.QStandardItemModel(0, 1, self)
        self.setModel(self._rows)
        self.view().viewport().installEventFilter(self)
        self.activated.connect(lambda index: self._show_tip())

    @property
    def name(self) -> str:
        """The chosen model's; empty where none is."""
        return str(self.currentData() or "")

    @property
    def chosen(self) -> ModelChoice:
        """The chosen one, with what it was taught to draw."""
        return chosen_of(self._choices, self.name)

    def offer(self, choices: list[ModelChoice]) -> None:
        """What there is to choose from; the chosen one stays, even if the core does not know it (yet)."""
        self._choices = choices
        self.choose(self.name)

    def choose(self, name: str) -> None:
        """Choose a model, whether it can be used or not: the artist once could."""
        choices = with_chosen(self._choices, name)
        if [choice.name for choice in choices] != [self.itemData(row) for row in range(self.count())]:
            self._rows.clear()
            for choice in choices:
                item = QtGui.QStandardItem()
                item.setData(choice.name, NAME)
                self._rows.appendRow(item)
        # In place where the names are the same: the list may be open.
        for row, choice in enumerate(choices):
            item = self._rows.item(row)
            item.setText(choice.text)
            item.setToolTip(wrapped(choice.tip))
            item.setEnabled(choice.usable)
        self.setCurrentIndex(self.findData(name, NAME))
        self._show_tip()

    def showPopup(self) -> None:
        """Open the list as wide as its longest row: the box itself is as narrow as the docker."""
        self.view().setMinimumWidth(self.view().sizeHintForColumn(0))
        super().showPopup()

    def _show_tip(self) -> None:
        choices = with_chosen(self._choices, self.name)
        self.setToolTip(wrapped(tip_of_list(self._tip, choices, self.name)))

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        """Ignore a click on a row that cannot be chosen: Qt would choose the one that the mouse came from."""
        if event.type() == QtCore.QEvent.Type.MouseButtonRelease and isinstance(event, QtGui.QMouseEvent):
            item = self._rows.itemFromIndex(self.view().indexAt(event.pos()))
            return item is not None and not item.isEnabled()
        return super().eventFilter(watched, event)


class DownloadButtons(QtWidgets.QWidget):
    """A button for each model that could be had; hidden where there is none."""

    asked = QtCore.pyqtSignal(object)
    """A Download whose button was clicked."""

    def __init__(self) -> None:
        super().__init__()
        self._buttons: dict[str, QtWidgets.QPushButton] = {}
        self._downloads: dict[str, Download] = {}
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.hide()

    def offer(self, downloads: list[Download]) -> None:
        """What could be had now."""
        self._downloads = {it.name: it for it in downloads}
        for name in [name for name in self._buttons if name not in self._downloads]:
            self._buttons.pop(name).deleteLater()
        for name, it in self._downloads.items():
            if name not in self._buttons:
                button = self._buttons[name] = QtWidgets.QPushButton()
                button.setObjectName("lazyDownload-" + name)
                # As narrow as the docker, whatever it says.
                button.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
                button.clicked.connect(partial(self._clicked, name))
                self.layout().addWidget(button)
            self._buttons[name].setText(it.button)
            self._buttons[name].setToolTip(wrapped(it.text))
        self.setVisible(bool(self._buttons))

    def _clicked(self, name: str, checked: bool = False) -> None:
        self.asked.emit(self._downloads[name])
