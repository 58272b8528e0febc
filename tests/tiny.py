"""Networks and sprites small enough to compute in milliseconds; every parameter is random, none is left at zero."""

from __future__ import annotations

import io
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.training.sprites import SpriteBank

TEXT = 384
"""Width of MiniLM's word states."""
ENCODER: dict[str, Any] = {"channels": 32, "layers": 2, "heads": 2, "bottleneck": 16}
DECODER: dict[str, Any] = {"channels": 32, "layers": 2, "heads": 2, "bottleneck": 16, "context_channels": 32}

Module = TypeVar("Module", bound=nn.Module)


def perturbed(module: Module, seed: int = 0, deviation: float = 0.2) -> Module:
    """The module with noise on every parameter, so that what starts at zero counts as well."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(deviation * torch.randn(parameter.shape, generator=generator))
    return module


def encoder(**changes: Any) -> ContextEncoder:
    torch.manual_seed(0)
    return perturbed(ContextEncoder(**(ENCODER | changes))).eval().requires_grad_(False)


def decoder(**changes: Any) -> LazyDecoder:
    torch.manual_seed(0)
    return perturbed(LazyDecoder(**(DECODER | changes))).eval().requires_grad_(False)


def disc(side: int, colour: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """An opaque disc as wide as the picture, premultiplied RGBA (side, side, 4)."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    inside = (np.hypot(x, y) < side / 2)[..., None]
    return np.where(inside, np.array([*colour, 255], np.uint8), np.uint8(0))


def bank(count: int = 12, side: int = 64) -> SpriteBank:
    """Discs of different colours in two sets, two captions each; a quarter of them is held out."""
    pixels = np.stack([disc(side, (20 * number, 255 - 20 * number, 90)) for number in range(count)])
    return SpriteBank(
        pixels=torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        captions=[[f"thing {number}", f"thing {number}, round"] for number in range(count)],
        sets=torch.arange(count) % 2,
        set_names=["first", "second"],
        styles=["flat", "ink"] * (count // 2),
        keys=[f"{number * 16:016x}" for number in range(count)],
    )


def shard_sprites(count: int = 12, side: int = 32) -> list[tuple[str, bytes, dict[str, object]]]:
    """The same discs as samples of a shard (see training.shards.write_shards)."""
    sprites: list[tuple[str, bytes, dict[str, object]]] = []
    for number in range(count):
        file = io.BytesIO()
        Image.fromarray(disc(side, (20 * number, 255 - 20 * number, 90)), "RGBA").save(
            file, "WEBP", lossless=True
        )
        labels: dict[str, object] = {
            "set": ("first", "second")[number % 2],
            "style": "flat",
            "name": f"thing {number}",
            "captions": [f"thing {number}"],
        }
        sprites.append((f"{number * 16:016x}", file.getvalue(), labels))
    return sprites
