"""The plugin in a real Krita, with a real core that Krita starts: from the selection to the saved file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.hosts.conftest import StartKrita
from tests.hosts.krita.artist import Artist, with_plugin
from tests.hosts.krita.real_krita import CLOSE_DOCUMENTS, RealKrita

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def krita(start_shared_krita: StartKrita, tiny_model: Path) -> RealKrita:
    return start_shared_krita(install=with_plugin(tiny_model))


@pytest.fixture
def artist(krita: RealKrita) -> Iterator[Artist]:
    yield Artist(krita)
    krita.ask(
        "from lazydiffusion.panel import Panel\n"
        "panel = app.activeWindow().qwindow().findChild(Panel, 'lazyPanel')\n"
        "panel.cancel()\n"
        "panel.notice.clear()\n"
        "while panel.results.results: panel.results.remove(panel.results.results[0])"
    )
    krita.ask(CLOSE_DOCUMENTS)
    krita.wait_for("not app.documents()")


def test_from_the_selection_to_the_saved_file(artist: Artist) -> None:
    krita = artist.krita
    artist.create()
    before = artist.export("before.png")
    artist.select_by_mouse(100, 80, 120, 90)
    box = krita.ask("s = app.activeDocument().selection(); return [s.x(), s.y(), s.width(), s.height()]")
    assert np.abs(np.subtract(box, [100, 80, 120, 90])).max() <= 2, "the canvas is where the plugin thinks"
    nothing_done = artist.undo_text()
    krita.type_into("lazyPrompt", "a red apple")
    [(seed, fill_box, name)] = artist.generate()
    assert fill_box == box
    assert name == f"a red apple (seed {seed})"

    # The preview lies over the canvas and touches nothing.
    assert artist.overlay
    assert artist.layers == ["Background"]
    assert artist.undo_text() == nothing_done
    assert np.array_equal(artist.export("preview.png"), before)
    fill = artist.fill_picture()

    artist.apply()
    assert not artist.overlay
    assert artist.layers == ["Background", name]
    after = artist.export("after.png")
    x, y, w, h = box
    assert np.array_equal(after[y : y + h, x : x + w], fill)
    outside = np.ones(before.shape[:2], bool)
    outside[y : y + h, x : x + w] = False
    assert np.array_equal(after[outside], before[outside])

    # One step back, one step forth.
    krita.key("ctrl+z")
    krita.wait_for("len(app.activeDocument().rootNode().childNodes()) == 2")  # with the selection's mask
    assert artist.layers == ["Background"]
    assert artist.undo_text() == nothing_done
    assert np.array_equal(artist.export("undone.png"), before)
    krita.key("ctrl+shift+z")
    krita.wait_for("len(app.activeDocument().rootNode().childNodes()) == 3")
    assert np.array_equal(artist.export("redone.png"), after)
