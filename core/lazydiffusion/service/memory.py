"""How much memory the device has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from lazydiffusion.devices import Choice


def free_and_total(choice: Choice) -> tuple[int, int]:
    """Bytes that are free on the device, and that it has."""
    if choice.device.type == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info(choice.device)
        return int(free), int(total)
    memory = psutil.virtual_memory()
    return int(memory.available), int(memory.total)


def empty_cache(choice: Choice | None) -> None:
    """Give PyTorch's unused blocks back: the GPU's, and those of the computer's memory that were pinned for it.

    A model whose blocks are streamed (pipelines.flux2_placement) has pinned up to twice its size.
    """
    if choice is not None and choice.device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch._C._host_emptyCache()  # as torch.cuda.graph calls it; it has no other name in every torch >= 2.9
