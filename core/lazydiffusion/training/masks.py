"""Holes as artists make them: a loose outline, an ellipse, a box, or brush strokes over what is to be painted.

Shapes are found on a grid of a quarter of the window's side and enlarged: a mask needs no more detail, and dilating it
at full size would take half the time of a training step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
from torch.nn import functional

from lazydiffusion.window import PATCH

COARSE = 4
"""Window px per px of the grid on which shapes are found."""
KINDS = ("outline", "ellipse", "box", "strokes")
KIND_WEIGHTS = (0.4, 0.2, 0.2, 0.2)
STROKE_POINTS = 6


def random_holes(
    alpha: Float[Tensor, "b s s"], generator: torch.Generator | None = None, furthest: float = 24
) -> Bool[Tensor, "b s s"]:
    """One hole per object. `alpha`: the objects' own, 0..1, in the window (not empty); s a multiple of 4 px.

    An outline holds the whole object and up to `furthest` px around it (in steps of COARSE), a box and an ellipse up to
    half of that. Strokes may leave parts of it visible.
    """
    batch, side = alpha.shape[0], alpha.shape[-1]
    device = alpha.device
    coarse = in_cells(alpha, COARSE).amax((2, 4)) > 0.05
    reach = max(1, round(furthest / COARSE))
    kind = random_kinds(batch, KIND_WEIGHTS, device, generator)
    y, x = _grid(side // COARSE, device)
    low, high = _extent(coarse, y, x)  # (B, 2) each, as (y, x)
    margin = _uniform((batch, 1), 0, reach / 2, device, generator)
    centre, half = (low + high) / 2, (high - low) / 2 + margin + 0.5
    offset_y, offset_x = y - centre[:, 0, None, None], x - centre[:, 1, None, None]
    ratio_y, ratio_x = offset_y / half[:, 0, None, None], offset_x / half[:, 1, None, None]
    shapes = torch.stack(
        [
            _distance(coarse, reach) <= _uniform((batch, 1, 1), 0, reach, device, generator),
            ratio_y**2 + ratio_x**2 <= 1.44,  # its axes are 1.2 times the box's: it covers most of an object
            torch.maximum(ratio_y.abs(), ratio_x.abs()) <= 1,
            _strokes(centre, half, y, x, generator),
        ]
    )
    hole = shapes[kind, torch.arange(batch, device=device)]
    hole = hole[:, :, None, :, None].expand(-1, -1, COARSE, -1, COARSE).reshape(batch, side, side)
    return hole | ((kind == 0)[:, None, None] & (alpha > 0.02))


def to_whole_tokens(hole: Bool[Tensor, "b s s"]) -> Int64[Tensor, "b 2"]:
    """How far down and right to move each hole so that its box is centred on its tokens, as a window's mask is.

    By half a token at most; not along an axis where it touches the window's border, or would leave the window.
    """
    side = hole.shape[-1]
    y, x = _grid(side, hole.device)
    low, last = (bound.long() for bound in _extent(hole, y, x))
    end = last + 1
    spare = -(end - low) % PATCH
    shift = (PATCH // 2 - (low - spare // 2)) % PATCH - PATCH // 2
    stays = (low == 0) | (end == side) | (low + shift < 0) | (end + shift > side)
    return torch.where(stays, 0, shift)


def moved(hole: Bool[Tensor, "b s s"], shift: Int64[Tensor, "b 2"]) -> Bool[Tensor, "b s s"]:
    """Each hole so many px further down and right; what comes in at the border is visible."""
    side = hole.shape[-1]
    source = torch.arange(side, device=hole.device) - shift[..., None]  # (B, 2, S)
    inside = (source >= 0) & (source < side)
    rows, columns = source.clamp(0, side - 1).unbind(1)
    batch = torch.arange(len(hole), device=hole.device)[:, None, None]
    found = hole[batch, rows[:, :, None], columns[:, None, :]]
    return found & inside[:, 0, :, None] & inside[:, 1, None, :]


def in_cells(view: Shaped[Tensor, "b s s"], side: int) -> Shaped[Tensor, "b n side n side"]:
    """The view as a grid of square cells, uncopied: reduced over (2, 4) it is a max_pool2d that writes no indices."""
    cells: Tensor = view.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return cells


def random_kinds(
    count: int, weights: Sequence[float], device: torch.device, generator: torch.Generator | None = None
) -> Int64[Tensor, " count"]:
    """One of the kinds 0, 1, ... for each, by its weight.

    torch.multinomial wants the weights on the device, and to copy them makes every training step wait for the last.
    """
    chance = torch.rand(count, device=device, generator=generator) * sum(weights)
    kind = torch.zeros(count, dtype=torch.int64, device=device)
    for threshold in list(accumulate(weights))[:-1]:
        kind += chance >= threshold
    return kind


def _strokes(
    centre: Float[Tensor, "b 2"],
    half: Float[Tensor, "b 2"],
    y: Float[Tensor, "c 1"],
    x: Float[Tensor, "1 c"],
    generator: torch.Generator | None,
) -> Bool[Tensor, "b c c"]:
    """A thick line through STROKE_POINTS random points of the object's box."""
    batch, device = centre.shape[0], centre.device
    corner = (
        _uniform((batch, STROKE_POINTS, 2), -0.8, 0.8, device, generator) * half[:, None] + centre[:, None]
    )
    start, end = corner[:, :-1], corner[:, 1:]  # (B, segments, 2)
    along = end - start
    length = (along**2).sum(-1).clamp_min(1e-3)
    to_y, to_x = y - start[..., 0, None, None], x - start[..., 1, None, None]  # (B, segments, c, c)
    share = (to_y * along[..., 0, None, None] + to_x * along[..., 1, None, None]) / length[..., None, None]
    share = share.clamp(0, 1)
    squared = (to_y - share * along[..., 0, None, None]) ** 2 + (
        to_x - share * along[..., 1, None, None]
    ) ** 2
    width = _uniform((batch, 1), 0.2, 0.5, device, generator) * half.amin(dim=1, keepdim=True) + 1
    return squared.amin(dim=1) <= (width**2)[..., None]


def _distance(mask: Bool[Tensor, "b c c"], furthest: int) -> Float[Tensor, "b c c"]:
    """Octagonal distance to the mask in px, at most `furthest`: 3 x 3 dilations, alternately square and cross."""
    reached = mask[:, None].float()
    distance = torch.full_like(reached, furthest + 1)
    for i in range(furthest):
        distance -= reached
        if i % 2:
            reached = functional.max_pool2d(reached, 3, 1, 1)
        else:
            down = functional.max_pool2d(reached, (3, 1), 1, (1, 0))
            reached = torch.maximum(down, functional.max_pool2d(reached, (1, 3), 1, (0, 1)))
    return (distance - reached)[:, 0]


def _extent(
    mask: Bool[Tensor, "b c c"], y: Float[Tensor, "c 1"], x: Float[Tensor, "1 c"]
) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b 2"]]:
    """First and last (y, x) of each mask."""
    far = float(mask.shape[-1])
    low = torch.stack([torch.where(mask, axis, far).amin((1, 2)) for axis in (y, x)], dim=1)
    high = torch.stack([torch.where(mask, axis, 0.0).amax((1, 2)) for axis in (y, x)], dim=1)
    return torch.minimum(low, high), high


def _grid(side: int, device: torch.device) -> tuple[Float[Tensor, "c 1"], Float[Tensor, "1 c"]]:
    line = torch.arange(side, device=device, dtype=torch.float32)
    return line[:, None], line[None]


def _uniform(
    shape: tuple[int, ...], low: float, high: float, device: torch.device, generator: torch.Generator | None
) -> Tensor:
    return torch.empty(shape, device=device).uniform_(low, high, generator=generator)
