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


def hidden_tokens(mask: npt.NDArray[np.floating], token_px: int, rows: int, cols: int) -> Bools:
    """The tokens that the mask touches: its max-pooling to the token grid.

    `mask`: (h, w) of the window in canvas px, with h <= rows * token_px and w <= cols * token_px (what a window
    reaches past the canvas is not masked). Gives (rows, cols). Raises BadInput when the mask is larger than the grid.
    """
    height, width = mask.shape
    if height > rows * token_px or width > cols * token_px:
        raise BadInput(
            f"A mask of {width} x {height} px does not fit a grid of {cols} x {rows} tokens of {token_px} px."
        )
    padded = np.zeros((rows * token_px, cols * token_px), dtype=bool)
    padded[:height, :width] = mask > 0
    return np.asarray(padded.reshape(rows, token_px, cols, token_px).any(axis=(1, 3)))


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
    cols = hidden.shape[1]
    inside = np.flatnonzero(hidden)
    missing = size - len(inside)
    if missing <= 0:
        return inside.astype(np.int64)
    outside = np.flatnonzero(~hidden)
    here = np.stack([inside // cols, inside % cols], axis=1)
    there = np.stack([outside // cols, outside % cols], axis=1)
    distance = np.full(len(there), np.iinfo(np.int64).max, dtype=np.int64)
    for start in range(0, len(here), 256):  # bounds the distance table at 256 x tokens
        offset = there[:, None, :] - here[None, start : start + 256, :]
        distance = np.minimum(distance, (offset**2).sum(axis=2).min(axis=1))
    nearest = np.sort(outside[np.argsort(distance, kind="stable")[:missing]])
    return np.concatenate([inside, nearest]).astype(np.int64)


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
