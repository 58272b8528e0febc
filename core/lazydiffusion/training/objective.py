"""The training objective: velocity loss over the hidden tokens' pixels, several noise draws per encoded scene."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lazydiffusion.models import flow
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.masked_patches import MaskedPatches
from lazydiffusion.models.patches import gather, patchify
from lazydiffusion.training.scenes import Scenes, masked_view
from lazydiffusion.window import PATCH


@dataclass(frozen=True)
class Objective:
    """Constants of the loss. `draws`: noisy versions of each scene per step; they share one run of the encoder."""

    draws: int = 4
    mean: float = -0.6
    """Mean of the logit-normal time distribution; lower is noisier."""
    deviation: float = 0.9
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
        # What differs from the smooth extension, as codecs.PixelCodec has it.
        clean = gather(patchify(scenes.window - seen[:, :3], PATCH), indices).repeat(draws, 1, 1)
        hidden = gather(patchify(scenes.hole.to(clean.dtype).expand(-1, 3, -1, -1), PATCH), indices)
        weight = constants.visible_weight + (1 - constants.visible_weight) * hidden
        sketch = gather(patchify(scenes.sketch, PATCH), indices)

        batch = len(clean)
        sigma = flow.random_sigmas(batch, constants.mean, constants.deviation, device, generator)
        noise = torch.randn(clean.shape, device=device, generator=generator)
        noisy = flow.add_noise(clean, noise, sigma)
        dropped = torch.rand(batch, device=device, generator=generator) < constants.no_prompt
        words, mask = self._drop(text.repeat(draws, 1, 1), text_mask.repeat(draws, 1), dropped)
        output = self.decoder(
            noisy,
            sigma.flatten() * flow.STEPS_PER_SIGMA,
            context.repeat(draws, 1, 1),
            words,
            mask,
            gather(scenes.window_positions, indices).repeat(draws, 1, 1),
            sketch.repeat(draws, 1, 1),
        )
        velocity = flow.to_velocity(output.float(), noisy, sigma, self.decoder.config.prediction)
        target = noise - clean
        if (
            self.decoder.config.prediction == "sample"
        ):  # the same clamp on both sides: a perfect prediction has no error
            target = flow.to_velocity(clean, noisy, sigma, "sample")
        error = (velocity - target).square() * weight.repeat(draws, 1, 1)
        return error.mean() / weight.mean()

    def _drop(self, text: Tensor, mask: Tensor, dropped: Bool[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Where dropped, the text is the decoder's one learned token."""
        first = torch.zeros_like(mask)
        first[:, 0] = True
        alone = self.decoder.no_prompt.to(text.dtype) * first[..., None]
        return torch.where(dropped[:, None, None], alone, text), torch.where(dropped[:, None], first, mask)
