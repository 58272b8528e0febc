"""What an artist may have open and selected: nothing, too little, too much, hidden and locked layers, another size."""

from __future__ import annotations

import pytest
from PyQt6 import QtCore
from pytestqt.qtbot import QtBot
from tests.krita_plugin.conftest import Bench, layers
from tests.krita_plugin.fake_krita import Document, Krita, Node, Selection

from lazydiffusion.window import Box

pytestmark = pytest.mark.integration

LEFT = QtCore.Qt.MouseButton.LeftButton


def add(document: Document, name: str, type: str = "paintlayer", inside: Node | None = None) -> Node:
    """A layer on top, or in a group; the active one now. It is no undo step."""
    node = document.createNode(name, type)
    (inside or document.root).addChildNode(node, None)
    document.undo_steps.clear()
    return node


def test_without_a_document_the_docker_says_what_to_do(bench: Bench) -> None:
    bench.panel.generate()
    assert not bench.panel.session.busy
    assert bench.notice == "No picture is open. Open one, and select what is to be filled."


def test_without_a_selection_one_confirmation_fills_the_whole_canvas(bench: Bench, qtbot: QtBot) -> None:
    bench.open(64, 48, selected=False)
    bench.panel.generate()
    assert not bench.panel.session.busy
    assert bench.notice.startswith("Nothing is selected.")
    answer = bench.panel.notice.findChild(QtCore.QObject, "lazyNoticeAnswer")
    assert answer.text() == "Fill the whole canvas"
    qtbot.mouseClick(answer, LEFT)
    assert bench.panel.session.busy
    assert bench.notice == ""
    bench.finish()
    [result] = bench.panel.results.results
    assert result.box == Box(0, 0, 64, 48)


def test_a_selection_that_is_empty_is_none(bench: Bench) -> None:
    bench.open().chosen = Selection.box(0, 0, 0, 0)
    bench.panel.generate()
    assert bench.notice.startswith("Nothing is selected.")


def test_a_selection_partly_outside_fills_the_part_inside(bench: Bench) -> None:
    document = bench.open()
    document.chosen = Selection.box(-20, 90, 60, 80)
    [result] = bench.generate()
    assert result.box == Box(0, 90, 40, 30)
    bench.apply()
    layer = document.root.children[1].pixels
    assert layer.pixelColor(0, 90).alpha() == layer.pixelColor(39, 119).alpha() == 255
    assert layer.pixelColor(40, 90).alpha() == layer.pixelColor(0, 89).alpha() == 0


def test_a_selection_outside_of_the_canvas_is_told(bench: Bench) -> None:
    bench.open().chosen = Selection.box(500, 500, 20, 20)
    bench.panel.generate()
    bench.finish()
    assert bench.notice == (
        "The selection lies outside of the canvas of 200 x 120 px. Move it onto the canvas."
    )
    assert bench.panel.results.results == []


def test_a_selection_in_which_nothing_is_selected_is_told(bench: Bench) -> None:
    bench.open().chosen = Selection.box(10, 10, 20, 20, value=0)
    bench.panel.generate()
    bench.finish()
    assert bench.notice.startswith("Nothing of the selection lies on the canvas.")


def test_a_canvas_that_is_too_small_is_told_with_its_size(bench: Bench) -> None:
    bench.open(12, 40).chosen = Selection.box(0, 0, 5, 5)
    bench.panel.generate()
    bench.finish()
    assert bench.notice == (
        "The canvas is 12 x 40 px; each side must be between 16 and 16384 px: enlarge it first."
    )


def test_the_layer_comes_above_the_active_one(bench: Bench) -> None:
    document = bench.open()
    add(document, "top")
    document.active = document.background
    bench.generate()
    bench.apply()
    assert [layers(document)[0], layers(document)[2]] == ["Background", "top"]


def test_a_locked_or_hidden_active_layer_stays_as_it_is(bench: Bench) -> None:
    document = bench.open()
    active = add(document, "ink")
    active.is_locked, active.is_visible = True, False
    bench.generate()
    bench.apply()
    assert layers(document)[:2] == ["Background", "ink"]
    assert len(layers(document)) == 3
    assert document.written_in_place == []


def test_in_a_group_the_layer_stays_in_it(bench: Bench) -> None:
    document = bench.open()
    group = add(document, "group", "grouplayer")
    add(document, "in the group", inside=group)
    bench.generate()
    bench.apply()
    assert layers(document) == ["Background", "group"]
    assert group.children[0].name() == "in the group"
    assert len(group.children) == 2


@pytest.mark.parametrize("state", ["hidden", "locked"])
def test_a_layer_is_not_put_where_it_could_not_be_seen_or_touched(bench: Bench, state: str) -> None:
    document = bench.open()
    outer = add(document, "outer", "grouplayer")
    inner = add(document, "inner", "grouplayer", inside=outer)
    add(document, "drawing", inside=inner)
    outer.is_visible, outer.is_locked = state != "hidden", state == "locked"
    bench.generate()
    bench.apply()
    assert layers(document)[:2] == ["Background", "outer"]
    assert len(layers(document)) == 3


def test_with_a_mask_active_the_layer_comes_above_the_masks_layer(bench: Bench) -> None:
    document = bench.open()
    add(document, "mask", "transparencymask", inside=document.background)
    add(document, "top")
    document.active = document.background.children[0]
    bench.generate()
    bench.apply()
    assert [layers(document)[0], layers(document)[2]] == ["Background", "top"]


def test_a_document_that_grew_takes_the_layer_at_its_old_place_and_says_so(bench: Bench) -> None:
    document = bench.open()
    bench.generate()
    document.resize(300, 300)
    bench.apply()
    assert len(document.undo_steps) == 1
    assert bench.notice.startswith(
        "The canvas was 200 x 120 px when the fill was made and is 300 x 300 px now."
    )


def test_a_document_that_no_longer_reaches_the_fill_refuses_it(bench: Bench) -> None:
    document = bench.open()
    bench.generate()
    document.resize(50, 30)
    bench.apply()
    assert document.undo_steps == []
    assert "lies outside of this one of 50 x 30 px" in bench.notice
    assert len(bench.panel.results.results) == 1, "the fill is still there"


def test_a_document_closed_while_it_is_read_is_told(bench: Bench, krita: Krita) -> None:
    document = bench.open()
    bench.panel.generate()
    document.close()
    bench.finish()
    assert bench.notice == "The document was closed while it was being read."


def test_a_document_closed_during_the_edit_costs_no_fill(bench: Bench) -> None:
    document = bench.open()
    bench.panel.settings.steps.setValue(100)
    bench.panel.generate()
    bench.wait_until(lambda: bench.panel.session.share)
    document.close()
    bench.window.close_document()
    bench.finish()
    [result] = bench.panel.results.results
    bench.panel.results.choose(result)
    bench.apply()
    assert bench.notice == "No picture is open that the fill could be applied to. Open one."
    bench.panel.results.choose(None)
    other = bench.open()
    bench.panel.results.choose(result)
    bench.apply()
    assert len(other.undo_steps) == 1
    assert bench.notice == "The fill was made for another picture, which is closed."


def test_two_windows_work_side_by_side(bench: Bench, qtbot: QtBot) -> None:
    left, right = bench, Bench(qtbot)
    one, two = left.open(), right.open(100, 80)
    left.panel.generate()
    right.panel.generate()
    left.finish()
    right.finish()
    right.apply()
    assert (one.undo_steps, len(two.undo_steps)) == ([], 1)
    left.apply()
    assert len(one.undo_steps) == 1


def test_a_fill_goes_to_its_own_document_even_if_another_is_shown(bench: Bench) -> None:
    first = bench.open()
    bench.generate()
    second = bench.open()
    assert bench.overlay is None, "a preview belongs to one document"
    bench.apply()
    assert (len(first.undo_steps), second.undo_steps) == (1, [])
