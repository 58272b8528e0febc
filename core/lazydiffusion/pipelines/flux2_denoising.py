"""The steps of FLUX.2-klein over the noisy tokens of one fill: which they are, and from noise to clean tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from lazydiffusion import tokens
from lazydiffusion.geometry import EditPlan
from lazydiffusion.models.patches import gather
from lazydiffusion.pipelines.flux2_latents import WindowReading
from lazydiffusion.pipelines.flux2_reference import CachedStep, Laziness, Placed, Velocity
from lazydiffusion.pipelines.sampling import Callback


@dataclass
class PreparedKleinEdit:
    """All that the variations of one edit share: made once, by `prepare`."""

    plan: EditPlan
    window: WindowReading
    hidden: Bool[Tensor, "rows cols"]
    """The tokens that are decoded; on the CPU."""
    indices: Int64[Tensor, "1 k"]
    """Where the noisy tokens lie, row-major in the window."""
    ids: Int64[Tensor, "1 k 4"]
    visible: Bool[Tensor, "1 k 1"]
    """The noisy tokens that the mask does not touch: the ring, and what rounds up their number."""
    reference: Placed
    text: Placed
    negative: Placed | None
    """None: no guidance."""
    guidance: float
    laziness: Laziness
    asked_steps: int
    strength: float
    steps: int
    """How many are taken."""


def noisy_tokens(hidden: tokens.Bools, ring: int) -> tokens.Indices:
    """Row-major indices of the tokens that are denoised.

    First the hidden ones and the ring around them, in their order; then the visible ones nearest to these, up to a
    bucket's size. `ring`: width in tokens, diagonals included; `hidden`: (rows, cols).
    """
    near = functional.max_pool2d(torch.from_numpy(hidden)[None].float(), 2 * ring + 1, 1, ring)[0] > 0
    return tokens.pad_with_nearest(near.numpy(), tokens.bucket(int(near.sum()), hidden.size))


def denoise(
    transformer: Any,
    scheduler: Any,
    timesteps: Float[Tensor, " steps"],
    edit: PreparedKleinEdit,
    noise: Float[Tensor, "1 k c"],
    callback: Callback | None = None,
    cached_step: CachedStep | None = None,
) -> Float[Tensor, "1 k c"]:
    """Clean tokens from noise, all in float32 but for the transformer.

    `scheduler`: of flow matching, its time steps and first step set; `timesteps`: those that are taken. The noise
    levels are read once, on the host: no step waits for the device. `cached_step`: what takes the steps with a cached
    reference (graphs of them).
    """
    levels = [float(t) for t in (timesteps / scheduler.config.num_train_timesteps).cpu()]
    window = edit.window.latents.flatten(2).transpose(1, 2).float()  # (1, rows * cols, C)
    own = gather(window, edit.indices)
    known = edit.visible if edit.laziness.renoise else torch.zeros_like(edit.visible)
    velocities = [
        Velocity(transformer, text, edit.reference, edit.laziness, edit.window.cache, cached_step)
        for text in (edit.text, edit.negative)
        if text is not None
    ]
    latents = levels[0] * noise + (1 - levels[0]) * own
    for i, (timestep, level) in enumerate(zip(timesteps, levels, strict=True)):
        latents = torch.where(known, level * noise + (1 - level) * own, latents)
        placed, time = Placed(latents, edit.ids), latents.new_full((1,), level)
        velocity, *plain = (of_text(i, placed, time) for of_text in velocities)
        for unguided in plain:
            velocity = unguided + edit.guidance * (velocity - unguided)
        clean = latents - level * velocity
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        if callback is not None:
            changed = callback(i, timestep, latents, clean)
            latents = latents if changed is None else changed
    return torch.where(known, own, latents)
