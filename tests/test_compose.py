"""What the model is shown of a canvas, and how its pixels come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazydiffusion import compose
from lazydiffusion.geometry import Box, plan

RED, BLUE = (255, 0, 0), (0, 0, 255)


def split_canvas(width: int = 64, height: int = 64) -> np.ndarray:
    """Red on the left, blue on the right."""
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    canvas[:, : width // 2], canvas[:, width // 2 :] = RED, BLUE
    return canvas


def test_at_scale_1_a_view_is_the_canvas_itself() -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    seen = compose.view(canvas, np.zeros((64, 64), np.float32), Box(0, 0, 64, 64), (64, 64))
    assert np.array_equal(compose.to_bytes(seen.colour), canvas)
    assert not seen.hole.any()


@pytest.mark.parametrize("size", [(16, 16), (24, 24), (64, 64), (96, 80)])
def test_hidden_colours_never_reach_a_view(size: tuple[int, int]) -> None:
    canvas, mask = split_canvas(), np.zeros((64, 64), np.float32)
    mask[:, 32:] = 0.01  # a soft selection hides as much as a hard one
    seen = compose.view(canvas, mask, Box(0, 0, 64, 64), size)
    shown = ~seen.hole
    assert shown.any()
    assert np.allclose(seen.colour[shown], [1, -1, -1], atol=0.01)
    red_or_nothing = np.isclose(seen.colour, [1, -1, -1], atol=0.01).all(-1) | (seen.colour == 0).all(-1)
    assert red_or_nothing.all()


def test_a_window_past_the_canvas_repeats_its_edge() -> None:
    canvas = split_canvas(40, 40)
    seen = compose.view(canvas, np.zeros((40, 40), np.float32), Box(0, 0, 48, 48), (48, 48))
    assert np.array_equal(seen.colour[:40, 40:], np.repeat(seen.colour[:40, 39:40], 8, axis=1))
    assert np.array_equal(seen.colour[40:], np.repeat(seen.colour[39:40], 8, axis=0))


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1)
)
def test_touched_is_exact(height: int, width: int, rows: int, cols: int, seed: int) -> None:
    hidden = np.random.default_rng(seed).random((height, width)) < 0.1
    found = compose.touched(hidden, (cols, rows))
    for row in range(rows):
        for col in range(cols):
            top, bottom = row * height / rows, (row + 1) * height / rows
            left, right = col * width / cols, (col + 1) * width / cols
            inside = hidden[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
            assert found[row, col] == inside.any()


def test_a_huge_canvas_is_seen_by_its_samples() -> None:
    canvas = np.full((6000, 6000, 3), (10, 200, 30), dtype=np.uint8)
    mask = np.zeros((6000, 6000), np.float32)
    mask[2999, 2999] = 1  # one pixel must still be found
    seen = compose.view(canvas, mask, Box(0, 0, 6000, 6000), (64, 64))
    assert seen.hole.sum() == 1
    assert np.allclose(compose.to_bytes(seen.colour)[~seen.hole], [10, 200, 30])


@given(
    st.sampled_from([(64, 64), (300, 200), (1000, 700)]),
    st.floats(0, 0.8),
    st.floats(0, 0.8),
    st.floats(0.02, 0.5),
)
def test_a_window_that_shows_a_gradient_gives_it_back(
    size: tuple[int, int], left: float, top: float, share: float
) -> None:
    """Pixels keep their place on the way canvas -> window -> canvas, at any scale."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    canvas = (np.stack([x, y, 0 * x], axis=-1) * 255).astype(np.uint8)
    mask = np.zeros((height, width), np.float32)
    x0, y0 = int(left * width), int(top * height)
    mask[y0 : y0 + max(1, int(share * height)), x0 : x0 + max(1, int(share * width))] = 1
    plan_ = plan(size, mask)
    seen = compose.view(canvas, np.zeros_like(mask), plan_.window, plan_.working_size)
    back = compose.from_window(seen.colour, plan_)
    expected = canvas[plan_.fill_box.slices()]
    assert back.shape == expected.shape
    assert np.abs(back.astype(int) - expected).max() <= 4 + 255 / min(plan_.working_size)


def test_pasting_keeps_every_pixel_outside_the_mask() -> None:
    rng = np.random.default_rng(1)
    canvas = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    alpha = np.where(rng.random((20, 30)) < 0.5, rng.random((20, 30)), 0)
    fill = compose.with_alpha(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8), alpha)
    box = Box(7, 9, 30, 20)
    out = compose.paste(canvas, fill, box)
    kept = np.ones((50, 60), dtype=bool)
    kept[box.slices()] = alpha == 0
    assert np.array_equal(out[kept], canvas[kept])
    assert not np.array_equal(out, canvas)
    solid = compose.paste(canvas, compose.with_alpha(fill[..., :3], np.ones((20, 30))), box)
    assert np.array_equal(solid[box.slices()], fill[..., :3])


def test_alpha_follows_the_mask_and_never_vanishes() -> None:
    alpha = np.array([[0.0, 1e-4, 0.5, 1.0]])
    fill = compose.with_alpha(np.full((1, 4, 3), 9, dtype=np.uint8), alpha)
    assert fill[0, :, 3].tolist() == [0, 1, 128, 255]
    assert fill[0, 0].tolist() == [0, 0, 0, 0]


def test_a_layer_is_transparent_but_for_its_fill() -> None:
    fill = compose.with_alpha(np.full((4, 5, 3), 77, dtype=np.uint8), np.ones((4, 5)))
    layer = compose.layer((30, 20), fill, Box(3, 2, 5, 4))
    assert layer.shape == (20, 30, 4)
    assert (layer[..., 3] > 0).sum() == 20
    assert layer[2, 3].tolist() == [77, 77, 77, 255]
