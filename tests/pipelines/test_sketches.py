"""What the decoder is told of a sketch: all that can be seen of it, in its own colours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazydiffusion.canvas import Canvas
from lazydiffusion.geometry import plan
from lazydiffusion.pipelines.sketches import DRAWN_ALPHA, DRAWN_SHARE, in_window

pytestmark = pytest.mark.unit

SIDE = 256


def told(sketch: np.ndarray) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[60:180, 60:180] = 1
    return in_window(sketch, Canvas.of(np.zeros((SIDE, SIDE, 3), np.uint8)), plan((SIDE, SIDE), mask))


@given(st.integers(0, 255))
def test_a_stroke_is_drawn_in_its_own_colour_however_translucent_it_is(alpha: int) -> None:
    sketch = np.zeros((SIDE, SIDE, 4), np.uint8)
    sketch[80:160, 80:160] = (255, 0, 51, alpha)
    values = told(sketch)
    if alpha <= DRAWN_ALPHA:
        assert not values.any()
        return
    assert values.shape == (SIDE, SIDE, 4)
    assert np.array_equal(values[..., 3] == 1, sketch[..., 3] > 0)
    assert np.allclose(values[80:160, 80:160], (1, -1, -0.6, 1), atol=1e-6)
    assert not values[:80].any()


def test_a_thin_line_survives_a_coarse_scale() -> None:
    mask = np.ones((2 * SIDE, 2 * SIDE), np.float32)
    sketch = np.zeros((2 * SIDE, 2 * SIDE, 4), np.uint8)
    sketch[:, 100] = (0, 0, 255, 60)
    planned = plan((2 * SIDE, 2 * SIDE), mask)
    assert planned.scale == 0.5 > DRAWN_SHARE
    values = in_window(sketch, Canvas.of(sketch[..., :3]), planned)
    assert np.allclose(values[:, 50], (-1, -1, 1, 1))
    assert not values[:, :50].any()
