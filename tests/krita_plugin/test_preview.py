"""A fill over the canvas: where it lies, when it hides, and that it is in nobody's way."""

from __future__ import annotations

import pytest
from krita_plugin.lazydiffusion import preview
from krita_plugin.lazydiffusion.document import CanvasView, Document
from krita_plugin.lazydiffusion.pictures import Mipmap
from PyQt6 import QtCore, QtGui, QtTest, QtWidgets
from tests.krita_plugin import fake_krita
from tests.krita_plugin.conftest import Bench

from lazydiffusion.window import Box

pytestmark = pytest.mark.integration

BOX = Box(60, 30, 50, 40)
COLOURS = ("#ff0000", "#00ff00", "#0000ff", "#ffff00")
CENTRES = ((72.5, 40), (97.5, 40), (72.5, 60), (97.5, 60))
"""Of the quarters of BOX, image px."""
OUTSIDE = ((50, 50), (120, 50), (85, 20), (85, 80))


def quarters(width: int = BOX.w, height: int = BOX.h) -> QtGui.QImage:
    """A picture whose quarters have COLOURS."""
    picture = QtGui.QImage(width, height, QtGui.QImage.Format.Format_RGBA8888)
    painter = QtGui.QPainter(picture)
    for number, colour in enumerate(COLOURS):
        left, top = number % 2 * width // 2, number // 2 * height // 2
        painter.fillRect(left, top, width // 2, height // 2, QtGui.QColor(colour))
    painter.end()
    return picture


def show(bench: Bench, document: fake_krita.Document, picture: QtGui.QImage | None = None) -> None:
    view = CanvasView(bench.window)
    bench.panel.preview.show(view, Document(document), BOX, Mipmap(picture or quarters()))


def lies_at(bench: Bench, transform: QtGui.QTransform) -> bool:
    """Whether what is over the canvas lies where `transform` takes the image's px, and nowhere else."""
    overlay = bench.overlay
    assert overlay is not None
    shown = QtGui.QPixmap(overlay.size())
    shown.fill(QtCore.Qt.GlobalColor.transparent)
    overlay.render(shown, flags=QtWidgets.QWidget.RenderFlag.DrawChildren)
    image = shown.toImage()

    def colour(x: float, y: float) -> QtGui.QColor:
        at = transform.map(QtCore.QPointF(x, y)).toPoint()
        assert image.rect().contains(at), (x, y, at)
        return image.pixelColor(at)

    inside = [colour(*at).name() for at in CENTRES]
    return inside == list(COLOURS) and all(colour(*at).alpha() == 0 for at in OUTSIDE)


TRANSFORMS = {
    "as it is": QtGui.QTransform(),
    "enlarged": QtGui.QTransform.fromScale(3, 3).translate(-30, -10),
    "small": QtGui.QTransform.fromTranslate(200, 100).scale(0.4, 0.4),
    "turned": QtGui.QTransform.fromTranslate(200, 50).rotate(33).scale(1.7, 1.7),
    "mirrored": QtGui.QTransform.fromTranslate(350, 10).scale(-1.5, 1.5),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_it_lies_where_the_canvas_shows_its_pixels(bench: Bench, name: str) -> None:
    document = bench.open()
    bench.window.view.transform = TRANSFORMS[name]
    show(bench, document)
    assert lies_at(bench, TRANSFORMS[name])


def test_a_smaller_picture_fills_its_box(bench: Bench) -> None:
    document = bench.open()
    show(bench, document, quarters(10, 8))
    assert lies_at(bench, QtGui.QTransform())
    show(bench, document, quarters(1000, 800))
    assert lies_at(bench, QtGui.QTransform())


def test_it_follows_the_canvas(bench: Bench) -> None:
    document = bench.open()
    show(bench, document)
    for transform in TRANSFORMS.values():
        bench.window.view.transform = transform
        bench.wait_until(lambda transform=transform: lies_at(bench, transform), seconds=2)
    bench.window.widget.resize(700, 600)
    controller = CanvasView(bench.window).controller()
    assert controller is not None
    bench.wait_until(lambda: bench.overlay.geometry() == controller.viewport().rect(), seconds=2)


@pytest.fixture
def never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preview that looks at the canvas only when it is told to."""
    monkeypatch.setattr(preview, "LOOK_AGAIN", 10**8)


def test_it_follows_scrolling_at_once(never_looks: None, bench: Bench) -> None:
    document = bench.open()
    show(bench, document)
    controller = CanvasView(bench.window).controller()
    assert controller is not None
    for bar, moved in (
        (controller.horizontalScrollBar(), QtGui.QTransform.fromTranslate(40, 0)),
        (controller.verticalScrollBar(), QtGui.QTransform.fromTranslate(40, 70)),
    ):
        bench.window.view.transform = moved
        bar.setRange(0, 100)
        bar.setValue(50)
        assert not lies_at(bench, moved), "Krita's canvas is moved after its scroll bars"
        bench.wait_until(lambda moved=moved: lies_at(bench, moved), seconds=1)


def test_scrolling_a_canvas_whose_preview_is_gone_does_nothing(bench: Bench) -> None:
    document = bench.open()
    show(bench, document)
    controller = CanvasView(bench.window).controller()
    assert controller is not None
    controller.horizontalScrollBar().setRange(0, 100)
    controller.horizontalScrollBar().setValue(50)
    bench.panel.preview.hide()
    bench.qtbot.wait(20)
    controller.horizontalScrollBar().setValue(60)
    bench.qtbot.wait(20)
    assert bench.overlay is None


def test_it_hides_while_another_picture_is_shown(bench: Bench) -> None:
    first = bench.open()
    bench.generate()
    assert bench.overlay is not None
    view, shown = bench.window.view, bench.window.area.activeSubWindow()
    bench.open()
    assert bench.overlay is None
    assert not bench.panel.preview.visible
    bench.window.area.setActiveSubWindow(shown)
    bench.window.view = view
    bench.panel.canvas_changed()
    assert bench.overlay is not None
    assert first.undo_steps == []


def test_it_hides_when_its_view_shows_another_document(bench: Bench) -> None:
    document = bench.open()
    show(bench, document)
    bench.window.view._document = fake_krita.Document(QtGui.QImage(50, 50, QtGui.QImage.Format.Format_ARGB32))
    bench.wait_until(lambda: bench.overlay is None, seconds=2)
    assert not bench.panel.preview.visible


def test_where_another_document_is_shown_nothing_is(bench: Bench) -> None:
    first = bench.open()
    bench.open()
    show(bench, first)
    assert bench.overlay is None


def test_it_goes_with_its_canvas_and_another_one_can_be_shown(bench: Bench) -> None:
    document = bench.open()
    show(bench, document)
    overlay = bench.overlay
    assert overlay is not None
    with bench.qtbot.waitSignal(overlay.destroyed):
        bench.window.close_document()
    assert not bench.panel.preview.visible
    bench.qtbot.wait(2 * preview.LOOK_AGAIN)
    assert not bench.panel.preview.visible
    show(bench, bench.open())
    assert lies_at(bench, QtGui.QTransform())


def test_a_new_canvas_takes_over_from_one_that_is_gone(never_looks: None, bench: Bench) -> None:
    show(bench, bench.open())
    with bench.qtbot.waitSignal(bench.overlay.destroyed):
        bench.window.close_document()
    show(bench, bench.open())
    assert lies_at(bench, QtGui.QTransform())


def test_without_any_view_nothing_is_shown(bench: Bench) -> None:
    document = bench.open()
    bench.window.close_document()
    show(bench, document)
    assert bench.overlay is None


def test_the_mouse_goes_through_it(bench: Bench) -> None:
    document = bench.open()
    show(bench, document)
    controller = CanvasView(bench.window).controller()
    assert controller is not None

    class Presses(QtCore.QObject):
        seen: list[QtCore.QPoint] = []  # noqa: RUF012 - one object only

        def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
            if isinstance(event, QtGui.QMouseEvent) and event.type() == QtCore.QEvent.Type.MouseButtonPress:
                self.seen.append(event.position().toPoint())
            return False

    presses = Presses()
    controller.viewport().installEventFilter(presses)
    at = QtCore.QPoint(*(round(side) for side in CENTRES[0]))
    window = bench.window.widget
    QtTest.QTest.mouseClick(
        window.windowHandle(),
        QtCore.Qt.MouseButton.LeftButton,
        QtCore.Qt.KeyboardModifier.NoModifier,
        controller.viewport().mapTo(window, at),
    )
    assert presses.seen == [at]
    assert bench.overlay is not None
