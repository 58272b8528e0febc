"""The denoising loop over the hidden tokens: a pure function of networks, scheduler and noise, with a callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lazydiffusion.models import flow
from lazydiffusion.models.lazy_decoder import Conditions, LazyDecoder

Step = Callable[[Tensor, Tensor, Conditions], Tensor]
"""(tokens, time step, conditions) -> the decoder's output: LazyDecoder.step, or a captured CUDA graph of it."""
Callback = Callable[[int, Tensor, Tensor, Tensor], Tensor | None]
"""(step, time step, tokens, clean tokens as predicted so far) -> tokens to go on with, or None to go on unchanged.
May raise to stop."""


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance, applied only where it helps (Kynkaanniemi et al. 2024).

    That is for noise levels between `low` and `high`; outside, a step costs half.
    """

    scale: float = 2.5
    low: float = 0.05
    high: float = 0.9

    @classmethod
    def between_shifted(cls, scale: float, shift: float) -> Guidance:
        """At the same share of the steps of a scheduler with that shift as the defaults are without one."""
        return cls(scale, flow.shifted(cls.low, shift), flow.shifted(cls.high, shift))

    def applies(self, sigma: float) -> bool:
        """Whether a step at this noise level is guided."""
        return self.scale != 1.0 and self.low <= sigma <= self.high


@dataclass(frozen=True)
class Known:
    """What of the tokens is known already: kept pixels are held on their true path from noise to picture."""

    clean: Float[Tensor, "b k d"]
    noise: Float[Tensor, "b k d"]
    keep: Bool[Tensor, "b k d"]

    def impose(self, tokens: Float[Tensor, "b k d"], sigma: Tensor | float) -> Float[Tensor, "b k d"]:
        """The tokens with their known values as they are at noise level sigma."""
        return torch.where(self.keep, (1 - sigma) * self.clean + sigma * self.noise, tokens)


def denoise(
    decoder: LazyDecoder,
    scheduler: Any,
    tokens: Float[Tensor, "b k d"],
    conditional: Conditions,
    unconditional: Conditions | None,
    guidance: Guidance,
    *,
    known: Known | None = None,
    first_step: int = 0,
    step: Step | None = None,
    callback: Callback | None = None,
    frugal: bool = False,
) -> Float[Tensor, "b k d"]:
    """Take noisy tokens at the scheduler's noise level number `first_step` to clean ones.

    `scheduler`: a flow-matching scheduler of diffusers whose time steps are set. `conditional`, `unconditional`: batch
    B each; a guided step runs both as one batch or, when `frugal`, one after the other in half the memory. The noise
    levels are read once, on the host: no step waits for the device.
    """
    step = step or decoder.step
    both = conditional.stacked(unconditional) if unconditional is not None and not frugal else conditional
    timesteps = scheduler.timesteps[first_step:]
    sigmas = [float(t) / flow.STEPS_PER_SIGMA for t in timesteps.cpu()]
    scheduler.set_begin_index(first_step)
    for i, (timestep, level) in enumerate(zip(timesteps, sigmas, strict=True)):
        sigma = torch.full((tokens.shape[0], 1, 1), level, device=tokens.device, dtype=torch.float32)
        if known is not None:
            tokens = known.impose(tokens, level)
        time = sigma.flatten() * flow.STEPS_PER_SIGMA
        if unconditional is not None and guidance.applies(level) and frugal:
            prompted = _velocity(decoder, step, tokens, sigma, time, conditional)
            plain = _velocity(decoder, step, tokens, sigma, time, unconditional)
            velocity = plain + guidance.scale * (prompted - plain)
        elif unconditional is not None and guidance.applies(level):
            twice = torch.cat([tokens, tokens])
            velocity = _velocity(
                decoder, step, twice, torch.cat([sigma, sigma]), torch.cat([time, time]), both
            )
            prompted, plain = velocity.chunk(2)
            velocity = plain + guidance.scale * (prompted - plain)
        else:
            velocity = _velocity(decoder, step, tokens, sigma, time, conditional)
        clean = tokens - sigma * velocity
        tokens = scheduler.step(velocity, timestep, tokens, return_dict=False)[0]
        if callback is not None:
            changed = callback(i, timestep, tokens, clean)
            tokens = tokens if changed is None else changed
    return tokens


def _velocity(
    decoder: LazyDecoder, step: Step, tokens: Tensor, sigma: Tensor, time: Tensor, conditions: Conditions
) -> Tensor:
    """Float32 velocity, whatever the decoder's own precision: the conditions', for asking it takes a millisecond."""
    output = step(tokens.to(conditions.channelwise.dtype), time, conditions).float()
    return flow.to_velocity(output, tokens, sigma, decoder.config.prediction, smallest_sigma=1e-6)
