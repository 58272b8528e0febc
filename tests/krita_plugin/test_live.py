"""Live: the fill follows what the artist does, and only what is kept comes into the history."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from krita_plugin.lazydiffusion.live import LiveEdit
from krita_plugin.lazydiffusion.results import Result
from PyQt6 import QtCore, QtGui, QtTest
from tests.krita_plugin.conftest import Bench, layers
from tests.krita_plugin.fake_krita import Document, Node, Selection
from tests.service.installed import Installed

from lazydiffusion.client.core import connect
from lazydiffusion.window import WINDOW_TOKENS, Box, region_to_send

pytestmark = pytest.mark.integration


def stroke(document: Document, colour: str, box: tuple[int, int, int, int], node: Node | None = None) -> None:
    painter = QtGui.QPainter((node or document.background).pixels)
    painter.fillRect(*box, QtGui.QColor(colour))
    painter.end()


def add_layer(document: Document, name: str) -> Node:
    node = Node(document, name)
    document.root.addChildNode(node, document.background)
    return node


class Watched:
    """A bench with Live on, and all that it has found."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.live = bench, bench.panel.live
        self.found: list[Result] = []
        self.live.found.connect(self.found.append)

    def on(self) -> None:
        self.bench.panel.live_button.click()
        assert self.live.on

    def next(self, do: Callable[[], object] = lambda: None) -> Result:
        """What comes of `do`."""
        count = len(self.found)
        do()
        self.bench.wait_until(lambda: len(self.found) > count)
        return self.found[count]

    def nothing_follows(self) -> None:
        """Two more looks at the picture come to nothing."""
        count, read = len(self.found), document_of(self.bench).read_px
        once = read_at_once(self.bench)
        self.bench.wait_until(lambda: document_of(self.bench).read_px >= read + 2 * once)
        self.bench.qtbot.wait(50)
        assert len(self.found) == count


def read_at_once(bench: Bench) -> int:
    """Px of a look at a canvas that is shown whole."""
    return document_of(bench).width() * document_of(bench).height()


def document_of(bench: Bench) -> Document:
    assert bench.window.view is not None
    return bench.window.view.document()


@pytest.fixture
def watched(bench: Bench) -> Watched:
    bench.open()
    return Watched(bench)


def history() -> list[str]:
    return [entry.id for entry in connect(start=False).history(1000)]


def test_the_fill_follows_and_takes_the_place_of_the_last(watched: Watched) -> None:
    panel = watched.bench.panel
    first = watched.next(watched.on)
    assert panel.results.results == [first]
    assert panel.results.current is first
    assert watched.bench.overlay is not None
    assert panel.go.text() == "Keep"

    painted = watched.next(lambda: stroke(document_of(watched.bench), "red", (0, 0, 50, 120)))
    typed = watched.next(lambda: panel.prompt.setPlainText("a cat"))
    chosen = watched.next(
        lambda: setattr(document_of(watched.bench), "chosen", Selection.box(20, 20, 60, 60))
    )

    assert panel.results.results == [chosen]
    assert panel.results.current is chosen
    assert first.fill.seed == painted.fill.seed == typed.fill.seed == chosen.fill.seed
    assert painted.fill.rgba != first.fill.rgba
    assert typed.fill.rgba != painted.fill.rgba
    assert typed.settings.prompt == "a cat"
    assert chosen.box.as_list() == [20, 20, 60, 60]
    assert all(it.draft for it in watched.found)
    assert not set(history()) & {it.fill.edit for it in watched.found}


def test_nothing_is_made_while_nothing_changes(watched: Watched) -> None:
    watched.next(watched.on)
    watched.nothing_follows()


def test_strokes_inside_count_with_a_sketch_or_less_strength(watched: Watched) -> None:
    panel, document = watched.bench.panel, document_of(watched.bench)
    first = watched.next(watched.on)
    assert "choose a sketch layer, or a lower strength" in panel.status.text()
    inside = watched.next(lambda: stroke(document, "red", (70, 40, 20, 20)))
    assert inside.fill.rgba == first.fill.rgba  # hidden from the model

    refined = watched.next(lambda: panel.settings.strength.setValue(50))
    assert "paint, select or type" in panel.status.text()
    redrawn = watched.next(lambda: stroke(document, "yellow", (70, 40, 20, 20)))
    assert redrawn.fill.rgba != refined.fill.rgba

    panel.settings.strength.setValue(100)
    sketch = add_layer(document, "sketch")
    panel.settings.sketch.refill()
    guided = watched.next(lambda: panel.settings.sketch.setCurrentIndex(1))
    assert panel.settings.sketch.layer
    followed = watched.next(lambda: stroke(document, "blue", (65, 35, 30, 30), sketch))
    assert followed.settings.strength == 1
    assert followed.fill.rgba != guided.fill.rgba


def test_what_is_kept_stays_and_is_in_the_history(watched: Watched) -> None:
    panel, document = watched.bench.panel, document_of(watched.bench)
    first = watched.next(watched.on)
    panel.go.click()
    watched.bench.wait_until(lambda: not first.draft)
    assert first.fill.edit in history()

    second = watched.next(lambda: stroke(document, "red", (0, 0, 50, 120)))
    assert panel.results.results == [first, second]
    assert panel.results.current is second
    panel.go.click()
    panel.go.click()
    assert watched.bench.notice == "There is no new fill of Live to keep."
    watched.bench.wait_until(lambda: not second.draft)
    assert {first.fill.edit, second.fill.edit} <= set(history())


def test_applied_it_is_kept_and_nothing_is_made_of_its_own_layer(watched: Watched) -> None:
    panel, document = watched.bench.panel, document_of(watched.bench)
    first = watched.next(watched.on)
    watched.bench.apply()
    assert layers(document)[-1] == first.layer_name
    watched.bench.wait_until(lambda: not first.draft)
    assert first.fill.edit in history()
    watched.nothing_follows()
    assert watched.bench.overlay is None

    second = watched.next(lambda: stroke(document, "red", (0, 0, 50, 120)))
    assert panel.results.results == [first, second]
    assert panel.results.current is second


def test_switched_off_right_after_apply_it_begins_anew(watched: Watched) -> None:
    watched.next(watched.on)
    watched.live.rest()  # as after Apply; nothing was looked at since
    watched.bench.panel.switch_live(False)
    watched.next(watched.on)


def test_switched_off_the_last_one_is_kept(watched: Watched) -> None:
    panel = watched.bench.panel
    first = watched.next(watched.on)
    panel.live_button.click()
    watched.bench.wait_until(lambda: not first.draft)
    assert panel.go.text() == "Generate"
    assert panel.results.current is first
    assert first.fill.edit in history()
    stroke(document_of(watched.bench), "red", (0, 0, 50, 120))
    watched.bench.qtbot.wait(600)
    assert watched.found == [first]


def test_the_fill_steps_aside_while_the_pen_is_down(watched: Watched) -> None:
    bench, document = watched.bench, document_of(watched.bench)
    watched.next(watched.on)
    canvas = bench.window.area.activeSubWindow().widget().viewport()
    window, at = bench.window.widget.windowHandle(), canvas.mapTo(bench.window.widget, QtCore.QPoint(10, 10))
    left = QtCore.Qt.MouseButton.LeftButton
    beside = bench.panel.prompt.mapTo(bench.window.widget, QtCore.QPoint(10, 10))
    QtTest.QTest.mousePress(window, left, pos=beside)
    assert bench.overlay is not None
    QtTest.QTest.mouseRelease(window, left, pos=beside)

    QtTest.QTest.mousePress(window, left, pos=at)
    assert bench.overlay is None
    stroke(document, "red", (0, 0, 50, 120))
    count, read = len(watched.found), document.read_px
    bench.qtbot.wait(800)
    assert (len(watched.found), document.read_px) == (count, read), "a stroke is not disturbed"
    watched.next(lambda: QtTest.QTest.mouseRelease(window, left, pos=at))
    assert bench.overlay is not None


def test_a_pen_whose_release_was_lost_does_not_stop_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = watched.bench
    watched.next(watched.on)
    canvas = bench.window.area.activeSubWindow().widget().viewport()
    at = canvas.mapTo(bench.window.widget, QtCore.QPoint(10, 10))
    monkeypatch.setattr("krita_plugin.lazydiffusion.pen.LOST", 500)
    window = bench.window.widget.windowHandle()
    QtTest.QTest.mousePress(window, QtCore.Qt.MouseButton.LeftButton, pos=at)
    watched.next(lambda: stroke(document_of(bench), "red", (0, 0, 50, 120)))
    assert bench.overlay is not None
    QtTest.QTest.mouseRelease(window, QtCore.Qt.MouseButton.LeftButton, pos=at)


def test_a_fill_that_was_clicked_away_stays_away(watched: Watched) -> None:
    bench, panel = watched.bench, watched.bench.panel
    watched.next(watched.on)
    row = panel.results.visualItemRect(panel.results.item(0)).center()
    QtTest.QTest.mouseClick(panel.results.viewport(), QtCore.Qt.MouseButton.LeftButton, pos=row)
    assert bench.overlay is None
    second = watched.next(lambda: stroke(document_of(bench), "red", (0, 0, 50, 120)))
    assert panel.results.results == [second]
    assert panel.results.current is None
    assert bench.overlay is None
    panel.go.click()  # kept: the next one has a place of its own, and stays away too
    third = watched.next(lambda: stroke(document_of(bench), "blue", (0, 0, 50, 120)))
    assert panel.results.results == [second, third]
    assert panel.results.current is None
    panel.step(1)
    panel.step(1)
    assert panel.results.current is third
    assert bench.overlay is not None


def test_what_is_missing_is_said_and_then_it_begins(watched: Watched) -> None:
    document, panel = document_of(watched.bench), watched.bench.panel
    document.chosen = None
    watched.on()
    watched.bench.wait_until(lambda: panel.status.text() == "Live: select what is to be filled.")
    panel.modes.buttons()[1].click()
    document.chosen = Selection.box(20, 20, 60, 60)
    watched.bench.wait_until(lambda: "The prompt is empty" in panel.status.text())
    made = watched.next(lambda: panel.prompt.setPlainText("a dog"))
    assert made.settings.prompt == "a dog"
    assert watched.bench.notice == ""


BEGINNINGS = ("Starting the core", "Waiting", "Loading", "Working")


def texts_of(watched: Watched, steps: int) -> list[str]:
    """What the docker's status says from switching Live on to its first fill."""
    panel = watched.bench.panel
    panel.settings.steps.setValue(steps)
    told: list[str] = []
    watched.live.changed.connect(lambda: told.append(panel.status.text()))
    watched.next(watched.on)
    return told


def test_a_fill_that_takes_long_is_told_of(own_bench: Bench) -> None:
    own_bench.open()
    told = texts_of(Watched(own_bench), 200)
    assert any(text.startswith(BEGINNINGS) for text in told), told  # the core was not running
    assert any(text.startswith("Step ") for text in told), told
    assert told[-1].startswith("Live: the fill follows.")


def test_a_quick_one_is_not(watched: Watched) -> None:
    watched.live._long.setInterval(600_000)  # this machine may be slow
    told = texts_of(watched, 50)
    assert not [text for text in told if text.startswith((*BEGINNINGS, "Step"))], told


def test_an_edit_that_fails_ends_it_and_says_why(watched: Watched, core: Installed) -> None:
    panel = watched.bench.panel
    panel.preferences.model = "no-such-model"
    panel.settings.model.choose("no-such-model")
    watched.on()
    watched.bench.wait_until(lambda: not watched.live.on)
    assert watched.bench.notice.startswith("Live is off: ")
    assert "no-such-model" in watched.bench.notice
    assert not panel.live_button.isChecked()
    assert panel.go.text() == "Generate"


def test_an_edit_asked_for_before_comes_first(watched: Watched) -> None:
    panel = watched.bench.panel
    panel.settings.steps.setValue(100)
    panel.generate()
    watched.on()
    watched.bench.finish()
    assert len(panel.results.results) == 1
    made = watched.next()
    assert panel.results.results[-1] is made
    assert len(panel.results.results) == 2


def test_a_large_canvas_is_looked_at_in_its_region_only(watched: Watched) -> None:
    bench = watched.bench
    document = bench.open(2000, 1500)
    watched.next(watched.on)
    before = document.read_px
    watched.next(lambda: stroke(document, "red", (100, 20, 20, 60)))
    region = region_to_send((2000, 1500), Box(60, 30, 50, 40), 0, 0, WINDOW_TOKENS)
    looks = (document.read_px - before) / (region.w * region.h)
    assert looks == int(looks), "the overview was made once"
    moved = watched.next(lambda: setattr(document, "chosen", Selection.box(1500, 1000, 60, 60)))
    assert moved.box.as_list() == [1500, 1000, 60, 60]


def test_another_picture_has_a_fill_of_its_own_and_the_first_ones_is_kept(watched: Watched) -> None:
    bench, panel = watched.bench, watched.bench.panel
    first = watched.next(watched.on)
    second = watched.next(lambda: bench.open(300, 200))
    assert panel.results.results == [first, second]
    assert panel.results.current is second
    bench.wait_until(lambda: not first.draft)
    assert first.fill.edit in history()


def test_a_picture_that_is_closed_is_missed(watched: Watched) -> None:
    bench, document = watched.bench, document_of(watched.bench)
    watched.next(watched.on)
    document.close()
    bench.window.close_document()
    bench.panel.canvas_changed()
    bench.wait_until(lambda: bench.panel.status.text() == "Live: open a picture.")
    assert bench.overlay is None
    made = watched.next(bench.open)
    assert bench.panel.results.current is made


def test_discarded_it_is_gone_and_the_next_change_makes_another(watched: Watched) -> None:
    panel = watched.bench.panel
    first = watched.next(watched.on)
    assert panel.discard_button.toolTip() == "Take it off this list"
    panel.discard_button.click()
    assert panel.results.results == []
    watched.nothing_follows()
    second = watched.next(lambda: stroke(document_of(watched.bench), "red", (0, 0, 50, 120)))
    assert panel.results.results == [second]
    panel.go.click()
    watched.bench.wait_until(lambda: not second.draft)
    assert panel.discard_button.toolTip() == "Take it off this list; the history keeps it"
    assert first.fill.edit not in history()


def test_a_window_that_is_minimised_is_not_looked_at(watched: Watched) -> None:
    watched.next(watched.on)
    watched.bench.window.widget.showMinimized()
    document = document_of(watched.bench)
    watched.bench.wait_until(lambda: watched.live._looking is None)
    read = document.read_px
    watched.bench.qtbot.wait(800)
    assert document.read_px == read


def test_closing_down_ends_it_and_keeps_the_last_one(watched: Watched) -> None:
    first = watched.next(watched.on)
    watched.bench.panel.close_down()
    live: LiveEdit = watched.live
    assert not live.on
    assert live.wait(30)
    watched.bench.wait_until(lambda: first.fill.edit in history())
