"""Cancelling at every moment, a core that is killed, and none that could be started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PyQt6 import QtCore, QtWidgets
from pytestqt.qtbot import QtBot
from tests.krita_plugin.conftest import Bench
from tests.service.installed import Installed

from lazydiffusion.client import State, connect, places, start

pytestmark = pytest.mark.integration

LEFT = QtCore.Qt.MouseButton.LeftButton


@pytest.fixture
def ends(bench: Bench) -> list[State]:
    """The states that edits came to."""
    states: list[State] = []
    bench.panel.session.ended.connect(states.append)
    return states


def long_edit(bench: Bench) -> None:
    bench.panel.settings.steps.setValue(200)
    bench.panel.settings.variations.setValue(8)
    bench.panel.generate()


def test_cancelled_while_the_canvas_is_read(bench: Bench, ends: list[State]) -> None:
    bench.open(2000, 1600)
    bench.panel.generate()
    bench.panel.cancel()
    assert not bench.panel.session.busy
    assert ends == [State.CANCELLED]
    assert len(bench.generate()) == 1, "the next one works"


def test_cancelled_while_the_core_starts(own_bench: Bench) -> None:
    bench, states = own_bench, []
    bench.panel.session.ended.connect(states.append)
    bench.open()
    bench.panel.generate()
    bench.wait_until(lambda: bench.panel.session.text == "Starting the core…")
    bench.panel.cancel()
    bench.wait_until(lambda: not bench.panel.session.busy, seconds=5)
    assert states == [State.CANCELLED]
    assert bench.notice == ""


def test_cancelled_in_the_middle_by_the_button_that_started_it(
    bench: Bench, ends: list[State], qtbot: QtBot
) -> None:
    document = bench.open()
    long_edit(bench)
    bench.wait_until(lambda: bench.panel.results.results)
    assert bench.panel.go.text() == "Cancel"
    qtbot.wait(QtWidgets.QApplication.doubleClickInterval())
    qtbot.mouseClick(bench.panel.go, LEFT)
    assert bench.panel.status.text() == "Cancelling…"
    bench.finish()
    assert ends == [State.CANCELLED]
    assert bench.notice == ""
    assert 1 <= len(bench.panel.results.results) < 8, "what was finished stays"
    assert document.undo_steps == []
    assert not connect(start=False).info()["queue"]["running"]


def test_a_double_click_on_generate_does_not_cancel(bench: Bench, ends: list[State], qtbot: QtBot) -> None:
    bench.open()
    qtbot.mouseClick(bench.panel.go, LEFT)
    qtbot.mouseDClick(bench.panel.go, LEFT)
    bench.finish()
    assert ends == [State.DONE]


def test_a_core_that_is_killed_is_told_and_the_next_edit_starts_another(
    own_bench: Bench, installed: Installed
) -> None:
    bench = own_bench
    bench.open()
    long_edit(bench)
    bench.wait_until(lambda: bench.panel.results.results)
    installed.kill()
    bench.finish()
    assert bench.notice == (
        "The LazyDiffusion core no longer answers. Try again: it is started anew if it has ended."
    )
    kept = len(bench.panel.results.results)
    assert kept >= 1
    bench.panel.settings.steps.setValue(0)
    assert len(bench.generate()) == kept + 1
    assert bench.notice == ""


def test_without_an_installed_core_the_docker_says_so_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(places.RUNTIME_VARIABLE, str(tmp_path / "nothing runs here"))
    monkeypatch.delenv(start.COMMAND_VARIABLE)
    monkeypatch.setenv("PATH", os.defpath)
    sentence = (
        "LazyDiffusion is not installed, or this editor does not know where. Install it and run "
        "`lazydiffusion connect`."
    )
    bench.panel.watch.core.look()
    bench.wait_until(lambda: bench.panel.status.text() == sentence)
    bench.open()
    bench.panel.generate()
    bench.finish()
    assert bench.notice == sentence
    assert bench.panel.results.results == []


def test_typing_a_prompt_starts_the_core_ahead_of_the_first_edit(
    own_bench: Bench, installed: Installed, qtbot: QtBot
) -> None:
    panel = own_bench.panel
    own_bench.wait_until(lambda: panel.status.text() == "Not running. It starts with the first edit.")
    qtbot.keyClicks(panel.prompt, "a")
    assert panel.status.text() == "Starting…"
    own_bench.wait_until(lambda: panel.status.text() == "Ready on the CPU")
    assert len(installed.cores()) == 1


def test_a_busy_core_says_with_whom(bench: Bench, qtbot: QtBot) -> None:
    from tests.service.core_process import long_request

    bench.open()
    bench.generate()
    edit = connect(client="gimp-1").submit(long_request())
    try:
        bench.wait_until(lambda: bench.panel.status.text() == "Busy with GIMP", seconds=10)
        bench.panel.generate()
        bench.wait_until(lambda: bench.panel.status.text().startswith("Waiting"), seconds=10)
    finally:
        edit.cancel()
    bench.finish()
    assert len(bench.panel.results.results) == 2


def test_an_error_in_krita_while_the_layer_is_made_loses_nothing(bench: Bench) -> None:
    document = bench.open()
    bench.generate()
    bench.panel.apply()
    document.close()
    bench.wait_until(lambda: not bench.panel.applying.busy)
    assert bench.notice == "The document was closed before the layer was made. The fill is in the history."
    assert document.undo_steps == []
    assert len(bench.panel.results.results) == 1


def test_closing_the_window_ends_its_edit(bench: Bench) -> None:
    bench.open()
    long_edit(bench)
    bench.wait_until(lambda: bench.panel.results.results)
    bench.panel.close_down()
    assert bench.panel.session.wait(60)
    assert not connect(start=False).info()["queue"]["running"]
