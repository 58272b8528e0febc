"""A model that is had by a button in the docker: what it asks, how far it is, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PyQt6 import QtCore, QtWidgets
from pytestqt.qtbot import QtBot
from tests.krita_plugin.conftest import Bench
from tests.loopback_hub import KLEIN, WEIGHTS, Hub
from tests.service.installed import Installed

pytestmark = pytest.mark.integration

LEFT = QtCore.Qt.MouseButton.LeftButton
FACTS = (
    "flux2-klein is not downloaded yet: 16 GB, licence Apache-2.0. It needs an NVIDIA GPU with 8 GB or more. "
    "Here the core works on the CPU, where an edit with it takes minutes."
)


@pytest.fixture
def hub(klein_hub: Hub, installed: Installed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub that the core asks, which this process starts."""
    for name, value in klein_hub.environment.items():
        monkeypatch.setenv(name, value)
    yield klein_hub
    installed.end()


@pytest.fixture
def bench(hub: Hub, own_bench: Bench) -> Bench:
    """With a core that has told what could be downloaded."""
    own_bench.open()
    panel = own_bench.panel
    panel.settings_fold.open = True
    panel.watch.core.warm()
    own_bench.wait_until(lambda: panel.watch.core.downloads)
    return own_bench


def button(bench: Bench) -> QtWidgets.QPushButton | None:
    """The one that leads to the question."""
    found = bench.panel.findChildren(QtWidgets.QPushButton, "lazyDownload-" + KLEIN)
    return found[0] if found else None


def says(bench: Bench) -> str:
    """What that button says; empty where there is none."""
    found = button(bench)
    return found.text() if found is not None and found.isVisible() else ""


def click(bench: Bench, qtbot: QtBot) -> str:
    """Click the button, and give what the notice's own says."""
    found = button(bench)
    assert found is not None
    qtbot.mouseClick(found, LEFT)
    return answer(bench).text()


def answer(bench: Bench) -> QtWidgets.QPushButton:
    found: QtWidgets.QPushButton = bench.panel.findChild(QtWidgets.QPushButton, "lazyNoticeAnswer")
    assert found.isVisible()
    return found


def test_a_model_is_downloaded_chosen_and_paints(bench: Bench, qtbot: QtBot) -> None:
    assert says(bench) == "Get flux2-klein…"
    assert click(bench, qtbot) == "Download it"
    assert bench.notice == FACTS
    qtbot.mouseClick(answer(bench), LEFT)
    assert bench.notice == "", "the button tells how far it is"
    bench.wait_until(lambda: bench.notice == "flux2-klein is here. It can be chosen as the model now.")
    assert says(bench) == ""
    model = bench.panel.settings.model
    row = model.findData(KLEIN)
    model.setCurrentIndex(row)
    model.activated.emit(row)
    bench.panel.settings.steps.setValue(1)
    bench.generate()
    assert [result.settings.model for result in bench.panel.results.results] == [KLEIN]


def test_it_can_be_stopped_and_goes_on(bench: Bench, hub: Hub, qtbot: QtBot) -> None:
    hub.stall, hub.cut = True, {WEIGHTS: [1000]}
    click(bench, qtbot)
    qtbot.mouseClick(answer(bench), LEFT)
    bench.wait_until(lambda: WEIGHTS in hub.fetched())
    bench.wait_until(lambda: says(bench).startswith("flux2-klein: downloading, "))
    assert not bench.panel.settings.model.model().item(bench.panel.settings.model.findData(KLEIN)).isEnabled()
    assert click(bench, qtbot) == "Stop the download"
    assert bench.notice.startswith("flux2-klein is being downloaded (")
    assert "Edits go on meanwhile." in bench.notice
    qtbot.mouseClick(answer(bench), LEFT)
    bench.wait_until(lambda: says(bench) == "Get flux2-klein…")
    assert bench.notice == "", "the artist knows that it was stopped"
    assert click(bench, qtbot) == "Go on with the download"
    assert "are here already" in bench.notice
    hub.stall = False
    qtbot.mouseClick(answer(bench), LEFT)
    bench.wait_until(lambda: "flux2-klein is here." in bench.notice)


def test_why_it_failed_is_told_and_it_can_be_tried_again(bench: Bench, hub: Hub, qtbot: QtBot) -> None:
    hub.error = (503, "")
    click(bench, qtbot)
    qtbot.mouseClick(answer(bench), LEFT)
    problem = "The hub refused with HTTP status 503: try again later; what is downloaded is kept."
    bench.wait_until(lambda: bench.notice == problem)
    click(bench, qtbot)
    assert bench.notice == f"{problem} {FACTS}"
    hub.error = None
    qtbot.mouseClick(answer(bench), LEFT)
    bench.wait_until(lambda: "flux2-klein is here." in bench.notice)


def test_an_edit_goes_on_meanwhile(bench: Bench, hub: Hub, qtbot: QtBot) -> None:
    hub.stall, hub.cut = True, {WEIGHTS: [1000]}
    click(bench, qtbot)
    qtbot.mouseClick(answer(bench), LEFT)
    bench.wait_until(lambda: WEIGHTS in hub.fetched())
    [made] = bench.generate()
    assert made.settings.model == "tiny"
    assert says(bench).startswith("flux2-klein: downloading, ")
