"""Optional Poisson blending of a fill into its surroundings (Perez et al. 2003), by OpenCV (extra `blend`).

What is blended is the fill and a smooth shift: the solution of Laplace's equation that is, at the mask's border, the
difference between canvas and fill. It is so smooth that a large one is solved small, and enlarged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lazydiffusion import compose
from lazydiffusion.canvas import Canvas
from lazydiffusion.errors import BadInput
from lazydiffusion.window import Box

EROSION = 3
"""seamlessClone shrinks its mask by so many px before it solves; it is given one that much larger."""
MARGIN = EROSION + 3
"""Px around the fill that OpenCV is given: the boundary values come from there."""
LARGEST_SIDE = 1024
"""The shift is solved on at most so many px of the longer side: 4096 x 4096 px take a second instead of 15."""
GREY = 128
"""OpenCV blends bytes, so the shift is solved as levels around this one."""

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


def poisson(
    canvas: npt.NDArray[np.uint8],
    fill: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.floating],
    box: Box,
) -> npt.NDArray[np.uint8]:
    """The fill's colours (h, w, 3), shifted smoothly so that they meet the canvas at the mask's border.

    `canvas` (H, W, 3), `mask` (H, W). Where the mask reaches the canvas's edge, it meets the nearest visible
    colour; where all is masked there is nothing to meet. Where the longer side is above LARGEST_SIDE, colours at the
    border are means of as many px as the shift is solved smaller. Raises BadInput when OpenCV is not installed, and
    MemoryError.
    """
    try:
        import cv2
    except ImportError as error:
        raise BadInput(
            "Blending needs OpenCV: install it with `pip install lazydiffusion[blend]`."
        ) from error
    inside = box.enlarged(MARGIN).clip((canvas.shape[1], canvas.shape[0]))
    hidden = mask[inside.slices()] > 0
    if hidden.all():
        return fill
    try:
        shift = _shift(cv2, canvas[inside.slices()], fill, hidden, box.moved(-inside.x, -inside.y))
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(str(error)) from error
        raise
    # The fill's own place in it, enlarged channel by channel.
    scale_x, scale_y = shift.shape[1] / inside.w, shift.shape[0] / inside.h
    left, top = (box.x - inside.x) * scale_x, (box.y - inside.y) * scale_y
    place = (left, top, left + box.w * scale_x, top + box.h * scale_y)
    blended = np.empty_like(fill)
    for channel in range(3):
        coarse = Image.fromarray(np.ascontiguousarray(shift[..., channel]))
        moved = np.array(coarse.resize((box.w, box.h), Image.Resampling.BILINEAR, box=place))
        moved += fill[..., channel]
        blended[..., channel] = np.clip(np.rint(moved, out=moved), 0, 255, out=moved)
    return blended


def _shift(
    cv2: Any, canvas: npt.NDArray[np.uint8], fill: npt.NDArray[np.uint8], hidden: Bools, box: Box
) -> Floats:
    """What is added to the fill: (h, w, 3) levels, as large as the canvas (H, W, 3) or smaller. `box`: the fill's."""
    height, width = hidden.shape
    shrink = max(1.0, max(height, width) / LARGEST_SIDE)
    whole, size = Box(0, 0, width, height), (max(1, round(width / shrink)), max(1, round(height / shrink)))
    around = ((box.y, height - box.bottom), (box.x, width - box.right), (0, 0))
    outer = compose.view(Canvas.of(canvas), hidden.astype(np.float32), whole, size)
    inner = compose.view(Canvas.of(np.pad(fill, around)), (~hidden).astype(np.float32), whole, size)
    # Outside the mask the fill goes on as it ends; and under the mask the canvas goes on as it ends, which is what the
    # fill meets where the mask reaches the canvas's edge.
    ends = outer.levels[_nearest(cv2, outer.visible > compose.LEAST_VISIBLE)].astype(np.float32)
    ends -= inner.levels[_nearest(cv2, inner.visible > compose.LEAST_VISIBLE)]
    return _harmonic(cv2, ends, outer.hole)


def _harmonic(cv2: Any, values: Floats, inside: Bools) -> Floats:
    """Values (h, w, 3), kept where they are not `inside` (h, w) and smoothly continued from there where they are."""
    largest = max(1.0, float(np.abs(values).max()))
    scale = (GREY - 1) / largest  # as fine as bytes can be: the solution is nowhere larger than at the border
    past = ((MARGIN, MARGIN), (MARGIN, MARGIN))
    target = np.pad(np.rint(GREY + scale * values).astype(np.uint8), (*past, (0, 0)), mode="edge")
    stencil = np.pad(inside, past, mode="edge").astype(np.uint8) * 255
    stencil = np.asarray(cv2.dilate(stencil, np.ones((3, 3), np.uint8), iterations=EROSION), dtype=np.uint8)
    stencil[[0, -1]], stencil[:, [0, -1]] = 0, 0
    rows, cols = np.flatnonzero(stencil.any(axis=1)), np.flatnonzero(stencil.any(axis=0))
    centre = (int(cols[0] + cols[-1] + 1) // 2, int(rows[0] + rows[-1] + 1) // 2)
    solved = cv2.seamlessClone(np.full_like(target, GREY), target, stencil, centre, cv2.NORMAL_CLONE)
    solved = solved[MARGIN:-MARGIN, MARGIN:-MARGIN].astype(np.float32)
    solved -= GREY
    solved /= scale
    return np.asarray(solved, dtype=np.float32)


def _nearest(cv2: Any, chosen: Bools) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """For each pixel, the row and the column of the nearest chosen one."""
    _, labels = cv2.distanceTransformWithLabels(
        (~chosen).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, cols = np.nonzero(chosen)
    row_of, col_of = (np.zeros(labels.max() + 1, dtype=np.intp) for _ in range(2))
    row_of[labels[rows, cols]], col_of[labels[rows, cols]] = rows, cols
    return row_of[labels], col_of[labels]
