"""The border's colour step, on pictures where it is known."""

from __future__ import annotations

import pytest
import torch

from lazydiffusion.evaluation.seams import border_steps, seam


def square(side: int = 20) -> torch.Tensor:
    hole = torch.zeros(1, 1, side, side, dtype=torch.bool)
    hole[..., 5:15, 5:15] = True
    return hole


def test_a_plain_picture_has_no_step() -> None:
    assert seam(torch.full((2, 3, 20, 20), 0.4), square().expand(2, -1, -1, -1)).step == 0


def test_a_fill_that_is_ten_levels_brighter_steps_by_ten() -> None:
    hole = square()
    picture = torch.where(hole, 10 / 127.5, 0.0).expand(1, 3, -1, -1)
    steps, signed = border_steps(picture, hole)
    assert torch.allclose(steps, torch.tensor([10.0]), atol=1e-3)
    assert torch.allclose(signed, torch.full((1, 3), 10.0), atol=1e-3)


def test_each_scene_has_its_own_step_and_opposite_shifts_do_not_cancel() -> None:
    hole = square().expand(2, -1, -1, -1)
    levels = torch.tensor([[10.0, 20.0, 30.0], [-40.0, 0.0, 40.0]])
    picture = torch.where(hole, levels[..., None, None] / 127.5, 0.0)
    steps, signed = border_steps(picture, hole)
    assert torch.allclose(steps, torch.tensor([20.0, 80 / 3]))
    assert torch.allclose(signed, levels)
    measured = seam(picture, hole)
    assert measured.step == pytest.approx(70 / 3)
    assert measured.shift == pytest.approx(float(levels.square().mean().sqrt()))


def test_noise_is_a_step_but_no_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    picture = torch.randn(64, 3, 20, 20, generator=generator) * 0.1
    measured = seam(picture, square().expand(64, -1, -1, -1))
    assert measured.step > 10
    assert measured.shift < measured.step / 3


def test_a_hole_without_a_border_counts_nothing() -> None:
    assert seam(torch.rand(1, 3, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)).step == 0
