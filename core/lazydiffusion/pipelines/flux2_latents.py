"""FLUX.2's latents as pixels: the hidden tokens' boxes are decoded, or, where they cover most of the window, all of it.

A token is a patch of 2 x 2 latents, each of its channels scaled by itself (the batch normalisation of
AutoencoderKLFlux2). The rest of this VAE is built as Stable Diffusion's, so it can be run in parts (models.lazy_vae):
equal to the full decode there, given the same statistics for the group normalisations. These are of an overview of the
canvas, as in models.latent_codec, whose error is told there; a full decode has its own and is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import Flux2KleinInpaintPipeline
from diffusers.models.transformers.transformer_flux2 import Flux2KVCache
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lazydiffusion import compose
from lazydiffusion.models import lazy_vae
from lazydiffusion.models.latent_codec import islands
from lazydiffusion.window import PATCH, Box

FULL_DECODE_SHARE = 0.5
"""From this share of the window on it is decoded in full, exactly, at about the same cost. In counted operations of a
full decode, the overview takes 0.35, the middle block 0.09, and a box of 1 %, 10 % or 50 % of the window 0.02, 0.12 or
0.52: together 0.45, 0.55 or 0.95."""
OVERVIEW_SHRINK = 2
"""The overview that tells the statistics is so many times as narrow as the window."""
PREVIEW_SHRINK = 4
"""A preview decodes latents of 1 / 4 of the size: a sixteenth of the work."""


@dataclass
class WindowReading:
    """What the models have read of a window: the same for all masks, prompts and seeds."""

    view: compose.View
    """The window as the canvas has it, the sketch laid over it."""
    picture: Float[Tensor, "1 3 h w"]
    """The same, -1..1."""
    latents: Float[Tensor, "1 c rows cols"]
    """Its tokens, scaled as the transformer gets them."""
    statistics: lazy_vae.NormStatistics | None = None
    """Recorded at the first decode of a part."""
    cache: Flux2KVCache | None = None
    """The transformer's keys and values for it, where they were asked for."""


def raw_latents(vae: Any, tokens: Float[Tensor, "1 c rows cols"]) -> Float[Tensor, "1 d lh lw"]:
    """What the VAE's decoder is given for a window of tokens, in its own precision."""
    std = (vae.bn.running_var.float() + vae.config.batch_norm_eps).sqrt()
    scaled = tokens.float() * std[:, None, None] + vae.bn.running_mean.float()[:, None, None]
    latents: Tensor = Flux2KleinInpaintPipeline._unpatchify_latents(scaled)
    return latents.to(vae.dtype)


def decode(
    vae: Any, tokens: Float[Tensor, "1 c rows cols"], window: WindowReading, hidden: Bool[Tensor, "rows cols"]
) -> Float[Tensor, "1 3 h w"]:
    """The window with the hidden tokens' pixels in place, -1..1. `hidden`: on the CPU."""
    latents = raw_latents(vae, tokens)
    boxes = islands(hidden)
    if sum(box.w * box.h for box in boxes) >= FULL_DECODE_SHARE * hidden.numel():
        return _over(window.picture, hidden, vae.decode(latents, return_dict=False)[0])
    if window.statistics is None:
        window.statistics = _overview_statistics(vae, window.picture)
    features = lazy_vae.decode_middle(vae, latents)
    decoded = window.picture.clone()
    for box in boxes:
        region = Box(*(PATCH * side for side in box.as_list()))
        with lazy_vae.given_norms(window.statistics):
            part = lazy_vae.run_layers(lazy_vae.decoder_layers(vae), features, region)
        decoded[(..., *region.slices())] = part.to(decoded.dtype)
    return _over(window.picture, hidden, decoded)


def preview(
    vae: Any, tokens: Float[Tensor, "1 c rows cols"], window: WindowReading, hidden: Bool[Tensor, "rows cols"]
) -> Float[Tensor, "1 3 h w"]:
    """As decode, but coarse, and at a sixteenth of the cost of a full decode."""
    small = functional.avg_pool2d(raw_latents(vae, tokens), PREVIEW_SHRINK, ceil_mode=True)
    decoded = vae.decode(small, return_dict=False)[0].float()
    size = window.picture.shape[-2:]
    return _over(window.picture, hidden, functional.interpolate(decoded, size=size, mode="bilinear"))


def _over(picture: Float[Tensor, "1 3 h w"], hidden: Tensor, decoded: Tensor) -> Tensor:
    """The picture, with what is decoded where it is hidden."""
    hidden = (
        hidden.to(decoded.device, non_blocking=True).repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
    )
    return torch.where(hidden, decoded.to(picture.dtype), picture).clamp(-1, 1)


def _overview_statistics(vae: Any, picture: Float[Tensor, "1 3 h w"]) -> lazy_vae.NormStatistics:
    """Of the decoder's local layers, from an encode and a decode of a small copy of the picture."""
    side = PATCH // OVERVIEW_SHRINK  # a multiple of a latent's side
    height, width = (length // PATCH * side for length in picture.shape[-2:])
    small = functional.interpolate(picture, size=(height, width), mode="area").to(vae.dtype)
    features = lazy_vae.decode_middle(vae, vae.encode(small).latent_dist.mode())
    with lazy_vae.recorded_norms() as statistics:
        lazy_vae.run_layers(lazy_vae.decoder_layers(vae), features, Box(0, 0, width, height))
    return statistics
