"""What the docker's panel looks like: its widgets and where they stand."""

from __future__ import annotations

from typing import Optional

from lazydiffusion.client.modes import Mode
from lazydiffusion.client.words import mode_name, tr

from .document import Layer, active_document
from .history import HistoryView
from .qt import QtCore, QtWidgets
from .results import ResultList
from .settings_form import SettingsForm
from .widgets import Dot, Fold, Notice, PromptEdit, tool_button

Qt = QtCore.Qt

LEAST_HEIGHT = 230
"""Px: prompt and Generate can be seen wherever Krita puts the docker at first."""


class PanelWidgets(QtWidgets.QWidget):
    """Everything that can be seen; what it does is the panel's."""

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        self.setObjectName("lazyPanel")
        self.modes = QtWidgets.QButtonGroup(self)
        mode_row = QtWidgets.QHBoxLayout()
        mode_row.setSpacing(2)
        for number, mode in enumerate(Mode):
            button = QtWidgets.QPushButton(mode_name(mode))
            button.setObjectName("lazyMode%s" % mode.value.capitalize())
            button.setCheckable(True)
            button.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
            self.modes.addButton(button, number)
            mode_row.addWidget(button, 4 if mode is Mode.ADD else 3)
        self.prompt = PromptEdit(3)
        self.prompt.setObjectName("lazyPrompt")
        self.prompt.setAccessibleName(tr("Prompt"))
        self.negative = PromptEdit(2)
        self.negative.setObjectName("lazyNegative")
        self.negative.setPlaceholderText(tr("What to keep away from"))
        self.negative_fold = Fold(tr("Negative prompt"), self.negative, "lazyNegativeFold")
        self.settings = SettingsForm(self._layers)
        self.settings_fold = Fold(tr("Settings"), self.settings, "lazySettingsFold")
        self.go = QtWidgets.QPushButton()
        self.go.setObjectName("lazyGenerate")
        self.live_button = QtWidgets.QPushButton(tr("Live"))
        self.live_button.setObjectName("lazyLive")
        self.live_button.setCheckable(True)
        self.live_button.setToolTip(
            tr("The fill follows what you paint, select and type. Keep holds on to what you like")
        )
        go_row = QtWidgets.QHBoxLayout()
        go_row.addWidget(self.go, 1)
        go_row.addWidget(self.live_button)
        self.progress = QtWidgets.QProgressBar()
        self.progress.setObjectName("lazyProgress")
        self.progress.setTextVisible(False)
        self.progress.setRange(0, 1000)
        self.progress.setFixedHeight(8)
        # What comes and goes must not move what the artist is about to click.
        kept = self.progress.sizePolicy()
        kept.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(kept)
        self.status = QtWidgets.QLabel()
        self.status.setObjectName("lazyStatus")
        self.status.setWordWrap(True)
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        self.dot = Dot()
        status_row = QtWidgets.QHBoxLayout()
        status_row.addWidget(self.dot)
        status_row.addWidget(self.status, 1)
        self.untaught = QtWidgets.QLabel()
        self.untaught.setObjectName("lazyUntaught")
        self.untaught.setWordWrap(True)
        self.untaught.setTextFormat(Qt.TextFormat.PlainText)
        self.untaught.setSizePolicy(
            QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.MinimumExpanding
        )
        self.untaught.hide()
        self.notice = Notice()
        self.results = ResultList()
        self.previous = tool_button("previous", tr("Previous result"), "lazyPrevious")
        self.next = tool_button("next", tr("Next result"), "lazyNext")
        self.apply_button = QtWidgets.QPushButton(tr("Apply"))
        self.apply_button.setObjectName("lazyApply")
        self.apply_button.setToolTip(tr("Make it a layer above the active one"))
        self.discard_button = QtWidgets.QPushButton(tr("Discard"))
        self.discard_button.setObjectName("lazyDiscard")
        result_row = QtWidgets.QHBoxLayout()
        for widget, stretch in (
            (self.previous, 0), (self.next, 0), (self.apply_button, 1), (self.discard_button, 1)
        ):  # fmt: skip
            result_row.addWidget(widget, stretch)
        self.result_part = QtWidgets.QWidget()
        result_layout = QtWidgets.QVBoxLayout(self.result_part)
        result_layout.setContentsMargins(0, 0, 0, 0)
        result_layout.addWidget(self.results)
        result_layout.addLayout(result_row)
        self.history = HistoryView()
        self.history_fold = Fold(tr("History"), self.history, "lazyHistoryFold")

        content = QtWidgets.QWidget()
        layout = QtWidgets.QVBoxLayout(content)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)
        layout.addLayout(mode_row)
        for widget in (self.prompt, self.negative_fold, self.settings_fold):
            layout.addWidget(widget)
        layout.addLayout(go_row)
        layout.addWidget(self.progress)
        layout.addLayout(status_row)
        for widget in (self.untaught, self.notice, self.result_part, self.history_fold):
            layout.addWidget(widget)
        layout.addStretch(1)
        area = QtWidgets.QScrollArea()
        area.setObjectName("lazyScroll")
        area.setWidgetResizable(True)
        area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(content)
        area.setMinimumHeight(LEAST_HEIGHT)
        outer = QtWidgets.QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)

    def _layers(self) -> list[Layer]:
        document = active_document(self)
        return document.layers() if document is not None else []
