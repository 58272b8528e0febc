"""What models are told of a sketch: laid over the canvas, or, for the lazy decoder, its colours and where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lazydiffusion import compose
from lazydiffusion.canvas import Canvas
from lazydiffusion.geometry import EditPlan
from lazydiffusion.window import Box

DRAWN_ALPHA = 16
"""A sketch's px is drawn where its alpha, of 255, is above this: a translucent stroke is, a trace that nobody sees is
not."""
DRAWN_SHARE = 0.25
"""A working px counts as drawn when at least this share of it is (thin lines survive a small scale)."""


def laid_over(
    canvas: Canvas, sketch: npt.NDArray[np.uint8] | None, mask: npt.NDArray[np.floating] | None = None
) -> Canvas:
    """The canvas with a sketch (h, w, 4) of its region over it: inside the mask (h, w), or without one everywhere."""
    if sketch is None:
        return canvas
    if mask is not None:
        sketch = np.where((mask > 0)[..., None], sketch, np.uint8(0))
    region = Box(0, 0, canvas.region.w, canvas.region.h)
    return replace(canvas, pixels=compose.paste(canvas.pixels, sketch, region))


def in_window(sketch: npt.NDArray[np.uint8], canvas: Canvas, plan: EditPlan) -> npt.NDArray[np.float32]:
    """A sketch (h, w, 4) of the canvas's region as the window has it: (h, w, 4) at working size.

    Colours, -1..1, of what is drawn, whatever its alpha, 0 where nothing is; and 1 where something is drawn, else 0.
    """
    shown = plan.window.clip(plan.canvas_size)
    known = canvas.region.overlap(shown)  # outside the region nothing is drawn
    drawn = np.zeros((shown.h, shown.w, 4), np.uint8)
    here = known.moved(-canvas.region.x, -canvas.region.y)
    drawn[known.moved(-shown.x, -shown.y).slices()] = sketch[here.slices()]
    blank = (drawn[..., 3] <= DRAWN_ALPHA).astype(np.float32)
    window = plan.window.moved(-shown.x, -shown.y)
    view = compose.view(Canvas.of(drawn[..., :3]), blank, window, plan.working_size)
    inside = view.visible[..., None] > DRAWN_SHARE
    return np.concatenate([np.where(inside, view.colour, 0), inside], axis=-1, dtype=np.float32)
