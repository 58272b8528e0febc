"""Between canvas and window: resampling without the hidden pixels, and pasting fills back (numpy, Pillow)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lazydiffusion.area_means import Samples, Sums, add_sums, every, spread
from lazydiffusion.canvas import Canvas
from lazydiffusion.geometry import EditPlan
from lazydiffusion.window import Box

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

SAMPLES_PER_PIXEL = 16
"""A view's px is the mean of at least 16 x 16 canvas px; where there are far more, every k-th suffices."""
RESAMPLING_REACH = 4
"""Working px around a place that Pillow's BICUBIC weighs in at most, where it does not shrink; as many times more where
it does. (It is 2, and a size that is rounded to whole px shrinks a little.)"""
ROWS = 64
"""So many rows at a time are mixed where numbers larger than bytes are needed."""
LEAST_VISIBLE = 1e-3
"""A px of a view of which no more than this share is visible has no colour."""


@dataclass(frozen=True)
class View:
    """Part of the canvas as the context encoder sees it."""

    levels: Pixels | Floats
    """(h, w, 3), 0..255. At canvas scale its bytes as they are, hidden ones too; else the mean of the visible ones."""
    hole: Bools
    """(h, w), True where a px touches any hidden canvas px."""
    visible: Floats
    """(h, w), 0..1, the share of a px that is visible."""

    @property
    def colour(self) -> Floats:
        """(h, w, 3), -1..1, the mean of the visible pixels; where there are none, 0."""
        colour = self.levels.astype(np.float32)
        colour /= np.float32(127.5)
        colour -= np.float32(1)
        colour[self.visible <= LEAST_VISIBLE] = 0
        return colour

    def shows_same(self, other: View) -> bool:
        """Whether another view has the same hole and the same levels everywhere else, exactly."""
        if not np.array_equal(self.hole, other.hole):
            return False
        if self.levels is other.levels or np.array_equal(self.levels, other.levels):
            return True
        shown = ~self.hole
        return self.levels.shape == other.levels.shape and np.array_equal(
            self.levels[shown], other.levels[shown]
        )


def view(
    canvas: Canvas,
    mask: npt.NDArray[np.floating] | None,
    box: Box,
    size: tuple[int, int],
    masked: Box | None = None,
) -> View:
    """The canvas inside `box`, resampled to `size` (width, height). `mask` (h, w): of the canvas's region.

    Hidden pixels (mask > 0) never reach the colours; without a mask none is hidden. `masked`: a box of the canvas that
    holds all of them, where one is known: the rest of the mask is not read. A box past the canvas shows its edge pixels
    repeated. What lies outside the canvas's region comes from its overview. Memory stays near that of the box itself.
    """
    region, inside = canvas.region, box.clip(canvas.size)
    known = region.contains(inside)
    near = (masked or region).overlap(region).overlap(inside) if mask is not None else Box(0, 0, 0, 0)
    hidden = np.zeros((0, 0), bool) if mask is None else mask[near.moved(-region.x, -region.y).slices()] > 0
    reaching = _repeated(hidden, near, box, canvas.size)
    hole = touched(reaching, size, box.moved(-near.x, -near.y))
    if known and ((box.w, box.h) == size or size[0] > box.w):
        here = inside.moved(-region.x, -region.y).slices()
        crop = _repeated(canvas.pixels[here], inside, box, canvas.size)
        if (box.w, box.h) == size:
            return View(crop.copy(), hole, (~hole).astype(np.float32))
        return _enlarged(crop, touched(reaching, (box.w, box.h), box.moved(-near.x, -near.y)), hole)
    if known:
        step = max(1, min(box.w // size[0], box.h // size[1]) // SAMPLES_PER_PIXEL)
        xs = every(box.x, box.w, size[0], step, canvas.size[0])
        ys = every(box.y, box.h, size[1], step, canvas.size[1])
    else:
        xs = spread(box.x, box.w, size[0], SAMPLES_PER_PIXEL // 2, canvas.size[0])
        ys = spread(box.y, box.h, size[1], SAMPLES_PER_PIXEL // 2, canvas.size[1])
    levels = _all_colours(canvas, xs, ys, size, known)
    count = np.outer(ys.counts(size[1]), xs.counts(size[0])).astype(np.float32)[..., None]
    shown = count.copy()
    # What is hidden is taken away again: most of a picture is not, and the sums are exact.
    xs, ys = xs.within(near.x, near.right), ys.within(near.y, near.bottom)
    under = canvas.pixels[near.moved(-region.x, -region.y).slices()]
    add_sums(levels, under, ys, xs, hidden, sign=-1)
    add_sums(shown, hidden.view(np.uint8)[..., None], ys, xs, sign=-1)
    levels /= np.repeat(np.maximum(shown, 1), 3, axis=2)
    return View(levels, hole, (shown / count)[..., 0])


def _all_colours(canvas: Canvas, xs: Samples, ys: Samples, size: tuple[int, int], known: bool) -> Sums:
    """Sums of the colours at the samples, hidden or not: the region's where it reaches, the overview's elsewhere."""
    total = np.zeros((size[1], size[0], 3), np.float32)
    region, overview = canvas.region, canvas.overview
    known_x, known_y = xs.within(region.x, region.right), ys.within(region.y, region.bottom)
    add_sums(total, canvas.pixels, known_y, known_x)
    if not known and overview is not None:
        width, height = canvas.size
        # Everywhere, less where the region covers it.
        for y, x, sign in ((ys, xs, 1), (known_y.moved(region.y), known_x.moved(region.x), -1)):
            coarse_y, coarse_x = y.scaled(overview.shape[0], height), x.scaled(overview.shape[1], width)
            add_sums(total, overview, coarse_y, coarse_x, sign=sign)
    return total


def _enlarged(pixels: Pixels, hidden: Bools, hole: Bools) -> View:
    """A larger view of pixels (h, w, 3): what is visible of them, interpolated."""
    size = (hole.shape[1], hole.shape[0])
    visible = (~hidden).astype(np.float32)
    weight = _resize(visible, size)
    channels = [_resize(pixels[..., i] * visible, size) for i in range(3)]
    levels = np.stack(channels, axis=-1) / np.maximum(weight, 1e-6)[..., None]
    return View(np.clip(levels, 0, 255).astype(np.float32), hole, weight)


def _repeated(values: npt.NDArray[Any], place: Box, box: Box, canvas: tuple[int, int]) -> npt.NDArray[Any]:
    """Values (h, w, ...) of a place on the canvas, repeated at its right and bottom end as far as `box` goes past."""
    right = box.right - canvas[0] if place.right == canvas[0] else 0
    bottom = box.bottom - canvas[1] if place.bottom == canvas[1] else 0
    if max(right, bottom) <= 0:
        return values
    padding = [(0, max(0, bottom)), (0, max(0, right)), (0, 0)]
    return np.pad(values, padding[: values.ndim], mode="edge")


def touched(hidden: Bools, size: tuple[int, int], box: Box | None = None) -> Bools:
    """Which px of a grid of `size` (width, height) laid over `hidden` touch any of its pixels; exact, no resampling.

    `box`: where the grid lies, from hidden's corner; over all of it by default. Outside `hidden` nothing is hidden.
    """
    height, width = hidden.shape
    box = box or Box(0, 0, width, height)
    found = np.zeros((size[1], size[0]), bool)
    if (box.w, box.h) == size:
        shared = box.overlap(Box(0, 0, width, height))
        found[shared.moved(-box.x, -box.y).slices()] = hidden[shared.slices()]
        return found
    spans = [(max(0, box.y + low), max(0, box.y + high)) for low, high in _spans(box.h, size[1])]
    reached = [row for row, (low, high) in enumerate(spans) if low < min(high, height)]
    if not reached:
        return found
    total = np.zeros((len(reached), width + 1), dtype=np.int32)
    rows = [hidden[slice(*spans[row])].any(axis=0) for row in reached]
    np.cumsum(np.stack(rows), axis=1, out=total[:, 1:])
    low, high = np.clip(np.array(_spans(box.w, size[0])).T + box.x, 0, width)
    found[reached[0] : reached[-1] + 1] = total[:, high] > total[:, low]
    return found


def from_window(
    pixels: Floats | Pixels, plan: EditPlan, part: Box | None = None, size: tuple[int, int] | None = None
) -> Pixels:
    """The fill box (h, w, 3) at canvas resolution, or at `size` (width, height), cut out of generated window pixels.

    `pixels`: at working size, -1..1 or bytes. `part`: what they are of the window, in working px, where they are not
    all of it; it holds what `part_needed` tells.
    """
    box, size = plan.fill_box, size or (plan.fill_box.w, plan.fill_box.h)
    needed = part_needed(plan)
    part = part or Box(0, 0, *plan.working_size)
    shown = pixels[needed.moved(-part.x, -part.y).slices()]
    image: Pixels = shown.copy() if shown.dtype == np.uint8 else to_bytes(shown)  # type: ignore[arg-type, assignment]
    if plan.scale == 1 and size == (box.w, box.h):
        return image
    # In its place: moved to the corner, the same pixels would be weighed by otherwise rounded numbers.
    window = np.zeros((plan.working_size[1], plan.working_size[0], 3), np.uint8)
    window[needed.slices()] = image
    left, top = (box.x - plan.window.x) * plan.scale, (box.y - plan.window.y) * plan.scale
    place = (left, top, left + box.w * plan.scale, top + box.h * plan.scale)
    return np.asarray(Image.fromarray(window).resize(size, Image.Resampling.BICUBIC, box=place))


def part_needed(plan: EditPlan) -> Box:
    """What `from_window` looks at, in working px: the fill box, and what is weighed in where it is resampled."""
    box, scale = plan.fill_box.moved(-plan.window.x, -plan.window.y), plan.scale
    left, top = math.floor(box.x * scale), math.floor(box.y * scale)
    right, bottom = math.ceil(box.right * scale), math.ceil(box.bottom * scale)
    margin = 0 if scale == 1 else RESAMPLING_REACH * math.ceil(max(1, scale))
    return Box(left, top, right - left, bottom - top).enlarged(margin).clip(plan.working_size)


def to_bytes(pixels: Floats) -> Pixels:
    """-1..1 to 0..255, rounded."""
    return np.asarray(np.clip(np.rint((pixels + 1) * 127.5), 0, 255), dtype=np.uint8)


def with_alpha(fill: Pixels, alpha: npt.NDArray[np.floating]) -> Pixels:
    """A fill (h, w, 4) of its colours (h, w, 3) and the mask (h, w) in its box, 0..1; above 0 wherever the mask is."""
    opacity = np.rint(alpha * 255).clip(0, 255).astype(np.uint8)
    faint = opacity == 0
    if faint.any():
        opacity[faint & (alpha > 0)] = 1
        faint = opacity == 0
    result = np.empty((*alpha.shape, 4), np.uint8)
    for channel in range(3):  # one by one: several times as fast as pixels of three into pixels of four
        result[..., channel] = fill[..., channel]
    result[..., 3] = opacity
    result[faint] = 0
    return result


def paste(canvas: Pixels, fill: Pixels, box: Box) -> Pixels:
    """A copy of the canvas with a fill (h, w, 4) over it; bit-exact wherever the fill's alpha is 0."""
    result = canvas.copy()
    alpha = fill[..., 3:].astype(np.uint16)  # 255 * 255 + 127 still fits
    below = result[box.slices()]
    below[:] = (fill[..., :3] * alpha + below * (255 - alpha) + 127) // 255
    return result


def paste_over(canvas: Pixels, alpha: Pixels, fill: Pixels, box: Box) -> tuple[Pixels, Pixels]:
    """Copies of a canvas (H, W, 3) and its alpha (H, W), straight, with a fill (h, w, 4) over them.

    Colours count by how much is seen of them, so that those under alpha 0 do not show; bit-exact wherever the fill's
    alpha is 0 and, where the canvas is opaque, as `paste`. The memory is the copies' and that of some rows.
    """
    result, opacity = paste(canvas, fill, box), alpha.copy()
    colours, shown = result[box.slices()], opacity[box.slices()]
    below, was = canvas[box.slices()], alpha[box.slices()]
    for rows in (slice(top, top + ROWS) for top in range(0, box.h, ROWS)):
        over = fill[rows, :, 3].astype(np.uint32)
        under = was[rows] * (255 - over)  # of 255 * 255, as is all that is seen, which is their sum
        seen = 255 * over + under
        mixed = (over > 0) & (was[rows] < 255)
        for channel in range(3):
            total = 255 * over * fill[rows, :, channel] + under * below[rows, :, channel]
            colours[rows, :, channel][mixed] = ((total + seen // 2) // np.maximum(seen, 1))[mixed]
        shown[rows] = (seen + 127) // 255
    return result, opacity


def layer(size: tuple[int, int], fill: Pixels, box: Box) -> Pixels:
    """A transparent canvas of `size` (width, height) with the fill (h, w, 4) in its place: (H, W, 4)."""
    result = np.zeros((size[1], size[0], 4), dtype=np.uint8)
    result[box.slices()] = fill
    return result


def _resize(values: Floats, size: tuple[int, int]) -> Floats:
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))


def _spans(length: int, count: int) -> list[tuple[int, int]]:
    """First and last (exclusive) pixel that each of `count` equal parts of `length` pixels touches."""
    return [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
