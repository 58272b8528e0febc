"""How FLUX.2-klein lies in a GPU's memory: the fastest way that fits, or a sentence that says what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from lazydiffusion.errors import OutOfMemory
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline
from lazydiffusion.pipelines.flux2_placement import STREAMED, TURNS, WHOLE, stored_bytes

WORKING_BYTES = 9 * 2**29
"""Memory of the device that an edit needs beside the weights: keys and values of the reference and the VAE's features
at 1024 x 1024 px (measured with FLUX.2-klein-4B on an H100: 3.8 GB), and half a gigabyte for CUDA graphs (counted)."""
BLOCKS_AT_ONCE = 2
"""Of a model whose blocks come one by one: the one that runs, and the next."""


@dataclass(frozen=True)
class Need:
    """Bytes of the device that weights take, by where they lie."""

    whole: int
    turns: int
    streamed: int

    @classmethod
    def of(cls, pipeline: LazyFlux2KleinPipeline) -> Self:
        """Of a pipeline's models, wherever they are now."""
        vae, transformer, text = pipeline.vae, pipeline.transformer, pipeline.text_encoder
        moved = stored_bytes(transformer), stored_bytes(text)
        blocks = _streamed_bytes(transformer), _streamed_bytes(text.model)
        return cls(
            stored_bytes(vae) + sum(moved), stored_bytes(vae) + max(moved), stored_bytes(vae) + max(blocks)
        )


def choose_placement(need: Need, free: int) -> str:
    """The fastest placement that leaves an edit enough of `free` bytes. Raises OutOfMemory."""
    for placement, weights in ((WHOLE, need.whole), (TURNS, need.turns), (STREAMED, need.streamed)):
        if weights + WORKING_BYTES <= free:
            return placement
    raise OutOfMemory(
        f"FLUX.2-klein needs about {_gigabytes(need.streamed + WORKING_BYTES)} of GPU memory even with most of its "
        f"weights in the computer's memory; this GPU has {_gigabytes(free)} free. Close other programs that use it, "
        "or use --device cpu."
    )


def free_bytes(device: torch.device) -> int | None:
    """What a device has free; None for the CPU, where nothing has to move."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def _streamed_bytes(model: nn.Module) -> int:
    """What lies on the device at once, at most, while the blocks in a model's lists come one by one."""
    blocks = [
        stored_bytes(block) for part in model.children() if isinstance(part, nn.ModuleList) for block in part
    ]
    return stored_bytes(model) - sum(blocks) + BLOCKS_AT_ONCE * max(blocks)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
