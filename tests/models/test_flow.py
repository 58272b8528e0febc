"""Flow matching's formulas: what a network may predict, and that all of it says the same."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from lazydiffusion.models.flow import SMALLEST_SIGMA, add_noise, random_sigmas, to_velocity

pytestmark = pytest.mark.unit
PREDICTIONS: list[Literal["sample", "velocity", "epsilon"]] = ["sample", "velocity", "epsilon"]
CLEAN = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))


def level(sigma: float) -> torch.Tensor:
    return torch.full((2, 1, 1), sigma)


def test_noise_goes_from_the_clean_tokens_to_noise() -> None:
    assert torch.equal(add_noise(CLEAN, NOISE, level(0)), CLEAN)
    assert torch.equal(add_noise(CLEAN, NOISE, level(1)), NOISE)
    assert torch.allclose(add_noise(CLEAN, NOISE, level(0.25)), 0.75 * CLEAN + 0.25 * NOISE)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@given(sigma=st.floats(SMALLEST_SIGMA, 1 - SMALLEST_SIGMA))
def test_every_prediction_gives_the_velocity_and_the_clean_tokens(
    prediction: Literal["sample", "velocity", "epsilon"], sigma: float
) -> None:
    noisy = add_noise(CLEAN, NOISE, level(sigma))
    output = {"sample": CLEAN, "velocity": NOISE - CLEAN, "epsilon": NOISE}[prediction]

    velocity = to_velocity(output, noisy, level(sigma), prediction)

    assert torch.allclose(velocity, NOISE - CLEAN, atol=1e-4)
    assert torch.allclose(noisy - level(sigma) * velocity, CLEAN, atol=1e-4)


@pytest.mark.parametrize(("prediction", "sigma"), [("sample", 0.0), ("sample", 1e-4), ("epsilon", 1.0)])
def test_a_wrong_answer_at_an_end_of_the_path_stays_finite(
    prediction: Literal["sample", "epsilon"], sigma: float
) -> None:
    """The divisor is clamped: an error of 1 becomes a velocity of at most 20."""
    noisy = add_noise(CLEAN, NOISE, level(sigma))
    right = CLEAN if prediction == "sample" else NOISE

    error = to_velocity(right + 1, noisy, level(sigma), prediction) - to_velocity(
        right, noisy, level(sigma), prediction
    )

    assert error.abs().max() <= 1 / SMALLEST_SIGMA + 1e-3


def test_signs_and_times_are_those_of_diffusers() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    sigma = float(scheduler.sigmas[1])
    noisy = scheduler.scale_noise(CLEAN, scheduler.timesteps[1:2], NOISE)

    assert torch.allclose(noisy, add_noise(CLEAN, NOISE, level(sigma)))
    assert float(scheduler.timesteps[1]) == pytest.approx(1000 * sigma)
    scheduler.set_begin_index(1)
    later = scheduler.step(NOISE - CLEAN, scheduler.timesteps[1], noisy).prev_sample
    assert torch.allclose(later, add_noise(CLEAN, NOISE, level(float(scheduler.sigmas[2]))), atol=1e-5)


def test_training_levels_follow_their_distribution() -> None:
    device = torch.device("cpu")
    sigmas = random_sigmas(4000, -0.6, 0.9, device, torch.Generator().manual_seed(0))

    assert sigmas.shape == (4000, 1, 1)
    assert 0 < sigmas.min() < sigmas.max() < 1
    logit = (1 - sigmas).logit()
    assert logit.mean() == pytest.approx(-0.6, abs=0.05)
    assert logit.std() == pytest.approx(0.9, abs=0.05)
    assert torch.equal(sigmas, random_sigmas(4000, -0.6, 0.9, device, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("shift", [0.5, 3.0, 6.0])
def test_shifted_levels_are_what_diffusers_makes_of_them(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    device = torch.device("cpu")
    plain = random_sigmas(50, -0.6, 0.9, device, torch.Generator().manual_seed(0))
    shifted = random_sigmas(50, -0.6, 0.9, device, torch.Generator().manual_seed(0), shift)

    scheduler.set_timesteps(sigmas=plain.flatten().sort(descending=True).values.tolist())
    expected = scheduler.sigmas[:-1]  # the last, 0, is where its steps end
    assert torch.allclose(shifted.flatten().sort(descending=True).values, expected, atol=1e-5)
