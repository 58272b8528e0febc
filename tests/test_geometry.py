"""Planning an edit: for any canvas and mask, where the window lies and which tokens are made; soft masks."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lazydiffusion import tokens
from lazydiffusion.errors import BadInput
from lazydiffusion.geometry import EditPlan, bounding_box, feather, grow, plan
from lazydiffusion.protocol import MAX_SIDE, MIN_SIDE
from lazydiffusion.window import LARGEST_SCALE, PATCH, Box

pytestmark = pytest.mark.unit

Size = tuple[int, int]
Mask = npt.NDArray[np.float32]
LARGEST_AREA = 2**19  # px, 16384 x 32: as long as a canvas can be, and quick to fill


def boxed(size: Size, *boxes: Box, value: float = 1.0) -> Mask:
    """A mask of the given size (width, height) with `value` in the boxes."""
    mask = np.zeros((size[1], size[0]), dtype=np.float32)
    for box in boxes:
        mask[box.slices()] = value
    return mask


@st.composite
def sizes(draw: st.DrawFn) -> Size:
    """Canvases from 16 to 16384 px a side, narrow ones and wide ones."""
    first = draw(st.one_of(st.integers(MIN_SIDE, 600), st.integers(MIN_SIDE, MAX_SIDE)))
    second = draw(st.integers(MIN_SIDE, min(MAX_SIDE, LARGEST_AREA // first)))
    return (first, second) if draw(st.booleans()) else (second, first)


@st.composite
def boxes(draw: st.DrawFn, size: Size) -> Box:
    """From one pixel to the whole canvas; often at its border."""
    sides, starts = [], []
    for length in size:
        side = draw(st.one_of(st.just(1), st.integers(1, min(40, length)), st.integers(1, length)))
        sides.append(side)
        starts.append(draw(st.one_of(st.just(0), st.just(length - side), st.integers(0, length - side))))
    return Box(*starts, *sides)


@st.composite
def edits(draw: st.DrawFn) -> tuple[Size, Mask]:
    """A canvas and a mask of one to four islands, hard or soft."""
    size = draw(sizes())
    islands = draw(st.lists(boxes(size), min_size=1, max_size=4))
    return size, boxed(size, *islands, value=draw(st.sampled_from([1.0, 1 / 255])))


def any_edit(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test on fifty edits, each with a window of 8, 16 or 32 tokens a side."""
    return settings(max_examples=50)(given(edits(), st.sampled_from([8, 16, 32]))(test))


@any_edit
@example(((16384, 64), boxed((16384, 64), Box(16383, 63, 1, 1))), 16)
@example(((64, 16384), boxed((64, 16384), Box(0, 0, 64, 16384))), 16)
@example(((16, 16), boxed((16, 16), Box(0, 0, 16, 16))), 16)
@example(((1000, 700), boxed((1000, 700), Box(0, 0, 1, 1), Box(999, 699, 1, 1))), 16)
def test_the_window_shows_all_that_is_masked_and_lies_on_the_canvas(
    edit: tuple[Size, Mask], side: int
) -> None:
    size, mask = edit
    planned = plan(size, mask, window_tokens=side)
    window, fill = planned.window, planned.fill_box
    rows, cols = planned.grid

    assert window.contains(fill)
    assert (window.w, window.h) == (cols * planned.token_px, rows * planned.token_px)
    assert rows * cols <= side**2
    for start, end, length in ((window.x, window.right, size[0]), (window.y, window.bottom, size[1])):
        assert 0 <= start < length
        assert end <= length or (start == 0 and end - length < planned.token_px)


@any_edit
def test_pixels_are_never_enlarged_but_on_a_canvas_smaller_than_the_window(
    edit: tuple[Size, Mask], side: int
) -> None:
    size, mask = edit
    planned = plan(size, mask, window_tokens=side)

    assert planned.scale == PATCH / planned.token_px
    assert planned.scale <= LARGEST_SCALE
    if planned.scale > 1:
        assert max(size) < side * PATCH
        assert planned.window.contains(Box(0, 0, *size))


@pytest.mark.parametrize(
    ("longest", "token_px"), [(16, 4), (64, 4), (65, 5), (128, 8), (200, 13), (256, 16), (5000, 16)]
)
def test_a_canvas_smaller_than_the_window_is_enlarged_to_it(longest: int, token_px: int) -> None:
    """By four times at most; a small canvas is not made from few pixels."""
    for size in ((longest, 16), (16, longest)):
        assert plan(size, boxed(size, Box(3, 4, 2, 2))).token_px == token_px


@any_edit
def test_half_of_the_window_is_surroundings_as_long_as_there_are_any(
    edit: tuple[Size, Mask], side: int
) -> None:
    size, mask = edit
    planned = plan(size, mask, window_tokens=side)
    longest = max(planned.fill_box.w, planned.fill_box.h)

    assert planned.window.w >= min(size[0], 2 * longest)
    assert planned.window.h >= min(size[1], 2 * longest)


@any_edit
def test_hidden_are_exactly_the_tokens_that_the_mask_touches(edit: tuple[Size, Mask], side: int) -> None:
    size, mask = edit
    planned = plan(size, mask, window_tokens=side)
    ys, xs = np.nonzero(mask)
    cols = planned.grid[1]
    touched = (ys - planned.window.y) // planned.token_px * cols + (xs - planned.window.x) // planned.token_px

    assert np.array_equal(np.unique(touched), np.flatnonzero(planned.hidden))
    assert planned.hidden_count == len(np.unique(touched))


@any_edit
def test_the_decoder_gets_the_hidden_tokens_and_the_nearest_visible_ones(
    edit: tuple[Size, Mask], side: int
) -> None:
    planned = plan(*edit, window_tokens=side)
    hidden, count, total = planned.hidden, planned.hidden_count, planned.hidden.size

    assert planned.indices.dtype == np.int64
    assert len(planned.indices) == tokens.bucket(count, total) >= count
    assert len(set(planned.indices.tolist())) == len(planned.indices)
    assert np.array_equal(planned.indices[:count], np.flatnonzero(hidden))
    assert set(planned.indices[count:].tolist()) == nearest_visible(hidden, len(planned.indices) - count)


def nearest_visible(hidden: tokens.Bools, missing: int) -> set[int]:
    """By trying all: the visible tokens closest to a hidden one, the first in reading order among equals."""
    cols = hidden.shape[1]
    inside = np.argwhere(hidden)
    ranked = sorted(
        (int(((inside - divmod(token, cols)) ** 2).sum(axis=1).min()), int(token))
        for token in np.flatnonzero(~hidden)
    )
    return {token for _, token in ranked[:missing]}


@any_edit
def test_positions_are_the_tokens_centres_in_one_frame(edit: tuple[Size, Mask], side: int) -> None:
    size, mask = edit
    planned = plan(size, mask, window_tokens=side, overview_tokens=side // 2)
    (rows, cols), window = planned.grid, planned.window
    y, x = planned.window_positions.reshape(rows, cols, 2).transpose(2, 0, 1)

    assert planned.window_positions.dtype == planned.overview_positions.dtype == np.float32
    assert np.array_equal(2 * planned.window_positions, np.round(2 * planned.window_positions))
    assert np.array_equal(y[:, 0], -y[::-1, 0])
    assert np.array_equal(x[0], -x[0, ::-1])
    centre = window.x + (cols - 1 + 0.5) * planned.token_px  # of the last column, in canvas px
    assert x[0, -1] == (centre - (window.x + window.w / 2)) / planned.token_px

    y, x = planned.overview_positions.reshape(*planned.overview_grid, 2).transpose(2, 0, 1)
    assert (np.diff(y, axis=0) > 0).all()
    assert (np.diff(x, axis=1) > 0).all()
    # Where the overview shows what the window shows, the two agree on where it is; beyond, it is compressed.
    for got, count, length, start, extent in (
        (y[:, 0], planned.overview_grid[0], size[1], window.y, window.h),
        (x[0], planned.overview_grid[1], size[0], window.x, window.w),
    ):
        exact = ((np.arange(count) + 0.5) * length / count - start - extent / 2) / planned.token_px
        half = extent / planned.token_px / 2
        inside = np.abs(exact) <= half
        assert np.allclose(got[inside], exact[inside], atol=1e-4)
        beyond = exact[~inside]
        nearer = np.sign(beyond) * half * (1 + np.log(np.abs(beyond) / half))
        assert np.allclose(got[~inside], nearer, atol=1e-3)


def test_an_overview_of_what_the_window_shows_covers_the_same_extent() -> None:
    planned = plan((256, 256), boxed((256, 256), Box(10, 20, 30, 40)))

    assert planned.window == Box(0, 0, 256, 256)
    assert planned.overview_grid == (8, 8)
    assert np.array_equal(np.unique(planned.window_positions), np.arange(16) - 7.5)
    assert np.array_equal(np.unique(planned.overview_positions), np.arange(8) * 2 - 7.0)
    # An overview token is two window tokens wide: both views reach from -8 to 8.


def test_one_edit_read_from_a_plan() -> None:
    """A hole of 100 x 60 px on a photograph: full detail around it, nothing else."""
    planned = plan((1920, 1080), boxed((1920, 1080), Box(900, 500, 100, 60)))

    assert planned.fill_box == Box(900, 500, 100, 60)
    assert planned.scale == 1
    assert planned.grid == (16, 16)
    assert planned.working_size == (256, 256)
    assert planned.overview_grid == (4, 8)
    assert planned.overview_size == (128, 64)
    assert planned.hidden_count == 7 * 4  # 100 px are at least 7 tokens, 60 px are 4
    assert len(planned.indices) == 28


def test_a_large_hole_is_seen_at_a_coarser_scale() -> None:
    planned = plan((4096, 4096), boxed((4096, 4096), Box(1000, 1000, 512, 300)))

    assert planned.token_px == 64  # twice 512 px in 16 tokens
    assert planned.scale == 0.25
    assert planned.window.contains(planned.fill_box)


@any_edit
def test_no_more_tokens_are_hidden_than_a_model_knows_and_nothing_is_made_coarser_without_need(
    edit: tuple[Size, Mask], side: int
) -> None:
    size, mask = edit
    most = side * side // 4
    free = plan(size, mask, window_tokens=side)
    planned = plan(size, mask, window_tokens=side, most_hidden=most)

    assert planned.hidden_count <= most
    assert planned.window.contains(planned.fill_box)
    if free.hidden_count <= most:
        assert (planned.window, planned.token_px) == (free.window, free.token_px)
    else:
        assert planned.token_px > free.token_px


def test_a_whole_canvas_is_made_of_the_tokens_that_a_model_knows() -> None:
    planned = plan((1024, 1024), np.ones((1024, 1024), np.float32), most_hidden=64)
    assert (planned.token_px, planned.grid, planned.hidden_count) == (128, (8, 8), 64)
    ring = boxed((1024, 1024), Box(0, 0, 1024, 1024))
    ring[64:960, 64:960] = 0  # few tokens wide: only what is hidden counts, not the box around it
    assert plan((1024, 1024), ring, most_hidden=64).token_px < 80


@given(st.integers(600, 3000), st.integers(600, 3000), st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=20)
def test_a_plan_does_not_depend_on_the_canvas_around_the_window(
    width: int, height: int, dx: int, dy: int
) -> None:
    """The same hole, anywhere on any canvas, away from the border: the same tokens, hence the same cost."""
    hole = Box(250 + min(dx, width - 600), 250 + min(dy, height - 600), 75, 90)
    here = plan((width, height), boxed((width, height), hole))
    there = plan((600, 600), boxed((600, 600), Box(250, 250, 75, 90)))

    assert here.grid == there.grid
    assert np.array_equal(here.hidden, there.hidden)
    assert np.array_equal(here.indices, there.indices)
    assert np.array_equal(here.window_positions, there.window_positions)


def test_a_narrow_canvas_gets_a_longer_window_of_no_more_tokens() -> None:
    planned = plan((3000, 64), boxed((3000, 64), Box(1500, 10, 20, 20)))

    assert planned.grid == (4, 64)
    assert planned.overview_grid == (1, 8)


@pytest.mark.parametrize(
    ("size", "advice"), [((15, 500), "enlarge"), ((500, 16385), "crop or shrink"), ((0, 0), "enlarge")]
)
def test_a_canvas_out_of_range_is_refused_with_its_size(size: Size, advice: str) -> None:
    told = f"canvas is {size[0]} x {size[1]} px; each side must be between 16 and 16384 px: {advice} it first"
    with pytest.raises(BadInput, match=told):
        plan(size, np.ones((size[1], size[0]), np.float32))


def test_a_mask_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(BadInput, match="mask is 40 x 30 px but the canvas is 30 x 40 px"):
        plan((30, 40), np.ones((30, 40), np.float32))


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(BadInput, match="mask is empty: select"):
        plan((64, 64), np.zeros((64, 64), np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("everything", [False, True])
def test_the_largest_canvas_is_planned_without_looking_at_pixels_one_by_one(everything: bool) -> None:
    mask = np.zeros((MAX_SIDE, MAX_SIDE), np.uint8)
    mask[-1, -1] = 1
    if everything:
        mask[:] = 1

    started = time.monotonic()
    planned: EditPlan = plan((MAX_SIDE, MAX_SIDE), mask)  # type: ignore[arg-type]

    assert time.monotonic() - started < 30  # about 2 s; a loop over the pixels takes minutes
    assert planned.hidden_count == (256 if everything else 1)
    assert planned.scale == (1 / 64 if everything else 1)


def test_boxes() -> None:
    box = Box(10, 20, 30, 40)

    assert (box.right, box.bottom) == (40, 60)
    assert box.as_list() == [10, 20, 30, 40]
    assert box.slices() == (slice(20, 60), slice(10, 40))
    assert box.contains(box)
    assert not box.contains(Box(9, 20, 30, 40))
    assert box.clip((25, 100)) == Box(10, 20, 15, 40)
    assert Box(-5, -5, 10, 10).clip((100, 100)) == Box(0, 0, 5, 5)
    assert Box(200, 0, 10, 10).clip((100, 100)).w == 0
    assert Box(-20, 0, 10, 10).clip((100, 100)).w == 0


@given(edits())
@settings(max_examples=25)
def test_the_bounding_box_is_the_smallest(edit: tuple[Size, Mask]) -> None:
    _, mask = edit
    box = bounding_box(mask)
    ys, xs = np.nonzero(mask)

    assert (box.x, box.y, box.right - 1, box.bottom - 1) == (xs.min(), ys.min(), xs.max(), ys.max())


masks = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.sampled_from([0.0, 0.0, 0.0, 1.0, 0.25, 0.5]).map(np.float32),
).filter(lambda mask: bool((mask > 0).any()))


@given(masks, st.integers(0, 15))
@settings(max_examples=60)
@example(np.ones((3, 3), np.float32), 2)
@example(np.eye(12, dtype=np.float32), 15)  # a radius larger than the canvas
def test_a_grown_mask_takes_the_largest_value_within_reach(mask: Mask, radius: int) -> None:
    ys, xs = np.mgrid[: mask.shape[0], : mask.shape[1]]
    expected = np.array(
        [
            [mask[(ys - y) ** 2 + (xs - x) ** 2 <= radius**2].max() for x in range(mask.shape[1])]
            for y in range(mask.shape[0])
        ]
    )

    grown = grow(mask, radius)

    assert grown.dtype == np.float32
    assert np.array_equal(grown, expected)


def test_growth_reaches_exactly_its_radius() -> None:
    grown = grow(boxed((100, 100), Box(50, 50, 1, 1)), 20)

    assert bounding_box(grown) == Box(30, 30, 41, 41)
    assert grown[50, 70] == 1
    assert grown[50 + 14, 50 + 14] == 1  # 19.8 px away
    assert grown[50 + 15, 50 + 15] == 0  # 21.2 px away


@given(masks, st.integers(0, 15))
def test_a_feathered_mask_is_neither_larger_nor_smaller_only_softer(mask: Mask, radius: int) -> None:
    whole = Box(0, 0, mask.shape[1], mask.shape[0])
    box = bounding_box(mask)
    soft = feather(mask, radius, whole)

    assert soft.dtype == np.float32
    assert np.allclose(soft[box.slices()], feather(mask, radius, box), atol=1e-6)
    assert np.array_equal(soft > 0, mask > 0)
    assert (soft <= mask).all()
    if radius == 0:
        assert np.array_equal(soft, mask)


@given(st.integers(1, 30))
def test_a_feather_rises_from_a_straight_border_to_full_over_its_radius(radius: int) -> None:
    row = feather(boxed((100, 5), Box(40, 0, 60, 5)), radius, Box(0, 0, 100, 5))[2]

    assert (row[:40] == 0).all()
    assert (np.diff(row[40:]) >= 0).all()
    assert 0 < row[40] <= 1 / (radius + 1) + 1e-6
    assert (row[40 + radius :] == 1).all()  # up to the canvas's own edge, which is no border
    assert row[40 + radius - 1] < 1 or radius == 1


def test_the_whole_canvas_has_no_border_to_feather() -> None:
    assert (feather(np.ones((20, 30), np.float32), 10, Box(0, 0, 30, 20)) == 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [(grow, "cannot grow by -3 px"), (partial(feather, box=Box(0, 0, 20, 20)), "feather of -3 px")],
)
def test_a_negative_radius_is_refused(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(BadInput, match=message):
        change(np.ones((20, 20), np.float32), -3)
