"""The smooth guess at what is hidden."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lazydiffusion.models.extension import extend


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**31), st.floats(0.05, 0.95))
def test_visible_pixels_stay_and_guesses_lie_between_them(h: int, w: int, seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(2, 3, h, w, generator=generator) * 2 - 1
    hole = torch.rand(2, 1, h, w, generator=generator) < share
    guess = extend(picture, hole)
    assert torch.equal(torch.where(hole, 0.0, guess), torch.where(hole, 0.0, picture))
    for one, its_hole, source in zip(guess, hole, picture, strict=True):
        visible = source[:, ~its_hole[0]]
        if visible.numel():
            low, high = visible.amin(dim=1)[:, None, None], visible.amax(dim=1)[:, None, None]
            assert ((one >= low - 1e-4) & (one <= high + 1e-4)).all()


def test_a_plain_colour_goes_on_exactly() -> None:
    picture = torch.full((1, 3, 256, 256), 0.3)
    hole = torch.zeros(1, 1, 256, 256, dtype=torch.bool)
    hole[..., 60:200, 30:220] = True
    hidden = torch.where(hole, torch.full_like(picture, -1.0), picture)
    assert torch.allclose(extend(hidden, hole), picture, atol=1e-5)


def test_a_slope_goes_on_nearly() -> None:
    """Better than the border's mean colour, by far."""
    slope = torch.linspace(-1, 1, 256).expand(1, 3, 256, 256)
    hole = torch.zeros(1, 1, 256, 256, dtype=torch.bool)
    hole[..., 64:192, 64:192] = True
    error = (extend(slope, hole) - slope)[hole.expand(-1, 3, -1, -1)].abs().mean()
    assert error < 0.3 * slope[hole.expand(-1, 3, -1, -1)].abs().mean()


@pytest.mark.parametrize("size", [(16, 16), (16, 272), (48, 80)])
def test_nothing_visible_gives_grey(size: tuple[int, int]) -> None:
    hole = torch.ones(1, 1, *size, dtype=torch.bool)
    assert torch.equal(extend(torch.rand(1, 3, *size), hole), torch.zeros(1, 3, *size))
