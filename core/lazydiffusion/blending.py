"""Optional Poisson blending of a fill into its surroundings (Perez et al. 2003), by OpenCV (extra `blend`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lazydiffusion.errors import BadInput
from lazydiffusion.geometry import Box

MARGIN = 2
"""Canvas px around the fill that OpenCV needs as a boundary."""


def poisson(
    canvas: npt.NDArray[np.uint8],
    fill: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.floating],
    box: Box,
) -> npt.NDArray[np.uint8]:
    """The fill's colours (h, w, 3), shifted smoothly so that they meet the canvas at the mask's border.

    `canvas` (H, W, 3), `mask` (H, W). Where the mask reaches the canvas's edge, or all of it is masked, there is
    nothing to meet: that border stays free. Raises BadInput when OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise BadInput("Blending needs OpenCV: install it with `pip install lazydiffusion[blend]`.") from error
    height, width = canvas.shape[:2]
    around = Box(box.x - MARGIN, box.y - MARGIN, box.w + 2 * MARGIN, box.h + 2 * MARGIN)
    inside = around.clip((width, height))
    hidden = mask[inside.slices()] > 0
    if hidden.all():
        return fill
    target = canvas[inside.slices()].copy()
    source = target.copy()
    y, x = box.y - inside.y, box.x - inside.x
    source[y : y + box.h, x : x + box.w] = fill
    # A margin of the source's own pixels, so that the mask never touches the border of what OpenCV is given.
    past = ((MARGIN, MARGIN), (MARGIN, MARGIN))
    source = np.pad(np.where(hidden[..., None], source, target), (*past, (0, 0)), mode="edge")
    target = np.pad(np.where(hidden[..., None], source[MARGIN:-MARGIN, MARGIN:-MARGIN], target), (*past, (0, 0)), mode="edge")
    stencil = np.pad(hidden.astype(np.uint8) * 255, past)
    rows, cols = np.flatnonzero(stencil.any(axis=1)), np.flatnonzero(stencil.any(axis=0))
    centre = (int(cols[0] + cols[-1] + 1) // 2, int(rows[0] + rows[-1] + 1) // 2)
    mixed = cv2.seamlessClone(source, target, stencil, centre, cv2.NORMAL_CLONE)
    mixed = mixed[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return np.asarray(mixed[y : y + box.h, x : x + box.w], dtype=np.uint8)
