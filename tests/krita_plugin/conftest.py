"""The docker without a screen, in a window of a fake Krita, with a real core that has a tiny model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PyQt6 import QtCore, QtGui, QtWidgets
from pytestqt.qtbot import QtBot
from tests.krita_plugin import fake_krita
from tests.service.core_process import MODEL
from tests.service.installed import Installed

os.environ["QT_QPA_PLATFORM"] = "offscreen"  # before there is a QApplication
sys.modules["krita"] = fake_krita  # before the plugin is imported

from krita_plugin.lazydiffusion.panel import Panel  # noqa: E402
from krita_plugin.lazydiffusion.preferences import Preferences  # noqa: E402
from krita_plugin.lazydiffusion.results import Result  # noqa: E402


@pytest.fixture(autouse=True)
def krita(monkeypatch: pytest.MonkeyPatch) -> fake_krita.Krita:
    """A Krita that was just started."""
    monkeypatch.setattr(fake_krita.Krita, "_instance", fake_krita.Krita())
    return fake_krita.Krita.instance()


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's configuration folder, in which the model is chosen that the core has."""
    folder = tmp_path / "config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    Preferences(model=MODEL).save()
    return folder / "lazydiffusion"


@pytest.fixture(scope="session")
def shared_core(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    core = Installed(tmp_path_factory.mktemp("krita-core"), tiny_model)
    yield core
    with pytest.MonkeyPatch.context() as monkeypatch:
        core.use(monkeypatch)
        core.end()


@pytest.fixture
def core(shared_core: Installed, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """A core that is installed and perhaps running."""
    shared_core.use(monkeypatch)
    return shared_core


class Bench:
    """A window with a docker and perhaps a document."""

    def __init__(self, qtbot: QtBot) -> None:
        self.qtbot = qtbot
        self.window = fake_krita.Window()
        self.panel = Panel()
        docker = fake_krita.DockWidget(self.window.widget)
        docker.setWidget(self.panel)
        self.window.widget.addDockWidget(QtCore.Qt.DockWidgetArea.RightDockWidgetArea, docker)
        qtbot.addWidget(self.window.widget, before_close_func=lambda widget: self.panel.close_down())
        self.window.widget.resize(900, 800)
        self.window.widget.show()

    def open(self, width: int = 200, height: int = 120, selected: bool = True) -> fake_krita.Document:
        """A document, green on the left and blue on the right, with a box selected."""
        picture = QtGui.QImage(width, height, QtGui.QImage.Format.Format_ARGB32)
        picture.fill(QtGui.QColor("seagreen"))
        painter = QtGui.QPainter(picture)
        painter.fillRect(width // 2, 0, width, height, QtGui.QColor("royalblue"))
        painter.end()
        document = fake_krita.Document(picture)
        fake_krita.Krita.instance().open.append(document)
        if selected:
            document.chosen = fake_krita.Selection.box(60, 30, 50, 40)
        self.window.show_document(document)
        self.panel.canvas_changed()
        return document

    def wait_until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Let Qt work until it is true."""
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=round(1000 * seconds))

    def generate(self, variations: int = 1) -> list[Result]:
        """Generate, wait for the end, and give all results that there are."""
        self.panel.settings.variations.setValue(variations)
        self.panel.generate()
        assert self.panel.session.busy, self.notice
        self.finish()
        return self.panel.results.results

    def apply(self) -> None:
        """Apply the chosen result and wait for the layer."""
        self.panel.apply()
        self.wait_until(lambda: not self.panel.applying.busy)

    @property
    def overlay(self) -> QtWidgets.QWidget | None:
        """What lies over the canvas."""
        found = self.window.widget.findChildren(QtWidgets.QWidget, "lazyPreview")
        return next((widget for widget in found if widget.isVisible()), None)

    def finish(self) -> None:
        """Wait for the end of the running edit."""
        self.wait_until(lambda: not self.panel.session.busy)

    @property
    def notice(self) -> str:
        return self.panel.notice.text


@pytest.fixture
def bench(qtbot: QtBot, core: Installed) -> Bench:
    return Bench(qtbot)


@pytest.fixture
def own_bench(qtbot: QtBot, installed: Installed) -> Bench:
    return Bench(qtbot)


def layers(document: fake_krita.Document) -> list[str]:
    """The names of a document's uppermost layers, from below."""
    return [node.name() for node in document.root.children]
