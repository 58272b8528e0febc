"""Pictures that are shown smaller than they are: made small beforehand, so that to show a huge one takes no time."""

from __future__ import annotations

from typing import Optional

from lazydiffusion.client.edit import FillPixels
from lazydiffusion.window import Box

from .qt import QtCore, QtGui
from .snapshot import STRIP, Snapshot

THUMBNAIL = 80
"""Side of a thumbnail, px: three stand side by side in a docker of 300 px."""
SURROUNDINGS = 0.15
"""How much of the canvas a thumbnail shows around the fill, as a share of the fill's longer side."""
SMALL = 1 << 18
"""Px of a picture that can be scaled, or painted whole, at once: less than a millisecond."""
SAMPLES = 4
"""Px a side of the canvas that are looked at for each px of a thumbnail."""


class Mipmap:
    """A picture, and smaller ones of it, each half as wide and high as the one before, down to SMALL px.

    Threads may make one: that takes some 50 ms for 4000 x 3000 px, and one third of the picture's own memory.
    """

    def __init__(self, full: QtGui.QImage) -> None:
        self.full = full
        """The picture itself."""
        self._memory = b""
        """What it lies in, where that is not its own: Qt does not keep it."""
        self._halves: list[QtGui.QImage] = []
        picture = full
        while picture.width() * picture.height() > SMALL:
            picture = _halved(picture)
            self._halves.append(picture)

    @classmethod
    def of_fill(cls, fill: FillPixels) -> Mipmap:
        """Of a fill's pixels, sRGB with straight alpha; they are not copied."""
        box = fill.box
        made = cls(QtGui.QImage(fill.rgba, box.w, box.h, 4 * box.w, QtGui.QImage.Format.Format_RGBA8888))
        made._memory = fill.rgba
        return made

    @property
    def nbytes(self) -> int:
        """Memory of all its pictures, bytes."""
        return sum(it.sizeInBytes() for it in [self.full, *self._halves])

    def shown(self, width: int) -> QtGui.QImage:
        """What to draw where it is to be `width` px wide: at most twice as wide, but never wider than the picture."""
        enough = [it for it in self._halves if it.width() >= width]
        return shrunk(enough[-1] if enough else self.full, width)


def thumbnail(fill: Mipmap, box: Box, snapshot: Optional[Snapshot], ratio: float = 1.0) -> QtGui.QPixmap:
    """A fill in its surroundings, THUMBNAIL px a side at most. `ratio`: the screen's px for each."""
    around = box
    if snapshot is not None:
        around = box.enlarged(round(SURROUNDINGS * max(box.w, box.h))).overlap(snapshot.region)
    side = round(THUMBNAIL * ratio)
    scale = min(side / around.w, side / around.h)
    shown = QtGui.QImage(
        max(1, round(around.w * scale)),
        max(1, round(around.h * scale)),
        QtGui.QImage.Format.Format_ARGB32_Premultiplied,
    )
    shown.fill(QtCore.Qt.GlobalColor.transparent)
    painter = QtGui.QPainter(shown)
    painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
    if snapshot is not None:
        at = around.moved(-snapshot.region.x, -snapshot.region.y)
        painter.drawImage(shown.rect(), _sampled(snapshot.canvas, at, shown.size()))
    target = QtCore.QRectF(
        (box.x - around.x) * scale,
        (box.y - around.y) * scale,
        max(1.0, box.w * scale),
        max(1.0, box.h * scale),
    )
    painter.drawImage(target, fill.shown(round(target.width())))
    painter.end()
    pixmap = QtGui.QPixmap.fromImage(shown)
    pixmap.setDevicePixelRatio(ratio)
    return pixmap


def shrunk(picture: QtGui.QImage, width: int) -> QtGui.QImage:
    """A picture that is more than twice as wide as it will be shown, made that small, or it would flicker."""
    width = max(1, width)
    if picture.width() <= 2 * width:
        return picture
    # Qt's scaledToWidth makes nothing at all of a picture that would be less than half a px high.
    return _scaled(picture, QtCore.QSize(width, max(1, round(picture.height() * width / picture.width()))))


def _sampled(picture: QtGui.QImage, part: Box, size: QtCore.QSize) -> QtGui.QImage:
    """A part of a picture made much smaller, of a few of its px only: a huge part takes no longer than a small one."""
    few = QtGui.QImage(
        min(part.w, SAMPLES * size.width()),
        min(part.h, SAMPLES * size.height()),
        QtGui.QImage.Format.Format_RGB32,
    )
    painter = QtGui.QPainter(few)
    painter.drawImage(few.rect(), picture, QtCore.QRect(part.x, part.y, part.w, part.h))
    painter.end()
    return _scaled(few, size)


def _halved(picture: QtGui.QImage) -> QtGui.QImage:
    """Half as wide and high; in strips, between which other threads of Python have their turns."""
    width, height = (picture.width() + 1) // 2, (picture.height() + 1) // 2
    half = QtGui.QImage(width, height, QtGui.QImage.Format.Format_ARGB32_Premultiplied)
    painter = QtGui.QPainter(half)
    painter.setCompositionMode(QtGui.QPainter.CompositionMode.CompositionMode_Source)
    rows = max(1, STRIP // picture.width() // 2)
    for y in range(0, height, rows):
        count = min(rows, height - y)
        strip = picture.copy(0, 2 * y, picture.width(), min(2 * count, picture.height() - 2 * y))
        painter.drawImage(0, y, _scaled(strip, QtCore.QSize(width, count)))
    painter.end()
    return half


def _scaled(picture: QtGui.QImage, size: QtCore.QSize) -> QtGui.QImage:
    return picture.scaled(
        size, QtCore.Qt.AspectRatioMode.IgnoreAspectRatio, QtCore.Qt.TransformationMode.SmoothTransformation
    )
