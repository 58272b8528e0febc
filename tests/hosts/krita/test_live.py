"""Live in a real Krita: the fill follows a brush, a selection by mouse and undo, and steps aside for the stroke."""

from __future__ import annotations

import time

import numpy as np
import pytest
from tests.hosts.krita.artist import PANEL, Artist

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SKETCH = """
document = app.activeDocument()
node = document.createNode("strokes", "paintlayer")
document.rootNode().addChildNode(node, None)
document.setActiveNode(node)
document.refreshProjection()
document.waitForDone()
"""
BRUSH = """
app.action("KritaShape/KisToolBrush").trigger()
view = app.activeWindow().activeView()
view.setForeGroundColor(krita.ManagedColor.fromQColor(QtGui.QColor("red"), view.canvas()))
view.setBrushSize(20)
"""
FOLLOWED = f"""{PANEL}
result = panel.results.current
return result is not None and result.fill.edit != before
"""
QUIET = f"""{PANEL}
return panel.live._looking is None and not panel.live._running
"""
EDIT = "panel.results.current.fill.edit"
COUNT = """
import time
from lazydiffusion import live, turns
spent, looks = keep["spent"], keep["looks"] = [0.0], [0]
keep["began"] = time.monotonic()
def turn(self, original=turns.Turns._turn):
    began = time.thread_time()
    original(self)
    spent[0] += time.thread_time() - began
def compare(self, look, original=live.LiveEdit._compare):
    looks[0] += 1
    original(self, look)
turns.Turns._turn, live.LiveEdit._compare = turn, compare
"""
"""The processor's seconds of the GUI thread that go into the plugin's turns, and the looks of Live."""
HISTORY = """
from lazydiffusion.client import connect
return [entry.id for entry in connect(start=False).history(1000)]
"""


@pytest.fixture
def live(artist: Artist) -> Artist:
    """With a box selected and a fill of it over the canvas; the model follows the active layer's strokes."""
    artist.create()
    artist.krita.ask(SKETCH)
    artist.krita.settle()
    artist.select(120, 90, 120, 90)
    artist.krita.ask(BRUSH)
    artist.panel("panel.settings.sketch.refill()")
    artist.panel("panel.settings.sketch.setCurrentIndex(panel.settings.sketch.findText('strokes'))")
    artist.krita.click("lazyLive")
    artist.krita.wait_for(FOLLOWED, 60, before="")
    return artist


def followed(artist: Artist, before: str) -> str:
    """The id of the next fill, when it is there."""
    artist.krita.wait_for(FOLLOWED, 60, before=before)
    return str(artist.panel(EDIT))


def largest_difference(one: np.ndarray, other: np.ndarray) -> int:
    """In levels of 255."""
    return int(np.abs(one.astype(int) - other).max())


def test_the_fill_follows_a_stroke_and_its_undoing(live: Artist) -> None:
    krita, display = live.krita, live.krita.display
    assert live.overlay
    # The first fill was of the whole canvas: before the core ran, nobody knew its model's window. So another one, of
    # the region and the overview that all later ones are sent.
    first = live.panel(EDIT)
    live.panel("panel.live.__dict__.update(_last=None)")
    followed(live, first)
    assert live.panel("panel.live._last.snapshot.request.overview is not None")
    before = live.fill_picture()
    assert live.panel("panel.go.text()") == "Keep"

    display.move(*live.on_screen(140, 110))
    time.sleep(0.2)
    display.xdotool("mousedown", "1")
    try:
        for x in range(145, 215, 10):
            display.move(*live.on_screen(x, 110 + (x - 140) // 2))
            time.sleep(0.03)
        krita.wait_for(f"{PANEL}return not panel.preview.visible")
        krita.wait_for(QUIET)
        first = live.panel(EDIT)
        time.sleep(1)
        assert live.panel(EDIT) == first, "a stroke is not disturbed"
    finally:
        display.xdotool("mouseup", "1")
    second = followed(live, first)
    assert live.overlay
    drawn = krita.ask("return app.activeDocument().nodeByName('strokes').bounds().width()")
    assert drawn > 50
    assert (live.fill_picture() != before).any()
    assert len(live.results) == 1

    krita.key("ctrl+z")
    followed(live, second)
    deadline = time.monotonic() + 30
    while largest_difference(live.fill_picture(), before) > 0:  # Krita undoes a stroke in several turns
        assert time.monotonic() < deadline, largest_difference(live.fill_picture(), before)
        time.sleep(0.2)
    assert live.layers == ["Background", "strokes"]


def test_what_is_kept_and_what_is_applied_is_in_the_history(live: Artist) -> None:
    krita = live.krita
    first = live.panel(EDIT)
    assert first not in krita.ask(HISTORY)
    krita.click("lazyGenerate")
    krita.wait_for(f"{PANEL}return not panel.results.current.draft")
    assert krita.ask(HISTORY)[0] == first

    krita.type_into("lazyPrompt", "a red apple")
    second = followed(live, first)
    assert len(live.results) == 2
    live.apply()
    assert [it for it in live.layers if it.startswith("a red apple")]
    krita.wait_for(f"{PANEL}return not any(it.draft for it in panel.results.results)")
    assert krita.ask(HISTORY)[0] == second
    time.sleep(1.5)
    assert len(live.results) == 2, "nothing is made of its own layer"

    live.select(200, 150, 90, 90)
    krita.wait_for(f"{PANEL}return len(panel.results.results) == 3", 60)
    assert live.results[-1][1] == [200, 150, 90, 90]
    krita.click("lazyLive")
    krita.wait_for(f"{PANEL}return not panel.live.on and panel.go.text() == 'Generate'")


def test_the_shortcut_switches_it(artist: Artist) -> None:
    krita = artist.krita
    artist.create()
    krita.ask("app.activeWindow().qwindow().findChild(QtWidgets.QMdiArea).setFocus()")
    krita.key("ctrl+alt+shift+l")
    krita.wait_for(f"{PANEL}return panel.status.text() == 'Live: select what is to be filled.'")
    artist.select_by_mouse(100, 80, 120, 90)
    krita.wait_for(f"{PANEL}return len(panel.results.results) == 1", 60)
    krita.key("ctrl+alt+shift+l")
    krita.wait_for(f"{PANEL}return not panel.live.on")


def test_a_huge_canvas_is_not_kept_busy(artist: Artist) -> None:
    """Looks take a small share of the time, whatever the canvas."""
    krita = artist.krita
    artist.create(6000, 4000)
    artist.select(3000, 2000, 400, 300)
    krita.click("lazyLive")
    krita.wait_for(f"{PANEL}return len(panel.results.results) == 1", 120)
    krita.ask(COUNT)
    krita.wait_for("keep['looks'][0] >= 5", 120)
    busy, seconds = krita.ask("import time\nreturn keep['spent'][0], time.monotonic() - keep['began']")
    assert busy < 0.25 * seconds, f"{busy} s of {seconds}"
