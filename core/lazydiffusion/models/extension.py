"""A smooth guess at what is hidden: the visible colours, extended into the hole.

The model makes what differs from this guess. An untrained one so continues a plain background without a seam, and a
trained one has only the object to make. Pull-push interpolation (Gortler et al. 1996): average the visible px into ever
coarser levels, then fill each level's empty px from the level above and relax them towards the mean of their
neighbours, as multigrid does: nearly the membrane (harmonic) interpolation, without solving for it.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

RELAXATIONS = 2
"""Averages over 3 x 3 px per level."""


def extend(picture: Float[Tensor, "b c h w"], hole: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, "b c h w"]:
    """The picture with its hole filled smoothly from around it; visible px as they are. All hidden: 0 everywhere."""
    visible = (~hole).to(picture.dtype)
    # Colour times weight (the share of a coarse px that is visible), and the weight: one tensor, for fewer passes.
    levels = [torch.cat([picture * visible, visible], dim=1)]
    while max(levels[-1].shape[-2:]) > 1:
        levels.append(functional.avg_pool2d(levels[-1], 2, ceil_mode=True))
    colour, weight = levels.pop().tensor_split([-1], dim=1)
    filled = colour / weight.clamp_min(1e-6)
    for level in reversed(levels):
        colour, weight = level.tensor_split([-1], dim=1)
        empty = 1 - weight
        above = functional.interpolate(filled, size=level.shape[-2:], mode="bilinear", align_corners=False)
        filled = torch.addcmul(colour, empty, above)  # a coarse px counts by the share of it that is visible
        for _ in range(RELAXATIONS):
            around = functional.avg_pool2d(functional.pad(filled, (1, 1, 1, 1), mode="replicate"), 3, 1)
            filled = torch.addcmul(colour, empty, around)  # where nothing is empty, the colour as it was
    return filled
