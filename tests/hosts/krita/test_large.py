"""A canvas of 8192 x 8192 px: the fill is right, and the plugin itself never keeps Krita's window waiting."""

from __future__ import annotations

import numpy as np
import pytest
from tests.hosts.krita.artist import PANEL, Artist

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SIDE = 8192
LONGEST = 50
"""Milliseconds that the plugin's own work may take at a stretch."""

# Processor time of the GUI thread, which other programs of a busy machine do not lengthen; but without the one call
# that makes the layer part of the document, which is Krita's own work, as in Layer > New.
LISTEN = f"""{PANEL}
import time
from lazydiffusion import turns
from lazydiffusion.background import GuiThread
longest = keep["longest"] = [0.0, 0.0]
def timed(function):
    def call(*given):
        longest[1] = 0.0
        began = time.thread_time()
        try:
            return function(*given)
        finally:
            longest[0] = max(longest[0], time.thread_time() - began - longest[1])
    return call
def krita_s_own(function):
    def call(*given):
        began = time.thread_time()
        try:
            return function(*given)
        finally:
            longest[1] = time.thread_time() - began
    return call
turns.Turns._turn = timed(turns.Turns._turn)
handed_over = GuiThread.__call__
GuiThread.__call__ = lambda gui, function: handed_over(gui, timed(function))
krita.Node.addChildNode = krita_s_own(krita.Node.addChildNode)
"""


def test_a_huge_canvas(artist: Artist) -> None:
    krita = artist.krita
    artist.create(SIDE, SIDE)
    artist.select(5000, 3000, 400, 300)
    krita.ask(LISTEN)
    [(_, box, name)] = artist.generate()
    assert box == [5000, 3000, 400, 300]
    fill = artist.fill_picture()
    sent = artist.panel("panel.results.results[0].canvas_size")
    assert sent == [SIDE, SIDE]
    krita.ask("app.activeDocument().waitForDone()")
    artist.apply()
    assert artist.layers == ["Background", name]
    path = krita.folder / "part.png"
    assert krita.ask("app.activeDocument().projection(4990, 2990, 420, 320).save(path)", path=str(path))
    part = artist.picture(path)
    assert np.array_equal(part[10:310, 10:410], fill)
    assert krita.ask("keep['longest'][0]") * 1000 < LONGEST


def test_the_whole_of_a_large_canvas(artist: Artist) -> None:
    """More than the window: all is read and all is made, in turns as short as ever."""
    krita = artist.krita
    artist.create(3000, 2000)
    krita.ask(LISTEN)
    krita.click("lazyGenerate")
    krita.click("lazyNoticeAnswer")
    krita.wait_for(f"{PANEL}return len(panel.results.results)", 120)
    artist.finish()
    assert artist.results[0][1] == [0, 0, 3000, 2000]
    fill = artist.fill_picture()
    artist.apply()
    assert np.array_equal(artist.export(), fill)
    assert krita.ask("keep['longest'][0]") * 1000 < LONGEST
