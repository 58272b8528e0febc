"""Masks by distance: grown by a disc, and the slope from their border inwards (numpy only)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lazydiffusion.window import Box

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ranks = npt.NDArray[np.unsignedinteger]

TILE = 256
"""Side in px of the tiles that a mask is grown in, unless it grows by more than half of it: one, with what it looks at,
stays in a processor's cache, and most of a mask lies in tiles that need no work."""
WIDEST = 3.5
"""Half widths of more than so many feathers are as good as this one. A corner of 90 degrees is as soft as a straight
border from 2 / (2 - sqrt(2)) = 3.4 on."""
ROWS = 64
"""So many rows at a time are worked on where a whole array more would take much memory."""
MOVES = (
    (1, 0, 1.0),
    (1, 1, 2**0.5),
    (1, -1, 2**0.5),
    (2, 1, 5**0.5),
    (2, -1, 5**0.5),
    (1, 2, 5**0.5),
    (1, -2, 5**0.5),
)
"""(rows, columns, px): steps of a way from one row to a later one; sideways it goes on as far as it likes. The shortest
way of such steps is at most 2.8 % longer than the straight line (Borgefors 1986, of 5 x 5 px, with true lengths)."""


def dilate(mask: npt.NDArray[np.floating], radius: int, box: Box) -> Floats:
    """A mask (H, W) whose every px takes the largest value within `radius` px (1 or more), exactly.

    `box`: holds every px above 0. Tiles that reach one value only are done at once; in the others a px's value is that
    of the disc's rows. The time follows the border's length and the radius, not the number of levels.
    """
    size = (mask.shape[1], mask.shape[0])
    result = np.zeros(mask.shape, np.float32)
    for tile in _tiles(box.enlarged(radius).clip(size), max(TILE, 2 * radius)):
        near = tile.enlarged(radius).clip(size)
        source = np.asarray(mask[near.slices()], dtype=np.float32)
        lowest, highest = source.min(), source.max()
        if lowest == highest:
            result[tile.slices()] = highest
            continue
        levels = np.unique(source)
        small = np.min_scalar_type(len(levels) - 1)  # 8 bits for the levels of a picture, 32 at most
        ranks = np.searchsorted(levels, source).astype(small)
        result[tile.slices()] = levels[_dilate_tile(ranks, radius, tile.moved(-near.x, -near.y))]
    return result


def _tiles(box: Box, side: int) -> Iterator[Box]:
    for y in range(box.y, box.bottom, side):
        for x in range(box.x, box.right, side):
            yield Box(x, y, min(side, box.right - x), min(side, box.bottom - y))


def _dilate_tile(ranks: Ranks, radius: int, tile: Box) -> Ranks:
    """The largest of the ranks (h, w) within reach of each px of a tile of them.

    A row of the disc is a run of px to both sides of its middle; the largest in runs of 2, 4, 8, ... px come from each
    other, and that in any run from the two of these that cover it.
    """
    height, width = ranks.shape
    grown = ranks[tile.slices()].copy()
    left, right = max(0, radius - tile.x), max(0, tile.right + radius - width)
    runs: Ranks = np.pad(ranks[:, max(0, tile.x - radius) : tile.right + radius], ((0, 0), (left, right)))
    length = 1
    for half, offsets in _disc_rows(min(radius, height - 1), radius):
        while 2 * length <= 2 * half + 1:
            runs = np.maximum(runs[:, :-length], runs[:, length:])
            length *= 2
        first, last = radius - half, radius + half + 1 - length
        row = np.maximum(runs[:, first : first + tile.w], runs[:, last : last + tile.w])
        for offset in offsets:
            for seen in {tile.y + offset, tile.y - offset}:
                top, bottom = max(seen, 0), min(seen + tile.h, height)
                if top < bottom:
                    reached = grown[top - seen : bottom - seen]
                    np.maximum(reached, row[top:bottom], out=reached)
    return grown


def _disc_rows(tallest: int, radius: int) -> list[tuple[int, list[int]]]:
    """(half width, offsets of the rows that have it) of a disc, from narrow to wide; offsets up to `tallest` only."""
    rows: dict[int, list[int]] = {}
    for offset in range(tallest, -1, -1):
        rows.setdefault(int((radius**2 - offset**2) ** 0.5), []).append(offset)
    return list(rows.items())


def slope(masked: Bools, length: int) -> Floats:
    """How far inside the masked area (h, w) each px lies: from above 0 beside what is not masked to 1, `length` px in.

    It rises with the distance to the nearest px that is not masked; what lies beyond the array is no border. Where the
    masked area is less than 4 * length wide, the slope is steeper: about as long as half of the way from the border to
    the middle, which is always at 1. In narrow tips it is shorter still, and where a narrow part meets a wide one it
    changes gradually.
    """
    depth = np.where(masked, np.float32(-WIDEST * length), np.float32(0))
    _level_off(depth)
    np.negative(depth, out=depth)
    # At a px d deep, the middle of a part that is W deep lies at most W - d away: of twice the depth of any other px,
    # less the way there and less d, it leaves W.
    local = 2 * depth
    _level_off(local, masked)
    for top in range(0, len(depth), ROWS):
        deep, deepest = depth[top : top + ROWS], local[top : top + ROWS]
        half = (deepest - deep) / 2
        deep /= np.clip(half + np.minimum(half, 1), 1, length)
    return np.minimum(depth, 1, out=depth)


def _level_off(heights: Floats, inside: Bools | None = None) -> None:
    """Raise heights (h, w) until none is lower than another by more than the way between them, in px; in place.

    `inside`: ways lead through these px only, and the others become 0; where they wind, some are not found, and they
    are up to 8 % too long, as no step leaps over a px.
    """
    moves = MOVES if inside is None else MOVES[:3]
    height, width = heights.shape
    ramp = np.arange(width, dtype=np.float64)
    wall = 8.0 * (height + width + WIDEST * 2048)  # more than any height or way
    for rows, open_ in ((heights, inside), (heights[::-1], None if inside is None else inside[::-1])):
        for y in range(height):
            row = rows[y]
            for down, aside, way in moves:
                if down <= y and abs(aside) < width:
                    reached = row[max(0, aside) : width + min(0, aside)]
                    higher = rows[y - down][max(0, -aside) : width - max(0, aside)]
                    np.maximum(reached, higher - np.float32(way), out=reached)
            way_right = ramp
            if open_ is not None:
                row[~open_[y]] = 0
                way_right = ramp + wall * np.cumsum(~open_[y])
            from_left = np.maximum.accumulate(row + way_right) - way_right
            from_right = np.maximum.accumulate((row - way_right)[::-1])[::-1] + way_right
            np.maximum(from_left, from_right, out=from_left)
            row[:] = from_left
