"""Flow matching's few formulas, shared by training and sampling (diffusers' sign and time conventions).

A noisy sample is z = (1 - sigma) * x + sigma * e, its velocity dz/dsigma = e - x, its time step 1000 * sigma.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_SIGMA = 0.05
"""Clamp of the divisor that turns samples into velocities in the loss (JiT, Li and He 2025, section 4)."""
STEPS_PER_SIGMA = 1000.0


def add_noise(
    clean: Float[Tensor, "b n d"], noise: Float[Tensor, "b n d"], sigma: Float[Tensor, "b 1 1"]
) -> Float[Tensor, "b n d"]:
    """z at noise level sigma, 0..1."""
    return (1 - sigma) * clean + sigma * noise


def to_velocity(
    output: Float[Tensor, "b n d"],
    noisy: Float[Tensor, "b n d"],
    sigma: Float[Tensor, "b 1 1"],
    prediction: Literal["sample", "velocity", "epsilon"],
    smallest_sigma: float = SMALLEST_SIGMA,
) -> Float[Tensor, "b n d"]:
    """What a decoder predicts, as a velocity.

    In the loss the clamp keeps the weight of nearly clean tokens finite. A sampler gives its own `smallest_sigma`, next
    to 0: its last step then ends exactly on the predicted sample, however many steps there are.
    """
    if prediction == "velocity":
        return output
    if prediction == "sample":
        return (noisy - output) / sigma.clamp_min(smallest_sigma)
    return (output - noisy) / (1 - sigma).clamp_min(SMALLEST_SIGMA)


def shifted(sigma: float, shift: float) -> float:
    """What FlowMatchEulerDiscreteScheduler's `shift` makes of a noise level."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def random_sigmas(
    count: int,
    mean: float,
    deviation: float,
    device: torch.device,
    generator: torch.Generator | None = None,
    shift: float = 1.0,
) -> Float[Tensor, "count 1 1"]:
    """Training noise levels: 1 - sigmoid(N(mean, deviation)) (JiT's logit-normal t, whose t is 1 - sigma), shifted.

    A shift of s makes of sigma what diffusers' schedulers make of it, s sigma / (1 + (s - 1) sigma), for a sampler that
    steps so; of a logit-normal t it moves the mean by -log s.
    """
    normal = torch.randn(count, 1, 1, device=device, generator=generator) * deviation + (
        mean - math.log(shift)
    )
    return (-normal).sigmoid()
