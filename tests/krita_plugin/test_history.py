"""The fills of earlier edits: listed, shown, applied, done again, forgotten."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from krita_plugin.lazydiffusion import history
from krita_plugin.lazydiffusion.history import HistoryView
from PyQt6 import QtCore, QtGui, QtWidgets
from pytestqt.qtbot import QtBot
from tests.krita_plugin.conftest import Bench, layers
from tests.krita_plugin.fake_krita import Selection
from tests.service.installed import Installed

from lazydiffusion.client import Core, HistoryEntry, connect, places, start
from lazydiffusion.protocol import MAX_SEED
from lazydiffusion.window import Box

pytestmark = pytest.mark.integration

LEFT = QtCore.Qt.MouseButton.LeftButton
SMOOTH = QtCore.Qt.TransformationMode.SmoothTransformation
NONE_YET = "No fills yet. Each one that is made will be here, also after Krita's restart."


@pytest.fixture
def bench(qtbot: QtBot, core: Installed) -> Bench:
    """A window, and a core that remembers nothing."""
    connect().delete_history()
    return Bench(qtbot)


def open_history(bench: Bench) -> HistoryView:
    """By a click on its heading; until the core has answered."""
    panel = bench.panel
    bench.qtbot.mouseClick(panel.history_fold.findChild(QtWidgets.QToolButton, "lazyHistoryFold"), LEFT)
    assert panel.history.isVisible()
    bench.wait_until(lambda: said(bench) != "Asking the core…")
    return panel.history


def said(bench: Bench) -> str:
    label = bench.panel.history.findChild(QtWidgets.QLabel, "lazyHistoryEmpty")
    return label.text() if not label.isHidden() else ""


def captions(view: HistoryView) -> list[str]:
    return [view.list.item(row).text() for row in range(view.list.count())]


def press(bench: Bench, name: str, row: int = 0) -> None:
    """Choose a fill, and click one of the buttons."""
    bench.panel.history.list.setCurrentRow(row)
    button = bench.panel.history.findChild(QtWidgets.QPushButton, f"lazyHistory{name}")
    bench.qtbot.mouseClick(button, LEFT)


def make(bench: Bench, prompt: str, variations: int = 1) -> list[int]:
    """An edit; the seeds of its fills."""
    bench.panel.prompt.setPlainText(prompt)
    return [result.fill.seed for result in bench.generate(variations)[-variations:]]


def test_an_empty_history_says_so(bench: Bench) -> None:
    view = open_history(bench)
    assert said(bench) == NONE_YET
    assert view.current is None
    for name in ("Show", "Apply", "Reuse"):
        assert not view.findChild(QtWidgets.QPushButton, f"lazyHistory{name}").isEnabled()


def test_fills_are_listed_with_prompt_and_seed_the_newest_first(bench: Bench) -> None:
    bench.open()
    [apple] = make(bench, "a red\n  apple")
    view = open_history(bench)
    seeds = make(bench, "", variations=2)
    bench.wait_until(lambda: view.list.count() == 3)
    wanted = [("(no prompt)", seeds[0]), ("(no prompt)", seeds[1]), ("a red apple", apple)]
    for caption, (prompt, seed) in zip(captions(view), wanted, strict=True):
        first, second = caption.splitlines()
        assert first == prompt
        assert second.startswith(f"seed {seed} · ")
    assert said(bench) == ""


def test_a_thumbnail_has_the_fills_colours(bench: Bench) -> None:
    bench.open()
    [result] = bench.generate()
    view = open_history(bench)
    bench.wait_until(lambda: view._icons)
    shown = view.list.item(0).icon().pixmap(view.list.iconSize()).toImage()
    assert (shown.width(), shown.height()) == (56, 56)
    assert shown.pixelColor(28, 1).alpha() == 0, "the fill is wider than high"
    assert shown.pixelColor(1, 28).name() == QtGui.QColor("seagreen").name(), "what is around it"
    assert shown.pixelColor(54, 28).name() == QtGui.QColor("royalblue").name()
    ours = result.thumbnail.toImage().scaledToWidth(56, SMOOTH)
    top = (56 - ours.height()) // 2

    def mean(picture: QtGui.QImage) -> list[int]:
        colour = QtGui.QColor(picture.scaled(1, 1, transformMode=SMOOTH).pixel(0, 0))
        return [colour.red(), colour.green(), colour.blue()]

    for x, y in ((8, 8), (30, 8), (8, 25), (30, 25)):
        there, here = mean(shown.copy(x, y + top, 16, 12)), mean(ours.copy(x, y, 16, 12))
        assert there == pytest.approx(here, abs=16)


def test_it_survives_a_restart_of_krita_and_of_the_core(
    own_bench: Bench, installed: Installed, qtbot: QtBot
) -> None:
    assert installed.cores() == []
    open_history(own_bench)
    assert said(own_bench) == NONE_YET
    assert len(installed.cores()) == 1, "opening it has started the core"
    own_bench.open()
    make(own_bench, "a red apple")
    before = own_bench.panel.results.results[0].fill
    own_bench.panel.close_down()
    assert connect(start=False).stop()

    bench = Bench(qtbot)
    bench.open()
    view = open_history(bench)
    [caption] = captions(view)
    assert caption.startswith(f"a red apple\nseed {before.seed}")
    press(bench, "Show")
    bench.wait_until(lambda: bench.panel.results.results)
    after = bench.panel.results.results[0].fill
    assert (after.rgba, after.box, after.seed) == (before.rgba, before.box, before.seed)

    connect().delete_history()
    press(bench, "Show")
    bench.wait_until(lambda: bench.notice)
    assert len(bench.panel.results.results) == 1, "what was forgotten elsewhere cannot be shown"


def test_show_puts_it_on_the_canvas_and_leaves_the_document_alone(bench: Bench, qtbot: QtBot) -> None:
    document = bench.open()
    make(bench, "a cat")
    again = Bench(qtbot)
    again.open()
    open_history(again)
    press(again, "Show")
    again.wait_until(lambda: again.panel.results.current is not None)
    [result] = again.panel.results.results
    assert result.settings.prompt == "a cat"
    assert again.overlay is not None
    assert (document.undo_steps, layers(document)) == ([], ["Background"])


def test_a_double_click_shows_it_too(bench: Bench, qtbot: QtBot) -> None:
    bench.open()
    make(bench, "a cat")
    view = open_history(bench)
    bench.panel.discard()
    view.list.itemDoubleClicked.emit(view.list.item(0))
    assert bench.panel.results.results == [], "none is chosen"
    view.list.setCurrentRow(0)
    view.list.itemDoubleClicked.emit(view.list.item(0))
    bench.wait_until(lambda: bench.panel.results.results)


def test_apply_makes_a_layer_of_the_open_picture(bench: Bench, qtbot: QtBot) -> None:
    first = bench.open()
    [seed] = make(bench, "a cat")
    made = bench.panel.results.results[0]
    second = bench.open()
    open_history(bench)
    press(bench, "Apply")
    bench.wait_until(lambda: second.undo_steps)
    assert first.undo_steps == []
    assert layers(second) == ["Background", f"a cat (seed {seed})"]
    layer = second.root.children[1].pixels
    part = layer.copy(60, 30, 50, 40).convertToFormat(QtGui.QImage.Format.Format_RGBA8888)
    assert part == made.picture.full
    bench.wait_until(lambda: not bench.panel.applying.busy)


def test_a_fill_of_another_canvas_lies_at_its_old_place_or_is_refused(bench: Bench) -> None:
    bench.open()
    make(bench, "a cat")
    larger = bench.open(400, 300)
    open_history(bench)
    press(bench, "Apply")
    bench.wait_until(lambda: larger.undo_steps and not bench.panel.applying.busy)
    assert bench.notice.startswith(
        "The canvas was 200 x 120 px when the fill was made and is 400 x 300 px now."
    )
    assert larger.root.children[1].pixels.pixelColor(60, 30).alpha() == 255
    tiny = bench.open(40, 20)
    press(bench, "Apply")
    bench.wait_until(lambda: "lies outside of this one of 40 x 20 px" in bench.notice)
    assert tiny.undo_steps == []


def test_its_settings_make_the_chosen_fill_again(bench: Bench) -> None:
    document = bench.open()
    bench.panel.settings.steps.setValue(4)
    bench.panel.settings.feather.setValue(3)
    make(bench, "a cat", variations=2)
    second = bench.panel.results.results[1].fill
    open_history(bench)
    bench.panel.settings.steps.setValue(7)
    bench.panel.settings.feather.setValue(0)
    bench.panel.prompt.setPlainText("a dog")
    press(bench, "Reuse", row=1)
    panel = bench.panel
    assert panel.prompt.toPlainText() == "a cat"
    assert (panel.settings.seed.text(), panel.settings.lock.isChecked()) == (str(second.seed), True)
    assert (panel.settings.steps.value(), panel.settings.feather.value()) == (4, 3)
    assert panel.settings.variations.value() == 1
    document.chosen = Selection.box(60, 30, 50, 40)
    panel.generate()
    bench.finish()
    assert panel.results.results[-1].fill.rgba == second.rgba


def test_the_settings_of_a_fill_past_the_largest_seed_are_told_to_be_no_use(bench: Bench) -> None:
    bench.open()
    bench.panel.settings.seed.setText(str(MAX_SEED))
    bench.panel.settings.lock.setChecked(True)
    bench.panel.settings.variations.setValue(2)
    bench.panel.generate()
    bench.finish()
    view = open_history(bench)
    for row in range(view.list.count()):
        press(bench, "Reuse", row)
        told = bench.notice
    assert told == "The seed is 9223372036854775808; it must be between 0 and 9223372036854775807."
    assert bench.panel.settings.seed.text() == str(MAX_SEED)


def forget(bench: Bench, row: int) -> None:
    """By the menu of a fill."""
    view = bench.panel.history
    view.list.setCurrentRow(row)
    view.list.customContextMenuRequested.emit(view.list.visualItemRect(view.list.item(row)).center())
    [menu] = view.findChildren(QtWidgets.QMenu)
    [action] = menu.actions()
    assert action.text() == "Forget this edit"
    with bench.qtbot.waitSignal(menu.destroyed):
        action.trigger()
        menu.close()


def test_an_edit_can_be_forgotten_with_all_its_fills(bench: Bench) -> None:
    bench.open()
    make(bench, "a cat", variations=2)
    make(bench, "a dog")
    view = open_history(bench)
    assert len(captions(view)) == 3
    forget(bench, 2)
    assert bench.notice == "This edit has 2 fills. All of them would be deleted for good."
    assert len(captions(view)) == 3
    bench.panel.notice._answer.click()
    bench.wait_until(lambda: len(captions(view)) == 1)
    assert captions(view)[0].startswith("a dog")
    forget(bench, 0)
    bench.wait_until(lambda: said(bench) == NONE_YET)
    assert connect().history() == []
    assert len(bench.panel.results.results) == 3, "what is on the docker stays"


def test_the_chosen_fill_stays_chosen_when_new_ones_come(bench: Bench) -> None:
    bench.open()
    [cat] = make(bench, "a cat")
    view = open_history(bench)
    view.list.setCurrentRow(0)
    make(bench, "a dog")
    bench.wait_until(lambda: view.list.count() == 2)
    assert view.list.currentRow() == 1
    assert view.current is not None
    assert view.current.fill.seed == cat


def test_a_core_that_cannot_be_started_says_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(places.RUNTIME_VARIABLE, str(tmp_path / "nothing runs here"))
    monkeypatch.delenv(start.COMMAND_VARIABLE)
    monkeypatch.setenv("PATH", os.defpath)
    open_history(bench)
    assert said(bench).startswith("LazyDiffusion is not installed, or this editor does not know where.")


def test_a_newer_list_wins_over_an_older_one_that_comes_late(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.open()
    make(bench, "a cat")
    late, old = threading.Event(), threading.Event()

    class Slow(Core):
        """Its first answer takes its time."""

        def history(self, limit: int = 100) -> list[HistoryEntry]:
            entries = super().history(limit)
            if not old.is_set():
                old.set()
                late.wait(20)
            return entries

    def slow(client: str = "") -> Core:
        return Slow(connect(client=client)._transport, client)

    monkeypatch.setattr(history, "connect", slow)
    view = bench.panel.history
    bench.panel.history_fold.open = True
    bench.wait_until(old.is_set)
    [thread] = [it for it in threading.enumerate() if it.name == "lazydiffusion-background"]
    connect().delete_history()
    view.load()
    bench.wait_until(lambda: said(bench) == NONE_YET)
    late.set()
    thread.join(20)
    bench.qtbot.wait(50)
    assert (captions(view), said(bench)) == ([], NONE_YET)


def test_a_box_of_the_history_is_the_fills_own(bench: Bench) -> None:
    bench.open()
    make(bench, "a cat")
    [entry] = connect().history()
    assert entry.fills[0].box == Box(60, 30, 50, 40)
    assert entry.canvas_size == (200, 120)
    assert entry.client.startswith("krita-")
