"""Sprites painted into views: each on a square tile around it, those of one tile size sampled together.

Views are (B, 3, S, S) in 0..255, the sprites' own scale, and opaque. Grids are made in two passes and nothing is copied
that a tile does not touch: what a training step paints, it would else spend a quarter of its time on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from lazydiffusion.training.sprites import SpriteBank

TILT = math.pi / 12
"""Largest tilt of a sprite, to either side."""
SPAN = math.cos(TILT) + math.sin(TILT)
"""Side of the upright square that holds a tilted one of side 1."""


@dataclass
class Placed:
    """N sprites, each in one scene of a batch, in a view's px."""

    scenes: Int64[Tensor, " n"]
    sprites: Int64[Tensor, " n"]
    """Rows of the bank."""
    centre: Float[Tensor, "n 2"]
    """(y, x)."""
    steps: Float[Tensor, "n 2 2"]
    """How far a px down, and one along, goes in the sprite: (x, y) each, and the sprite is from -1 to 1."""

    def part(self, start: int, end: int) -> Placed:
        """Those from `start` to `end`."""
        return Placed(*(field[start:end] for field in vars(self).values()))

    def elsewhere(self, offset: Float[Tensor, "b 2"], scale: Float[Tensor, " b"]) -> Placed:
        """The same sprites in another view of their scenes, whose px are (px + offset) * scale."""
        offset, scale = offset[self.scenes], scale[self.scenes]
        centre = (self.centre + offset) * scale[:, None]
        return Placed(self.scenes, self.sprites, centre, self.steps / scale[:, None, None])


@dataclass
class Tiles:
    """N sprites as a view of S px shows them, each on a square of T px that lies in the view."""

    pixels: Float[Tensor, "n 4 t t"]
    """Premultiplied, 0..255."""
    scenes: Int64[Tensor, " n"]
    rows: Int64[Tensor, "n t"]
    columns: Int64[Tensor, "n t"]
    """Of the view."""

    def over(self, view: Float[Tensor, "b 3 s s"]) -> None:
        """Paint them over the view, in place (Porter-Duff). No two may be of one scene."""
        where = self.places(3)
        clear = torch.rsub(self.pixels[:, 3:], 1, alpha=1 / 255)
        view[where] = torch.addcmul(self.pixels[:, :3], clear, view[where])

    def opacity(self, view: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b s s"]:
        """Theirs in such a view, 0..1; 0 beside them."""
        found = torch.zeros_like(view[:, :1])
        found[self.places(1)] = self.pixels[:, 3:] / 255
        return found[:, 0]

    def places(self, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The index of their px in a view of so many channels."""
        channel = torch.arange(channels, device=self.rows.device)[:, None, None]
        rows, columns = self.rows[:, None, :, None], self.columns[:, None, None, :]
        return self.scenes[:, None, None, None], channel, rows, columns

    def split(self, counts: Sequence[int]) -> list[Tiles]:
        """The first few, the next few, ..."""
        parts = zip(*(field.split(list(counts)) for field in vars(self).values()), strict=True)
        return [Tiles(*part) for part in parts]


def tiles(bank: SpriteBank, placed: Placed, tile: int, side: int) -> Tiles:
    """The sprites on tiles of `tile` px, of a view of `side` px; what does not fit on its tile is cut off."""
    tile = min(tile, side)
    # A tile that would reach over the border is moved in: it still holds all that the view shows of its sprite.
    start = (placed.centre - tile / 2).round().clamp(0, side - tile)
    down, along = placed.steps.unbind(1)
    first = start + 0.5 - placed.centre
    where = grid(first[:, :1] * down + first[:, 1:] * along, down, along, tile)
    pixels = bank.level(level_for(tile, bank.side))[placed.sprites].float()
    painted = functional.grid_sample(pixels, where, align_corners=False)
    lines = start.long()[..., None] + torch.arange(tile, device=start.device)
    return Tiles(painted, placed.scenes, *lines.unbind(1))


def steps(
    size: Float[Tensor, " n"], angle: Float[Tensor, " n"], flip: Float[Tensor, " n"]
) -> Float[Tensor, "n 2 2"]:
    """Placed.steps of sprites with sides of `size` px (0: nothing is painted), tilted, mirrored where `flip` is -1."""
    cos, sin = angle.cos(), angle.sin()
    turned = torch.stack([sin * flip, cos, cos * flip, -sin], dim=1).view(-1, 2, 2)
    return turned / (size / 2).clamp_min(1e-3)[:, None, None]


def grid(
    first: Float[Tensor, "n 2"], down: Float[Tensor, "n 2"], along: Float[Tensor, "n 2"], side: int
) -> Float[Tensor, "n side side 2"]:
    """Places to sample at: `first` for the first px, then `down` more for each row and `along` for each column.

    functional.affine_grid makes it by a matrix product, which may be of TensorFloat-32: too coarse for a place.
    """
    line = torch.arange(side, device=first.device, dtype=first.dtype)[:, None]
    rows = torch.addcmul(first[:, None], line, down[:, None])  # (N, side, 2)
    return torch.addcmul(rows[:, :, None], line, along[:, None, None])


def upright_grid(
    first: Float[Tensor, "n 2"], step: Float[Tensor, " n"], side: int
) -> Float[Tensor, "n side side 2"]:
    """A grid that is not turned: `first` as (y, x), the same step down and along."""
    none = torch.zeros_like(step)
    return grid(first.flip(1), torch.stack([none, step], dim=1), torch.stack([step, none], dim=1), side)


def level_for(tile: int, largest: int) -> int:
    """Side of the sprites to sample a tile from: the smallest level with at least as many px as the tile."""
    level = largest
    while level % 2 == 0 and level // 2 >= tile:
        level //= 2
    return level
