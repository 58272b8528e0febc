"""Training scenes, composed where the model trains: sprites on a background, one of them hidden in the window.

A scene is a square canvas 1 to 6 windows wide. Only its two views are ever painted: the window, and the overview of
the whole canvas. Sizes and positions are in window px; the window's top left corner is the origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from lazydiffusion.models.extension import extend
from lazydiffusion.training.masks import COARSE, random_holes, random_kinds
from lazydiffusion.training.sketches import random_sketches
from lazydiffusion.training.sprites import SpriteBank
from lazydiffusion.window import PATCH

WIDEST_CANVAS = 6.0
"""Largest canvas, in window sides. Beyond, positions are logarithmic and change little (tokens.compress)."""
TEXTURE = 32
"""Side of a background's texture, px; it is stretched over the canvas."""
TEXTURE_WEIGHTS = (0.4, 0.25, 0.2, 0.15)
"""Of plain, shaded, split and cloudy ones."""


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


@dataclass(frozen=True)
class Slot:
    """One kind of sprite in a scene: how large (in window sides, or canvas sides), how often, on which tile."""

    smallest: float
    largest: float
    chance: float
    tile: float
    """Side of the square that is painted, in window sides; 1 is the whole view, for sprites of any size."""
    of_canvas: bool = False


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
        return Scenes(**{name: part[:count] for name, part in vars(self).items()})


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
        by_set = torch.argsort(bank.sets, stable=True)
        counts = torch.bincount(bank.sets, minlength=len(bank.set_names))
        self._by_set, self._set_count = by_set, counts
        self._set_start = counts.cumsum(0) - counts

    @torch.no_grad()
    def make(self, batch: int, bucket: int) -> Scenes:
        """`batch` scenes whose holes mostly fit `bucket` tokens (what does not is left out of the loss)."""
        side = self.window_side
        extent = self._uniform(batch, 0, 1)
        extent = torch.where(
            extent < 1 - self.shares.wide, 1.0, (math.log(WIDEST_CANVAS) * self._uniform(batch, 0, 1)).exp()
        )  # canvas side in window sides
        offset = (
            (extent[:, None] - 1) * side * self._uniform((batch, 2), 0, 1)
        )  # window's corner on the canvas
        shrink = self.overview_side / (extent * side)  # overview px per window px

        target = self._random(batch, len(self.bank))
        texture = self._textures(batch)
        window = self._background(texture, extent, offset, side)
        overview = self._background(
            texture, torch.ones_like(extent), torch.zeros_like(offset), self.overview_side
        )
        for slot in SLOTS:
            self._add_slot(slot, target, extent, offset, shrink, window, overview)

        largest = max(1.5, bucket**0.5 - 1.3) * PATCH  # leaves room for a loose mask, and for rotation
        size = self._uniform(batch, 0.6 * largest, min(largest, 0.75 * side))
        central = self._uniform(batch, 0, 1) < 0.7
        spread = torch.where(central, 0.2, 0.42)[:, None]
        centre = side / 2 + side * spread * self._uniform((batch, 2), -1, 1)
        pose = self._pose(batch)
        shape = self._paint(torch.zeros_like(window), target, centre, size, pose, side)
        hole = random_holes(shape[:, :-1, :-1, 3], self.generator)

        removal = self._uniform(batch, 0, 1) < self.shares.removal
        shown = (~removal).float()[:, None, None, None]
        window = _over(shape * shown, window)
        small = self._paint(
            torch.zeros_like(overview), target, (centre + offset) * shrink[:, None], size * shrink, pose,
            self.overview_side,
        )  # fmt: skip
        overview = _over(small * shown, overview)
        picture = _as_image(window)
        return Scenes(
            window=picture,
            hole=hole[:, None],
            overview=_as_image(overview),
            overview_hole=self._overview_hole(hole, extent, offset),
            window_positions=_centres(self.window_tokens, self.device).expand(batch, -1, -1),
            overview_positions=self._overview_positions(extent, offset),
            indices=self._indices(hole, bucket),
            sketch=self._sketch(picture, shape, hole, removal),
            sprites=torch.where(removal, -1, target),
            alpha=(shape * shown)[:, None, :-1, :-1, 3],
        )

    def _add_slot(
        self, slot: Slot, target: Tensor, extent: Tensor, offset: Tensor, shrink: Tensor,
        window: Tensor, overview: Tensor,
    ) -> None:  # fmt: skip
        """Paint one sprite of this kind on both views, in place, in those scenes where chance has it."""
        batch, side = len(target), self.window_side
        present = self._uniform(batch, 0, 1) < slot.chance
        unit = side * extent if slot.of_canvas else torch.full_like(extent, side)
        size = unit * self._uniform(batch, slot.smallest, slot.largest)
        near = self._uniform((batch, 2), -0.1, 1.1) * side
        anywhere = self._uniform((batch, 2), 0, 1) * (extent * side)[:, None] - offset
        centre = torch.where((self._uniform(batch, 0, 1) < 0.6)[:, None], near, anywhere)
        sprites, pose = self._companions(target), self._pose(batch)
        size = torch.where(present, size, torch.zeros_like(size))
        self._paint(window, sprites, centre, size, pose, round(slot.tile * side))
        self._paint(
            overview, sprites, (centre + offset) * shrink[:, None], size * shrink, pose,
            round(slot.tile * self.overview_side),
        )  # fmt: skip

    def _paint(
        self, view: Float[Tensor, "b v v 4"], sprites: Tensor, centre: Tensor, size: Tensor, pose: Tensor, tile: int
    ) -> Float[Tensor, "b v v 4"]:  # fmt: skip
        """Paint one sprite per scene over `view`, in place; only a tile around it is touched.

        `centre` (B, 2) as (y, x) and `size` (B,) in the view's px. The view's last row and column are a gutter that
        takes whatever falls outside.
        """
        batch, side = view.shape[0], view.shape[1] - 1
        whole = tile >= side
        tile = min(tile, side)
        start = torch.zeros_like(centre) if whole else (centre - tile / 2).round()
        line = torch.arange(tile, device=self.device)
        ys, xs = (start[:, axis, None].long() + line for axis in (0, 1))  # (B, tile) each
        dy = (ys + 0.5 - centre[:, :1])[:, :, None]
        dx = (xs + 0.5 - centre[:, 1:])[:, None, :]
        reach = (size / 2).clamp_min(1e-3)[:, None, None]
        cos, sin, flip = (part[:, None, None] for part in pose.unbind(1))
        grid = torch.stack([(dx * cos + dy * sin) * flip / reach, (dy * cos - dx * sin) / reach], dim=-1)
        level = self.bank.level(self._level(tile))
        pixels = level[sprites].to(view.dtype) / 255
        painted = functional.grid_sample(pixels, grid.to(view.dtype), align_corners=False).permute(0, 2, 3, 1)
        if whole:
            view[:, :-1, :-1] = _over(painted, view[:, :-1, :-1])
            return view
        ys, xs = (torch.where((line >= 0) & (line < side), line, side) for line in (ys, xs))
        index = (torch.arange(batch, device=self.device)[:, None, None], ys[:, :, None], xs[:, None, :])
        view[index] = _over(painted, view[index])
        return view

    def _level(self, tile: int) -> int:
        """Side of the sprites to sample a tile from: the smallest level with at least as many px as the tile."""
        level = self.bank.side
        while level % 2 == 0 and level // 2 >= tile:
            level //= 2
        return level

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
        return first + (second - first) * share

    def _background(
        self, texture: Tensor, extent: Tensor, offset: Tensor, side: int
    ) -> Float[Tensor, "b v v 4"]:
        """The texture as a view of `side` px shows it, opaque, with its gutter."""
        batch = len(extent)
        pixel = torch.arange(side, device=self.device) + 0.5
        y, x = (
            ((pixel + offset[:, axis, None]) / (extent[:, None] * side) * 2 - 1).clamp(-1, 1)
            for axis in (0, 1)
        )
        grid = torch.stack([x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], dim=-1)
        colour = functional.grid_sample(
            texture, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        view = torch.ones((batch, side + 1, side + 1, 4), device=self.device)
        view[:, :-1, :-1, :3] = colour.permute(0, 2, 3, 1)
        return view

    def _sketch(
        self, picture: Tensor, shape: Tensor, hole: Tensor, removal: Tensor
    ) -> Float[Tensor, "b 4 s s"]:
        drawn = (self._uniform(len(hole), 0, 1) < self.shares.sketched) & ~removal
        sketch = random_sketches(picture, shape[:, :-1, :-1, 3], self.generator)
        return sketch * (drawn[:, None, None] & hole)[:, None]

    def _indices(self, hole: Bool[Tensor, "b s s"], bucket: int) -> Int64[Tensor, "b k"]:
        """The hidden tokens, then the visible ones nearest to them (tokens.pad_with_nearest, for a batch)."""
        hidden = functional.max_pool2d(hole[:, None].float(), PATCH).flatten(1) > 0  # (B, n)
        place = _centres(self.window_tokens, self.device)[0]
        squared = torch.cdist(place, place).square()
        far = float(4 * self.window_tokens**2)
        distance = (squared + far * ~hidden[:, None, :]).amin(dim=-1)  # (B, n)
        # Ties at random: of a hole that is too large for the bucket, any tokens are left out, not always the last rows.
        order = torch.rand(distance.shape, device=self.device, generator=self.generator)
        return (distance + 0.5 * order).topk(bucket, dim=1, largest=False).indices

    def _overview_hole(
        self, hole: Bool[Tensor, "b s s"], extent: Tensor, offset: Tensor
    ) -> Bool[Tensor, "b 1 o o"]:
        """The hole as the overview shows it: every overview px that it touches (it is sampled half a px around)."""
        pixel = torch.arange(self.overview_side, device=self.device) + 0.5
        step = extent * self.window_side / self.overview_side  # window px per overview px
        axes = [(pixel * step[:, None] - offset[:, axis, None]) / self.window_side * 2 - 1 for axis in (0, 1)]
        grid = torch.stack(
            [axes[1][:, None, :].expand(-1, len(pixel), -1), axes[0][:, :, None].expand(-1, -1, len(pixel))],
            dim=-1,
        )
        # A hole thinner than an overview px would slip between samples: widen it first, on the masks' coarse grid.
        margin = 2  # past the window's border too
        coarse = functional.pad(functional.max_pool2d(hole[:, None].float(), COARSE), (margin,) * 4)
        wide = functional.max_pool2d(coarse, 3, 1, 1)
        grid = grid * (self.window_side / (self.window_side + 2 * margin * COARSE))
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

    def _companions(self, target: Tensor) -> Int64[Tensor, " b"]:
        """Other sprites for the scenes, mostly of the target's own set."""
        own = self.bank.sets[target]
        pick = (self._uniform(len(target), 0, 1) * self._set_count[own]).long()
        same = self._by_set[self._set_start[own] + pick.clamp_max(self._set_count[own] - 1)]
        return torch.where(
            self._uniform(len(target), 0, 1) < self.shares.same_set,
            same,
            self._random(len(target), len(self.bank)),
        )

    def _pose(self, batch: int) -> Float[Tensor, "b 3"]:
        """Cosine and sine of a tilt of at most 15 degrees (usually none), and -1 for a mirrored sprite."""
        tilted = self._uniform(batch, 0, 1) < 0.4
        angle = torch.where(tilted, self._uniform(batch, -math.pi / 12, math.pi / 12), 0.0)
        flip = torch.where(self._uniform(batch, 0, 1) < 0.5, -1.0, 1.0)
        return torch.stack([angle.cos(), angle.sin(), flip], dim=1)

    def _uniform(self, shape: int | tuple[int, ...], low: float, high: float) -> Tensor:
        shape = (shape,) if isinstance(shape, int) else shape
        return torch.rand(shape, device=self.device, generator=self.generator) * (high - low) + low

    def _random(self, batch: int, below: int) -> Int64[Tensor, " b"]:
        return torch.randint(below, (batch,), device=self.device, generator=self.generator)


def _over(top: Tensor, below: Tensor) -> Tensor:
    """Porter-Duff over, premultiplied, channels last."""
    return top + (1 - top[..., 3:]) * below


def _as_image(view: Float[Tensor, "b v v 4"]) -> Float[Tensor, "b 3 s s"]:
    return (view[:, :-1, :-1, :3].permute(0, 3, 1, 2) * 2 - 1).clamp(-1, 1)


def _centres(count: int, device: torch.device) -> Float[Tensor, "1 n 2"]:
    line = torch.arange(count, device=device) + 0.5 - count / 2
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).reshape(1, -1, 2)
