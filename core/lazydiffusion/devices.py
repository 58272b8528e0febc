"""Which device the models run on, and why."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lazydiffusion.errors import BadInput


@dataclass(frozen=True)
class Choice:
    """A device, the precision that suits it, and the reason in words."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """What an artist calls the device: the GPU's name, or "CPU"."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"


def choose_device(name: str = "auto") -> Choice:
    """The device for "auto", "cuda" or "cpu". Raises BadInput when CUDA is asked for and cannot be had."""
    if name not in ("auto", "cuda", "cpu"):
        raise BadInput(f"The device is {name!r}; it must be auto, cuda or cpu.")
    if name == "cpu":
        return Choice(torch.device("cpu"), torch.float32, "asked for")
    if torch.cuda.is_available():
        return Choice(
            torch.device("cuda"), torch.bfloat16, f"a CUDA GPU is present: {torch.cuda.get_device_name()}"
        )
    reason = (
        f"this PyTorch ({torch.__version__}) is built without CUDA"
        if torch.version.cuda is None
        else "PyTorch finds no CUDA GPU (is the driver installed?)"
    )
    if name == "cuda":
        raise BadInput(
            f"CUDA cannot be used: {reason}. Use --device cpu, or install a CUDA build of PyTorch."
        )
    return Choice(torch.device("cpu"), torch.float32, reason)
