"""A picture made smaller: exact sums of its pixels, shared among the small picture's as Pillow shares them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lazydiffusion.area_means import add_sums, every, spread

pytestmark = pytest.mark.unit


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.02, 1), st.floats(0.02, 1), st.integers(0, 999))
def test_means_are_those_of_pillows_box_filter(
    height: int, width: int, tall: float, wide: float, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 1), dtype=np.uint8)
    rows, cols = max(1, int(tall * height)), max(1, int(wide * width))
    ys, xs = every(0, height, rows, 1, height), every(0, width, cols, 1, width)
    total = np.zeros((rows, cols, 1), np.float32)

    add_sums(total, pixels, ys, xs)

    expected = Image.fromarray(pixels[..., 0].astype(np.float32)).resize((cols, rows), Image.Resampling.BOX)
    assert np.allclose(total[..., 0] / np.outer(ys.counts(rows), xs.counts(cols)), expected, atol=1e-3)


@given(st.integers(0, 9), st.integers(1, 50), st.integers(1, 20), st.integers(1, 8), st.integers(0, 999))
def test_sums_are_exact_of_what_counts(start: int, length: int, count: int, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels, only = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8), rng.random((40, 30)) < 0.5
    ys, xs = spread(start, length, count, most, 40), every(2, 28, 7, 2, 30)
    expected = np.zeros((count, 7, 3))
    for y, row in zip(ys.places, ys.owners, strict=True):
        for x, col in zip(xs.places, xs.owners, strict=True):
            expected[row, col] += pixels[y, x] * only[y, x].astype(int)
    total = np.zeros((count, 7, 3), np.float32)

    add_sums(total, pixels, ys, xs, only)

    assert np.array_equal(total, expected)
    add_sums(total, pixels, ys, xs, only, sign=-1)
    assert not total.any()


def test_a_large_picture_is_added_up_without_overflow() -> None:
    pixels = np.full((600, 600, 3), 255, np.uint8)
    total = np.zeros((1, 1, 3), np.float32)

    add_sums(total, pixels[:, :100], every(0, 600, 1, 1, 600), every(0, 100, 1, 1, 100))

    assert (total == 600 * 100 * 255).all()
