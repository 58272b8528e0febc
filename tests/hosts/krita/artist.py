"""What an artist does with the plugin in a real Krita, and what can be seen then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.hosts.installing import MODEL, install_plugin, install_tiny_core
from tests.hosts.krita.real_krita import RealKrita

# A landscape: bands of colour with a gradient, so that every pixel says where it is.
CREATE = """
document = app.createDocument(width, height, name, "RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc", 72.0)
document.setBatchmode(True)
picture = QtGui.QImage(256, 256, QtGui.QImage.Format.Format_ARGB32)
for y in range(256):
    for x in range(256):
        picture.setPixel(x, y, 0xFF000000 | (x // 2 + 60) << 16 | (255 - y) << 8 | (y // 2 + 90))
picture = picture.scaled(width, height)
node = document.topLevelNodes()[0]
for top in range(0, height, 512):
    strip = picture.copy(0, top, width, min(512, height - top))
    bits = strip.constBits()
    bits.setsize(strip.sizeInBytes())
    node.setPixelData(bytes(bits), 0, top, width, strip.height())
document.refreshProjection()
if space:
    document.setColorSpace(*space)
    document.waitForDone()
app.activeWindow().addView(document)
document.waitForDone()
keep["document"] = document
"""

SELECT = """
selection = krita.Selection()
selection.select(x, y, w, h, value)
app.activeDocument().setSelection(selection)
"""

# From image px to px of the screen, by the plugin's own way to find the canvas.
TO_SCREEN = """
from lazydiffusion.document import CanvasView
view = CanvasView(app.activeWindow())
controller = view.controller()
there = view.image_to_widget(controller).map(QtCore.QPointF(x, y))
there = controller.viewport().mapToGlobal(there.toPoint())
return there.x(), there.y()
"""

# By the plugin's own short way: what asks for the panel every 50 ms must not itself keep Krita's window waiting.
PANEL = """
from lazydiffusion.docker import panel_of
panel = panel_of(app.activeWindow().qwindow())
"""

RESULTS = (
    PANEL
    + """
return [[result.fill.seed, result.box.as_list(), result.layer_name] for result in panel.results.results]
"""
)

LAYERS = """
def names(node):
    return [[child.name(), names(child)] if child.childNodes() else child.name()
            for child in node.childNodes() if child.type() != "selectionmask"]
return names(app.activeDocument().rootNode())
"""

PICTURE_OF_FILL = (
    PANEL
    + """
result = panel.results.current
return result.picture.full.save(path)
"""
)

EXPORT = """
document = app.activeDocument()
document.setBatchmode(True)
document.waitForDone()
return document.exportImage(path, krita.InfoObject())
"""


def with_plugin(model: Path | None = None, own: bool = True) -> Callable[[Path], None]:
    """Puts the built plugin into a home as its user would: by `build_plugins.py --install krita`.

    `model`: a tiny checkpoint that the core has instead of the embedded one. `own`: without it only the core is
    pointed to.
    """

    def install(home: Path) -> None:
        if own:
            install_plugin("krita", home)
        if model is not None:
            install_tiny_core(model, home)
            (home / ".config/lazydiffusion/krita.json").write_text(json.dumps({"model": MODEL}))

    return install


class Artist:
    """Works in the active window of a Krita that has the plugin.

    `width` is the docker's, px.
    """

    def __init__(self, krita: RealKrita, width: int = 300) -> None:
        self.krita = krita
        self.width = width

    def create(
        self,
        width: int = 400,
        height: int = 300,
        space: tuple[str, str, str] | None = None,
        name: str = "test",
    ) -> None:
        """Open a new document; `space`: colour model, depth and profile."""
        self.krita.ask(CREATE, 120, width=width, height=height, name=name, space=space)
        self.krita.wait_for("app.activeDocument() == keep['document']")
        self.krita.settle()
        self.show_docker()

    def show_docker(self) -> None:
        """Have the docker on the right, alone, as high as the window. Without a document Krita shows none."""
        self.krita.ask(
            """
            docker = next(it for it in window.findChildren(QtWidgets.QDockWidget) if it.objectName() == "lazydiffusion")
            right = QtCore.Qt.DockWidgetArea.RightDockWidgetArea
            for other in window.findChildren(QtWidgets.QDockWidget):
                if window.dockWidgetArea(other) == right and other is not docker:
                    other.hide()
            window.addDockWidget(right, docker)
            docker.setFloating(False)
            docker.show()
            docker.raise_()
            window.resizeDocks([docker], [width], QtCore.Qt.Orientation.Horizontal)
            """.replace("\n            ", "\n"),
            width=self.width,
        )
        self.krita.wait_for("find('lazyGenerate').isVisible()")
        self.krita.settle()

    def select(self, x: int, y: int, w: int, h: int, value: int = 255) -> None:
        """Select a box."""
        self.krita.ask(SELECT, x=x, y=y, w=w, h=h, value=value)

    def select_by_mouse(self, x: int, y: int, w: int, h: int) -> None:
        """Draw a box with the rectangular selection tool."""
        self.krita.ask("app.action('KisToolSelectRectangular').trigger()")
        self.krita.settle()
        (left, top), (right, bottom) = self.on_screen(x, y), self.on_screen(x + w, y + h)
        self.krita.display.drag(left, top, right, bottom)
        self.krita.wait_for("s = app.activeDocument().selection(); return s is not None and s.width() > 0")

    def on_screen(self, x: float, y: float) -> tuple[int, int]:
        """Where a point of the image is on the screen, px."""
        there = self.krita.ask(TO_SCREEN, x=x, y=y)
        return there[0], there[1]

    def panel(self, expression: str, **values: object) -> Any:
        """What an expression of `panel`, the docker's, gives."""
        return self.krita.ask(f"{PANEL}return {expression}", **values)

    def set(self, **fields: int) -> None:
        """Change fields of the settings by their name in the form."""
        for name, value in fields.items():
            self.panel(f"panel.settings.{name}.setValue(value)", value=value)

    def finish(self, timeout: float = 120) -> None:
        """Wait for the end of the edit."""
        self.krita.wait_for(f"{PANEL}return not panel.session.busy", timeout)

    def generate(self) -> list[Any]:
        """Click on Generate, wait for the end, and give all results: [seed, box, layer's name]."""
        before = len(self.results)
        self.krita.click("lazyGenerate")
        self.krita.wait_for(
            f"{PANEL}return panel.session.busy or len(panel.results.results) > before", before=before
        )
        self.finish()
        return self.results

    def apply(self) -> None:
        """Click on Apply and wait for the layer."""
        self.krita.click("lazyApply")
        self.krita.wait_for(f"{PANEL}return not panel.applying.busy", 120)
        self.krita.ask("app.activeDocument().waitForDone()")
        self.krita.settle()

    @property
    def results(self) -> list[Any]:
        """[seed, box, layer's name] of each."""
        found: list[Any] = self.krita.ask(RESULTS)
        return found

    @property
    def layers(self) -> list[Any]:
        """Names from below; a group is [name, [names]]."""
        found: list[Any] = self.krita.ask(LAYERS)
        return found

    @property
    def notice(self) -> str:
        """What the notice says."""
        return str(self.panel("panel.notice.text"))

    @property
    def overlay(self) -> bool:
        """Whether a preview lies over the canvas."""
        return bool(self.panel("panel.preview.visible"))

    def undo_text(self) -> str:
        """What Edit > Undo would undo; empty for nothing."""
        return str(self.krita.ask("a = app.action('edit_undo')\nreturn a.text() if a.isEnabled() else ''"))

    def fill_picture(self) -> np.ndarray:
        """The chosen result, (h, w, 4)."""
        path = self.krita.folder / "fill.png"
        assert self.krita.ask(PICTURE_OF_FILL, path=str(path))
        return self.picture(path)

    def export(self, name: str = "export.png") -> np.ndarray:
        """What Krita saves of the document as PNG, (h, w, 4)."""
        path = self.krita.folder / name
        assert self.krita.ask(EXPORT, 60, path=str(path))
        return self.picture(path)

    @staticmethod
    def picture(path: Path) -> np.ndarray:
        """A picture file, (h, w, 4)."""
        with Image.open(path) as image:
            return np.asarray(image.convert("RGBA"))
