"""What the machine can do at most, and how much memory something takes at most: measured."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from lazydiffusion.devices import best_seconds, matrix_product_rate

PROCESS = Path("/proc/self")
RESET_PEAK = "5"
"""Written to clear_refs it makes the peak of the resident memory start anew: proc(5), CLEAR_REFS_MM_HIWATER_RSS."""


@dataclass(frozen=True)
class Rates:
    """The device's own ceilings, both as the best of several runs."""

    flops: float
    """FLOP/s of a large square matrix product in the engines' precision."""
    bytes: float
    """Bytes per second, read and written, of a large copy within the device's memory."""


@dataclass
class Peak:
    """The answer of `peak_memory`, there when its block has ended."""

    bytes: int | None = None
    """None where this system does not tell."""


def device_rates(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> Rates:
    """Measure the ceilings: seconds on a CPU, milliseconds on a GPU."""
    on_cuda = device.type == "cuda"
    source = torch.ones(2**30 if on_cuda else 2**27, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copying = best_seconds(lambda: target.copy_(source), device, repeats)
    return Rates(flops=matrix_product_rate(device, dtype, repeats), bytes=2 * source.numel() / copying)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Bytes that the block needs at its worst moment beside what was there before.

    On CUDA those that torch allocated on the device; on Linux with a CPU the process's resident memory, after what
    was freed earlier has been given back to the system.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    resident = _reset_resident_peak()
    yield peak
    if resident is not None:
        peak.bytes = _status("VmHWM") - resident


def _reset_resident_peak() -> int | None:
    """The resident memory in bytes from where its peak starts anew; None where the system does not offer it."""
    switch = PROCESS / "clear_refs"
    if not switch.exists():
        return None
    _give_back()
    try:
        switch.write_text(RESET_PEAK)
        return _status("VmRSS")
    except OSError:
        return None


def _status(name: str) -> int:
    """A line of /proc/self/status that is told in kB, as bytes."""
    lines = (PROCESS / "status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _give_back() -> None:
    """What glibc keeps of freed memory goes back to the system: it would hide what is allocated next."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
