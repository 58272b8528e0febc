"""Masks by distance: what a disc reaches, and how deep inside a px lies."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazydiffusion import morphology
from lazydiffusion.geometry import bounding_box, feather, grow
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit

Mask = npt.NDArray[np.float32]


def picture_mask(side: int, *boxes: Box) -> Mask:
    mask = np.zeros((side, side), np.float32)
    for box in boxes:
        mask[box.slices()] = 1
    return mask


def soft_disc(side: int) -> Mask:
    """255 levels from the border to the middle, as a feathered selection has."""
    y, x = np.mgrid[:side, :side]
    inside = np.clip(1.2 - 2.4 * np.hypot(y - side / 2, x - side / 2) / side, 0, 1)
    return (np.round(255 * inside) / 255).astype(np.float32)


def by_trying_all(mask: Mask, radius: int) -> Mask:
    padded = np.pad(mask, radius)
    offsets = range(2 * radius + 1)
    reached = [
        padded[y : y + mask.shape[0], x : x + mask.shape[1]]
        for y in offsets
        for x in offsets
        if (y - radius) ** 2 + (x - radius) ** 2 <= radius**2
    ]
    return np.maximum.reduce(reached)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(morphology, "TILE", 16)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(20, 70), st.integers(20, 70), st.integers(1, 9), st.booleans())
def test_a_mask_of_many_tiles_and_levels_is_grown_exactly(
    seed: int, width: int, height: int, radius: int, dense: bool
) -> None:
    random = np.random.default_rng(seed)
    mask = random.integers(1, 256, (height, width)).astype(np.float32) / 255
    mask[random.random(mask.shape) < (0.1 if dense else 0.99)] = 0
    mask[height // 2, width // 2] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(morphology, "TILE", 16)
        assert np.array_equal(grow(mask, radius), by_trying_all(mask, radius))


def test_levels_cost_no_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A selection of 255 levels is grown in as many numpy calls, of the same size, as a hard one."""
    calls: dict[str, int] = {}
    real = morphology._dilate_tile
    for name, mask in (("soft", soft_disc(96)), ("hard", (soft_disc(96) > 0).astype(np.float32))):

        def counted(ranks: morphology.Ranks, radius: int, tile: Box, name: str = name) -> morphology.Ranks:
            calls[name] = calls.get(name, 0) + 1
            assert ranks.dtype == np.uint8
            return real(ranks, radius, tile)

        monkeypatch.setattr(morphology, "_dilate_tile", counted)
        grow(mask, 8)
    assert calls == {"soft": 1, "hard": 1}


@pytest.mark.usefixtures("small_tiles")
def test_only_tiles_at_a_border_are_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[Box] = []
    real = morphology._dilate_tile

    def counted(ranks: morphology.Ranks, radius: int, tile: Box) -> morphology.Ranks:
        worked.append(tile)
        return real(ranks, radius, tile)

    monkeypatch.setattr(morphology, "_dilate_tile", counted)
    mask = picture_mask(512, Box(100, 100, 320, 320))
    assert grow(mask, 4).sum() > mask.sum()
    assert len(worked) < 0.25 * (328 / 16) ** 2


def exact_depth(masked: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    ys, xs = np.nonzero(~masked)
    y, x = np.mgrid[: masked.shape[0], : masked.shape[1]]
    return np.sqrt(((y[..., None] - ys) ** 2 + (x[..., None] - xs) ** 2).min(axis=-1))


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_in_a_wide_area_the_slope_follows_the_true_distance_also_beside_what_is_kept_in_it(
    seed: int, length: int
) -> None:
    """At corners of both kinds as well."""
    random = np.random.default_rng(seed)
    masked = np.zeros((64, 64), bool)
    masked[:, 6:] = True
    masked[:6, 40:] = False
    y, x = random.integers(28, 36, 2)
    masked[y : y + 2, x + 4 : x + 7] = False
    expected = np.minimum(exact_depth(masked) / length, 1)
    found = morphology.slope(masked, length)
    assert np.allclose(found, expected, rtol=0.03, atol=0)
    assert (found[:, :6] == 0).all()


def test_a_diagonal_border_is_as_soft_as_a_straight_one() -> None:
    y, x = np.mgrid[:200, :200]
    for slant in (0.2, 0.5, 1.0):
        masked = x - slant * y > 0
        depth = (x - slant * y) / np.hypot(1, slant)
        inner = np.s_[60:140, :]
        expected = np.clip(depth / 12, 0, 1)
        assert np.abs(morphology.slope(masked, 12) - expected)[inner].max() < 1 / 12  # less than a px


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.booleans())
def test_a_small_selection_has_an_opaque_middle(width: int, height: int, radius: int, round_: bool) -> None:
    mask = picture_mask(80, Box(9, 9, width, height))
    if round_:
        y, x = np.mgrid[:80, :80] - 9.0
        mask[((2 * y + 1) / height - 1) ** 2 + ((2 * x + 1) / width - 1) ** 2 > 1] = 0
    soft = feather(mask, radius, box := bounding_box(mask))
    middle = soft[box.h // 2, box.w // 2]
    assert middle == 1
    if min(width, height) >= 12:  # more than a line of it
        assert (soft == 1).sum() >= 0.1 * (mask > 0).sum()


def test_a_narrow_selection_is_soft_over_half_of_the_way_to_its_middle() -> None:
    mask = picture_mask(100, Box(20, 10, 40, 80))
    row = feather(mask, 30, Box(20, 10, 40, 80))[40]
    assert row[0] == pytest.approx(1 / 11)
    assert np.allclose(row[:11], np.arange(1, 12) / 11)
    assert (row[10:30] == 1).all()
    assert np.array_equal(row, row[::-1])


def test_each_part_has_the_feather_that_it_has_room_for_however_near_the_others_are() -> None:
    wide, thin = Box(20, 20, 160, 160), Box(20, 181, 160, 7)
    soft = feather(picture_mask(200, wide, thin), 20, Box(0, 0, 200, 200))
    assert np.allclose(soft[20:41, 100], np.minimum(np.arange(1, 22) / 21, 1), atol=0.01)
    assert (soft[184, 60:140] == 1).all()


def test_a_thin_arm_is_opaque_in_its_middle_away_from_the_part_that_it_belongs_to() -> None:
    mask = picture_mask(300, Box(10, 100, 100, 100), Box(110, 145, 160, 11))
    soft = feather(mask, 16, Box(0, 0, 300, 300))
    assert (soft[150, 110 + 56 : 265] == 1).all()
    assert soft[150, 40:90].min() == 1
    assert np.abs(np.diff(soft[150, 90:250])).max() < 0.12  # gradually, from one to the other


def test_levels_of_a_soft_selection_are_limits_still() -> None:
    mask = 0.5 * picture_mask(60, Box(10, 10, 40, 40))
    soft = feather(mask, 5, Box(10, 10, 40, 40))
    assert soft.max() == 0.5
    assert soft[20, 0] == pytest.approx(0.5 / 6)


def traced(sides: tuple[int, ...]) -> Iterator[float]:
    for side in sides:
        mask = soft_disc(side)
        box = bounding_box(mask)
        feather(mask, 8, box)
        tracemalloc.start()
        feather(mask, 8, box)
        yield tracemalloc.get_traced_memory()[1] / (box.w * box.h)
        tracemalloc.stop()


def test_a_feather_takes_less_than_12_bytes_a_px() -> None:
    assert all(bytes_a_px < 12 for bytes_a_px in traced((700, 1100)))
