"""Which picture a fill belongs to, and where it is shown and applied when the artist looks at another one."""

from __future__ import annotations

import pytest
from krita_plugin.lazydiffusion import docker as docker_module
from PyQt6 import QtCore, QtGui, QtWidgets
from pytestqt.qtbot import QtBot
from tests.krita_plugin.conftest import Bench, layers
from tests.krita_plugin.fake_krita import Document, Krita, Node, Selection

pytestmark = pytest.mark.integration

LEFT = QtCore.Qt.MouseButton.LeftButton
COVERED = "Layers above the new one cover it, or change its look."


def close(bench: Bench, document: Document) -> None:
    document.close()
    bench.window.close_document()
    bench.panel.canvas_changed()


def click(bench: Bench, row: int) -> None:
    """Click a thumbnail."""
    results = bench.panel.results
    place = results.visualItemRect(results.item(row)).center()
    bench.qtbot.mouseClick(results.viewport(), LEFT, pos=place)


def answer(bench: Bench) -> QtWidgets.QPushButton:
    """The button in the notice."""
    found: QtWidgets.QPushButton = bench.panel.findChild(QtWidgets.QPushButton, "lazyNoticeAnswer")
    return found


def test_a_fill_of_a_closed_picture_does_not_come_up_on_the_next_one(bench: Bench) -> None:
    first = bench.open()
    bench.generate()
    assert bench.overlay is not None
    close(bench, first)
    second = bench.open()
    assert (bench.overlay, bench.panel.results.current) == (None, None)
    click(bench, 0)  # the artist asks for it: it may be the same picture, opened again
    assert bench.overlay is not None
    bench.apply()
    assert bench.notice == "The fill was made for another picture, which is closed."
    assert len(second.undo_steps) == 1


def test_an_edit_whose_picture_was_closed_meanwhile_shows_nothing_by_itself(bench: Bench) -> None:
    document = bench.open()
    bench.panel.settings.steps.setValue(100)
    bench.panel.generate()
    bench.wait_until(lambda: bench.panel.session.share)
    close(bench, document)
    bench.open()
    bench.finish()
    assert len(bench.panel.results.results) == 1
    assert bench.overlay is None
    assert bench.panel.results.current is None


def test_a_fill_of_another_open_picture_is_told_to_be_there(bench: Bench) -> None:
    first = bench.open()
    first._name = "mountains"
    bench.generate()
    bench.panel.results.choose(None)
    second = bench.open()
    click(bench, 0)
    assert bench.overlay is None
    assert bench.notice == 'This fill belongs to "mountains". Show that picture to see it.'
    bench.apply()
    assert bench.notice == 'The layer was added to "mountains".'
    assert (len(first.undo_steps), second.undo_steps) == (1, [])


def test_showing_an_edit_of_the_history_on_another_picture_shows_it_there(bench: Bench) -> None:
    bench.open()
    bench.generate()
    bench.panel.results.choose(None)
    bench.open()
    panel = bench.panel
    panel.history_fold.open = True
    bench.wait_until(lambda: panel.history.list.count())
    panel.history.list.setCurrentRow(0)
    panel.history._show.click()
    bench.wait_until(lambda: bench.overlay is not None)
    assert len(panel.results.results) == 2


def add(document: Document, name: str, box: QtCore.QRect, type: str = "paintlayer") -> Node:
    """A layer at the top that is red in a box, and transparent elsewhere."""
    node = document.createNode(name, type)
    painter = QtGui.QPainter(node.pixels)
    painter.fillRect(box, QtGui.QColor("crimson"))
    painter.end()
    active = document.active
    document.root.addChildNode(node, None)
    document.active = active
    return node


INSIDE, BESIDE = QtCore.QRect(70, 40, 10, 10), QtCore.QRect(0, 0, 20, 20)


def test_a_layer_that_covers_the_new_one_is_told_and_one_click_puts_it_above(bench: Bench) -> None:
    document = bench.open()
    add(document, "object", INSIDE)
    bench.generate()
    bench.apply()
    names = layers(document)
    assert names[0] == "Background"
    assert names[2] == "object"
    assert bench.notice == COVERED
    bench.qtbot.mouseClick(answer(bench), LEFT)
    assert layers(document) == ["Background", "object", names[1]]
    assert bench.notice == ""


@pytest.mark.parametrize(
    ("where", "type", "visible", "told"),
    [
        (BESIDE, "paintlayer", True, False),
        (INSIDE, "paintlayer", False, False),
        (BESIDE, "filterlayer", True, True),
        (BESIDE, "filterlayer", False, False),
        (INSIDE, "selectionmask", True, False),
    ],
    ids=["beside it", "hidden", "an adjustment", "a hidden adjustment", "a mask"],
)
def test_a_layer_above_is_told_only_where_it_changes_the_look(
    bench: Bench, where: QtCore.QRect, type: str, visible: bool, told: bool
) -> None:
    document = bench.open()
    add(document, "above", where, type).is_visible = visible
    bench.generate()
    bench.apply()
    assert (bench.notice == COVERED) == told


def test_layers_above_the_group_of_the_new_one_count_too(bench: Bench) -> None:
    document = bench.open()
    group = document.createNode("group", "grouplayer")
    document.root.addChildNode(group, document.background)
    inner = document.createNode("inner", "paintlayer")
    group.addChildNode(inner, None)
    add(document, "object", INSIDE)
    document.active = inner
    bench.generate()
    bench.apply()
    assert group.children[0] is inner
    assert len(group.children) == 2
    assert bench.notice == COVERED
    document.close()
    answer(bench).click()  # the picture is gone: nothing happens
    assert len(group.children) == 2


def test_what_is_selected_after_generate_does_not_matter(bench: Bench) -> None:
    """A large selection is read in many turns; the artist goes on selecting meanwhile."""
    document = bench.open(1600, 1200)
    document.chosen = Selection.box(100, 100, 1000, 800)
    bench.panel.settings.steps.setValue(1)
    bench.panel.generate()
    document.chosen = None
    bench.finish()
    [result] = bench.panel.results.results
    assert result.box.as_list() == [100, 100, 1000, 800]


def test_a_preview_that_was_hidden_does_not_come_back_with_the_next_variation(bench: Bench) -> None:
    bench.open()
    panel = bench.panel
    panel.settings.steps.setValue(60)
    panel.settings.variations.setValue(3)
    panel.generate()
    bench.wait_until(lambda: panel.results.results)
    click(bench, 0)
    assert bench.overlay is None
    seen: list[bool] = []
    panel.session.previewed.connect(lambda live: seen.append(bench.overlay is not None))
    bench.finish()
    assert len(panel.results.results) == 3
    assert not any(seen)
    assert (panel.results.current, bench.overlay) == (None, None)
    bench.generate()  # another edit is shown as ever
    assert bench.overlay is not None


def test_after_the_first_variation_was_applied_the_next_ones_wait(bench: Bench) -> None:
    document = bench.open()
    panel = bench.panel
    panel.settings.steps.setValue(60)
    panel.settings.variations.setValue(2)
    panel.generate()
    bench.wait_until(lambda: panel.results.results)
    bench.apply()
    assert len(document.undo_steps) == 1
    bench.finish()
    assert (panel.results.current, bench.overlay) == (None, None)


def test_a_discarded_variation_makes_room_for_the_next(bench: Bench) -> None:
    bench.open()
    panel = bench.panel
    panel.settings.steps.setValue(60)
    panel.settings.variations.setValue(2)
    panel.generate()
    bench.wait_until(lambda: panel.results.results)
    panel.discard()
    bench.finish()
    [second] = panel.results.results
    assert panel.results.current is second
    assert bench.overlay is not None


def test_what_a_shortcut_could_not_do_is_seen_although_the_docker_is_closed(
    qtbot: QtBot, bench: Bench, krita: Krita
) -> None:
    made = docker_module.LazyDiffusionDocker()
    window = bench.window.widget
    window.addDockWidget(QtCore.Qt.DockWidgetArea.LeftDockWidgetArea, made)
    made.setParent(window)
    bench.open(selected=False)
    made.hide()
    docker_module.trigger(window, "next")
    assert not made.isVisible()
    docker_module.trigger(window, "generate")
    assert made.isVisible()
    assert made.panel.notice.text.startswith("Nothing is selected.")
    made.panel.close_down()


def test_saving_the_preferences_does_not_wait_for_the_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("lazydiffusion.client.places.os.fsync", synced.append)
    bench.panel.preferences.save()
    assert synced == []
