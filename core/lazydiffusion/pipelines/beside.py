"""Work that runs beside other work: on a CUDA device, on a stream of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Used = Callable[..., None]
"""Told of tensors that were made beside and are used afterwards."""


class Beside:
    """One such stream, made when it is first needed."""

    def __init__(self) -> None:
        self.stream: torch.cuda.Stream | None = None

    @contextmanager
    def __call__(self, device: torch.device | None) -> Iterator[Used]:
        """Work inside runs beside what a CUDA device was given before; on a CPU, or where it is None, as ever.

        It waits for nothing of that, and neither do its own copies and questions to the device: a text encoder is
        launched while the device still reads a picture. What comes afterwards waits for it, however it ends.
        """
        if device is None or device.type != "cuda":
            yield lambda *_: None
            return
        here = torch.cuda.current_stream(device)
        self.stream = self.stream or torch.cuda.Stream(device)

        def used(*made: Tensor) -> None:
            for tensor in made:
                tensor.record_stream(here)  # its memory is not given away while it is read there

        try:
            with torch.cuda.stream(self.stream):
                yield used
        finally:
            here.wait_stream(self.stream)
