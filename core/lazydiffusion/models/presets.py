"""The two named sizes: the embedded model's, and the published one's, for timing with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lazydiffusion.models.codecs import PixelCodec
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.latent_codec import STABLE_DIFFUSION_VAE, LatentCodec
from lazydiffusion.models.lazy_decoder import LazyDecoder


@dataclass(frozen=True)
class Preset:
    """Keyword arguments of an edit's three networks."""

    context_encoder: Mapping[str, Any]
    decoder: Mapping[str, Any]
    vae: Mapping[str, Any] | None
    """AutoencoderKL's keyword arguments; None for pixels as they are."""
    patch: int
    """The codec's: side of a token in px, or in latents where there is a VAE."""


@dataclass(frozen=True)
class Networks:
    """What a preset builds. The prompt's encoder is chosen by its own configuration (prompt_encoder.py)."""

    context_encoder: ContextEncoder
    decoder: LazyDecoder
    codec: PixelCodec | LatentCodec


EMBEDDED = Preset(
    context_encoder={
        "patch": 16, "channels": 320, "layers": 7, "heads": 5, "bottleneck": 128,
        "window_tokens": 16, "overview_tokens": 8,
    },
    decoder={
        "token_channels": 16 * 16 * 3, "channels": 448, "layers": 6, "heads": 7, "bottleneck": 128,
        "context_channels": 320, "text_channels": 384, "family": "modern", "prediction": "sample",
    },
    vae=None,
    patch=16,
)  # fmt: skip
"""Pixels in, pixels out, at most 64 MB in bfloat16: small enough to be installed with the package."""

PAPER = Preset(
    context_encoder={
        "patch": 16, "channels": 1152, "layers": 12, "heads": 16, "bottleneck": 256,
        "window_tokens": 64, "overview_tokens": 16,
    },
    decoder={
        "token_channels": 2 * 2 * 4, "channels": 1152, "layers": 28, "heads": 16, "bottleneck": None,
        "context_channels": 1152, "text_channels": 4096, "family": "pixart", "prediction": "epsilon",
        "position_scale": 0.5, "position_offset": 31.5,
    },
    vae=STABLE_DIFFUSION_VAE,
    patch=2,
)  # fmt: skip
"""LazyDiffusion at 1024 x 1024 px: PixArt-alpha's decoder on Stable Diffusion's latents, with T5-XXL's words.

The paper tells its encoder's time, not its size: 73 ms beside 374 ms for a full step with guidance (two pictures) is
what 12 layers of the decoder's width take. Ours reads pixels in patches of 16 px instead of latents, so that the
context needs no VAE, and the overview besides.
"""


def build(preset: Preset, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Networks:
    """The preset's networks with random weights, in evaluation mode. On the "meta" device they take no memory."""
    with torch.device(device):
        codec: PixelCodec | LatentCodec = PixelCodec(patch=preset.patch)
        if preset.vae is not None:
            codec = LatentCodec(patch=preset.patch, vae_config=dict(preset.vae))
        networks = ContextEncoder(**preset.context_encoder), LazyDecoder(**preset.decoder), codec
    for network in networks:
        nn.Module.to(network.eval(), dtype=dtype)  # ModelMixin's own `to` warns, whatever the model
    return Networks(*networks)
