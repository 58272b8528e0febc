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
    weight = (~hole).to(picture.dtype)
    levels = [(picture * weight, weight)]
    while max(levels[-1][0].shape[-2:]) > 1:
        levels.append(
            tuple(functional.avg_pool2d(part, 2, ceil_mode=True) for part in levels[-1])  # type: ignore[arg-type]
        )
    colour, weight = levels[-1]
    filled = colour / weight.clamp_min(1e-6)
    for colour, weight in reversed(levels[:-1]):
        above = functional.interpolate(filled, size=colour.shape[-2:], mode="bilinear", align_corners=False)
        mean = colour / weight.clamp_min(1e-6)
        filled = weight * mean + (1 - weight) * above  # a coarse px counts by the share of it that is visible
        for _ in range(RELAXATIONS):
            around = functional.avg_pool2d(functional.pad(filled, (1, 1, 1, 1), mode="replicate"), 3, 1)
            filled = torch.where(weight < 1, weight * mean + (1 - weight) * around, filled)
    return torch.where(hole, filled, picture)
