"""What each engine's model is shown of a training scene: the same scenes for all of them, framed as the engine does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lazydiffusion.engines.names import LAZY, REGENERATE_CROP, REGENERATE_IMAGE
from lazydiffusion.training.scenes import Scenes
from lazydiffusion.window import CROP_SHARE, LARGEST_SCALE


def unchanged(scenes: Scenes) -> Scenes:
    """The lazy model's: the window, the overview, and the hidden tokens."""
    return scenes


def every_token(scenes: Scenes) -> Scenes:
    """RegenerateImage's: the window, with all of its tokens to be made, in their own order."""
    batch, count = scenes.window_positions.shape[:2]
    everything = torch.arange(count, device=scenes.indices.device).expand(batch, -1)
    return replace(scenes, indices=everything)


def tight_crop(scenes: Scenes) -> Scenes:
    """RegenerateCrop's: a square around the hole, enlarged to the window's size, with all of its tokens to be made.

    As window.choose_crop has it: the hole takes CROP_SHARE of the square, which lies in the window and is enlarged at
    most LARGEST_SCALE times. A px that is interpolated between kept and hidden ones is hidden.
    """
    side = scenes.window.shape[-1]
    low, high = _box(scenes.hole)
    length = ((high - low).amax(dim=1, keepdim=True) / CROP_SHARE).clamp(side / LARGEST_SCALE, side)
    start = torch.minimum(((low + high - length) / 2).clamp_min(0), side - length)  # (B, 2), y and x
    line = (torch.arange(side, device=start.device) + 0.5) / side
    places = (start[:, None] + length[:, None] * line[:, None]) / side * 2 - 1  # (B, side, 2)
    y, x = places[:, :, None, 0].expand(-1, -1, side), places[:, None, :, 1].expand(-1, side, -1)
    grid = torch.stack([x, y], dim=-1)
    return every_token(
        replace(
            scenes,
            window=_sampled(scenes.window, grid, "bilinear"),
            hole=_sampled(scenes.hole.float(), grid, "bilinear") > 0,
            sketch=_sampled(scenes.sketch, grid, "nearest"),
            alpha=_sampled(scenes.alpha, grid, "bilinear"),
        )
    )


FRAMING: dict[str, Callable[[Scenes], Scenes]] = {
    LAZY: unchanged,
    REGENERATE_IMAGE: every_token,
    REGENERATE_CROP: tight_crop,
}
"""By the engine that the model is for: those that can be trained."""


def _box(hole: Bool[Tensor, "b 1 s s"]) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b 2"]]:
    """First (y, x) of each hole, and the first ones after it."""
    line = torch.arange(hole.shape[-1], device=hole.device)
    low, high = [], []
    for axis in (2, 1):
        inside = hole[:, 0].any(dim=axis)  # (B, s)
        low.append(torch.where(inside, line, len(line)).amin(dim=1))
        high.append(torch.where(inside, line + 1, 0).amax(dim=1))
    return torch.stack(low, dim=1).float(), torch.stack(high, dim=1).float()


def _sampled(view: Float[Tensor, "b c s s"], grid: Float[Tensor, "b s s 2"], mode: str) -> Tensor:
    return functional.grid_sample(view, grid, mode=mode, padding_mode="border", align_corners=False)
