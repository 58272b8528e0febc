"""What of a document an edit is shown, read in short turns: the region in full, the rest as an overview."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from lazydiffusion.client.words import tr
from lazydiffusion.protocol import EditRequest, EditSettings, ImageData
from lazydiffusion.window import WINDOW_TOKENS, Box, Size, overview_size, region_to_send

from .document import Document, DocumentError, Selected, picture_bytes
from .qt import QtCore, QtGui
from .turns import Work

STRIP = 1 << 16
"""Px that are read at once: a few milliseconds."""
SAMPLES = 4
"""Rows of the canvas, evenly spread, whose mean is a row of the overview."""


@dataclass(frozen=True)
class Snapshot:
    """A request, and what is needed to show what comes of it. Its pictures share their memory with the request."""

    document: Document
    request: EditRequest
    box: Box
    """Around the mask."""
    canvas: QtGui.QImage
    """The request's region, RGB32."""
    mask: QtGui.QImage
    """The request's mask, Alpha8."""

    @property
    def region(self) -> Box:
        """What the two pictures show of the canvas."""
        return self.request.part


def snapshot(
    document: Document,
    settings: EditSettings,
    everything: bool = False,
    sketch_layer: str = "",
    window_tokens: int = WINDOW_TOKENS,
    earlier: Optional[EditRequest] = None,
) -> Work:
    """Work whose result is a Snapshot, of what is selected now: the artist may go on selecting while it is read.

    `everything`: fill the whole canvas instead of the selection. `sketch_layer`: a layer's id, or "". `window_tokens`:
    side of the model's window. `earlier`: a request of the same document, whose overview will do for the same
    region. The work raises DocumentError, BadInput.
    """
    selected = None if everything else document.selected()
    return _read(document, settings, selected, sketch_layer, window_tokens, earlier)


def _read(
    document: Document,
    settings: EditSettings,
    selected: Optional[Selected],
    sketch_layer: str,
    window_tokens: int,
    earlier: Optional[EditRequest],
) -> Work:
    """`selected`: None fills the whole canvas."""
    size = document.size
    box = document.whole if selected is None else selected.box
    if box.w < 1:
        raise DocumentError(
            tr("The selection lies outside of the canvas of %d x %d px. Move it onto the canvas.") % size
        )
    region = region_to_send(size, box, settings.grow, settings.feather, window_tokens)
    canvas = QtGui.QImage(region.w, region.h, QtGui.QImage.Format.Format_RGB32)
    mask, anything = bytearray(), False
    for strip in _strips(region):
        yield (strip.y - region.y) / region.h
        _still(document, size)
        _draw(canvas, strip.y - region.y, document.projection(strip))
        levels = b"\xff" * (strip.w * strip.h) if selected is None else selected.levels(strip)
        mask += levels
        anything = anything or levels.count(0) < len(levels)
    overview = None
    if earlier is not None and (earlier.canvas_size, earlier.region) == (size, region):
        overview = earlier.overview
    elif region != document.whole:
        small = overview_size(size)
        overview = ImageData("bgra8", small, (yield from _overview(document, size, small)))
    _still(document, size)
    sketch = None
    if sketch_layer:
        drawn = yield from document.layer_pixels(sketch_layer, region)
        _still(document, size)
        if drawn is None:
            raise DocumentError(tr("The sketch's layer is not there any more. Choose another one, or none."))
        sketch = ImageData("bgra8", (region.w, region.h), drawn)
    if not anything:
        raise DocumentError(tr("Nothing of the selection lies on the canvas. Select what is to be filled."))
    request = EditRequest(
        settings=settings,
        canvas_size=size,
        region=region,
        canvas=ImageData("bgra8", (region.w, region.h), _memory(canvas)),
        mask=ImageData("grey8", (region.w, region.h), mask),
        sketch=sketch,
        overview=overview,
    )
    alpha = QtGui.QImage(mask, region.w, region.h, region.w, QtGui.QImage.Format.Format_Alpha8)
    return Snapshot(document, request, box, canvas, alpha)


def _draw(picture: QtGui.QImage, y: int, strip: QtGui.QImage) -> None:
    painter = QtGui.QPainter(picture)
    painter.setCompositionMode(QtGui.QPainter.CompositionMode.CompositionMode_Source)
    painter.drawImage(0, y, strip)
    painter.end()


def _memory(picture: QtGui.QImage) -> memoryview:
    """The picture's own memory, valid as long as the picture: of a huge canvas a copy would take too long."""
    bits = picture.constBits()
    bits.setsize(picture.sizeInBytes())
    return memoryview(bits)


def _overview(document: Document, size: Size, small: Size) -> Work:
    """The whole canvas at the size `small`: BGRA bytes. Each row is the mean of a few of the canvas's rows."""
    picture = QtGui.QImage(small[0], small[1], QtGui.QImage.Format.Format_RGB32)
    painter: Optional[QtGui.QPainter] = None
    for row in range(small[1]):
        top, bottom = (
            row * size[1] // small[1],
            max((row + 1) * size[1] // small[1], row * size[1] // small[1] + 1),
        )
        rows = sorted({top + (2 * k + 1) * (bottom - top) // (2 * SAMPLES) for k in range(SAMPLES)})
        painter = QtGui.QPainter(picture)
        try:
            for count, y in enumerate(rows, 1):
                _still(document, size)
                line = document.projection(Box(0, y, size[0], 1)).scaled(
                    small[0],
                    1,
                    QtCore.Qt.AspectRatioMode.IgnoreAspectRatio,
                    QtCore.Qt.TransformationMode.SmoothTransformation,
                )
                painter.setOpacity(1 / count)  # the mean so far, with one more
                painter.drawImage(0, row, line)
        finally:
            painter.end()
        yield (row + 1) / small[1]
    return picture_bytes(picture)


def _strips(region: Box) -> list[Box]:
    rows = max(1, STRIP // region.w)
    return [
        Box(region.x, y, region.w, min(rows, region.bottom - y)) for y in range(region.y, region.bottom, rows)
    ]


def _still(document: Document, size: Size) -> None:
    """Raises DocumentError when the document was closed or resized between two turns."""
    if not document.is_open:
        raise DocumentError(tr("The document was closed while it was being read."))
    if document.size != size:
        raise DocumentError(tr("The canvas was resized while it was being read. Generate again."))
