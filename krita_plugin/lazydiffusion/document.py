"""Krita's documents and canvases: the only file that talks to Krita's API. Coordinates are image px."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from krita import Krita

from lazydiffusion.client.errors import CoreError
from lazydiffusion.client.words import tr
from lazydiffusion.window import Box, Size

from .qt import QtCore, QtGui, QtWidgets
from .turns import Work

SRGB = ("RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc")
"""Colour model, depth and profile of the pixels that the core gives and takes."""
TILE = 256
"""Side in px of what is written to a layer at once."""
SKETCHABLE = ("paintlayer", "grouplayer", "vectorlayer", "filllayer", "filelayer", "clonelayer")


class DocumentError(CoreError):
    """A document cannot be read or changed; the message says why, and what to do."""


class Selected:
    """A selection as it was when it was asked for."""

    def __init__(self, handle: Any, canvas: Size) -> None:
        self._selection, self._canvas = handle, canvas

    @property
    def box(self) -> Box:
        """Around what is selected on the canvas; w and h are 0 where that is nothing."""
        it = self._selection
        if it is None:
            return Box(0, 0, 0, 0)
        box = Box(it.x(), it.y(), it.width(), it.height()).clip(self._canvas)
        return box if box.w > 0 and box.h > 0 else Box(0, 0, 0, 0)

    def levels(self, box: Box) -> bytes:
        """How much each px of the box is selected: box.w * box.h bytes, 0..255."""
        if self._selection is None:
            return bytes(box.w * box.h)
        return bytes(self._selection.pixelData(box.x, box.y, box.w, box.h))


@dataclass(frozen=True)
class Layer:
    """A layer that could be a sketch."""

    id: str
    name: str


class Document:
    """One document that is, or was, open."""

    def __init__(self, handle: Any) -> None:
        self._doc = handle

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Document) and self._doc == other._doc

    def __hash__(self) -> int:
        return hash(self._doc.rootNode().uniqueId().toString()) if self.is_open else 0

    @property
    def is_open(self) -> bool:
        """Whether it can be worked with; after that all of Krita's answers about it are empty."""
        return self._doc in Krita.instance().documents()

    @property
    def name(self) -> str:
        """Its title, or its file's name."""
        return str(self._doc.name() or self._doc.fileName() or "")

    @property
    def size(self) -> Size:
        """(width, height) in px."""
        return self._doc.width(), self._doc.height()

    @property
    def whole(self) -> Box:
        """All of the canvas."""
        return Box(0, 0, *self.size)

    @property
    def has_selection(self) -> bool:
        """Whether anything is selected, on the canvas or beside it."""
        selection = self._doc.selection()
        return selection is not None and selection.width() > 0 and selection.height() > 0

    def selected(self) -> Selected:
        """What is selected now, whatever the artist selects later."""
        selection = self._doc.selection()
        return Selected(selection.duplicate() if selection is not None else None, self.size)

    def projection(self, box: Box) -> QtGui.QImage:
        """What the artist sees there, whatever the document's colour space: RGB32, sRGB; transparent parts on white."""
        picture = QtGui.QImage(box.w, box.h, QtGui.QImage.Format.Format_RGB32)
        picture.fill(QtCore.Qt.GlobalColor.white)
        painter = QtGui.QPainter(picture)
        painter.drawImage(0, 0, self._doc.projection(box.x, box.y, box.w, box.h))
        painter.end()
        return picture

    def layers(self) -> list[Layer]:
        """The layers that could be a sketch, from the top down."""
        found: list[Layer] = []

        def visit(node: Any) -> None:
            for child in reversed(node.childNodes()):
                if child.type() in SKETCHABLE:
                    found.append(Layer(child.uniqueId().toString(), child.name()))
                visit(child)

        if self.is_open:
            visit(self._doc.rootNode())
        return found

    def layer_pixels(self, id: str, box: Box) -> Work:
        """Work whose result is a layer's picture there: box.w * box.h * 4 bytes, BGRA, sRGB, straight alpha.

        The result is None where that layer is not there any more.
        """
        node = self._node(self._doc.rootNode(), id)
        if node is None:
            return None
        pixels = bytearray(4 * box.w * box.h)
        converter = _Converter((node.colorModel(), node.colorDepth(), node.colorProfile()), SRGB)
        try:
            for done, tile in _tiles(box):
                yield done
                # A group has pixels in its projection only; a hidden paint layer has none there.
                read = node.pixelData if node.type() == "paintlayer" else node.projectionPixelData
                raw = converter.converted(bytes(read(tile.x, tile.y, tile.w, tile.h)), (tile.w, tile.h))
                for row in range(tile.h):
                    start = 4 * ((tile.y - box.y + row) * box.w + tile.x - box.x)
                    pixels[start : start + 4 * tile.w] = raw[4 * tile.w * row : 4 * tile.w * (row + 1)]
        finally:
            converter.close()
        return pixels

    def add_layer(self, name: str, box: Box, rgba: bytes) -> Work:
        """Work that makes a paint layer of `rgba` (box.w * box.h * 4 bytes, sRGB, straight alpha): one undo step.

        Its result is a NewLayer. It comes above the active layer, and out of groups that are hidden or locked: there it
        could not be seen, or not be touched. Raises DocumentError when the document is closed meanwhile.
        """
        node = self._doc.createNode(name, "paintlayer")
        picture = QtGui.QImage(rgba, box.w, box.h, 4 * box.w, QtGui.QImage.Format.Format_RGBA8888)
        space = (node.colorModel(), node.colorDepth(), node.colorProfile())
        converter = _Converter(SRGB, space)
        try:
            for done, tile in _tiles(box):
                yield done
                self._check_open()
                part = picture.copy(tile.x - box.x, tile.y - box.y, tile.w, tile.h)
                bgra = picture_bytes(part.convertToFormat(QtGui.QImage.Format.Format_ARGB32))
                # Before the layer is in the document: pixels that are there when it is added are part of that step.
                node.setPixelData(converter.converted(bgra, (tile.w, tile.h)), tile.x, tile.y, tile.w, tile.h)
        finally:
            converter.close()
        yield 1.0
        self._check_open()
        parent, above = self._place()
        parent.addChildNode(node, above)
        return NewLayer(self, node, box)

    @property
    def root(self) -> Any:
        """Krita's node that all layers are in."""
        return self._doc.rootNode()

    def _check_open(self) -> None:
        if not self.is_open:
            raise DocumentError(
                tr("The document was closed before the layer was made. The fill is in the history.")
            )

    def _place(self) -> tuple[Any, Any]:
        """(parent, the node that a new layer is put above)."""
        node = self._doc.activeNode()
        while node is not None and node.type().endswith("mask"):
            node = node.parentNode()
        path = []
        while node is not None and node.parentNode() is not None:
            path.append(node)
            node = node.parentNode()
        if not path:
            return self._doc.rootNode(), None
        unusable = [group for group in path[1:] if not group.visible() or group.locked()]
        above = unusable[-1] if unusable else path[0]
        return above.parentNode(), above

    def _node(self, parent: Any, id: str) -> Any:
        for child in parent.childNodes():
            found = child if child.uniqueId().toString() == id else self._node(child, id)
            if found is not None:
                return found
        return None


class NewLayer:
    """A layer that was made of a fill."""

    def __init__(self, document: Document, node: Any, box: Box) -> None:
        self._document, self._node, self._box = document, node, box

    @property
    def is_covered(self) -> bool:
        """Whether a visible layer above it reaches over its pixels, which were made from the picture of all layers."""
        place = QtCore.QRect(*self._box.as_list())
        node = self._node
        while node.parentNode() is not None:
            siblings = node.parentNode().childNodes()
            ids = [it.uniqueId() for it in siblings]
            for it in siblings[ids.index(node.uniqueId()) + 1 :]:
                # An adjustment layer has no pixels of its own, and changes what is below.
                reaches = it.type() == "filterlayer" or it.bounds().intersects(place)
                if it.visible() and not it.type().endswith("mask") and reaches:
                    return True
            node = node.parentNode()
        return False

    def move_to_top(self) -> None:
        """Put it above all layers. Nothing happens where the document or the layer is gone."""
        parent = self._node.parentNode() if self._document.is_open else None
        if parent is None:
            return
        root = self._document.root
        layers = [it for it in root.childNodes() if not it.type().endswith("mask")]
        if layers[-1].uniqueId() != self._node.uniqueId():
            parent.removeChildNode(self._node)
            root.addChildNode(self._node, layers[-1])


class CanvasView:
    """The canvas of a window's active view, as a place to draw over."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self._view = window.activeView()

    @property
    def document(self) -> Optional[Document]:
        """What it shows."""
        handle = self._view.document() if self._view is not None else None
        return Document(handle) if handle is not None else None

    def controller(self) -> Optional[QtWidgets.QAbstractScrollArea]:
        """The scroll area around the canvas."""
        area = self._window.qwindow().findChild(QtWidgets.QMdiArea)
        shown = area.activeSubWindow() if area is not None else None
        for found in shown.findChildren(QtWidgets.QAbstractScrollArea) if shown is not None else []:
            if found.metaObject().className() == "KisCanvasController":
                return found
        return None

    def image_to_widget(self, controller: QtWidgets.QAbstractScrollArea) -> QtGui.QTransform:
        """From image px to px of the controller's viewport: zoom, rotation, mirroring and scrolling."""
        view = self._view
        if hasattr(view, "flakeToCanvasTransform"):  # Krita 5.2 and newer
            return view.flakeToImageTransform().inverted()[0] * view.flakeToCanvasTransform()
        canvas = view.canvas()
        zoom = canvas.zoomLevel()
        turned = QtGui.QTransform.fromScale(-zoom if canvas.mirror() else zoom, zoom)
        turned = turned * QtGui.QTransform().rotate(canvas.rotation())
        handle = view.document()
        around = turned.mapRect(QtCore.QRectF(0, 0, handle.width(), handle.height()))
        # Krita scrolls the box around the turned canvas.
        left, top = controller.horizontalScrollBar().value(), controller.verticalScrollBar().value()
        return turned * QtGui.QTransform.fromTranslate(-left - around.left(), -top - around.top())


def window_of(widget: QtWidgets.QWidget) -> Any:
    """Krita's window that a widget belongs to, also when it floats; None where there is none (any more)."""
    above: list[Any] = []
    parent: Any = widget
    while parent is not None:
        above.append(parent)
        parent = parent.parentWidget()
    for window in Krita.instance().windows():
        if window.qwindow() in above:
            return window
    return None


def active_document(widget: QtWidgets.QWidget) -> Optional[Document]:
    """The document that the widget's window shows; None where it shows none."""
    window = window_of(widget)
    return CanvasView(window).document if window is not None else None


def picture_bytes(picture: QtGui.QImage) -> bytes:
    """The bytes of a picture with 4 bytes a px."""
    bits = picture.constBits()
    bits.setsize(picture.sizeInBytes())
    return bytes(bits)


def _tiles(box: Box) -> list[tuple[float, Box]]:
    """The parts of a box, each with the share of them that comes before it."""
    parts = [
        Box(x, y, min(TILE, box.right - x), min(TILE, box.bottom - y))
        for y in range(box.y, box.bottom, TILE)
        for x in range(box.x, box.right, TILE)
    ]
    return [(count / len(parts), part) for count, part in enumerate(parts)]


class _Converter:
    """Raw pixels from one colour space into another, by Krita's own colour management.

    It happens in a document that no window shows: in the artist's own each conversion would be an undo step.
    """

    def __init__(self, source: tuple[str, str, str], target: tuple[str, str, str]) -> None:
        self._source, self._target = source, target
        self._scratch: Any = None

    def converted(self, raw: bytes, size: Size) -> bytes:
        """size[0] * size[1] px, at most a tile."""
        if self._source == self._target:
            return raw
        if self._scratch is None:
            self._scratch = Krita.instance().createDocument(TILE, TILE, "LazyDiffusion", *self._source, 72.0)
            self._scratch.setBatchmode(True)
        node = self._scratch.createNode("tile", "paintlayer")
        node.setPixelData(raw, 0, 0, *size)
        node.setColorSpace(*self._target)
        return bytes(node.pixelData(0, 0, *size))

    def close(self) -> None:
        """Let the scratch document go."""
        if self._scratch is not None:
            self._scratch.setModified(False)
            self._scratch.close()
            self._scratch = None
