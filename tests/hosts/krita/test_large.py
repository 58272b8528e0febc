"""Canvases of 8192 x 8192 and of 3000 x 2000 px: the fill is right, and Krita is asked for a little at a time.

How long that takes, and how long Krita's window waits, `python -m tests.hosts.krita.figures` measures: a test that
looked at the clock would fail wherever the machine is busy.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests.hosts.krita.artist import PANEL, Artist

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SIDE = 8192
MOST = 1 << 16
"""Px that the plugin may ask for, or write, in one call: a few milliseconds for Krita."""

# Every call of Krita's API that carries pixels, with how many it carried; w and h are its last arguments.
LISTEN = """
calls = keep["calls"] = {}
def counted(kind, name):
    function = getattr(kind, name)
    def call(*given):
        calls[name] = max(calls.get(name, 0), given[-1] * given[-2])
        return function(*given)
    setattr(kind, name, call)
for kind, names in {
    krita.Document: ("projection", "pixelData"),
    krita.Node: ("pixelData", "projectionPixelData", "setPixelData"),
    krita.Selection: ("pixelData",),
}.items():
    for name in names:
        counted(kind, name)
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
    assert_little_at_a_time(artist)
    assert artist.layers == ["Background", name]
    path = krita.folder / "part.png"
    assert krita.ask("app.activeDocument().projection(4990, 2990, 420, 320).save(path)", path=str(path))
    part = artist.picture(path)
    assert np.array_equal(part[10:310, 10:410], fill)


def test_the_whole_of_a_large_canvas(artist: Artist) -> None:
    """More than the window: all is read and all is made, as little at a time as ever."""
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
    assert_little_at_a_time(artist)


def assert_little_at_a_time(artist: Artist) -> None:
    """Also that the calls were seen at all: both of reading and of writing."""
    calls = artist.krita.ask("keep['calls']")
    assert {"projection", "setPixelData"} <= set(calls)
    assert max(calls.values()) <= MOST, calls
