"""What engines share: milliseconds by stage, a device's full memory as a sentence, and quiet libraries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import diffusers
import torch
import transformers

from lazydiffusion.devices import synchronise
from lazydiffusion.engines.base import Report
from lazydiffusion.errors import OutOfMemory

GPU_FULL = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""What CUDA's own calls and libraries say, which torch raises as plain RuntimeErrors."""
COMPUTER_FULL = ("not enough memory", "can't allocate memory")
"""What torch says of the computer's memory, on Windows and on Linux."""


def quiet() -> None:
    """The libraries' own progress bars and notes stay off: the caller has its own."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()


class Clock:
    """Adds up milliseconds by stage. On a GPU each lap waits for the device: once a stage, never once a step."""

    def __init__(self, report: Report, device: torch.device):
        self.report, self.device = report, device
        self.restart()

    def restart(self) -> None:
        """Begin a lap now."""
        self.last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End the lap: what it took is the stage's."""
        synchronise(self.device)
        now = time.perf_counter()
        self.report.ms[stage] = self.report.ms.get(stage, 0.0) + 1000 * (now - self.last)
        self.last = now


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn the device's out-of-memory into a sentence, and give what is cached back."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError) or any(words in str(error) for words in GPU_FULL):
            torch.cuda.empty_cache()
            raise OutOfMemory(
                "The GPU's memory is full. Close other programs that use it, make the selection smaller, "
                "or use --device cpu."
            ) from error
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in COMPUTER_FULL):
            raise
        raise OutOfMemory(
            "The computer's memory is full. Close other programs, or use a smaller canvas or selection."
        ) from error
