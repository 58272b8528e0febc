"""Fills, previews and thumbnails as PNG files."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from lazydiffusion.canvas import Canvas
from lazydiffusion.engines.base import Fill

Pixels = npt.NDArray[np.uint8]

PREVIEW_SIDE = 192
"""Longest side of a preview, px."""
THUMBNAIL_SIDE = 256
"""Longest side of a thumbnail, px."""
SURROUNDINGS = 0.15
"""Share of a fill's longer side that a thumbnail shows around it."""
END = b"\0\0\0\0IEND\xae\x42\x60\x82"
"""How every PNG file ends."""
COMPRESSION = 1
"""zlib's level: higher ones take several times as long for a tenth of the size."""


def png(pixels: Pixels) -> bytes:
    """A PNG file of (h, w, 3) or (h, w, 4)."""
    return _file(Image.fromarray(pixels))


def stored_png(pixels: Pixels) -> bytes:
    """A PNG file of (h, w, 4) without compression: made in a tenth of the time, which the artist is waiting for."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 4 * width), np.uint8)  # each row begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)  # 8 bits, RGBA
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.data, level=0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
        for name, data in chunks
    )


def compressed_png(stored: bytes) -> bytes:
    """The same picture in a smaller file."""
    return png(pixels(stored))


def pixels(png: bytes) -> Pixels:
    """(h, w, 4) of a PNG file from the history. Raises OSError or SyntaxError when it is damaged."""
    with PngImageFile(io.BytesIO(png)) as image:  # Image.open refuses more pixels than our largest canvas has
        return np.asarray(image.convert("RGBA"))


def raw(png: bytes, size: list[int]) -> bytes | None:
    """The RGBA rows of a PNG file from the history; None when it is damaged, or not of that width and height."""
    try:
        found = pixels(png)
    except Exception:  # whatever a decoder makes of a damaged file
        return None
    return found.tobytes() if [found.shape[1], found.shape[0]] == size else None


def whole(png: bytes, size: list[int]) -> bytes | None:
    """The PNG file itself; None as for `raw`. Its checksums tell, without decoding it."""
    try:
        with PngImageFile(io.BytesIO(png)) as image:
            right = list(image.size) == size
            image.verify()
    except Exception:  # as above
        return None
    return png if right and png.endswith(END) else None


def small_png_base64(pixels: Pixels) -> str:
    """A preview, as events carry it, of (h, w, 3)."""
    return base64.b64encode(_file(_at_most(Image.fromarray(pixels), PREVIEW_SIDE))).decode("ascii")


def thumbnail(canvas: Canvas, fill: Fill) -> bytes:
    """A PNG file of the fill with what is around it, as far as the canvas's region is known."""
    margin = round(SURROUNDINGS * max(fill.box.w, fill.box.h))
    around = fill.box.enlarged(margin).overlap(canvas.region)
    below = Image.fromarray(canvas.pixels[around.moved(-canvas.region.x, -canvas.region.y).slices()])
    corner = (fill.box.x - around.x, fill.box.y - around.y)
    below.paste(Image.fromarray(fill.pixels[..., :3]), corner, Image.fromarray(fill.pixels[..., 3]))
    return _file(_at_most(below, THUMBNAIL_SIDE))


def _at_most(image: Image.Image, side: int) -> Image.Image:
    if max(image.size) <= side:
        return image
    image = image.reduce(max(1, max(image.size) // (2 * side)))  # fast, and leaves enough for the rest
    scale = side / max(image.size)
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BOX
    )


def _file(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=COMPRESSION)
    return file.getvalue()
