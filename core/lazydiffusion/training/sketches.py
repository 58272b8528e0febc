"""Sketches derived from a finished picture, to train the sketch condition: coarse colour blobs, or dark outlines."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

BLOBS = 0.6
"""Share of sketches that are colour blobs; the others are outlines."""
DABS = 16
"""A blob sketch is the picture at side / DABS ... px enlarged again: as coarse as dabs of a wide brush."""


def random_sketches(
    picture: Float[Tensor, "b 3 s s"],
    alpha: Float[Tensor, "b s s"],
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b 4 s s"]:
    """Sketch each picture's object (`alpha`, 0..1): colour -1..1 and a drawn channel; all 0 where nothing is drawn."""
    blob = torch.rand(len(picture), device=picture.device, generator=generator) < BLOBS
    return torch.where(blob[:, None, None, None], colour_blobs(picture, alpha), outlines(picture, alpha))


def colour_blobs(
    picture: Float[Tensor, "b 3 s s"], alpha: Float[Tensor, "b s s"]
) -> Float[Tensor, "b 4 s s"]:
    """The object in flat dabs of its mean colours, four levels a channel."""
    side = picture.shape[-1]
    cell = max(1, side // (2 * DABS))
    weight = functional.avg_pool2d(alpha[:, None], cell)
    colour = functional.avg_pool2d(picture * alpha[:, None], cell) / weight.clamp_min(1e-3)
    colour = ((colour * 1.5 + 1.5).round() / 1.5 - 1).clamp(-1, 1)
    drawn = (weight > 0.4).to(picture.dtype)
    return functional.interpolate(
        torch.cat([colour * drawn, drawn], dim=1), size=(side, side), mode="nearest"
    )


def outlines(picture: Float[Tensor, "b 3 s s"], alpha: Float[Tensor, "b s s"]) -> Float[Tensor, "b 4 s s"]:
    """Black lines where brightness or the object's own border changes quickly (Sobel gradients)."""
    brightness = picture.mean(dim=1) * alpha
    around = functional.pad(torch.stack([brightness, 2 * alpha], dim=1), (1, 1, 1, 1))
    # By slices: as a convolution of one channel, the two kernels took a tenth of the time that a scene does.
    down = around[:, :, :-2] - around[:, :, 2:]  # 1 0 -1, and across it 1 2 1
    down = torch.add(down[..., :-2] + down[..., 2:], down[..., 1:-1], alpha=2)
    along = around[..., :-2] - around[..., 2:]
    along = torch.add(along[:, :, :-2] + along[:, :, 2:], along[:, :, 1:-1], alpha=2)
    drawn = (torch.hypot(down, along).amax(dim=1, keepdim=True) > 4 * 0.5).to(picture.dtype)
    drawn = drawn * (functional.max_pool2d(alpha[:, None], 5, 1, 2) > 0.1)
    return torch.cat([-drawn, -drawn, -drawn, drawn], dim=1)
