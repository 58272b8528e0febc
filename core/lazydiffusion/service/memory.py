"""How much memory the device has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from lazydiffusion.devices import Choice


def free(choice: Choice | None) -> int | None:
    """Bytes free on the device; None while no device was chosen."""
    if choice is None:
        return None
    if choice.device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(choice.device)[0])
    return int(psutil.virtual_memory().available)


def total(choice: Choice | None) -> int | None:
    """Bytes that the device has; None while no device was chosen."""
    if choice is None:
        return None
    if choice.device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(choice.device)[1])
    return int(psutil.virtual_memory().total)


def empty_cache(choice: Choice | None) -> None:
    """Give PyTorch's unused blocks back to the GPU."""
    if choice is not None and choice.device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
