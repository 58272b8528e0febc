"""What the sheets show of a case: the canvas with its hole, and the part around the hole close up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lazydiffusion import compose, geometry
from lazydiffusion.engines.base import Edit, Pixels
from lazydiffusion.pipelines import sketches
from lazydiffusion.window import Box

TILE = 320
"""Longer side of a tile, px."""
AROUND = 0.6
"""What a close-up shows around the hole, on every side, in longer sides of the hole."""
WORTH_IT = 0.7
"""A close-up of more than this share of the canvas's longer side is the whole canvas instead."""
HOLE_COLOUR = (214, 41, 118)
STRIPE, PERIOD = 2, 9
"""Px of a tile: the stripes in a hole, and from one to the next."""


@dataclass(frozen=True)
class Framed:
    """A case as its sheets show it, before anything is filled. Tiles are (h, w, 3) with TILE px on the longer side."""

    box: Box
    """The part of the canvas that is shown close up: all of it, where the hole is large."""
    canvas: Pixels
    """All of the canvas, the hole hatched, the box outlined where it is a part."""
    near: Pixels | None
    """The box, the hole hatched; None where it is all of the canvas."""
    sketch: Pixels | None
    """The box with the sketch laid over it."""

    def tile(self, picture: Pixels) -> Pixels:
        """The box of a finished picture (H, W, 3)."""
        return _scaled(picture, self.box)


def frame(edit: Edit) -> Framed:
    """The tiles of a case whose canvas is whole."""
    canvas, mask = edit.canvas.pixels, edit.mask
    width, height = edit.canvas.size
    everything = Box(0, 0, width, height)
    hole = geometry.bounding_box(mask)
    box = hole.enlarged(max(8, round(AROUND * max(hole.w, hole.h)))).clip((width, height))
    if max(box.w, box.h) > WORTH_IT * max(width, height):
        box = everything
    whole = _hatched(canvas, mask, everything)
    is_part = box != everything
    if is_part:
        _outline(whole, box, TILE / max(width, height))
    sketch = None
    if edit.sketch is not None:
        sketch = _scaled(sketches.laid_over(edit.canvas, edit.sketch, mask).pixels, box)
    return Framed(box, whole, _hatched(canvas, mask, box) if is_part else None, sketch)


def _scaled(picture: Pixels, box: Box) -> Pixels:
    part = Image.fromarray(np.ascontiguousarray(picture[box.slices()]))
    return np.array(part.resize(_tile_size(box), Image.Resampling.LANCZOS))


def _tile_size(box: Box) -> tuple[int, int]:
    scale = TILE / max(box.w, box.h)
    return max(1, round(box.w * scale)), max(1, round(box.h * scale))


def _hatched(picture: Pixels, mask: npt.NDArray[np.floating], box: Box) -> Pixels:
    """A tile of the box whose hole is pale, striped and outlined: visible on any picture, as is what is under it."""
    tile = _scaled(picture, box)
    hidden = compose.touched(mask > 0, _tile_size(box), box)
    y, x = np.indices(hidden.shape)
    stripes = (x + y) % PERIOD < STRIPE
    inner = np.pad(hidden, 1, mode="edge")
    inner = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    tile[hidden] = (0.35 * tile[hidden] + 0.65 * 255).astype(np.uint8)
    tile[hidden & (stripes | ~inner)] = HOLE_COLOUR
    return tile


def _outline(tile: Pixels, box: Box, scale: float) -> None:
    """A frame of a white and a black line around a box in canvas px."""
    left, top = round(box.x * scale), round(box.y * scale)
    right, bottom = round(box.right * scale) - 1, round(box.bottom * scale) - 1
    height, width = tile.shape[:2]
    for outset, level in ((0, 255), (1, 0)):
        x0, y0 = max(0, left - outset), max(0, top - outset)
        x1, y1 = min(width - 1, right + outset), min(height - 1, bottom + outset)
        tile[y0, x0 : x1 + 1] = tile[y1, x0 : x1 + 1] = level
        tile[y0 : y1 + 1, x0] = tile[y0 : y1 + 1, x1] = level
