"""Small pictures for the screen, as GdkPixbufs: RGBA, 8 bits, straight alpha."""

from __future__ import annotations

import math
from typing import Any

import gi

gi.require_version("GdkPixbuf", "2.0")

from gi.repository import GdkPixbuf, GLib  # noqa: E402 - after its version

from lazydiffusion.window import Box, Size  # noqa: E402

PIXBUF = GdkPixbuf.Pixbuf.__gtype__
BADGE = 18
"""Side of the sign that something was applied, px."""
GREEN, WHITE = (46, 139, 87), (255, 255, 255)
TICK = ((5.0, 9.5), (8.0, 12.5), (13.0, 6.0))
BILINEAR = GdkPixbuf.InterpType.BILINEAR
NEAREST = GdkPixbuf.InterpType.NEAREST


def pixbuf_of(rgba: bytes, size: Size) -> Any:
    """A picture of size[0] * size[1] * 4 bytes."""
    width, height = size
    colours = GdkPixbuf.Colorspace.RGB
    return GdkPixbuf.Pixbuf.new_from_bytes(GLib.Bytes.new(rgba), colours, True, 8, width, height, 4 * width)


def pixels_of(picture: Any) -> bytes:
    """The bytes of an RGBA picture, without the gaps that its rows may have."""
    width, height, stride = picture.get_width(), picture.get_height(), picture.get_rowstride()
    pixels = bytes(picture.get_pixels())
    if stride == 4 * width:
        return pixels[: 4 * width * height]
    return b"".join(pixels[row * stride : row * stride + 4 * width] for row in range(height))


def decoded(file: bytes) -> Any:
    """The picture of a PNG file, with alpha. Raises GLib.Error."""
    loader = GdkPixbuf.PixbufLoader.new_with_type("png")
    try:
        loader.write(file)
    finally:
        loader.close()
    picture = loader.get_pixbuf()
    return picture if picture.get_has_alpha() else picture.add_alpha(False, 0, 0, 0)


def scaled(picture: Any, size: Size) -> Any:
    """At another size; when it gets smaller, each px is a mean, and so many times larger, each is a square."""
    width, height = picture.get_width(), picture.get_height()
    if (width, height) == size:
        return picture
    return picture.scale_simple(*size, _sampling(size[0] / width, size[1] / height))


def fitted(size: Size, side: int) -> Size:
    """The size at which a picture is `side` px on its longer side; a smaller one so many times larger as fits."""
    scale = side // max(size) or side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def cut(picture: Any, box: Box) -> Any:
    """A part of a picture, which shares its memory."""
    return picture.new_subpixbuf(box.x, box.y, box.w, box.h)


def on_white(picture: Any) -> Any:
    """What is transparent filled with white: what the model is shown."""
    width, height = picture.get_width(), picture.get_height()
    return picture.composite_color_simple(width, height, NEAREST, 255, 8, 0xFFFFFF, 0xFFFFFF)


def with_alpha(picture: Any, alpha: bytes) -> Any:
    """The picture with another alpha, one byte a px."""
    pixels = bytearray(pixels_of(picture))
    pixels[3::4] = alpha
    return pixbuf_of(bytes(pixels), (picture.get_width(), picture.get_height()))


def levels_scaled(levels: bytes, size: Size, box: Box, new: Size) -> bytes:
    """A part of a grey picture of `size`, one byte a px, at another size."""
    grey = bytearray(4 * len(levels))
    for channel in range(4):
        grey[channel::4] = levels if channel < 3 else b"\xff" * len(levels)
    return pixels_of(scaled(cut(pixbuf_of(bytes(grey), size), box), new))[::4]


def over(ground: Any, picture: Any, box: Box, scale: float) -> Any:
    """A copy of `ground` with a picture laid over it, which covers `box`, given in px that are 1 / `scale` of its own.

    What reaches past the ground is left out.
    """
    made = ground.copy()
    x, y, w, h = (side * scale for side in (box.x, box.y, box.w, box.h))
    left, top = max(0, round(x)), max(0, round(y))
    right, bottom = min(made.get_width(), round(x + w)), min(made.get_height(), round(y + h))
    if right > left and bottom > top:
        sx, sy = w / picture.get_width(), h / picture.get_height()
        picture.composite(made, left, top, right - left, bottom - top, x, y, sx, sy, _sampling(sx, sy), 255)
    return made


def _sampling(*scales: float) -> Any:
    return NEAREST if all(scale.is_integer() for scale in scales) else BILINEAR


def ticked(picture: Any) -> Any:
    """A copy with a tick on a green disc in its lower right corner."""
    size = (picture.get_width(), picture.get_height())
    return over(picture, _badge(), Box(size[0] - BADGE - 1, size[1] - BADGE - 1, BADGE, BADGE), 1.0)


def _badge() -> Any:
    pixels = bytearray()
    for y in range(BADGE):
        for x in range(BADGE):
            at = (x + 0.5, y + 0.5)
            tick = min(_distance(at, a, b) for a, b in zip(TICK, TICK[1:]))
            white = min(1.0, max(0.0, 1.6 - tick))
            inside = min(1.0, max(0.0, BADGE / 2 - math.dist(at, (BADGE / 2, BADGE / 2))))
            pixels += bytes(round(g + (w - g) * white) for g, w in zip(GREEN, WHITE))
            pixels.append(round(255 * inside))
    return pixbuf_of(bytes(pixels), (BADGE, BADGE))


def _distance(at: tuple[float, float], a: tuple[float, float], b: tuple[float, float]) -> float:
    """Of a point from the line between two others."""
    along = ((at[0] - a[0]) * (b[0] - a[0]) + (at[1] - a[1]) * (b[1] - a[1])) / math.dist(a, b) ** 2
    along = min(1.0, max(0.0, along))
    return math.dist(at, (a[0] + along * (b[0] - a[0]), a[1] + along * (b[1] - a[1])))
