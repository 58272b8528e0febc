"""What the models are shown of a canvas and a mask, and which tokens they make; soft masks (numpy only).

A token covers a square of `token_px` canvas pixels and is PATCH pixels wide in the window, so the working scale is
PATCH / token_px, exact and the same on both axes, and the hidden tokens are known exactly from the canvas-sized mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lazydiffusion import morphology, tokens
from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import check_canvas_size
from lazydiffusion.window import (
    OVERVIEW_TOKENS,
    PATCH,
    WINDOW_TOKENS,
    Box,
    Size,
    choose_window,
    overview_grid,
)

Mask = npt.NDArray[np.floating]
Framing = Callable[[Size, Box, int, int], tuple[Box, int]]
"""(canvas size, mask's box, window's side in tokens, least side of a token) -> window, side of its tokens in canvas px:
choose_window."""


@dataclass(frozen=True)
class EditPlan:
    """What the models are shown of one canvas and mask, and which tokens they make. All of it follows from the mask."""

    canvas_size: tuple[int, int]
    """(width, height) in px."""
    fill_box: Box
    """Smallest box on the canvas that holds every masked pixel."""
    window: Box
    """The crop in canvas px, a whole number of tokens wide. It may reach past the canvas's right and bottom edges,
    where edge pixels are repeated."""
    token_px: int
    """Side of a token in canvas px."""
    hidden: tokens.Bools
    """(rows, cols): the tokens that the mask touches."""
    indices: tokens.Indices
    """(K,) row-major indices of the decoder's tokens: the hidden ones first, then padding (nearest visible ones)."""
    overview_grid: tuple[int, int]
    """(rows, cols) of the overview's tokens."""
    window_positions: tokens.Positions
    """(rows * cols, 2), (y, x) in tokens from the window's centre."""
    overview_positions: tokens.Positions
    """(overview rows * cols, 2), in the same frame; logarithmic outside the window (tokens.compress)."""

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, cols) of the window's tokens."""
        return self.hidden.shape[0], self.hidden.shape[1]

    @property
    def scale(self) -> float:
        """Working px per canvas px."""
        return PATCH / self.token_px

    @property
    def working_size(self) -> tuple[int, int]:
        """(width, height) of the window in working px."""
        return self.grid[1] * PATCH, self.grid[0] * PATCH

    @property
    def overview_size(self) -> tuple[int, int]:
        """(width, height) of the overview in its own px."""
        return self.overview_grid[1] * PATCH, self.overview_grid[0] * PATCH

    @property
    def hidden_count(self) -> int:
        """Number of hidden tokens; `len(indices)` is the bucket."""
        return int(self.hidden.sum())


def plan(
    canvas_size: tuple[int, int],
    mask: Mask,
    *,
    region: Box | None = None,
    window_tokens: int = WINDOW_TOKENS,
    overview_tokens: int = OVERVIEW_TOKENS,
    framing: Framing = choose_window,
    most_hidden: int | None = None,
) -> EditPlan:
    """Choose window, working scale, token grid and the decoder's tokens for a mask (h, w), > 0 = generate.

    `canvas_size`: (width, height), 16 to 16384 px each. `region`: the part of the canvas that the mask covers, all of
    it by default; outside it nothing is masked. `window_tokens`, `overview_tokens`: side in tokens of a square window
    and overview; windows of narrow canvases are longer, with at most window_tokens ** 2 tokens. `framing`: how the
    window is chosen. `most_hidden`: at most so many tokens are hidden (1 or more); where they would be more, each
    covers more of the canvas. Deterministic.
    Raises BadInput for a size out of range, a mask of another size, and an empty mask.
    """
    width, height = canvas_size
    check_canvas_size(canvas_size)
    part = "canvas" if region is None else "region"
    region = region or Box(0, 0, width, height)
    if mask.shape != (region.h, region.w):
        raise BadInput(
            f"The mask is {mask.shape[1]} x {mask.shape[0]} px but the {part} is {region.w} x {region.h} px; "
            "they must be the same size."
        )
    masked = bounding_box(mask)
    fill_box = masked.moved(region.x, region.y)

    def framed(least: int) -> tuple[Box, int, tokens.Bools]:
        window, token_px = framing(canvas_size, fill_box, window_tokens, least)
        rows, cols = window.h // token_px, window.w // token_px
        corner = fill_box.x - window.x, fill_box.y - window.y
        return window, token_px, tokens.hidden_tokens(mask[masked.slices()], token_px, rows, cols, corner)

    window, token_px, hidden = framed(0)
    while most_hidden is not None and (count := int(hidden.sum())) > most_hidden:
        # What a solid mask needs; for a thin one it is too little, and the next turn goes on.
        window, token_px, hidden = framed(max(token_px + 1, int(token_px * math.sqrt(count / most_hidden))))
    rows, cols = hidden.shape
    size = tokens.bucket(int(hidden.sum()), rows * cols)
    grid = overview_grid(canvas_size, overview_tokens)
    return EditPlan(
        canvas_size=canvas_size,
        fill_box=fill_box,
        window=window,
        token_px=token_px,
        hidden=hidden,
        indices=tokens.pad_with_nearest(hidden, size),
        overview_grid=grid,
        window_positions=tokens.window_positions(rows, cols),
        overview_positions=overview_positions(canvas_size, window, token_px, grid),
    )


def bounding_box(mask: Mask) -> Box:
    """Smallest box around the pixels > 0 of a mask (H, W). Raises BadInput when there are none."""
    # The largest value of each row, then of the columns of those rows that have any: one pass, and no array as large
    # as the canvas. fmax, as `> 0` does, passes over what is not a number.
    ys = np.flatnonzero(np.fmax.reduce(mask, axis=1) > 0)
    if len(ys) == 0:
        raise BadInput("The mask is empty: select the part of the picture that should be generated.")
    xs = np.flatnonzero(np.fmax.reduce(mask[ys[0] : ys[-1] + 1], axis=0) > 0)
    return Box(int(xs[0]), int(ys[0]), int(xs[-1] - xs[0]) + 1, int(ys[-1] - ys[0]) + 1)


def overview_positions(
    canvas_size: tuple[int, int], window: Box, token_px: int, grid: tuple[int, int]
) -> tokens.Positions:
    """Centres of the overview's tokens in the window's frame: (rows * cols, 2), (y, x) in tokens from its centre."""
    axes = []
    for count, side, start, length in (
        (grid[0], canvas_size[1], window.y, window.h),
        (grid[1], canvas_size[0], window.x, window.w),
    ):
        centres = (np.arange(count) + 0.5) * side / count
        offset = (centres - (start + length / 2)) / token_px
        axes.append(tokens.compress(offset, length / token_px / 2))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)


def grow(mask: Mask, radius: int) -> npt.NDArray[np.float32]:
    """Dilate a mask (H, W) by a disc of `radius` px: every pixel takes the largest value within reach.

    By 0 px it is the mask itself.
    """
    if radius < 0:
        raise BadInput(f"The mask cannot grow by {radius} px; use 0 or more.")
    if radius == 0:
        return np.asarray(mask, dtype=np.float32)
    return morphology.dilate(mask, radius, bounding_box(mask))


def feather(mask: Mask, radius: int, box: Box) -> npt.NDArray[np.float32]:
    """Soften a mask (H, W) inwards: from its border its value rises linearly to full over `radius` px.

    Where the masked area is less than 4 * radius wide, it rises faster, over half of the way to the middle, which is
    full however narrow the area is (morphology.slope). `box`: holds all that is masked; the result, (h, w), is what
    lies in it. It stays 0 where the mask is 0 and above 0 where it is above 0; the canvas's own edge is no border.
    """
    if radius < 0:
        raise BadInput(f"A feather of {radius} px is not possible; use 0 or more.")
    if radius == 0:
        return np.array(mask[box.slices()], dtype=np.float32)
    # What is not masked and nearest to a masked px is one px away from another.
    near = box.enlarged(1).clip((mask.shape[1], mask.shape[0]))
    soft = morphology.slope(mask[near.slices()] > 0, radius + 1)[box.moved(-near.x, -near.y).slices()]
    soft *= mask[box.slices()]
    return np.ascontiguousarray(soft)
