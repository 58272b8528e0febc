"""Layers above the new one in a real Krita, and a selection that changes while the canvas is read."""

from __future__ import annotations

import numpy as np
import pytest
from tests.hosts.krita.artist import PANEL, Artist

pytestmark = [pytest.mark.integration, pytest.mark.slow]

COVERED = "Layers above the new one cover it, or change its look."
ADD_LAYER = """
document = app.activeDocument()
root = document.rootNode()
if kind == "filterlayer":
    node = document.createFilterLayer(name, app.filter("invert"), krita.Selection())
else:
    node = document.createNode(name, kind)
if kind == "paintlayer":
    node.setPixelData(b"\\x20\\x20\\xc0\\xff" * (w * h), x, y, w, h)
node.setVisible(visible)
background = root.childNodes()[0]
(background if kind == "transparencymask" else root).addChildNode(node, None)
document.refreshProjection()
document.waitForDone()
"""
ACTIVATE = """
document = app.activeDocument()
document.setActiveNode(document.topLevelNodes()[0])
document.waitForDone()
"""
INSIDE, BESIDE = (70, 70, 20, 20), (300, 200, 40, 40)


def add(
    artist: Artist,
    name: str,
    box: tuple[int, int, int, int],
    kind: str = "paintlayer",
    visible: bool = True,
) -> None:
    """A layer at the top; the background is active again afterwards."""
    x, y, w, h = box
    artist.krita.ask(ADD_LAYER, name=name, x=x, y=y, w=w, h=h, kind=kind, visible=visible)
    artist.krita.settle()  # Krita makes a new layer the active one, a moment later
    artist.krita.ask(ACTIVATE)
    artist.krita.wait_for("app.activeDocument().activeNode().name() == 'Background'")
    artist.krita.settle()


def fill(artist: Artist) -> None:
    artist.select(50, 60, 80, 40)
    artist.generate()
    artist.apply()


def test_a_layer_that_covers_the_new_one_is_told_and_one_click_puts_it_above(artist: Artist) -> None:
    artist.create()
    add(artist, "object", INSIDE)
    fill(artist)
    background, new, above = artist.layers
    assert (background, above) == ("Background", "object")
    assert artist.notice == COVERED
    shown = artist.export()[70:90, 70:90]
    assert (shown[..., :3] == [192, 32, 32]).all(), "the object covers the fill"
    artist.krita.click("lazyNoticeAnswer")
    artist.krita.ask("app.activeDocument().waitForDone()")
    artist.krita.settle()
    assert artist.layers == [background, above, new]
    assert artist.notice == ""
    artist.panel("panel.results.choose(panel.results.results[0])")
    made = artist.fill_picture()[10:30, 20:40]
    np.testing.assert_array_equal(artist.export("after.png")[70:90, 70:90], made)


@pytest.mark.parametrize(
    ("box", "kind", "visible", "told"),
    [
        (BESIDE, "paintlayer", True, False),
        (INSIDE, "paintlayer", False, False),
        (BESIDE, "filterlayer", True, True),
        (INSIDE, "transparencymask", True, False),
    ],
    ids=["beside it", "hidden", "an adjustment", "a mask of the layer below"],
)
def test_a_layer_above_is_told_only_where_it_changes_the_look(
    artist: Artist, box: tuple[int, int, int, int], kind: str, visible: bool, told: bool
) -> None:
    artist.create()
    add(artist, "above", box, kind, visible)
    fill(artist)
    assert (artist.notice == COVERED) == told, artist.notice


def test_what_is_selected_after_the_click_does_not_matter(artist: Artist) -> None:
    artist.create(3000, 2000)
    artist.select(100, 100, 2500, 1500)
    artist.set(steps=1)
    artist.panel("panel.generate()")
    artist.krita.ask("app.activeDocument().setSelection(None)")
    artist.krita.wait_for(f"{PANEL}return len(panel.results.results)", 120)
    artist.finish()
    assert artist.results[0][1] == [100, 100, 2500, 1500]
