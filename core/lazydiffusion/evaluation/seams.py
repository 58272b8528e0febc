"""How visible a fill's border is: the colour step across the mask's border, against the real picture's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LEVELS = 127.5
"""8-bit levels per unit of a picture in -1..1."""


@dataclass(frozen=True)
class Seam:
    """Means over scenes, in 8-bit levels."""

    step: float
    """Mean absolute difference between neighbours of which one is filled and one is kept."""
    shift: float
    """Root mean square, over scenes and channels, of the mean signed difference (filled minus kept)."""


def border_steps(
    picture: Float[Tensor, "b 3 h w"], hole: Bool[Tensor, "b 1 h w"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b 3"]]:
    """Per scene: the mean absolute step over all neighbour pairs across the border, and the mean signed one.

    Signed steps are filled minus kept. Pictures in -1..1, results in levels. A scene without a border gives 0.
    """
    total = torch.zeros(len(picture), 3, device=picture.device)
    signed, count = torch.zeros_like(total), torch.zeros(len(picture), 1, device=picture.device)
    for axis in (2, 3):
        length = picture.shape[axis]
        first, second = (picture.narrow(axis, start, length - 1) for start in (0, 1))
        hidden, hidden_next = (hole.narrow(axis, start, length - 1) for start in (0, 1))
        direction = hidden.float() - hidden_next.float()  # 1: first is filled; -1: second is; 0: no border
        step = (first - second) * LEVELS * direction
        total += step.abs().sum(dim=(2, 3))
        signed += step.sum(dim=(2, 3))
        count += direction.abs().sum(dim=(2, 3))
    count = count.clamp_min(1)
    return (total / count).mean(dim=1), signed / count


def seam(picture: Float[Tensor, "b 3 h w"], hole: Bool[Tensor, "b 1 h w"]) -> Seam:
    """Mean step and colour shift of a batch of pictures in -1..1."""
    steps, signed = border_steps(picture, hole)
    return Seam(float(steps.mean()), float(signed.square().mean().sqrt()))
