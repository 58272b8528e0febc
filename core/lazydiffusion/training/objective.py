"""The training objective: velocity loss over the hidden tokens' pixels, several noise draws per encoded scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lazydiffusion.models import flow
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.masked_patches import MaskedPatches
from lazydiffusion.models.patches import gather
from lazydiffusion.training.scenes import Scenes, masked_view
from lazydiffusion.window import PATCH

Prediction = Literal["sample", "velocity", "epsilon"]
"""What a decoder's output means (LazyDecoder)."""


@dataclass(frozen=True)
class Objective:
    """Constants of the loss. `draws`: noisy versions of each scene per step; they share one run of the encoder."""

    draws: int = 4
    mean: float = -0.6
    """Mean of the logit-normal time distribution; lower is noisier."""
    deviation: float = 0.9
    shift: float = 1.0
    """Of the noise levels, in training and in sampling (FlowMatchEulerDiscreteScheduler's): above 1, they are noisier.

    Flat pictures need it: the mean colour of a patch of 256 px shows through noise that hides every px of it, and so
    at most levels nothing is left for the prompt to tell.
    """
    visible_weight: float = 0.05
    """Weight of the visible pixels of partly hidden and padding tokens; hidden pixels weigh 1."""
    no_prompt: float = 0.1
    """Share of the draws whose text is replaced by the learned 'no prompt', for classifier-free guidance."""


class LazyObjective(nn.Module):
    """Encoder, decoder and loss as one module, so that accelerate can wrap and distribute all of it at once.

    For a baseline the encoder is MaskedPatches, and the scenes are framed for it (training.framing).
    """

    def __init__(self, encoder: ContextEncoder | MaskedPatches, decoder: LazyDecoder, constants: Objective):
        super().__init__()
        self.encoder, self.decoder, self.constants = encoder, decoder, constants

    def forward(
        self,
        scenes: Scenes,
        text: Float[Tensor, "b l t"],
        text_mask: Bool[Tensor, "b l"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """Mean weighted squared error of the velocity. `text`: each scene's caption (an empty prompt for removal)."""
        constants, indices, draws = self.constants, scenes.indices, self.constants.draws
        device = scenes.window.device
        seen = masked_view(scenes.window, scenes.hole)
        context = self.encoder(
            seen,
            masked_view(scenes.overview, scenes.overview_hole),
            scenes.window_positions,
            scenes.overview_positions,
            indices,
        )
        shown = tokens_at(seen, indices)
        # What differs from the smooth extension, as codecs.PixelCodec has it.
        clean = (tokens_at(scenes.window, indices) - shown[..., :3]).flatten(2)  # (B, K, D)
        hidden = shown[..., 3:]
        weight = constants.visible_weight + (1 - constants.visible_weight) * hidden  # (B, K, px, 1)

        batch = draws * len(clean)  # all scenes in their first draw, all in their second, ...
        sigma = flow.random_sigmas(
            batch, constants.mean, constants.deviation, device, generator, constants.shift
        )
        sigma = sigma.unflatten(0, (draws, -1))  # (draws, B, 1, 1)
        noise = torch.randn((draws, *clean.shape), device=device, generator=generator)
        noisy = torch.lerp(clean, noise, sigma)  # flow.add_noise in one pass
        dropped = torch.rand(batch, device=device, generator=generator) < constants.no_prompt
        words, mask = self._drop(text.repeat(draws, 1, 1), text_mask.repeat(draws, 1), dropped)
        conditions = self.decoder.prepare(
            context,
            words,
            mask,
            gather(scenes.window_positions, indices),
            tokens_at(scenes.sketch, indices).flatten(2),
        )
        output = self.decoder.step(
            noisy.flatten(0, 1), sigma.flatten() * flow.STEPS_PER_SIGMA, conditions.for_draws(draws)
        )
        answer, scale = velocity_answer(clean, noise, noisy, sigma, self.decoder.config.prediction)
        error = (output.unflatten(0, (draws, -1)) - answer).unflatten(-1, (-1, 3)) * weight.sqrt()
        errors = torch.linalg.vector_norm(error, dim=(3, 4)) * scale[..., 0]  # (draws, B, K), in one pass
        loss: Tensor = errors.square().mean() / (weight.mean() * clean.shape[-1])
        return loss

    def _drop(self, text: Tensor, mask: Tensor, dropped: Bool[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Where dropped, the text is the decoder's one learned token."""
        first = torch.zeros_like(mask)
        first[:, 0] = True
        alone = self.decoder.no_prompt.to(text.dtype) * first[..., None]
        return torch.where(dropped[:, None, None], alone, text), torch.where(dropped[:, None], first, mask)


def tokens_at(view: Float[Tensor, "b c s s"], indices: Int64[Tensor, "b k"]) -> Float[Tensor, "b k p c"]:
    """A square view's patches at `indices`: gather(patchify(view)), but no copy of the whole view; p is PATCH**2."""
    rows = view.shape[-1] // PATCH
    cells = view.unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))  # (B, C, r, p, c, q)
    scene = torch.arange(len(view), device=view.device)[:, None]
    tokens: Tensor = cells.permute(0, 2, 4, 3, 5, 1)[scene, indices // rows, indices % rows]
    return tokens.flatten(2, 3)


def velocity_answer(
    clean: Float[Tensor, "b k d"],
    noise: Float[Tensor, "r b k d"],
    noisy: Float[Tensor, "r b k d"],
    sigma: Float[Tensor, "r b 1 1"],
    prediction: Prediction,
) -> tuple[Float[Tensor, "*r b k d"], Float[Tensor, "r b 1 1"]]:
    """(answer, scale) such that scale * (output - answer) is the error of the velocity (flow.to_velocity).

    For samples both velocities have the same clamp, so that a perfect prediction has no error; the noise cancels out.
    """
    if prediction == "sample":
        return clean, 1 / sigma.clamp_min(flow.SMALLEST_SIGMA)
    if prediction == "velocity":
        return noise - clean, torch.ones_like(sigma)
    divisor = (1 - sigma).clamp_min(flow.SMALLEST_SIGMA)
    return noisy + divisor * (noise - clean), 1 / divisor
