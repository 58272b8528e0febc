"""What an editor must read and send of a canvas: found by arithmetic, and always enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazydiffusion.window import (
    CROP_SHARE,
    LARGEST_SCALE,
    PATCH,
    Box,
    choose_crop,
    choose_window,
    overview_grid,
    overview_size,
    region_needed,
    region_to_send,
)

pytestmark = pytest.mark.unit

SIDES = st.integers(16, 16384)


@st.composite
def canvases(draw: st.DrawFn) -> tuple[tuple[int, int], Box]:
    """A canvas and the bounding box of a mask on it."""
    width, height = draw(SIDES), draw(SIDES)
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return (width, height), Box(x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))


@given(canvases(), st.integers(0, 1024), st.integers(0, 1024))
def test_a_region_lies_on_the_canvas_and_holds_all_that_the_edit_looks_at(
    given_: tuple[tuple[int, int], Box], grow: int, feather: int
) -> None:
    size, mask = given_
    region = region_to_send(size, mask, grow, feather)
    assert Box(0, 0, *size).contains(region)
    assert region.contains(region_needed(size, mask, grow, feather))
    window, _ = choose_window(size, mask.enlarged(grow).clip(size))
    assert region.contains(window.clip(size))


@given(*[st.integers(6000, 8000)] * 2, *[st.integers(1, 3000)] * 2, st.sampled_from([16, 64]))
def test_away_from_the_border_a_mask_is_in_the_windows_middle_and_in_the_middle_of_its_tokens(
    x: int, y: int, width: int, height: int, side: int
) -> None:
    window, token_px = choose_window((16384, 16384), Box(x, y, width, height), side)
    for before, after in (
        (x - window.x, window.right - x - width),
        (y - window.y, window.bottom - y - height),
    ):
        assert abs(before // token_px - after // token_px) <= 1
        assert abs(before % token_px - after % token_px) <= 1


def test_of_a_huge_canvas_little_is_sent() -> None:
    """8192 px a side cost what 1024 do."""
    areas = []
    for side in (1024, 8192):
        region = region_to_send((side, side), Box(side // 2, side // 2, 300, 200), 4, 8)
        width, height = overview_size((side, side))
        areas.append(region.w * region.h + width * height)
    assert areas[0] == areas[1] < 1024**2


@given(SIDES, SIDES)
def test_an_overview_is_small_and_never_larger_than_the_canvas(width: int, height: int) -> None:
    size = overview_size((width, height))
    assert 1 <= size[0] <= min(width, 256)
    assert 1 <= size[1] <= min(height, 256)
    assert max(overview_grid((width, height))) == 8


def test_an_overview_is_sent_twice_as_wide_as_the_model_is_shown_it() -> None:
    assert overview_grid((16384, 8192)) == (4, 8)
    assert overview_size((16384, 8192)) == (2 * 8 * PATCH, 2 * 4 * PATCH)
    assert overview_size((1000, 4000), 16) == (2 * 4 * PATCH, 2 * 16 * PATCH)
    assert overview_size((200, 100)) == (200, 100)


@given(canvases(), canvases())
def test_boxes_overlap_and_unite(
    one: tuple[tuple[int, int], Box], other: tuple[tuple[int, int], Box]
) -> None:
    a, b = one[1], other[1]
    shared, both = a.overlap(b), a.union(b)
    assert both.contains(a)
    assert both.contains(b)
    assert shared == b.overlap(a)
    if shared.w and shared.h:
        assert a.contains(shared)
        assert b.contains(shared)
    assert a.moved(3, -2).moved(-3, 2) == a
    assert a.enlarged(5).enlarged(-5) == a


@given(canvases(), canvases(), st.integers(-16384, 0), st.integers(-16384, 0))
def test_a_clipped_box_is_what_overlaps_the_canvas(
    one: tuple[tuple[int, int], Box], other: tuple[tuple[int, int], Box], x: int, y: int
) -> None:
    size, box = one[0], other[1].moved(x, y)
    clipped, shared = box.clip(size), box.overlap(Box(0, 0, *size))
    assert (clipped.w, clipped.h) == (shared.w, shared.h)
    assert Box(0, 0, *size).contains(clipped)
    if shared.w and shared.h:
        assert clipped == shared


@given(canvases(), st.sampled_from([4, 16, 64]))
def test_a_crop_holds_the_mask_and_little_else(given_: tuple[tuple[int, int], Box], side: int) -> None:
    size, mask = given_
    crop, token_px = choose_crop(size, mask, side)
    assert crop.contains(mask)
    assert crop.w // token_px * (crop.h // token_px) <= side * side
    assert token_px <= choose_window(size, mask, side)[1]
    # With a token one px smaller it would be too tight.
    if token_px > PATCH // LARGEST_SCALE and crop.w == crop.h:
        assert max(mask.w, mask.h) > CROP_SHARE * (token_px - 1) * (crop.w // token_px)
