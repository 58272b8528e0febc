"""Pixels on their way to the device and back."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from lazydiffusion import compose, geometry
from lazydiffusion.canvas import Canvas
from lazydiffusion.pipelines import window_pixels
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit


@settings(max_examples=30)
@given(
    st.tuples(st.integers(17, 200), st.integers(17, 200)),
    st.tuples(st.floats(0, 0.99), st.floats(0, 0.99), st.floats(0.01, 1), st.floats(0.01, 1)),
    st.integers(0, 2**32 - 1),
)
def test_the_fill_box_is_cut_out_as_it_is_of_pixels_in_the_computers_memory(
    size: tuple[int, int], place: tuple[float, float, float, float], seed: int
) -> None:
    width, height = size
    x, y = int(place[0] * width), int(place[1] * height)
    mask = np.zeros((height, width), np.float32)
    mask[y : y + max(1, int(place[2] * height)), x : x + max(1, int(place[3] * width))] = 1
    plan = geometry.plan(size, mask, window_tokens=6)
    window = 3 * torch.rand(3, *plan.working_size[::-1], generator=torch.manual_seed(seed)) - 1.5
    pixels = window.permute(1, 2, 0).numpy()
    found = window_pixels.fill_colours(window, plan)
    assert found.shape == (plan.fill_box.h, plan.fill_box.w, 3)
    assert np.array_equal(found, compose.from_window(pixels, plan))
    smaller = (max(1, plan.fill_box.w // 3), max(1, plan.fill_box.h // 2))
    assert np.array_equal(
        window_pixels.fill_colours(window, plan, smaller), compose.from_window(pixels, plan, size=smaller)
    )


def test_a_views_colours_are_its_levels_from_minus_1_to_1() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    view = compose.view(Canvas.of(pixels), None, Box(0, 0, 80, 48), (80, 48))
    colours = window_pixels.view_colours(view, torch.device("cpu"))
    assert (colours.shape, colours.dtype) == ((1, 3, 48, 80), torch.float32)
    assert np.array_equal(((colours[0].permute(1, 2, 0) + 1) * 127.5).round().numpy(), pixels)
