"""Between a picture in the computer's memory and a window on the device. Both ways it travels as bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from lazydiffusion import compose
from lazydiffusion.geometry import EditPlan


def view_colours(view: compose.View, device: torch.device) -> Float[Tensor, "1 3 h w"]:
    """A view's colours on a device, -1..1 in float32; at canvas scale those of hidden px too."""
    levels = torch.from_numpy(view.levels).to(device).permute(2, 0, 1)[None]
    return levels.float().contiguous() / 127.5 - 1


def fill_colours(
    window: Float[Tensor, "3 h w"], plan: EditPlan, size: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8]:
    """The fill box (h, w, 3) of a generated window, -1..1, at canvas resolution or at `size` (width, height).

    Only the part that it needs leaves the device.
    """
    part = compose.part_needed(plan)
    levels = ((window[(..., *part.slices())].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pixels = levels.permute(1, 2, 0).contiguous().cpu().numpy()
    return compose.from_window(pixels, plan, part, size)
