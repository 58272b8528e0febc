"""Training scenes, composed where the model trains: sprites on a background, one of them hidden in the window.

A scene is a square canvas 1 to 6 windows wide. Only its two views are ever painted: the window, and the overview of
the whole canvas. Sizes and positions are in window px; the window's top left corner is the origin.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from lazydiffusion.models.extension import extend
from lazydiffusion.training.masks import COARSE, in_cells, moved, random_holes, random_kinds, to_whole_tokens
from lazydiffusion.training.painting import SPAN, TILT, Placed, steps, tiles, upright_grid
from lazydiffusion.training.sketches import random_sketches
from lazydiffusion.training.sprites import SpriteBank
from lazydiffusion.window import PATCH

WIDEST_CANVAS = 6.0
"""Largest canvas, in window sides. Beyond, positions are logarithmic and change little (tokens.compress)."""
TEXTURE = 32
"""Side of a background's texture, px; it is stretched over the canvas."""
TEXTURE_WEIGHTS = (0.4, 0.25, 0.2, 0.15)
"""Of plain, shaded, split and cloudy ones."""
OBJECT_SHARE = 0.8
"""Side of the largest hidden sprite over the side of a square of the bucket's tokens."""
LOOSE_SHARE = 1 / 6
"""Of the largest hidden sprite's side: how far around the object an artist may draw."""


@dataclass(frozen=True)
class Shares:
    """How often a scene is of a kind."""

    same_set: float = 0.85
    """All of its sprites are of the target's set: style is what the context has to tell."""
    removal: float = 0.1
    """Nothing is hidden but background, under an empty prompt."""
    sketched: float = 0.3
    """It comes with a sketch of what is hidden; never a removal."""
    wide: float = 0.6
    """The canvas is larger than the window."""
    tilted: float = 0.4
    """Of the sprites, by painting.TILT at most. A small model learns upright ones sooner."""
    mirrored: float = 0.5
    """Of the sprites."""


@dataclass(frozen=True)
class Slot:
    """One kind of sprite in a scene: how large (in window sides, or canvas sides), how often, on which tile."""

    smallest: float
    largest: float
    chance: float
    tile: float
    """Side of the square that is painted, in window sides; 1 is the whole view, for sprites of any size."""
    of_canvas: bool = False

    def most(self, batch: int) -> int:
        """In how many scenes of a batch there is one, rounded up: which ones is random, their number is not."""
        return math.ceil(round(self.chance * batch, 6))


SLOTS = (
    Slot(0.20, 0.60, 0.4, 1.0, of_canvas=True),
    Slot(0.40, 0.80, 0.3, 1.0),
    *[Slot(0.20, 0.40, 0.6, 0.5)] * 2,
    *[Slot(0.09, 0.19, 0.5, 0.25)] * 3,
)


@dataclass
class Scenes:
    """A batch of B scenes, ready for the models."""

    window: Float[Tensor, "b 3 s s"]
    """The finished picture, -1..1."""
    hole: Bool[Tensor, "b 1 s s"]
    overview: Float[Tensor, "b 3 o o"]
    overview_hole: Bool[Tensor, "b 1 o o"]
    window_positions: Float[Tensor, "b n 2"]
    overview_positions: Float[Tensor, "b m 2"]
    indices: Int64[Tensor, "b k"]
    """Tokens that the decoder makes, the hidden ones first."""
    sketch: Float[Tensor, "b 4 s s"]
    """Colour in -1..1 and a drawn channel, all 0 where nothing is drawn."""
    sprites: Int64[Tensor, " b"]
    """The hidden sprite's row in the bank; -1 where only background is hidden."""
    alpha: Float[Tensor, "b 1 s s"]
    """The hidden sprite's opacity in the window, 0..1; 0 where only background is hidden."""

    def first(self, count: int) -> Scenes:
        """The first `count` scenes alone (all of them, if there are fewer)."""
        return self.part(slice(count))

    def part(self, rows: slice) -> Scenes:
        """Some of the scenes, sharing their memory."""
        return Scenes(**{name: value[rows] for name, value in vars(self).items()})

    def joined(self, others: Scenes) -> Scenes:
        """These scenes, then the others."""
        return Scenes(**{name: torch.cat([part, getattr(others, name)]) for name, part in vars(self).items()})


def masked_view(image: Float[Tensor, "b 3 h w"], hole: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, "b 4 h w"]:
    """What the context encoder may see: the visible picture, smoothly extended into the hole, and where the hole is."""
    return torch.cat([extend(image, hole), hole.to(image.dtype)], dim=1)


class SceneMaker:
    """Composes batches of scenes on the bank's device. The same generator state gives the same scenes."""

    def __init__(
        self,
        bank: SpriteBank,
        window_tokens: int = 16,
        overview_tokens: int = 8,
        generator: torch.Generator | None = None,
        shares: Shares = Shares(),
    ):
        self.bank = bank
        self.shares = shares
        self.window_side = window_tokens * PATCH
        self.overview_side = overview_tokens * PATCH
        self.window_tokens, self.overview_tokens = window_tokens, overview_tokens
        self.generator = generator
        self.device = bank.pixels.device
        self._places = _centres(window_tokens, self.device)
        self._apart = torch.cdist(self._places[0], self._places[0]).square()  # squared, in tokens
        self._slot_values: dict[int, Tensor] = {}
        by_set = torch.argsort(bank.sets, stable=True)
        counts = torch.bincount(bank.sets, minlength=len(bank.set_names))
        self._by_set, self._set_count = by_set, counts
        self._set_start = counts.cumsum(0) - counts

    @torch.no_grad()
    def make(self, batch: int, bucket: int) -> Scenes:
        """`batch` scenes whose holes mostly fit `bucket` tokens (what does not is left out of the loss)."""
        side = self.window_side
        # The canvas's side in window sides, the window's corner on the canvas, and overview px per window px.
        narrow = self._uniform(batch, 0, 1) < 1 - self.shares.wide
        extent = torch.where(narrow, 1.0, (math.log(WIDEST_CANVAS) * self._uniform(batch, 0, 1)).exp())
        offset = (extent[:, None] - 1) * side * self._uniform((batch, 2), 0, 1)
        shrink = self.overview_side / (extent * side)

        target = self._random(batch, len(self.bank))
        texture = self._textures(batch)
        window = self._background(texture, extent, offset, side)
        overview = self._background(
            texture, torch.ones_like(extent), torch.zeros_like(offset), self.overview_side
        )
        self._paint_companions(self._companions(target, extent, offset), offset, shrink, window, overview)

        largest = min(OBJECT_SHARE * bucket**0.5 * PATCH, 0.75 * side)
        central = self._uniform(batch, 0, 1) < 0.7
        spread = torch.where(central, 0.2, 0.42)[:, None]
        hidden = Placed(
            scenes=torch.arange(batch, device=self.device),
            sprites=target,
            centre=side / 2 + side * spread * self._uniform((batch, 2), -1, 1),
            steps=self._steps(self._uniform(batch, 0.7 * largest, largest)),
        )
        removal = self._uniform(batch, 0, 1) < self.shares.removal
        tile = PATCH * math.ceil((SPAN * largest + 4) / PATCH)
        hidden, hole = self._hide(hidden, tile, largest, window)
        alpha = self._paint_target(hidden, tile, removal, window)
        small_tile = math.ceil(tile * self.overview_side / side) + 2
        self._paint_target(hidden.elsewhere(offset, shrink), small_tile, removal, overview)
        picture = _as_image(window)
        return Scenes(
            window=picture,
            hole=hole[:, None],
            overview=_as_image(overview),
            overview_hole=self._overview_hole(hole, extent, offset),
            window_positions=self._places.expand(batch, -1, -1),
            overview_positions=self._overview_positions(extent, offset),
            indices=self._indices(hole, bucket),
            sketch=self._sketch(picture, alpha, hole, removal),
            sprites=torch.where(removal, -1, target),
            alpha=(alpha * ~removal[:, None, None])[:, None],
        )

    def _companions(self, target: Tensor, extent: Tensor, offset: Tensor) -> Placed:
        """The other sprites of the scenes, in the window's px: those of the first slot, of the next, and so on."""
        batch, side = len(target), self.window_side
        if batch not in self._slot_values:
            self._slot_values[batch] = _slot_values(batch).to(self.device)
        smallest, largest, of_canvas, chance = self._slot_values[batch]
        count = len(smallest)
        order = self._uniform((len(SLOTS), batch), 0, 1).argsort(dim=1)
        scenes = torch.cat(
            [order[row, : slot.most(batch)] for row, slot in enumerate(SLOTS)] or [order[0:0, 0]]
        )
        extent, offset = extent[scenes], offset[scenes]
        size = (
            (1 + (extent - 1) * of_canvas) * side * torch.lerp(smallest, largest, self._uniform(count, 0, 1))
        )
        near = self._uniform((count, 2), -0.1, 1.1) * side
        anywhere = self._uniform((count, 2), 0, 1) * (extent * side)[:, None] - offset
        return Placed(
            scenes=scenes,
            sprites=self._alike(target[scenes]),
            centre=torch.where(self._uniform((count, 1), 0, 1) < 0.6, near, anywhere),
            steps=self._steps(torch.where(self._uniform(count, 0, 1) < chance, size, 0.0)),
        )

    def _paint_companions(
        self, placed: Placed, offset: Tensor, shrink: Tensor, window: Tensor, overview: Tensor
    ) -> None:
        """Paint them on both views, in place; slots of one tile size are sampled together."""
        small = placed.elsewhere(offset, shrink)
        start = 0
        for share, slots in groupby(SLOTS, key=lambda slot: slot.tile):
            counts = [slot.most(len(window)) for slot in slots]
            end = start + sum(counts)
            for view, sprites in ((window, placed), (overview, small)):
                side = view.shape[-1]
                made = tiles(self.bank, sprites.part(start, end), round(share * side), side)
                for layer in made.split(counts):
                    layer.over(view)
            start = end

    def _hide(
        self, hidden: Placed, tile: int, largest: float, window: Float[Tensor, "b 3 s s"]
    ) -> tuple[Placed, Bool[Tensor, "b s s"]]:
        """A hole for each hidden sprite, and both moved to where a window would have them (window.choose_window)."""
        alpha = tiles(self.bank, hidden, tile, self.window_side).opacity(window)
        hole = random_holes(alpha, self.generator, LOOSE_SHARE * largest)
        shift = to_whole_tokens(hole)
        return dataclasses.replace(hidden, centre=hidden.centre + shift), moved(hole, shift)

    def _paint_target(
        self, hidden: Placed, tile: int, removal: Bool[Tensor, " b"], view: Float[Tensor, "b 3 v v"]
    ) -> Float[Tensor, "b v v"]:
        """Paint the hidden sprite over `view`, in place, but not in removals; gives its opacity, 0..1, in all."""
        made = tiles(self.bank, hidden, tile, view.shape[-1])
        alpha = made.opacity(view)
        made.pixels *= ~removal[:, None, None, None]
        made.over(view)
        return alpha

    def _textures(self, batch: int) -> Float[Tensor, "b 3 t t"]:
        """Plain, shaded, split by a horizon, or cloudy."""
        first, second = (self._uniform((batch, 3, 1, 1), 0, 1) for _ in range(2))
        pale = (self._uniform(batch, 0, 1) < 0.5)[:, None, None, None]
        first, second = (torch.where(pale, 0.6 + 0.4 * colour, colour) for colour in (first, second))
        white = (self._uniform(batch, 0, 1) < 0.3)[:, None, None, None]
        first = torch.where(white, torch.ones_like(first), first)
        line = torch.linspace(-1, 1, TEXTURE, device=self.device)
        angle = self._uniform((batch, 1, 1, 1), 0, 2 * math.pi)
        ramp = (line[:, None] * angle.sin() + line * angle.cos()) / 2.9 + 0.5
        horizon = (
            (line[:, None] > self._uniform((batch, 1, 1, 1), -0.5, 0.7)).float().expand(-1, 1, -1, TEXTURE)
        )
        cloud = functional.interpolate(
            torch.rand((batch, 1, 5, 5), device=self.device, generator=self.generator),
            size=(TEXTURE, TEXTURE), mode="bicubic",
        ).clamp(0, 1)  # fmt: skip
        kinds = torch.stack([torch.zeros_like(ramp), ramp, horizon, cloud])
        kind = random_kinds(batch, TEXTURE_WEIGHTS, self.device, self.generator)
        share = kinds[kind, torch.arange(batch, device=self.device)]
        return torch.lerp(first, second, share) * 255

    def _background(
        self, texture: Tensor, extent: Tensor, offset: Tensor, side: int
    ) -> Float[Tensor, "b 3 v v"]:
        """The texture as a view of `side` px shows it."""
        step = 2 / (extent * side)
        where = upright_grid((offset + 0.5) * step[:, None] - 1, step, side)
        return functional.grid_sample(texture, where, padding_mode="border", align_corners=False)

    def _sketch(
        self, picture: Tensor, alpha: Tensor, hole: Tensor, removal: Tensor
    ) -> Float[Tensor, "b 4 s s"]:
        """Sketches of what is hidden; made only for the scenes that have one."""
        batch = len(picture)
        sketch = torch.zeros(batch, 4, *picture.shape[-2:], device=self.device)
        most = math.ceil(round(self.shares.sketched * batch, 6))
        if most:
            scenes = self._uniform(batch, 0, 1).argsort()[:most]
            drawn = (self._uniform(most, 0, 1) < self.shares.sketched * batch / most) & ~removal[scenes]
            made = random_sketches(picture[scenes], alpha[scenes], self.generator)
            sketch[scenes] = made * (drawn[:, None, None] & hole[scenes])[:, None]
        return sketch

    def _indices(self, hole: Bool[Tensor, "b s s"], bucket: int) -> Int64[Tensor, "b k"]:
        """The hidden tokens, then the visible ones nearest to them (tokens.pad_with_nearest, for a batch)."""
        hidden = in_cells(hole, PATCH).any(dim=(2, 4)).flatten(1)  # (B, n)
        far = float(4 * self.window_tokens**2)
        distance = (self._apart + far * ~hidden[:, None, :]).amin(dim=-1)  # (B, n)
        # Ties at random: of a hole that is too large for the bucket, any tokens are left out, not always the last rows.
        order = torch.rand(distance.shape, device=self.device, generator=self.generator)
        return (distance + 0.5 * order).topk(bucket, dim=1, largest=False).indices

    def _overview_hole(
        self, hole: Bool[Tensor, "b s s"], extent: Tensor, offset: Tensor
    ) -> Bool[Tensor, "b 1 o o"]:
        """The hole as the overview shows it: every overview px that it touches (it is sampled half a px around)."""
        side = self.window_side
        # A hole thinner than an overview px would slip between samples: widen it first, on the masks' coarse grid.
        margin = 2  # past the window's border too
        coarse = functional.pad(in_cells(hole, COARSE).any(dim=(2, 4)).float()[:, None], (margin,) * 4)
        wide = functional.max_pool2d(coarse, 3, 1, 1)
        scale = 2 / (side + 2 * margin * COARSE)
        step = extent * side / self.overview_side  # window px per overview px
        first = (0.5 * step[:, None] - offset - side / 2) * scale
        grid = upright_grid(first, step * scale, self.overview_side)
        return functional.grid_sample(wide, grid, align_corners=False) > 0

    def _overview_positions(self, extent: Tensor, offset: Tensor) -> Float[Tensor, "b m 2"]:
        """geometry.overview_positions, for a batch of square canvases."""
        half = self.window_tokens / 2
        unit = (torch.arange(self.overview_tokens, device=self.device) + 0.5) / self.overview_tokens
        centres = (
            unit[None, :, None] * (extent * self.window_tokens)[:, None, None] - (offset / PATCH)[:, None]
        )
        ratio = ((centres - half) / half).abs()  # (B, o, 2)
        reach = torch.where(ratio <= 1, ratio, 1 + ratio.clamp_min(1).log())
        axes = (centres - half).sign() * half * reach
        count = self.overview_tokens
        y = axes[:, :, None, 0].expand(-1, -1, count)
        x = axes[:, None, :, 1].expand(-1, count, -1)
        return torch.stack([y, x], dim=-1).flatten(1, 2)

    def _alike(self, target: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
        """Another sprite for each, mostly of its own set."""
        own = self.bank.sets[target]
        pick = (self._uniform(len(target), 0, 1) * self._set_count[own]).long()
        same = self._by_set[self._set_start[own] + pick.clamp_max(self._set_count[own] - 1)]
        return torch.where(
            self._uniform(len(target), 0, 1) < self.shares.same_set,
            same,
            self._random(len(target), len(self.bank)),
        )

    def _steps(self, size: Float[Tensor, " n"]) -> Float[Tensor, "n 2 2"]:
        """Sprites of that size, some tilted by at most TILT, some mirrored (Placed.steps)."""
        tilted = self._uniform(len(size), 0, 1) < self.shares.tilted
        angle = torch.where(tilted, self._uniform(len(size), -TILT, TILT), 0.0)
        flip = torch.where(self._uniform(len(size), 0, 1) < self.shares.mirrored, -1.0, 1.0)
        return steps(size, angle, flip)

    def _uniform(self, shape: int | tuple[int, ...], low: float, high: float) -> Tensor:
        shape = (shape,) if isinstance(shape, int) else shape
        return torch.empty(shape, device=self.device).uniform_(low, high, generator=self.generator)

    def _random(self, batch: int, below: int) -> Int64[Tensor, " b"]:
        return torch.randint(below, (batch,), device=self.device, generator=self.generator)


def _slot_values(batch: int) -> Float[Tensor, "4 n"]:
    """For each companion of a batch: smallest and largest size, whether of the canvas, and the chance to be there.

    Each slot has a fixed number of scenes; where that is rounded up, the chance takes off what is too much.
    """
    rows = []
    for slot in SLOTS:
        most = slot.most(batch)
        values = (slot.smallest, slot.largest, float(slot.of_canvas), slot.chance * batch / max(1, most))
        rows.append(torch.tensor(values)[:, None].expand(-1, most))
    return torch.cat(rows, dim=1) if rows else torch.zeros(4, 0)


def _as_image(view: Float[Tensor, "b 3 v v"]) -> Float[Tensor, "b 3 v v"]:
    """0..255 as -1..1."""
    return torch.rsub(view, -1, alpha=-2 / 255).clamp_(-1, 1)


def _centres(count: int, device: torch.device) -> Float[Tensor, "1 n 2"]:
    line = torch.arange(count, device=device) + 0.5 - count / 2
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).reshape(1, -1, 2)
