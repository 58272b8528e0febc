"""Which part of a canvas an edit is shown: boxes, the window, the overview (standard library only, valid Python 3.9).

Editors use it too: of a huge canvas they read and send only what an edit is shown, `region` in full and the whole
canvas at `overview_size`.
"""

from __future__ import annotations

from dataclasses import dataclass

PATCH = 16
"""Side of a token in working px."""
LARGEST_SCALE = 4
"""A canvas smaller than the window is enlarged by at most this factor; a larger one is never enlarged."""
CONTEXT_SHARE = 0.5
"""The mask's longer side takes at most this share of the window's, as long as the canvas has more to show."""
CROP_SHARE = 0.8
"""The same for a crop, which shows hardly more than the mask; it takes no less either, down to LARGEST_SCALE."""
WINDOW_TOKENS = 16
"""Side in tokens of a model's window, where it does not say."""
OVERVIEW_TOKENS = 8
"""Side in tokens of a model's overview, where it does not say."""
REGION_MARGIN = 8
"""Px around the mask that a region holds at least, so that its border can be softened and blended."""

Size = tuple[int, int]
"""(width, height) in px."""


@dataclass(frozen=True)
class Box:
    """A rectangle in px: left edge, top edge, width, height."""

    x: int
    y: int
    w: int
    h: int

    @property
    def right(self) -> int:
        """First column after the box."""
        return self.x + self.w

    @property
    def bottom(self) -> int:
        """First row after the box."""
        return self.y + self.h

    def clip(self, size: Size) -> Box:
        """The part of the box inside a canvas of `size` (width, height); w or h is 0 when nothing is."""
        left, top = min(max(self.x, 0), size[0]), min(max(self.y, 0), size[1])
        right, bottom = min(max(self.right, left), size[0]), min(max(self.bottom, top), size[1])
        return Box(left, top, right - left, bottom - top)

    def contains(self, other: Box) -> bool:
        """Whether `other` lies wholly inside this box."""
        return (
            self.x <= other.x
            and self.y <= other.y
            and self.right >= other.right
            and self.bottom >= other.bottom
        )

    def overlap(self, other: Box) -> Box:
        """What lies in both boxes; w or h is 0 when nothing does."""
        left, top = max(self.x, other.x), max(self.y, other.y)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Box(left, top, max(0, right - left), max(0, bottom - top))

    def union(self, other: Box) -> Box:
        """Smallest box around both."""
        left, top = min(self.x, other.x), min(self.y, other.y)
        return Box(left, top, max(self.right, other.right) - left, max(self.bottom, other.bottom) - top)

    def enlarged(self, margin: int) -> Box:
        """The box with `margin` px more on every side."""
        return Box(self.x - margin, self.y - margin, self.w + 2 * margin, self.h + 2 * margin)

    def moved(self, x: int, y: int) -> Box:
        """The box `x` px further right and `y` px further down."""
        return Box(self.x + x, self.y + y, self.w, self.h)

    def slices(self) -> tuple[slice, slice]:
        """Index of the box in an array of (H, W, ...). The box must not start before 0."""
        return slice(self.y, self.bottom), slice(self.x, self.right)

    def as_list(self) -> list[int]:
        """[x, y, w, h]."""
        return [self.x, self.y, self.w, self.h]


def choose_window(
    canvas_size: Size, fill_box: Box, side: int = WINDOW_TOKENS, least: int = 0
) -> tuple[Box, int]:
    """The window for a mask of bounding box `fill_box`, and the side of its tokens, both in canvas px.

    `side`: in tokens, of a square window; windows of narrow canvases are longer, with at most side ** 2 tokens. The
    window is a whole number of tokens wide and may reach past the canvas's right and bottom edges. `least`: what a
    token's side must be at least.
    """
    smallest = max(least, _smallest_token(canvas_size, side))
    return _framed(canvas_size, fill_box, side, CONTEXT_SHARE, smallest)


def choose_crop(
    canvas_size: Size, fill_box: Box, side: int = WINDOW_TOKENS, least: int = 0
) -> tuple[Box, int]:
    """As `choose_window`, but tight around the mask, however much larger the canvas is: it is enlarged to the window.

    This is what most inpainting tools show their model when they are told to look at the masked area only.
    """
    return _framed(canvas_size, fill_box, side, CROP_SHARE, max(least, PATCH // LARGEST_SCALE))


def choose_canvas(
    canvas_size: Size, fill_box: Box, side: int = WINDOW_TOKENS, least: int = 0
) -> tuple[Box, int]:
    """As `choose_window`, but all of the canvas, however small that makes the mask."""
    return _framed(canvas_size, fill_box, side, 0.0, max(least, _smallest_token(canvas_size, side)))


def region_to_send(
    canvas_size: Size, mask_box: Box, grow: int = 0, feather: int = 0, side: int = WINDOW_TOKENS
) -> Box:
    """The part of the canvas that an edit needs in full: the window, and the mask with what its softening reaches.

    `mask_box`: bounding box of the selection, before it is grown; all in canvas px.
    """
    grown = mask_box.enlarged(grow).clip(canvas_size)
    window, _ = choose_window(canvas_size, grown, side)
    return window.clip(canvas_size).union(region_needed(canvas_size, mask_box, grow, feather))


def region_needed(canvas_size: Size, mask_box: Box, grow: int, feather: int) -> Box:
    """The least that an edit can be given: the grown mask, and what growing, softening and blending look at."""
    return mask_box.enlarged(grow + feather + REGION_MARGIN).clip(canvas_size)


def overview_grid(canvas_size: Size, side: int = OVERVIEW_TOKENS) -> tuple[int, int]:
    """(rows, cols) of the overview's tokens: `side` along the canvas's longer side."""
    longest = max(canvas_size)
    rows, cols = (max(1, round(side * length / longest)) for length in (canvas_size[1], canvas_size[0]))
    return rows, cols


def overview_size(canvas_size: Size, side: int = OVERVIEW_TOKENS) -> Size:
    """(width, height) in px at which the whole canvas is sent beside a region: twice what the model is shown."""
    rows, cols = overview_grid(canvas_size, side)
    return min(canvas_size[0], 2 * cols * PATCH), min(canvas_size[1], 2 * rows * PATCH)


def _smallest_token(canvas_size: Size, side: int) -> int:
    """In canvas px: a canvas that the window could hold at LARGEST_SCALE, or at less, is enlarged to it."""
    fits_all = -(-max(canvas_size) // side)
    return min(PATCH, max(PATCH // LARGEST_SCALE, fits_all))


def _framed(canvas_size: Size, fill_box: Box, side: int, share: float, smallest: int) -> tuple[Box, int]:
    """The window in which the mask takes at most `share` of a side, with tokens of at least `smallest` canvas px."""
    token_px, (rows, cols) = _token_size(canvas_size, fill_box, side, share, smallest)
    window = Box(
        _place(fill_box.x, fill_box.w, canvas_size[0], cols, token_px),
        _place(fill_box.y, fill_box.h, canvas_size[1], rows, token_px),
        cols * token_px,
        rows * token_px,
    )
    return window, token_px


def _token_size(
    canvas_size: Size, fill_box: Box, side: int, share: float, smallest: int
) -> tuple[int, tuple[int, int]]:
    """Smallest token, in canvas px, whose window holds the mask and its surroundings; and the window's (rows, cols)."""
    width, height = canvas_size
    reach = max(fill_box.w, fill_box.h) / share if share else max(canvas_size)
    need_w, need_h = min(width, max(reach, fill_box.w)), min(height, max(reach, fill_box.h))
    budget = side * side
    token_px = smallest
    while True:
        all_cols, all_rows = -(-width // token_px), -(-height // token_px)
        cols = min(all_cols, side)
        rows = min(all_rows, budget // cols)
        cols = min(all_cols, budget // rows)
        if cols * token_px >= need_w and rows * token_px >= need_h:
            return token_px, (rows, cols)
        token_px += 1


def _place(start: int, length: int, canvas: int, count: int, token_px: int) -> int:
    """Left (or top) edge of a window of `count` tokens: centred on the mask, which is centred on its tokens."""
    spanned = -(-length // token_px)
    aligned = start - (spanned * token_px - length) // 2
    # Moving by whole tokens keeps the alignment, at the canvas's edges too.
    room = max(0, aligned) // token_px
    first = aligned - min((count - spanned) // 2, room) * token_px
    past = max(0, first + count * token_px - canvas)
    moved = first - -(-past // token_px) * token_px
    if moved >= 0 and moved + count * token_px >= start + length:
        return moved
    return min(max(first, 0), max(0, canvas - count * token_px))
