"""Optional Poisson blending of a fill into its surroundings (Perez et al. 2003), by OpenCV (extra `blend`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lazydiffusion.errors import BadInput
from lazydiffusion.window import Box

EROSION = 3
"""seamlessClone shrinks its mask by so many px before it solves; it is given one that much larger."""
MARGIN = EROSION + 3
"""Px around the fill that OpenCV is given: the boundary values come from there."""


def poisson(
    canvas: npt.NDArray[np.uint8],
    fill: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.floating],
    box: Box,
) -> npt.NDArray[np.uint8]:
    """The fill's colours (h, w, 3), shifted smoothly so that they meet the canvas at the mask's border.

    `canvas` (H, W, 3), `mask` (H, W). Where the mask reaches the canvas's edge, it meets the nearest visible
    colour; where all is masked there is nothing to meet. Raises BadInput when OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise BadInput(
            "Blending needs OpenCV: install it with `pip install lazydiffusion[blend]`."
        ) from error
    height, width = canvas.shape[:2]
    around = Box(box.x - MARGIN, box.y - MARGIN, box.w + 2 * MARGIN, box.h + 2 * MARGIN)
    inside = around.clip((width, height))
    hidden = mask[inside.slices()] > 0
    if hidden.all():
        return fill
    target = canvas[inside.slices()]
    source = np.zeros_like(target)
    y, x = box.y - inside.y, box.x - inside.x
    source[y : y + box.h, x : x + box.w] = fill
    # Outside the mask the fill goes on as it ends, so that the source has no step of its own at the border; and under
    # the mask the canvas goes on as it ends, which is what the fill meets where the mask reaches the canvas's edge.
    source, target = source[_nearest(cv2, hidden)], target[_nearest(cv2, ~hidden)]
    past = ((MARGIN, MARGIN), (MARGIN, MARGIN))
    source, target = (
        np.pad(source, (*past, (0, 0)), mode="edge"),
        np.pad(target, (*past, (0, 0)), mode="edge"),
    )
    stencil = np.pad(hidden, past, mode="edge").astype(np.uint8) * 255
    stencil = np.asarray(cv2.dilate(stencil, np.ones((3, 3), np.uint8), iterations=EROSION), dtype=np.uint8)
    stencil[[0, -1]], stencil[:, [0, -1]] = 0, 0
    rows, cols = np.flatnonzero(stencil.any(axis=1)), np.flatnonzero(stencil.any(axis=0))
    centre = (int(cols[0] + cols[-1] + 1) // 2, int(rows[0] + rows[-1] + 1) // 2)
    mixed = cv2.seamlessClone(source, target, stencil, centre, cv2.NORMAL_CLONE)
    mixed = mixed[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return np.asarray(mixed[y : y + box.h, x : x + box.w], dtype=np.uint8)


def _nearest(cv2: Any, chosen: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """For each pixel, the row and the column of the nearest chosen one."""
    _, labels = cv2.distanceTransformWithLabels(
        (~chosen).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, cols = np.nonzero(chosen)
    row_of, col_of = (np.zeros(labels.max() + 1, dtype=np.intp) for _ in range(2))
    row_of[labels[rows, cols]], col_of[labels[rows, cols]] = rows, cols
    return row_of[labels], col_of[labels]
