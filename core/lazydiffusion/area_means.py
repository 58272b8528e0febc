"""A picture made smaller: which of its pixels are looked at, and their sums, exact (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]
Sums = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]

MOST_IN_16_BITS = 257
"""So many bytes at most add up to a number of 16 bits."""


@dataclass(frozen=True)
class Samples:
    """Along one axis: pixels of the large picture, and the pixel of the small one that each of them belongs to."""

    places: Indices
    """(n,), ascending."""
    owners: Indices
    """(n,), ascending, without gaps."""

    def within(self, start: int, stop: int) -> Samples:
        """Those from `start` to before `stop`, their places counted from `start`."""
        first, last = np.searchsorted(self.places, (start, stop))
        return Samples(self.places[first:last], self.owners[first:last]).moved(-start)

    def moved(self, by: int) -> Samples:
        """The same, `by` px further on."""
        return Samples(self.places + by, self.owners)

    def scaled(self, side: int, of: int) -> Samples:
        """Where they lie in a picture of the same that is `side` px long and not `of`."""
        return Samples(self.places * side // of, self.owners)

    def counts(self, count: int) -> Indices:
        """How many belong to each of the small picture's `count` pixels."""
        return np.bincount(self.owners, minlength=count)


def every(start: int, length: int, count: int, step: int, limit: int) -> Samples:
    """Every step-th of `length` px from `start`, shared among `count` px as Pillow's BOX filter does.

    A place at or past `limit`, where the large picture ends, is its last px.
    """
    sampled = -(-length // step)
    scale = sampled / count
    reach = max(scale, 1.0)  # in samples; Pillow's own rounding, so that ties are broken as it breaks them
    centres = (np.arange(count) + 0.5) * scale
    first = np.maximum(centres - 0.5 * reach + 0.5, 0).astype(np.intp)
    stop = np.minimum((centres + 0.5 * reach + 0.5).astype(np.intp), sampled)
    first += (first - centres + 0.5) * (1 / reach) <= -0.5
    stop -= (stop - centres - 0.5) * (1 / reach) > 0.5
    lengths = stop - first
    within_owner = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    places = start + (np.repeat(first, lengths) + within_owner) * step
    return Samples(np.clip(places, 0, limit - 1), np.repeat(np.arange(count), lengths))


def spread(start: int, length: int, count: int, most: int, limit: int) -> Samples:
    """At most `most` px, evenly spread, under each of `count` px that show `length` px from `start`."""
    each = min(most, -(-length // count))
    places = start + ((np.arange(count * each) + 0.5) * length / (count * each)).astype(np.intp)
    return Samples(np.clip(places, 0, limit - 1), np.repeat(np.arange(count), each))


def add_sums(
    total: Sums, values: Pixels, ys: Samples, xs: Samples, only: Bools | None = None, sign: int = 1
) -> None:
    """Add to each px of a small picture, total (h, w, C), the sum of its samples of values (H, W, C).

    `only`: (H, W), the values that count; all of them by default. `sign`: -1 takes them away. Exact as long as no sum
    exceeds 2 ** 24, that is for 65 thousand samples of a px.
    """
    if len(ys.places) == 0 or len(xs.places) == 0:
        return
    left, right = xs.places[0], xs.places[-1] + 1
    values = values[:, left:right]
    owners, starts = np.unique(ys.owners, return_index=True)
    bands = np.split(ys.places, starts[1:])
    few = max(map(len, bands)) <= MOST_IN_16_BITS
    # Rows first: adding up whole rows is many times as fast as picking pixels. The last column stays 0.
    rows = np.zeros((len(bands), right - left + 1, values.shape[2]), np.uint16 if few else np.uint32)
    for row, places in zip(rows, bands, strict=True):
        band = values[places]
        if only is not None and not (chosen := only[places, left:right]).all():
            band *= chosen[..., None]
        np.add.reduce(band, axis=0, dtype=rows.dtype, out=row[:-1])
    columns, starts, lengths = np.unique(xs.owners, return_index=True, return_counts=True)
    here = total[owners[0] : owners[-1] + 1, columns[0] : columns[-1] + 1]
    last = len(xs.places) - 1
    # The first column of every owner, then the second of all that have it, and so on.
    for number in range(lengths.max()):
        column = np.where(number < lengths, xs.places[np.minimum(starts + number, last)] - left, right - left)
        (np.add if sign > 0 else np.subtract)(here, np.take(rows, column, axis=1), out=here)
