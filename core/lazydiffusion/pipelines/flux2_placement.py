"""Where the models of FLUX.2-klein lie while an edit runs, for GPUs that do not hold all of them."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import torch
from diffusers.hooks import apply_group_offloading
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

WHOLE, TURNS, STREAMED = "whole", "turns", "streamed"
PLACEMENTS = (WHOLE, TURNS, STREAMED)
"""From fast and large to slow and small: all models on the device; text encoder and transformer in turns; these two in
the computer's memory, from which each block comes when it is run, while the one before it computes."""


def stored(weight: Tensor) -> Iterator[Tensor]:
    """The plain tensors that a weight consists of: several where it is kept in fewer bits (torchao's)."""
    if not is_traceable_wrapper_subclass(weight):
        yield weight
        return
    for name in weight.__tensor_flatten__()[0]:
        yield from stored(getattr(weight, name))


def stored_bytes(model: nn.Module) -> int:
    """What a model's weights take."""
    parts = (part for weight in model.parameters() for part in stored(weight))
    return sum(part.numel() * part.element_size() for part in parts)


def stream_blocks(model: nn.Module, device: torch.device) -> None:
    """Have a model's blocks come to the device one by one whenever it runs. It cannot be moved afterwards.

    They come faster from pinned memory, which other programs cannot have: all of it is pinned where there is plenty.
    """
    apply_group_offloading(
        model,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
        low_cpu_mem_usage=psutil.virtual_memory().available < 2 * stored_bytes(model),
    )
