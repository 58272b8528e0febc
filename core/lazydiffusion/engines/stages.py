"""What engines share: milliseconds by stage, what loading and memory raise as a sentence, and quiet libraries."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import diffusers
import torch
import transformers
from safetensors import SafetensorError

from lazydiffusion.devices import synchronise
from lazydiffusion.engines.base import Report
from lazydiffusion.errors import BadModel, OutOfMemory, first_line

GPU_FULL = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)
"""What CUDA's own calls and libraries say, which torch raises as plain RuntimeErrors. The last one is of a convolution:
torch tries all of cuDNN's engines, passes over those whose workspace finds no memory, and says so when none is left."""
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


class EventClock(Clock):
    """As Clock, but on a GPU no lap waits: the report is filled in by `settle`, when the pixels are there."""

    def restart(self) -> None:
        """Begin a lap now."""
        super().restart()
        self.marks = [("", self._mark())] if self.device.type == "cuda" else []

    def lap(self, stage: str) -> None:
        """End the lap: what the device did since the last one is the stage's."""
        if self.device.type == "cuda":
            self.marks.append((stage, self._mark()))
        else:
            super().lap(stage)

    def settle(self) -> None:
        """Wait for the device, and report the laps."""
        synchronise(self.device)
        for (_, start), (stage, end) in pairwise(self.marks):
            self.report.ms[stage] = self.report.ms.get(stage, 0.0) + start.elapsed_time(end)
        self.restart()

    def _mark(self) -> torch.cuda.Event:
        mark = torch.cuda.Event(enable_timing=True)
        mark.record(torch.cuda.current_stream(self.device))
        return mark


@contextmanager
def loading_errors(where: Path | str, what: str = "loaded") -> Iterator[None]:
    """Turn what diffusers raises of a model into BadModel: it cannot be `what`. Memory is left to memory_errors."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, SafetensorError) as error:
        if lacks_memory(error):
            raise
        raise BadModel(f"The model {where} cannot be {what}: {first_line(error)}.") from error


@contextmanager
def memory_errors(forget: Callable[[], None] | None = None) -> Iterator[None]:
    """Turn the device's out-of-memory into a sentence, and give what is cached back.

    `forget`: called first, to let go of what is kept for later.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if forget is not None and lacks_memory(error):
            forget()
        if _gpu_is_full(error):
            torch.cuda.empty_cache()
            raise OutOfMemory(
                "The GPU's memory is full. Close other programs that use it, make the selection smaller, "
                "or use --device cpu."
            ) from error
        if not lacks_memory(error):
            raise
        raise OutOfMemory(
            "The computer's memory is full. Close other programs, or use a smaller canvas or selection."
        ) from error


def lacks_memory(error: BaseException) -> bool:
    """Whether an error, or the one that it is a consequence of, says that the device or the computer is full."""
    cause = error.__cause__
    return (
        _gpu_is_full(error)
        or isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or any(words in str(error) for words in COMPUTER_FULL)
        or (cause is not None and lacks_memory(cause))
    )


def _gpu_is_full(error: BaseException) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in str(error) for words in GPU_FULL)
