"""Which tokens of a window are hidden, how many the decoder gets, and where every token lies (numpy only)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lazydiffusion.errors import BadInput

Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
Positions = npt.NDArray[np.float32]

BUCKETS_PER_OCTAVE = 4
SMALLEST_BUCKET = 8


def hidden_tokens(
    mask: npt.NDArray[np.floating], token_px: int, rows: int, cols: int, corner: tuple[int, int] = (0, 0)
) -> Bools:
    """The tokens that the mask touches: its max-pooling to the token grid.

    `mask`: (h, w) in canvas px; `corner`: (x, y) of its first pixel, from the window's. Nothing else of the window is
    masked, nor what it reaches past the canvas. Gives (rows, cols). Raises BadInput when the mask leaves the grid.
    """
    height, width = mask.shape
    left, top = corner
    if left + width > cols * token_px or top + height > rows * token_px or min(corner) < 0:
        place = f" at {corner}" if any(corner) else ""
        raise BadInput(
            f"A mask of {width} x {height} px{place} does not fit a grid of {cols} x {rows} tokens of {token_px} px."
        )
    hidden = np.zeros((rows, cols), dtype=bool)
    first_row, first_col = top // token_px, left // token_px
    last_row, last_col = -(-(top + height) // token_px), -(-(left + width) // token_px)
    padded = np.zeros(((last_row - first_row) * token_px, (last_col - first_col) * token_px), dtype=bool)
    top, left = top - first_row * token_px, left - first_col * token_px
    np.greater(mask, 0, out=padded[top : top + height, left : left + width])
    # One axis after the other, rows first: many times as fast as both at once.
    in_rows = padded.reshape(last_row - first_row, token_px, -1).any(axis=1)
    touched = in_rows.reshape(last_row - first_row, last_col - first_col, token_px).any(axis=2)
    hidden[first_row:last_row, first_col:last_col] = touched
    return hidden


def bucket(count: int, total: int) -> int:
    """The number of tokens that the decoder is given for `count` hidden ones, out of `total` in the window.

    Buckets are multiples of a quarter of their octave (8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ...), so that at most
    a fifth of the tokens are padding while few shapes need a CUDA graph; never more than `total`.
    """
    if not 0 < count <= total:
        raise BadInput(
            f"{count} hidden tokens out of {total}: an edit needs at least one and at most all of them."
        )
    if count <= SMALLEST_BUCKET:
        return min(SMALLEST_BUCKET, total)
    step: int = max(1, (1 << ((count - 1).bit_length() - 1)) // BUCKETS_PER_OCTAVE)
    return min(-(-count // step) * step, total)


def pad_with_nearest(hidden: Bools, size: int) -> Indices:
    """Row-major indices of `size` tokens: the hidden ones, then the visible ones nearest to any of them.

    `hidden`: (rows, cols). Ties are broken by row-major order, so the result is a function of the mask alone.
    """
    inside = np.flatnonzero(hidden)
    missing = size - len(inside)
    if missing <= 0:
        return inside.astype(np.int64)
    outside = np.flatnonzero(~hidden)
    distance = squared_distance(hidden).ravel()[outside]
    nearest = np.sort(outside[np.argsort(distance, kind="stable")[:missing]])
    return np.concatenate([inside, nearest]).astype(np.int64)


def squared_distance(marked: Bools) -> npt.NDArray[np.int64]:
    """From each place of a grid (rows, cols) to the nearest marked one, Euclidean and exact; (rows + cols)^2 if none.

    First along one axis, then the least sum of squares along the other (Felzenszwalb and Huttenlocher 2012), which is
    the shorter one here and tried in full.
    """
    if marked.shape[1] > marked.shape[0]:
        return squared_distance(marked.T).T
    rows, cols = marked.shape
    far = rows + cols
    places = np.arange(rows)[:, None]
    above = np.maximum.accumulate(np.where(marked, places, -far), axis=0)
    below = np.minimum.accumulate(np.where(marked, places, rows + far)[::-1], axis=0)[::-1]
    along = np.minimum(np.minimum(places - above, below - places), far) ** 2
    across = (np.arange(cols)[:, None] - np.arange(cols)) ** 2
    return np.asarray(np.minimum((along[:, None, :] + across).min(axis=2), far**2), dtype=np.int64)


def window_positions(rows: int, cols: int) -> Positions:
    """Centres of the window's tokens, (rows * cols, 2) as (y, x), in tokens from the window's centre."""
    y = np.arange(rows, dtype=np.float32) + 0.5 - rows / 2
    x = np.arange(cols, dtype=np.float32) + 0.5 - cols / 2
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def compress(offset: npt.NDArray[np.floating], half: float) -> npt.NDArray[np.float32]:
    """Positions in tokens from the window's centre: as they are inside the window, logarithmic beyond its border.

    Continuous, with a continuous slope at `half` (the window's half side in tokens). A canvas 64 times as wide as the
    window so reaches only 5.2 half sides: rotary positions stay in the range that training saw, whatever the canvas.
    """
    ratio = np.abs(offset) / half
    beyond = 1.0 + np.log(np.maximum(ratio, 1.0))
    return np.asarray(np.sign(offset) * half * np.where(ratio <= 1.0, ratio, beyond), dtype=np.float32)
