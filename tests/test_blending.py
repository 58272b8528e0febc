"""Poisson blending: a fill keeps its own detail and takes its surroundings' colours at the border."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest

from lazydiffusion import blending
from lazydiffusion.blending import poisson
from lazydiffusion.geometry import bounding_box
from lazydiffusion.window import Box

GREEN = (60, 160, 90)


@pytest.fixture(autouse=True, params=[1024, 48], ids=["as it is", "solved smaller"])
def largest_side(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Small canvases stand in for large ones, whose shift is solved smaller than they are."""
    monkeypatch.setattr(blending, "LARGEST_SIDE", request.param)
    return int(request.param)


def canvas_and_mask(x: int, y: int, w: int, h: int) -> tuple[np.ndarray, np.ndarray, Box]:
    canvas = np.full((120, 160, 3), GREEN, dtype=np.uint8)
    mask = np.zeros((120, 160), np.float32)
    mask[y : y + h, x : x + w] = 1
    return canvas, mask, bounding_box(mask)


@pytest.mark.parametrize(
    "place", [(50, 40, 60, 50), (0, 0, 60, 50), (100, 70, 60, 50), (0, 40, 160, 30), (80, 60, 1, 1)]
)
def test_a_plain_fill_takes_the_canvas_colour_also_at_the_canvas_edge(
    place: tuple[int, int, int, int],
) -> None:
    canvas, mask, box = canvas_and_mask(*place)
    fill = np.full((box.h, box.w, 3), (200, 100, 150), dtype=np.uint8)
    blended = poisson(canvas, fill, mask, box)
    assert np.abs(blended.astype(int) - GREEN).max() <= 3


def test_the_fills_own_detail_stays() -> None:
    canvas, mask, box = canvas_and_mask(40, 30, 80, 60)
    fill = np.full((60, 80, 3), (200, 100, 150), dtype=np.uint8)
    fill[20:40, 30:50] = (230, 130, 180)
    blended = poisson(canvas, fill, mask, box).astype(int)
    inner, outer = blended[25:35, 35:45].mean(axis=(0, 1)), blended[:10, :10].mean(axis=(0, 1))
    assert np.allclose(inner - outer, 30, atol=8)


def test_an_uneven_mask_is_met_all_around() -> None:
    canvas, mask, box = canvas_and_mask(30, 20, 90, 80)
    y, x = np.mgrid[:120, :160]
    mask[(x - 75) ** 2 + (y - 60) ** 2 > 35**2] = 0
    box = bounding_box(mask)
    fill = np.full((box.h, box.w, 3), (200, 100, 150), dtype=np.uint8)
    blended = poisson(canvas, fill, mask, box)
    inside = mask[box.slices()] > 0
    assert np.abs(blended[inside].astype(int) - GREEN).max() <= 3


def test_where_all_is_masked_there_is_nothing_to_meet() -> None:
    canvas, mask, box = canvas_and_mask(0, 0, 160, 120)
    fill = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    assert np.array_equal(poisson(canvas, fill, mask, box), fill)


def test_the_fill_is_shifted_smoothly_and_its_finest_detail_stays() -> None:
    y, x = np.mgrid[:200, :260]
    canvas = np.stack([60 + x / 4, 60 + y / 4, 0 * x + 100], -1).astype(np.uint8)
    mask = (((x - 130) / 110) ** 2 + ((y - 100) / 80) ** 2 <= 1).astype(np.float32)
    box = bounding_box(mask)
    speckled = canvas[box.slices()] + 40 + 20 * ((x + y) % 2)[box.slices()][..., None].astype(np.uint8)
    inside = mask[box.slices()] > 0
    shift = poisson(canvas, speckled, mask, box).astype(int) - speckled
    assert np.abs(shift + 50)[inside].mean() <= 3  # half of the speckles' border are 40 too bright, half 60
    middle = np.s_[50:-50, 50:-50]
    assert np.abs(np.diff(shift[middle], axis=0)).max() <= 1
    assert np.abs(np.diff(shift[middle], axis=1)).max() <= 1


def test_opencv_never_solves_more_than_the_largest_side(
    largest_side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []
    real = cv2.seamlessClone

    def counted(source: np.ndarray, *rest: object) -> np.ndarray:
        sides.extend(source.shape[:2])
        return np.asarray(real(source, *rest))

    monkeypatch.setattr(cv2, "seamlessClone", counted)
    canvas, mask, box = canvas_and_mask(0, 10, 160, 90)
    poisson(canvas, np.full((90, 160, 3), 9, np.uint8), mask, box)
    assert max(sides) == min(largest_side, 160) + 2 * blending.MARGIN


def test_a_large_fill_takes_few_bytes_a_px(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blending, "LARGEST_SIDE", 64)
    canvas = np.full((1200, 1300, 3), GREEN, dtype=np.uint8)
    mask = np.zeros((1200, 1300), np.float32)
    mask[100:1150, 50:1290] = 1
    box = bounding_box(mask)
    fill = np.full((box.h, box.w, 3), 200, np.uint8)
    poisson(canvas, fill, mask, box)
    tracemalloc.start()
    poisson(canvas, fill, mask, box)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25 * box.w * box.h


def test_a_full_memory_in_opencv_is_the_memory_error_that_engines_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = cv2.error("Failed to allocate 2516582400 bytes")
    error.code = cv2.Error.StsNoMem

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cv2, "seamlessClone", fail)
    canvas, mask, box = canvas_and_mask(50, 40, 60, 50)
    fill = np.full((box.h, box.w, 3), 9, np.uint8)
    with pytest.raises(MemoryError, match="Failed to allocate"):
        poisson(canvas, fill, mask, box)
    error.code = cv2.Error.StsAssert
    with pytest.raises(cv2.error):
        poisson(canvas, fill, mask, box)
