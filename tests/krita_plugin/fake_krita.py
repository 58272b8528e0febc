"""Krita's Python API, as much of it as the plugin uses: the one thing that is faked, because no Krita runs here.

Its facts were measured in real Kritas; tests/hosts/krita runs the same plugin in them. Documents are RGBA U8; each
keeps a list of its undo steps and of what was written into its layers.
"""

from __future__ import annotations

from typing import Any, ClassVar

from PyQt6 import QtCore, QtGui, QtWidgets

SRGB = ("RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc")


class Krita:
    """The application."""

    _instance: ClassVar[Krita | None] = None

    def __init__(self) -> None:
        self.open: list[Document] = []
        self.shown: list[Window] = []
        self.factories: list[DockWidgetFactory] = []
        self.extensions: list[Extension] = []

    @classmethod
    def instance(cls) -> Krita:
        if cls._instance is None:
            cls._instance = Krita()
        return cls._instance

    def documents(self) -> list[Document]:
        return [document for document in self.open if not document.scratch]

    def windows(self) -> list[Window]:
        return list(self.shown)

    def createDocument(self, width: int, height: int, name: str, *space: object) -> Document:
        document = Document(QtGui.QImage(width, height, QtGui.QImage.Format.Format_ARGB32), name)
        document.scratch = True
        self.open.append(document)
        return document

    def addDockWidgetFactory(self, factory: DockWidgetFactory) -> None:
        self.factories.append(factory)

    def addExtension(self, extension: Extension) -> None:
        self.extensions.append(extension)


class Node:
    """A layer, RGBA U8: `pixels` as ARGB32, at (0, 0)."""

    def __init__(self, document: Document, name: str, type: str = "paintlayer") -> None:
        self.document, self._name, self._type = document, name, type
        self.children: list[Node] = []
        self.parent: Node | None = None
        self.is_visible, self.is_locked = True, False
        self.pixels = QtGui.QImage(document.width(), document.height(), QtGui.QImage.Format.Format_ARGB32)
        self.pixels.fill(0)
        self._id = QtCore.QUuid.createUuid()

    def name(self) -> str:
        return self._name

    def type(self) -> str:
        return self._type

    def uniqueId(self) -> QtCore.QUuid:
        return self._id

    def visible(self) -> bool:
        return self.is_visible

    def locked(self) -> bool:
        return self.is_locked

    def colorModel(self) -> str:
        return SRGB[0]

    def colorDepth(self) -> str:
        return SRGB[1]

    def colorProfile(self) -> str:
        return SRGB[2]

    def childNodes(self) -> list[Node]:
        return list(self.children)

    def parentNode(self) -> Node | None:
        return self.parent

    def pixelData(self, x: int, y: int, w: int, h: int) -> QtCore.QByteArray:
        if self.document not in Krita.instance().open:
            return QtCore.QByteArray()  # as of all that was closed
        return QtCore.QByteArray(image_bytes(self.pixels.copy(x, y, w, h)))

    projectionPixelData = pixelData

    def setPixelData(self, data: bytes, x: int, y: int, w: int, h: int) -> bool:
        if self.parent is not None:
            self.document.written_in_place.append(self._name)
        painter = QtGui.QPainter(self.pixels)
        painter.setCompositionMode(QtGui.QPainter.CompositionMode.CompositionMode_Source)
        painter.drawImage(x, y, QtGui.QImage(bytes(data), w, h, 4 * w, QtGui.QImage.Format.Format_ARGB32))
        painter.end()
        return True

    def bounds(self) -> QtCore.QRect:
        """Around what is not transparent, to the px."""
        drawn = QtGui.QRegion(QtGui.QBitmap.fromImage(self.pixels.createAlphaMask()))
        return drawn.boundingRect()

    def removeChildNode(self, node: Node) -> bool:
        self.children.remove(node)
        node.parent = None
        self.document.undo_steps.append(f"Remove Layer {node.name()}")
        return True

    def addChildNode(self, node: Node, above: Node | None) -> bool:
        at = len(self.children) if above is None else self.children.index(above) + 1
        self.children.insert(at, node)
        node.parent = self
        self.document.undo_steps.append(f"Add Layer {node.name()}")
        self.document.active = node
        return True


class Selection:
    """A box of coverage; outside of it nothing is selected."""

    def __init__(self, x: int, y: int, coverage: QtGui.QImage) -> None:
        self._x, self._y = x, y
        self.coverage = coverage  # Grayscale8
        self.read_px = 0
        self.copies: list[Selection] = []

    @classmethod
    def box(cls, x: int, y: int, w: int, h: int, value: int = 255) -> Selection:
        coverage = QtGui.QImage(w, h, QtGui.QImage.Format.Format_Grayscale8)
        coverage.fill(value)
        return cls(x, y, coverage)

    def duplicate(self) -> Selection:
        other = Selection(self._x, self._y, self.coverage.copy())
        self.copies.append(other)
        return other

    def x(self) -> int:
        return self._x

    def y(self) -> int:
        return self._y

    def width(self) -> int:
        return self.coverage.width()

    def height(self) -> int:
        return self.coverage.height()

    def pixelData(self, x: int, y: int, w: int, h: int) -> QtCore.QByteArray:
        self.read_px += w * h
        part = QtGui.QImage(w, h, QtGui.QImage.Format.Format_Grayscale8)
        part.fill(0)
        painter = QtGui.QPainter(part)
        painter.drawImage(self._x - x, self._y - y, self.coverage)
        painter.end()
        rows = image_bytes(part)
        stride = part.bytesPerLine()
        return QtCore.QByteArray(b"".join(rows[stride * row : stride * row + w] for row in range(h)))


class Document:
    """An open document with a background layer."""

    def __init__(self, picture: QtGui.QImage, name: str = "test") -> None:
        self._size = picture.size()
        self._name = name
        self.scratch = False
        self.chosen: Selection | None = None
        self.undo_steps: list[str] = []
        self.written_in_place: list[str] = []
        self.read_px = 0
        self.root = Node(self, "root", "grouplayer")
        self.background = Node(self, "Background")
        self.background.pixels = picture.convertToFormat(QtGui.QImage.Format.Format_ARGB32)
        self.background.parent = self.root
        self.root.children = [self.background]
        self.active: Node | None = self.background

    def width(self) -> int:
        return self._size.width()

    def height(self) -> int:
        return self._size.height()

    def resize(self, width: int, height: int) -> None:
        """As Image > Resize Canvas does."""
        self._size = QtCore.QSize(width, height)

    def name(self) -> str:
        return self._name

    def fileName(self) -> str:
        return ""

    def selection(self) -> Selection | None:
        return self.chosen

    def rootNode(self) -> Node:
        return self.root

    def activeNode(self) -> Node | None:
        return self.active

    def createNode(self, name: str, type: str) -> Node:
        return Node(self, name, type)

    def projection(self, x: int, y: int, w: int, h: int) -> QtGui.QImage:
        self.read_px += w * h
        return self.painted(x, y, w, h)

    def painted(self, x: int, y: int, w: int, h: int) -> QtGui.QImage:
        picture = QtGui.QImage(w, h, QtGui.QImage.Format.Format_ARGB32)
        picture.fill(0)
        painter = QtGui.QPainter(picture)
        for node in self.root.children:
            if node.is_visible:
                painter.drawImage(-x, -y, node.pixels)
        painter.end()
        return picture

    def setBatchmode(self, on: bool) -> None:
        """Nothing here asks questions."""

    def setModified(self, on: bool) -> None:
        """Nothing here asks whether to save."""

    def close(self) -> bool:
        Krita.instance().open.remove(self)
        return True


class View:
    """Shows a document, at a zoom of 1 as long as `transform` is not changed."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.transform = QtGui.QTransform()

    def document(self) -> Document:
        return self._document

    def flakeToImageTransform(self) -> QtGui.QTransform:
        return QtGui.QTransform()

    def flakeToCanvasTransform(self) -> QtGui.QTransform:
        return self.transform


class KisCanvasController(QtWidgets.QAbstractScrollArea):
    """What is around a canvas; Krita's class has this name."""


class Window(QtCore.QObject):
    """A main window."""

    windowClosed = QtCore.pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.widget = QtWidgets.QMainWindow()
        self.area = QtWidgets.QMdiArea()
        self.widget.setCentralWidget(self.area)
        self.view: View | None = None
        self.actions: dict[str, QtGui.QAction] = {}
        Krita.instance().shown.append(self)

    def qwindow(self) -> QtWidgets.QMainWindow:
        return self.widget

    def activeView(self) -> View | None:
        return self.view

    def createAction(self, id: str, text: str, menu: str) -> QtGui.QAction:
        self.actions[id] = QtGui.QAction(text, self.widget)
        return self.actions[id]

    def show_document(self, document: Document) -> None:
        """Open a view of it."""
        self.view = View(document)
        shown = self.area.addSubWindow(KisCanvasController())
        shown.showMaximized()
        self.area.setActiveSubWindow(shown)

    def close_document(self) -> None:
        """Close the view that is shown."""
        self.view = None
        self.area.closeAllSubWindows()

    def close(self) -> None:
        self.windowClosed.emit()
        Krita.instance().shown.remove(self)
        self.widget.close()
        self.widget.deleteLater()


class DockWidget(QtWidgets.QDockWidget):
    """A docker; Krita calls canvasChanged."""


class DockWidgetFactoryBase:
    """Where a docker is at first."""

    DockRight = 1


class DockWidgetFactory:
    """Makes a docker for each window."""

    def __init__(self, name: str, place: int, kind: type[DockWidget]) -> None:
        self.name, self.place, self.kind = name, place, kind


class Extension(QtCore.QObject):
    """Makes actions for each window."""

    def __init__(self, parent: Any) -> None:
        super().__init__()


def image_bytes(image: QtGui.QImage) -> bytes:
    bits = image.constBits()
    assert bits is not None
    bits.setsize(image.sizeInBytes())
    return bytes(bits)
