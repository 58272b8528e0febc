"""The plugin in a real Krita, with a real core that Krita starts: from the selection to the saved file."""

from __future__ import annotations

import time

import numpy as np
import pytest
from tests.hosts.krita.artist import PANEL, Artist
from tests.hosts.krita.real_krita import CLOSE_DOCUMENTS, LAYER_LIST

pytestmark = [pytest.mark.integration, pytest.mark.slow]


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


def test_the_shortcuts_do_what_they_say(artist: Artist) -> None:
    krita = artist.krita
    artist.create()
    artist.select(50, 60, 80, 40)
    artist.set(variations=2)
    krita.ask("app.activeWindow().qwindow().findChild(QtWidgets.QMdiArea).setFocus()")
    krita.key("ctrl+alt+shift+g")
    krita.wait_for(f"{PANEL}return len(panel.results.results) == 2", 60)
    artist.finish()
    chosen = "panel.results.results.index(panel.results.current)"
    assert artist.panel(chosen) == 0
    krita.key("ctrl+alt+n")
    assert artist.panel(chosen) == 1
    krita.key("ctrl+alt+b")
    assert artist.panel(chosen) == 0
    krita.key("ctrl+alt+Return")
    krita.wait_for("len(app.activeDocument().topLevelNodes()) == 3")
    artist.set(steps=200, variations=8)
    krita.key("ctrl+alt+shift+g")
    krita.wait_for(f"{PANEL}return panel.session.share")
    krita.key("ctrl+alt+q")
    artist.finish(20)
    assert len(artist.results) < 10


def test_an_action_finds_its_panel_without_a_search_through_all_of_krita(artist: Artist) -> None:
    """PyQt makes an object of each child that it passes, and Krita's window has thousands."""
    artist.create()
    found, searched = artist.krita.ask(
        f"""{PANEL}
import time
from lazydiffusion.panel import Panel
main = app.activeWindow().qwindow()
def took(function):
    began = time.thread_time()
    assert function() is panel
    return time.thread_time() - began
return [min(took(way) for _ in range(5))
        for way in (lambda: panel_of(main), lambda: main.findChild(Panel, "lazyPanel"))]
"""
    )
    assert found < searched / 10


def test_cancelled_in_the_middle(artist: Artist) -> None:
    krita = artist.krita
    artist.create()
    artist.select(50, 60, 80, 40)
    artist.set(steps=200, variations=8)
    before = artist.export("before.png")
    krita.click("lazyGenerate")
    krita.wait_for(f"{PANEL}return panel.session.share", 60)
    time.sleep(0.5)  # longer than a double-click
    assert artist.panel("panel.go.text()") == "Cancel"
    krita.click("lazyGenerate")
    artist.finish(20)
    assert artist.notice == ""
    assert len(artist.results) < 8
    assert artist.panel("panel.go.text()") == "Generate"
    assert np.array_equal(artist.export("after.png"), before)


def test_a_core_that_is_killed_is_told_and_the_next_edit_starts_another(artist: Artist) -> None:
    krita = artist.krita
    artist.create()
    artist.select(50, 60, 80, 40)
    artist.set(steps=100, variations=8)  # so that it is far from its end when its core is killed
    krita.click("lazyGenerate")
    krita.wait_for(f"{PANEL}return len(panel.results.results)", 120)
    krita.ask(
        "import os, signal\nfrom lazydiffusion.client.places import RuntimeFile\n"
        "os.kill(RuntimeFile.read().pid, signal.SIGKILL)"
    )
    artist.finish(20)
    assert artist.notice == (
        "The LazyDiffusion core no longer answers. Try again: it is started anew if it has ended."
    )
    made = len(artist.results)
    assert made >= 1, "what was finished stays"
    artist.set(steps=0, variations=1)
    assert len(artist.generate()) == made + 1
    assert artist.notice == ""
    artist.apply()
    assert len(artist.layers) == 2


def test_nothing_open_and_nothing_selected(artist: Artist) -> None:
    krita = artist.krita
    time.sleep(LAYER_LIST)
    krita.ask(CLOSE_DOCUMENTS)
    krita.wait_for("app.activeDocument() is None")
    krita.ask("app.action('lazydiffusion_generate').trigger()")
    assert artist.notice == "No picture is open. Open one, and select what is to be filled."
    artist.create(128, 96)
    krita.click("lazyGenerate")
    assert artist.notice == "Nothing is selected. Select what is to be filled, or fill the whole canvas."
    krita.click("lazyNoticeAnswer")
    krita.wait_for(f"{PANEL}return len(panel.results.results)", 60)
    artist.finish()
    assert artist.results[0][1] == [0, 0, 128, 96]


def test_a_document_closed_during_the_edit(artist: Artist) -> None:
    krita = artist.krita
    artist.create(name="first")
    artist.select(50, 60, 80, 40)
    artist.set(steps=100)
    krita.click("lazyGenerate")
    krita.wait_for(f"{PANEL}return panel.session.share", 60)
    time.sleep(LAYER_LIST)
    krita.ask("d = keep['document']; d.setModified(False); d.close()")
    artist.finish()
    assert len(artist.results) == 1
    artist.create(name="second")
    assert not artist.overlay, "it belongs to another picture"
    artist.panel("panel.results.choose(panel.results.results[0])")
    krita.wait_for(f"{PANEL}return panel.preview.visible")
    artist.apply()
    assert len(artist.layers) == 2
    assert artist.notice == "The fill was made for another picture, which is closed."


def test_each_window_has_its_own(artist: Artist) -> None:
    krita = artist.krita
    artist.create(name="first")
    artist.select(50, 60, 80, 40)
    artist.generate()
    krita.ask(
        "keep['second'] = app.openWindow()\n"
        "from lazydiffusion.panel import Panel\n"
        "keep['panel'] = keep['second'].qwindow().findChild(Panel, 'lazyPanel')\n"
        "d = app.createDocument(64, 64, 'second', 'RGBA', 'U8', '', 72.0)\n"
        "keep['second'].addView(d)"
    )
    krita.wait_for(
        "keep['second'].activeView() is not None and keep['second'].activeView().document() is not None"
    )
    krita.ask("keep['panel'].generate(everything=True)")
    krita.wait_for("len(keep['panel'].results.results) == 1 and not keep['panel'].session.busy", 60)
    krita.ask("keep['panel'].apply()")
    krita.wait_for(
        "not keep['panel'].applying.busy and len(keep['second'].activeView().document().topLevelNodes()) == 2"
    )
    assert len(artist.results) == 1, "the first window's are its own"
    time.sleep(LAYER_LIST)
    krita.ask(
        "keep.pop('panel'); d = keep['second'].activeView().document(); d.setModified(False); d.close()"
    )
    krita.ask("keep.pop('second').qwindow().close()")
    krita.wait_for("len(app.windows()) == 1")
    assert len(artist.generate()) == 2
