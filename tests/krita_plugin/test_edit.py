"""A fill from the first click to the layer, by the docker's own buttons and a real core."""

from __future__ import annotations

import pytest
from krita_plugin.lazydiffusion.session import StepPreview
from PyQt6 import QtCore, QtGui
from pytestqt.qtbot import QtBot
from tests.krita_plugin.conftest import Bench, layers
from tests.krita_plugin.fake_krita import Selection

from lazydiffusion.client import State
from lazydiffusion.window import Box

pytestmark = pytest.mark.integration

LEFT, SHIFT = QtCore.Qt.MouseButton.LeftButton, QtCore.Qt.KeyboardModifier.ShiftModifier


def test_from_prompt_to_layer(bench: Bench, qtbot: QtBot) -> None:
    document = bench.open()
    panel = bench.panel
    before = document.projection(0, 0, 200, 120)
    qtbot.keyClicks(panel.prompt, "a red apple")
    qtbot.mouseClick(panel.go, LEFT)
    assert panel.session.busy
    assert panel.go.text() == "Cancel"
    bench.finish()
    assert bench.notice == ""
    assert panel.go.text() == "Generate"
    assert panel.status.text().startswith(("Ready on", "Busy", "Starting")), panel.status.text()
    [result] = panel.results.results
    assert result.box == Box(60, 30, 50, 40)
    assert result.fill.seed == panel.preferences.seed

    # It is shown, and the document is as it was.
    assert panel.results.current is result
    assert bench.overlay is not None
    assert document.projection(0, 0, 200, 120) == before
    assert document.undo_steps == []

    qtbot.mouseClick(panel.apply_button, LEFT)
    bench.wait_until(lambda: not panel.applying.busy)
    assert layers(document) == ["Background", f"a red apple (seed {result.fill.seed})"]
    assert document.undo_steps == [f"Add Layer a red apple (seed {result.fill.seed})"]
    assert document.written_in_place == []
    assert bench.overlay is None
    layer = document.root.children[1].pixels
    assert (
        layer.copy(60, 30, 50, 40).convertToFormat(QtGui.QImage.Format.Format_RGBA8888) == result.picture.full
    )
    assert layer.pixelColor(59, 30).alpha() == 0
    assert layer.pixelColor(60, 30).alpha() == 255


def test_shift_enter_generates_and_enter_does_not(bench: Bench, qtbot: QtBot) -> None:
    bench.open()
    qtbot.keyClicks(bench.panel.prompt, "a cat")
    qtbot.keyClick(bench.panel.prompt, QtCore.Qt.Key.Key_Return)
    assert not bench.panel.session.busy
    qtbot.keyClicks(bench.panel.prompt, "black")
    qtbot.keyClick(bench.panel.prompt, QtCore.Qt.Key.Key_Return, SHIFT)
    assert bench.panel.session.busy
    bench.finish()
    [result] = bench.panel.results.results
    assert result.settings.prompt == "a cat\nblack"
    assert result.layer_name.startswith("a cat black (seed ")


def test_variations_come_one_after_the_other_and_the_first_is_shown(bench: Bench, qtbot: QtBot) -> None:
    bench.open()
    panel = bench.panel
    panel.settings.variations.setValue(3)
    states: list[tuple[str, float | None]] = []
    panel.session.changed.connect(lambda: states.append((panel.session.text, panel.session.share)))
    qtbot.mouseClick(panel.go, LEFT)
    bench.finish()
    results = panel.results.results
    assert [result.fill.fill for result in results] == [0, 1, 2]
    seeds = [result.fill.seed for result in results]
    assert seeds == [seeds[0], seeds[0] + 1, seeds[0] + 2]
    assert panel.results.current is results[0]
    assert any("Fill 3 of 3, step 1 of" in text for text, share in states)
    shares = [share for text, share in states if share is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_first_fill_is_shown_as_it_comes(bench: Bench) -> None:
    bench.open()
    panel = bench.panel
    shown: list[StepPreview] = []
    panel.session.previewed.connect(lambda live: shown.append(live) if bench.overlay is not None else None)
    panel.settings.steps.setValue(200)
    bench.generate(variations=2)
    assert {live.box for live in shown} == {Box(60, 30, 50, 40)}
    assert shown[0].picture.full.pixelColor(0, 0).alpha() == 255
    assert panel.results.current is panel.results.results[0]


def test_next_and_previous_go_round(bench: Bench, qtbot: QtBot) -> None:
    bench.open()
    panel = bench.panel
    bench.generate(variations=2)
    first, second = panel.results.results
    qtbot.mouseClick(panel.next, LEFT)
    assert panel.results.current is second
    qtbot.mouseClick(panel.next, LEFT)
    assert panel.results.current is first
    qtbot.mouseClick(panel.previous, LEFT)
    assert panel.results.current is second


def test_a_click_on_the_chosen_thumbnail_hides_it_and_another_shows_it_again(
    bench: Bench, qtbot: QtBot
) -> None:
    bench.open()
    panel = bench.panel
    bench.generate(variations=2)
    first, second = panel.results.results

    def click(row: int) -> None:
        at = panel.results.visualItemRect(panel.results.item(row)).center()
        qtbot.mouseClick(panel.results.viewport(), LEFT, pos=at)

    assert bench.overlay is not None
    click(0)
    assert panel.results.current is None
    assert bench.overlay is None
    click(1)
    assert panel.results.current is second
    assert bench.overlay is not None
    click(0)
    assert panel.results.current is first


def test_discarding_leaves_no_trace_in_the_document(bench: Bench, qtbot: QtBot) -> None:
    document = bench.open()
    before = document.projection(0, 0, 200, 120)
    panel = bench.panel
    bench.generate(variations=2)
    second = panel.results.results[1]
    qtbot.mouseClick(panel.discard_button, LEFT)
    assert panel.results.results == [second]
    assert panel.results.current is second
    qtbot.mouseClick(panel.discard_button, LEFT)
    assert panel.results.results == []
    assert bench.overlay is None
    assert not panel.result_part.isVisible()
    assert document.projection(0, 0, 200, 120) == before
    assert (document.undo_steps, document.written_in_place, layers(document)) == ([], [], ["Background"])


def test_the_fills_alpha_follows_a_soft_selection(bench: Bench) -> None:
    document = bench.open(selected=False)
    coverage = QtGui.QImage(40, 40, QtGui.QImage.Format.Format_Grayscale8)
    for x in range(40):
        for y in range(40):
            coverage.setPixelColor(x, y, QtGui.QColor(6 * x + 1, 6 * x + 1, 6 * x + 1))
    document.chosen = Selection(20, 10, coverage)
    bench.generate()
    bench.apply()
    layer = document.root.children[1].pixels
    for x in (0, 10, 25, 39):
        assert layer.pixelColor(20 + x, 30).alpha() == pytest.approx(6 * x + 1, abs=1)
    assert layer.pixelColor(19, 30).alpha() == layer.pixelColor(60, 30).alpha() == 0


def test_an_edit_without_a_core_that_runs_starts_one(own_bench: Bench) -> None:
    own_bench.open()
    texts: set[str] = set()
    own_bench.panel.session.changed.connect(lambda: texts.add(own_bench.panel.session.text))
    assert len(own_bench.generate()) == 1
    assert "Starting the core…" in texts


def test_results_of_several_edits_stay_together(bench: Bench) -> None:
    bench.open()
    [first] = bench.generate()
    both = bench.generate()
    assert both[0] is first
    assert len(both) == 2
    assert bench.panel.results.current is both[1], "the newest is shown"


def test_the_end_of_an_edit_is_told(bench: Bench) -> None:
    bench.open()
    ends: list[State] = []
    bench.panel.session.ended.connect(ends.append)
    bench.generate()
    assert ends == [State.DONE]
