"""Poisson blending: a fill keeps its own detail and takes its surroundings' colours at the border."""

from __future__ import annotations

import numpy as np
import pytest

from lazydiffusion.blending import poisson
from lazydiffusion.geometry import bounding_box
from lazydiffusion.window import Box

GREEN = (60, 160, 90)


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
