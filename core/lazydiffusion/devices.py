"""Which device the models run on, and why; how fast it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from lazydiffusion.errors import BadInput

FULL, INT8, FP8 = "full", "int8", "fp8"
WEIGHTS = (FULL, INT8, FP8)
"""How many bits a large model's weights are kept in: those of the device's precision, or eight."""


@dataclass(frozen=True)
class Choice:
    """A device, the precision that suits it, and the reason in words."""

    device: torch.device
    dtype: torch.dtype
    reason: str
    weights: str = FULL
    """One of WEIGHTS."""

    @property
    def name(self) -> str:
        """What an artist calls the device: the GPU's name, or "CPU"."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"


def choose_device(name: str = "auto", weights: str = FULL) -> Choice:
    """The device for "auto", "cuda" or "cpu". Raises BadInput when CUDA is asked for and cannot be had."""
    check_weights(weights)
    return replace(_choose(name), weights=weights)


def check_weights(weights: str) -> None:
    """Raise BadInput for what is none of WEIGHTS."""
    if weights not in WEIGHTS:
        raise BadInput(
            f"The weights are {weights!r}; they must be {', '.join(WEIGHTS[:-1])} or {WEIGHTS[-1]}."
        )


def check_device(name: str) -> None:
    """Raise BadInput for what is no device's name; whether it can be had is another question."""
    if name not in ("auto", "cuda", "cpu"):
        raise BadInput(f"The device is {name!r}; it must be auto, cuda or cpu.")


def _choose(name: str) -> Choice:
    check_device(name)
    if name == "cpu":
        return Choice(torch.device("cpu"), torch.float32, "asked for")
    if torch.cuda.is_available():
        # torch alone counts GPUs that emulate bfloat16 (GeForce 20), where cuDNN has no convolution of it: no VAE ran.
        gpu = torch.device("cuda")
        half = torch.bfloat16 if multiplies_in_bfloat16(gpu) else torch.float16
        return Choice(gpu, half, f"a CUDA GPU is present: {torch.cuda.get_device_name()}")
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


def multiplies_in_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16 matrices, and does not emulate them.

    Of CPUs those with AVX512-BF16 have (AMD's since Zen 4, most Xeons since Sapphire Rapids): they are twice as fast.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not hasattr(torch.cpu, "get_capabilities"):  # a PyTorch of before it
        return False
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best_seconds(run: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """The shortest time of several runs, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        synchronise(device)
        start = time.perf_counter()
        run()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def matrix_product_rate(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """FLOP/s of a large square matrix product on the device, measured: the ceiling of what a model can reach."""
    side = 8192 if device.type == "cuda" else 1024
    factor = torch.randn(side, side, device=device, dtype=dtype)
    product = torch.empty_like(factor)
    return 2 * side**3 / best_seconds(lambda: torch.matmul(factor, factor, out=product), device, repeats)
