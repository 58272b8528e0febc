"""How far fills follow a sketch: the colours of blobs, the lines of outlines (training.sketches makes both).

Each function is for sketches of one kind; only what is drawn inside the hole counts.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lazydiffusion.evaluation.seams import LEVELS

BLUR = 1 / 64
"""Deviation of the blur in picture sides: half of a dab (sketches.DABS), so that a dab's inner structure is free."""
EDGE = 0.25
"""Sobel gradients from here on are edges, in a picture's -1..1 across two px: 32 levels of 255."""
REACH = 3
"""An edge this near a line follows it, px: at 256 px, about a stroke's own width."""


def colour_error(
    fills: Float[Tensor, "b 3 h w"],
    sketch: Float[Tensor, "b 4 h w"],
    hole: Bool[Tensor, "b 1 h w"],
    blur: float = BLUR,
) -> Float[Tensor, " b"]:
    """Root mean square difference of blurred fill and blurred colour sketch where it is drawn, in 8-bit levels.

    Per scene; nan where nothing is drawn in the hole. A sketch of few colours (colour_blobs has four levels a channel)
    is at a distance from the very picture that it was made of: that picture's own error is the least to hope for.
    """
    drawn = ((sketch[:, 3:] > 0.5) & hole).to(fills.dtype)
    deviation = blur * max(fills.shape[2:])
    # Blurred inside what is drawn only: colours around it count neither in the fill nor in the sketch.
    weight = _blurred(drawn, deviation).clamp_min(1e-6)
    difference = _blurred((fills - sketch[:, :3]) * drawn, deviation) / weight
    squared = (difference.square() * drawn).sum(dim=(1, 2, 3)) / (3 * drawn.sum(dim=(1, 2, 3)))
    return squared.sqrt() * LEVELS


def edge_recall(
    fills: Float[Tensor, "b 3 h w"],
    sketch: Float[Tensor, "b 4 h w"],
    hole: Bool[Tensor, "b 1 h w"],
    reach: int = REACH,
) -> Float[Tensor, " b"]:
    """Share of the sketched lines' px in the hole that have an edge of the fill within `reach` px (a square), 0..1.

    Per scene; nan where nothing is drawn in the hole. A fill that is edges all over follows every line: see
    `edge_precision`.
    """
    lines = (sketch[:, 3:] > 0.5) & hole
    return _share_near(lines, edges(fills) & hole, reach)


def edge_precision(
    fills: Float[Tensor, "b 3 h w"],
    sketch: Float[Tensor, "b 4 h w"],
    hole: Bool[Tensor, "b 1 h w"],
    reach: int = REACH,
) -> Float[Tensor, " b"]:
    """Share of the fill's edge px in the hole that have a sketched line within `reach` px (a square), 0..1.

    Per scene; nan where the fill has no edge.
    """
    lines = (sketch[:, 3:] > 0.5) & hole
    return _share_near(edges(fills) & hole, lines, reach)


def edges(pictures: Float[Tensor, "b 3 h w"]) -> Bool[Tensor, "b 1 h w"]:
    """Where any channel of pictures in -1..1 changes by EDGE or more across two px (Sobel 1968)."""
    kernel = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]], device=pictures.device) / 4
    weight = torch.stack([kernel, kernel.T])[:, None].to(pictures.dtype)
    channels = F.pad(pictures.flatten(0, 1)[:, None], (1,) * 4, mode="replicate")
    strength = F.conv2d(channels, weight).square().sum(dim=1).sqrt()
    strongest: Tensor = strength.unflatten(0, pictures.shape[:2]).amax(dim=1, keepdim=True)
    return strongest >= EDGE


def _share_near(wanted: Tensor, found: Tensor, reach: int) -> Tensor:
    near = F.max_pool2d(found.float(), 2 * reach + 1, 1, reach) > 0
    share: Tensor = (wanted & near).sum(dim=(1, 2, 3)) / wanted.sum(dim=(1, 2, 3))
    return share


def _blurred(pictures: Float[Tensor, "b c h w"], deviation: float) -> Float[Tensor, "b c h w"]:
    """A Gaussian blur, as if everything beyond the border were 0."""
    radius = math.ceil(3 * deviation)
    line = torch.arange(-radius, radius + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = (-(line**2) / (2 * deviation**2)).exp()
    kernel = (kernel / kernel.sum()).expand(pictures.shape[1], 1, 1, -1)
    across = F.conv2d(pictures, kernel, padding=(0, radius), groups=pictures.shape[1])
    return F.conv2d(across, kernel.mT, padding=(radius, 0), groups=pictures.shape[1])
