"""LazyDiffusion's place in Krita's windows: a docker in each, and actions with shortcuts."""

from __future__ import annotations

from typing import Any, Callable, Optional

from krita import DockWidget, DockWidgetFactory, DockWidgetFactoryBase, Extension, Krita

from lazydiffusion.client.words import tr

from .panel import Panel
from .qt import QtCore, QtWidgets

NAME = "lazydiffusion"

ACTIONS = ("generate", "live", "cancel", "apply", "next", "previous")
"""Krita takes their default shortcuts from lazydiffusion.action; their ids there begin with NAME and "_"."""


class LazyDiffusionDocker(DockWidget):
    """The docker of one window."""

    def __init__(self) -> None:
        super().__init__()
        self.setWindowTitle(tr("LazyDiffusion"))
        self.panel = Panel()
        self.setWidget(self.panel)
        self.panel.notice.wanted.connect(self._come_up)

    def canvasChanged(self, canvas: Any) -> None:
        """Krita tells that another view is shown; not yet, however, what the window's active one is."""
        QtCore.QTimer.singleShot(0, self.panel.canvas_changed)

    def _come_up(self) -> None:
        """A shortcut works without the docker, but what went wrong must be seen."""
        if not self.panel.isVisible():
            self.show()
            self.raise_()


class LazyDiffusionActions(Extension):
    """The actions of each window."""

    def setup(self) -> None:
        """Krita asks for nothing here."""

    def createActions(self, window: Any) -> None:
        """Make them for a new window. Krita's object for it ends with this call; Qt's stays."""
        main = window.qwindow()
        for name, text in action_texts().items():
            action = window.createAction("%s_%s" % (NAME, name), text, "tools/scripts")
            action.triggered.connect(lambda checked=False, name=name: trigger(main, name))


def action_texts() -> dict[str, str]:
    """What each action is called, in the order of the menu."""
    texts = (
        tr("LazyDiffusion: Generate"),
        tr("LazyDiffusion: Live on or off"),
        tr("LazyDiffusion: Cancel"),
        tr("LazyDiffusion: Apply the result"),
        tr("LazyDiffusion: Next result"),
        tr("LazyDiffusion: Previous result"),
    )
    return dict(zip(ACTIONS, texts))


def trigger(main: QtWidgets.QMainWindow, name: str) -> None:
    """Do what an action means, in the docker of its window."""
    panel = panel_of(main)
    if panel is None:
        return
    deeds: dict[str, Callable[[], None]] = {
        "generate": panel.generate,
        "live": lambda: panel.switch_live(not panel.live.on),
        "cancel": panel.cancel,
        "apply": panel.apply,
        "next": lambda: panel.step(1),
        "previous": lambda: panel.step(-1),
    }
    deeds[name]()


def panel_of(main: QtWidgets.QMainWindow) -> Optional[Panel]:
    """The panel in a window's docker; None where the window has no such docker.

    It is looked for among the window's own children first. Below them are 8000 more, and PyQt makes a Python object of
    each that a search passes: that takes some 80 ms. Only a docker that floats as a tab beside others is down there.
    """
    anywhere = QtCore.Qt.FindChildOption.FindChildrenRecursively
    for where in (QtCore.Qt.FindChildOption.FindDirectChildrenOnly, anywhere):
        docker = main.findChild(LazyDiffusionDocker, options=where)
        if docker is not None:
            return docker.panel
    return None


def register() -> None:
    """Give Krita the docker and the actions."""
    krita = Krita.instance()
    positions = getattr(
        DockWidgetFactoryBase, "DockPosition", DockWidgetFactoryBase
    )  # an enum of its own in Krita 6
    place = getattr(positions, "DockRight", None) or DockWidgetFactoryBase.DockRight
    krita.addDockWidgetFactory(DockWidgetFactory(NAME, place, LazyDiffusionDocker))
    krita.addExtension(LazyDiffusionActions(krita))
