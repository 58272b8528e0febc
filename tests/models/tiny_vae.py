"""A VAE of the real one's structure, small enough for tests."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL


def tiny_vae(**changes: Any) -> AutoencoderKL:
    """Four levels with attention in the middle, as Stable Diffusion's, with random weights: the same at every call."""
    settings: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (4, 8, 8, 12),
        "layers_per_block": 2,
        "norm_num_groups": 2,
        "latent_channels": 4,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKL(**(settings | changes)).eval().requires_grad_(False)
        for parameter in vae.parameters():  # biases and norms as well
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return vae  # type: ignore[no-any-return]
