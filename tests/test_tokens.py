"""Tokens of a window: which are hidden, how many the decoder gets, and where each lies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lazydiffusion.errors import BadInput
from lazydiffusion.tokens import (
    bucket,
    compress,
    hidden_tokens,
    pad_with_nearest,
    squared_distance,
    window_positions,
)

pytestmark = pytest.mark.unit

grids = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)).filter(
    lambda grid: bool(grid.any())
)


def test_a_token_is_hidden_by_a_single_pixel() -> None:
    mask = np.zeros((8, 12), np.float32)
    mask[3, 4] = 1 / 255

    assert hidden_tokens(mask, 4, 2, 3).tolist() == [[False, True, False], [False, False, False]]


@given(st.data(), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_hidden_tokens_are_the_max_pooled_mask(
    data: st.DataObject, token_px: int, rows: int, cols: int
) -> None:
    """Also where the canvas ends inside the last tokens."""
    height = data.draw(st.integers(1, rows * token_px))
    width = data.draw(st.integers(1, cols * token_px))
    mask = data.draw(hnp.arrays(np.float32, (height, width), elements=st.sampled_from([0.0, 0.0, 0.5])))

    hidden = hidden_tokens(mask, token_px, rows, cols)

    assert hidden.shape == (rows, cols)
    for row in range(rows):
        for col in range(cols):
            under = mask[row * token_px : (row + 1) * token_px, col * token_px : (col + 1) * token_px]
            assert hidden[row, col] == (under > 0).any()


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)), st.integers(1, 5), st.data())
def test_a_part_of_a_mask_is_pooled_in_its_place(
    part: npt.NDArray[np.bool_], token_px: int, data: st.DataObject
) -> None:
    left, top = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    rows, cols = -(-(top + part.shape[0]) // token_px) + 1, -(-(left + part.shape[1]) // token_px) + 1
    whole = np.zeros((rows * token_px, cols * token_px), np.float32)
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part

    found = hidden_tokens(part.astype(np.float32), token_px, rows, cols, (left, top))

    assert np.array_equal(found, hidden_tokens(whole, token_px, rows, cols))


@pytest.mark.parametrize("corner", [(5, 0), (0, 5), (-1, 0)])
def test_a_part_that_leaves_the_grid_is_refused(corner: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="does not fit a grid of 3 x 2 tokens of 4 px"):
        hidden_tokens(np.ones((4, 8), np.float32), 4, 2, 3, corner)


@pytest.mark.parametrize("shape", [(9, 12), (8, 13)])
def test_a_mask_larger_than_its_grid_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(
        BadInput, match=f"{shape[1]} x {shape[0]} px does not fit a grid of 3 x 2 tokens of 4 px"
    ):
        hidden_tokens(np.ones(shape, np.float32), 4, 2, 3)


@given(st.integers(1, 4096), st.integers(0, 4096))
def test_a_bucket_holds_its_tokens_and_wastes_little(count: int, more: int) -> None:
    total = count + more
    size = bucket(count, total)

    assert count <= size <= total
    assert size >= min(bucket(max(1, count - 1), total), total)  # never less for more tokens
    if count > 8:
        assert size - count <= size / 5
    else:
        assert size == min(8, total)


def test_buckets_are_few() -> None:
    sizes = sorted({bucket(count, 256) for count in range(1, 257)})

    assert sizes == [8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256]
    assert {bucket(count, 30) for count in range(25, 31)} == {28, 30}  # never more than there are


@pytest.mark.parametrize(("count", "total"), [(0, 16), (-1, 16), (17, 16)])
def test_impossible_counts_are_refused(count: int, total: int) -> None:
    with pytest.raises(BadInput, match=f"^{count} hidden tokens out of {total}"):
        bucket(count, total)


@given(grids, st.integers(0, 20))
def test_padding_takes_the_nearest_visible_tokens(hidden: npt.NDArray[np.bool_], more: int) -> None:
    inside = np.argwhere(hidden)
    size = min(len(inside) + more, hidden.size)
    distance = {
        int(token): int(((inside - divmod(token, hidden.shape[1])) ** 2).sum(axis=1).min())
        for token in np.flatnonzero(~hidden)
    }
    expected = sorted(distance, key=lambda token: (distance[token], token))[: size - len(inside)]

    indices = pad_with_nearest(hidden, size)

    assert indices.dtype == np.int64
    assert indices.tolist() == np.flatnonzero(hidden).tolist() + sorted(expected)


def test_no_padding_where_none_is_asked_for() -> None:
    assert pad_with_nearest(np.eye(3, dtype=bool), 3).tolist() == [0, 4, 8]
    assert pad_with_nearest(np.eye(3, dtype=bool), 1).tolist() == [
        0,
        4,
        8,
    ]  # hidden tokens are never left out


@pytest.mark.parametrize("shape", [(40, 40), (1, 1600), (1600, 1)])
def test_padding_of_a_large_window_is_exact(shape: tuple[int, int]) -> None:
    hidden = np.zeros(shape, bool)
    hidden.flat[:800] = True

    assert pad_with_nearest(hidden, 840).tolist() == list(range(840))


@given(grids)
def test_distances_are_those_to_the_nearest_marked_place(marked: npt.NDArray[np.bool_]) -> None:
    places = np.argwhere(marked)
    expected = [((places - place) ** 2).sum(axis=1).min() for place in np.argwhere(np.ones_like(marked))]

    assert squared_distance(marked).ravel().tolist() == expected
    assert (squared_distance(np.zeros_like(marked)) == sum(marked.shape) ** 2).all()


def test_window_positions_are_centred() -> None:
    assert window_positions(1, 1).tolist() == [[0, 0]]
    assert window_positions(2, 3).tolist() == [
        [-0.5, -1], [-0.5, 0], [-0.5, 1],
        [0.5, -1], [0.5, 0], [0.5, 1],
    ]  # fmt: skip


offsets = hnp.arrays(np.float64, 20, elements=st.floats(-1e6, 1e6))
halves = st.floats(0.5, 64)


@given(offsets, halves)
def test_compressed_positions_are_odd_and_keep_their_order(
    offset: npt.NDArray[np.float64], half: float
) -> None:
    offset = np.sort(offset)
    position = compress(offset, half)

    assert position.dtype == np.float32
    assert np.array_equal(compress(-offset, half), -position)
    assert (np.diff(position) >= 0).all()
    inside = np.abs(offset) <= half
    assert np.allclose(position[inside], offset[inside], rtol=1e-6)
    assert (np.abs(position[~inside]) >= half * (1 - 1e-6)).all()


@given(halves)
def test_compression_begins_without_a_jump_or_a_kink(half: float) -> None:
    before, at, after = compress(half * np.array([0.999, 1, 1.001]), half) / half

    assert at == pytest.approx(1, abs=1e-6)
    assert after - at == pytest.approx(at - before, rel=2e-3)


def test_a_canvas_64_windows_wide_stays_within_5_2_half_sides() -> None:
    assert compress(np.array([64 * 8.0]), 8.0)[0] / 8 == pytest.approx(1 + np.log(64))
    assert 1 + np.log(64) < 5.2
