"""A layer as a sketch: which can be chosen, what it does, and what happens when it goes."""

from __future__ import annotations

import pytest
from PyQt6 import QtGui
from tests.krita_plugin.conftest import Bench
from tests.krita_plugin.fake_krita import Document, Node

pytestmark = pytest.mark.integration


def add(document: Document, name: str, type: str = "paintlayer", inside: Node | None = None) -> Node:
    """A layer on top, or in a group, of one colour."""
    node = document.createNode(name, type)
    node.pixels.fill(QtGui.QColor("crimson"))
    (inside or document.root).addChildNode(node, None)
    return node


def listed(bench: Bench) -> list[str]:
    """The layers' names, after the list was opened."""
    sketch = bench.panel.settings.sketch
    sketch.showPopup()
    sketch.hidePopup()
    return [sketch.itemText(row) for row in range(sketch.count())]


def choose(bench: Bench, name: str) -> None:
    assert name in listed(bench)
    bench.panel.settings.sketch.setCurrentText(name)


@pytest.fixture
def document(bench: Bench) -> Document:
    """One that is open, with the same seed for every edit."""
    bench.panel.settings_fold.open = True
    bench.panel.settings.lock.setChecked(True)
    return bench.open()


def test_layers_are_looked_up_when_the_list_opens_from_the_top_down(bench: Bench, document: Document) -> None:
    group = add(document, "group", "grouplayer")
    add(document, "lower", inside=group)
    add(document, "upper", "vectorlayer", inside=group)
    add(document, "filter", "filterlayer")
    add(document, "a mask", "transparencymask", inside=document.background)
    assert bench.panel.settings.sketch.count() == 2, "not looked up yet"
    assert listed(bench) == ["None", "group", "upper", "lower", "Background"]


def test_without_a_document_there_is_none(bench: Bench) -> None:
    bench.panel.settings_fold.open = True
    assert listed(bench) == ["None"]


def test_a_sketch_changes_the_fill_of_the_same_seed(bench: Bench, document: Document) -> None:
    drawing = add(document, "drawing")
    drawing.is_visible = False
    bench.generate()
    choose(bench, "drawing")
    bench.generate()
    choose(bench, "None")
    without, sketched, again = bench.generate()
    assert without.fill.seed == sketched.fill.seed == again.fill.seed
    assert without.fill.rgba != sketched.fill.rgba
    assert without.fill.rgba == again.fill.rgba


def test_where_the_mode_uses_no_sketch_it_changes_nothing(bench: Bench, document: Document) -> None:
    add(document, "drawing")
    bench.panel.modes.buttons()[2].click()
    bench.generate()
    choose(bench, "drawing")
    without, sketched = bench.generate()
    assert without.fill.rgba == sketched.fill.rgba


def test_a_chosen_layer_that_is_gone_is_told_and_chosen_no_more(bench: Bench, document: Document) -> None:
    drawing = add(document, "drawing")
    choose(bench, "drawing")
    document.root.children.remove(drawing)
    bench.panel.generate()
    bench.finish()
    assert bench.notice == "The sketch's layer is not there any more. Choose another one, or none."
    assert listed(bench) == ["None", "Background"]
    assert bench.panel.settings.sketch.layer == ""
    assert len(bench.generate()) == 1


def test_another_document_has_other_layers(bench: Bench, document: Document) -> None:
    add(document, "drawing")
    choose(bench, "drawing")
    bench.panel.canvas_changed()
    assert bench.panel.settings.sketch.currentText() == "drawing", "as long as it is there"
    bench.open()
    assert bench.panel.settings.sketch.layer == ""
    assert bench.panel.settings.sketch.currentText() == "None"
