"""Between canvas and window: resampling without the hidden pixels, and pasting fills back (numpy, Pillow)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lazydiffusion.canvas import Canvas
from lazydiffusion.geometry import EditPlan
from lazydiffusion.window import Box

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

SAMPLES_PER_PIXEL = 16
"""A view's px is the mean of at least 16 x 16 canvas px; where there are far more, every k-th suffices."""


@dataclass(frozen=True)
class View:
    """Part of the canvas as the context encoder sees it."""

    colour: Floats
    """(h, w, 3), -1..1, the mean of the visible pixels; where there are none, 0."""
    hole: Bools
    """(h, w), True where a px touches any hidden canvas px."""
    visible: Floats
    """(h, w), 0..1, the share of a px that is visible."""


def view(canvas: Canvas, mask: npt.NDArray[np.floating], box: Box, size: tuple[int, int]) -> View:
    """The canvas inside `box`, resampled to `size` (width, height). `mask` (h, w): of the canvas's region.

    Hidden pixels (mask > 0) never reach the colours. A box past the canvas shows its edge pixels repeated. What lies
    outside the canvas's region comes from its overview. Memory stays near that of the box itself.
    """
    inside = box.clip(canvas.size)
    known = canvas.region.overlap(inside)
    if known == inside or canvas.overview is None:
        here = inside.moved(-canvas.region.x, -canvas.region.y).slices()
        past = (box.w - inside.w, box.h - inside.h)
        return _resampled(canvas.pixels[here], mask[here] > 0, past, size)
    return _completed(canvas, mask, box, size)


def _resampled(pixels: Pixels, hidden: Bools, past: tuple[int, int], size: tuple[int, int]) -> View:
    """A view of pixels (h, w, 3), their last column and row repeated `past` = (columns, rows) times."""
    crop = pixels
    if any(past):  # np.pad copies even where it adds nothing: half a second for a large canvas
        padding = ((0, past[1]), (0, past[0]))
        crop = np.pad(pixels, (*padding, (0, 0)), mode="edge")
        hidden = np.pad(hidden, padding, mode="edge")
    height, width = hidden.shape
    hole = touched(hidden, size)
    if (width, height) == size:
        return View(np.where(hole[..., None], np.float32(0), _signed(crop)), hole, (~hole).astype(np.float32))
    step = max(1, min(width // size[0], height // size[1]) // SAMPLES_PER_PIXEL)
    crop, visible = crop[::step, ::step], ~hidden[::step, ::step]
    resample = Image.Resampling.BOX if size[0] <= width else Image.Resampling.BILINEAR
    weight = _resize(visible.astype(np.float32), size, resample)
    channels = [_resize(_signed(crop[..., i]) * visible, size, resample) for i in range(3)]
    colour = np.stack(channels, axis=-1) / np.maximum(weight, 1e-6)[..., None]
    colour = np.where(weight[..., None] > 1e-3, np.clip(colour, -1, 1), 0)
    return View(colour.astype(np.float32), hole, weight)


def _completed(canvas: Canvas, mask: npt.NDArray[np.floating], box: Box, size: tuple[int, int]) -> View:
    """A view of sampled pixels: the region's where it reaches, the overview's elsewhere."""
    assert canvas.overview is not None
    region = canvas.region
    x, per_x = _samples(box.x, box.w, size[0], canvas.size[0])
    y, per_y = _samples(box.y, box.h, size[1], canvas.size[1])
    coarse_x = x * canvas.overview.shape[1] // canvas.size[0]
    coarse_y = y * canvas.overview.shape[0] // canvas.size[1]
    pixels = canvas.overview[np.ix_(coarse_y, coarse_x)]
    visible = np.ones(pixels.shape[:2], np.float32)
    inside_x = np.flatnonzero((x >= region.x) & (x < region.right))
    inside_y = np.flatnonzero((y >= region.y) & (y < region.bottom))
    there, here = np.ix_(inside_y, inside_x), np.ix_(y[inside_y] - region.y, x[inside_x] - region.x)
    pixels[there], visible[there] = canvas.pixels[here], mask[here] <= 0

    def mean(values: Floats) -> Floats:
        # One axis after the other, rows first: several times as fast as both at once.
        rows = values.reshape(size[1], per_y, -1).mean(axis=1)
        return np.asarray(rows.reshape(size[1], size[0], per_x, -1).mean(axis=2))

    weight = mean(visible)
    colour = mean(_signed(pixels) * visible[..., None]) / np.maximum(weight, 1e-6)
    hole = touched(mask > 0, size, box.moved(-region.x, -region.y))
    return View(np.where(weight > 1e-3, colour, np.float32(0)), hole, weight[..., 0])


def _samples(start: int, length: int, count: int, canvas: int) -> tuple[npt.NDArray[np.intp], int]:
    """Canvas px, evenly spread under `count` px of a view of `length` canvas px from `start`; and how many for each."""
    each = min(SAMPLES_PER_PIXEL // 2, -(-length // count))
    places = start + ((np.arange(count * each) + 0.5) * length / (count * each)).astype(np.intp)
    return np.clip(places, 0, canvas - 1), each


def touched(hidden: Bools, size: tuple[int, int], box: Box | None = None) -> Bools:
    """Which px of a grid of `size` (width, height) laid over `hidden` touch any of its pixels; exact, no resampling.

    `box`: where the grid lies, from hidden's corner; over all of it by default. Outside `hidden` nothing is hidden.
    """
    height, width = hidden.shape
    box = box or Box(0, 0, width, height)
    rows = [
        hidden[max(0, box.y + low) : max(0, box.y + high)].any(axis=0) for low, high in _spans(box.h, size[1])
    ]
    total = np.zeros((size[1], width + 1), dtype=np.int32)
    np.cumsum(np.stack(rows), axis=1, out=total[:, 1:])
    low, high = np.clip(np.array(_spans(box.w, size[0])).T + box.x, 0, width)
    return np.asarray(total[:, high] > total[:, low])


def from_window(pixels: Floats, plan: EditPlan) -> Pixels:
    """The fill box (h, w, 3) at canvas resolution, cut out of generated window pixels (working size, -1..1)."""
    image = to_bytes(pixels)
    box, window = plan.fill_box, plan.window
    left, top = (box.x - window.x) * plan.scale, (box.y - window.y) * plan.scale
    region = (left, top, left + box.w * plan.scale, top + box.h * plan.scale)
    if plan.scale == 1:
        x, y = round(left), round(top)
        return image[y : y + box.h, x : x + box.w].copy()
    resized = Image.fromarray(image).resize((box.w, box.h), Image.Resampling.BICUBIC, box=region)
    return np.asarray(resized)


def to_bytes(pixels: Floats) -> Pixels:
    """-1..1 to 0..255, rounded."""
    return np.asarray(np.clip(np.rint((pixels + 1) * 127.5), 0, 255), dtype=np.uint8)


def with_alpha(fill: Pixels, alpha: npt.NDArray[np.floating]) -> Pixels:
    """A fill (h, w, 4) of its colours (h, w, 3) and the mask (h, w) in its box, 0..1; above 0 wherever the mask is."""
    opacity = np.rint(alpha * 255).clip(0, 255)
    opacity = np.where((alpha > 0) & (opacity == 0), 1, opacity).astype(np.uint8)
    return np.concatenate(
        [np.where(opacity[..., None] > 0, fill, 0).astype(np.uint8), opacity[..., None]], axis=-1
    )


def paste(canvas: Pixels, fill: Pixels, box: Box) -> Pixels:
    """A copy of the canvas with a fill (h, w, 4) over it; bit-exact wherever the fill's alpha is 0."""
    result = canvas.copy()
    alpha = fill[..., 3:].astype(np.uint32)
    below = result[box.slices()].astype(np.uint32)
    mixed = (fill[..., :3] * alpha + below * (255 - alpha) + 127) // 255
    result[box.slices()] = np.where(alpha > 0, mixed, below)
    return result


def layer(size: tuple[int, int], fill: Pixels, box: Box) -> Pixels:
    """A transparent canvas of `size` (width, height) with the fill (h, w, 4) in its place: (H, W, 4)."""
    result = np.zeros((size[1], size[0], 4), dtype=np.uint8)
    result[box.slices()] = fill
    return result


def _signed(pixels: Pixels) -> Floats:
    return np.asarray(pixels.astype(np.float32) / 127.5 - 1, dtype=np.float32)


def _resize(values: Floats, size: tuple[int, int], resample: Image.Resampling) -> Floats:
    return np.asarray(Image.fromarray(np.ascontiguousarray(values)).resize(size, resample))


def _spans(length: int, count: int) -> list[tuple[int, int]]:
    """First and last (exclusive) pixel that each of `count` equal parts of `length` pixels touches."""
    return [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
