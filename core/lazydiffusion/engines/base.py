"""The engine protocol: an edit goes in, fills come out one by one, and progress is reported on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lazydiffusion.canvas import Canvas
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import Box

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Step:
    """One denoising step that was taken."""

    fill: int
    """Which variation, from 0."""
    step: int
    """From 1 to `steps`."""
    steps: int
    box: Box
    """Where the fill lies on the canvas."""
    preview: Callable[[], Pixels]
    """Makes a picture of what the fill looks like so far: (h, w, 3), the fill's box or smaller."""


Progress = Callable[[Step], None]
"""Called after every step. May raise to stop the edit."""


@dataclass(frozen=True)
class Edit:
    """One request: pictures and settings."""

    canvas: Canvas
    mask: npt.NDArray[np.float32]
    """(h, w) of the canvas's region, 0..1, > 0 = generate here; as the artist made it: not grown, not feathered."""
    settings: EditSettings
    sketch: Pixels | None = None
    """(h, w, 4) of the canvas's region, sRGB, straight alpha."""


@dataclass(frozen=True)
class Fill:
    """One variation: RGBA pixels and where they go."""

    pixels: Pixels
    """(h, w, 4), alpha 0 outside the mask."""
    box: Box
    seed: int


@dataclass
class Report:
    """What an edit cost; filled in while the fills come."""

    window: Box | None = None
    scale: float = 0.0
    """Working px per canvas px."""
    hidden_tokens: int = 0
    steps: int = 0
    ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds by stage, in the order in which they came: plan, encode, ..., denoise, ..., compose."""


class Engine(Protocol):
    """A way to make fills. It holds its models; an edit holds everything else."""

    def run(
        self, edit: Edit, report: Report, progress: Progress | None = None, frugal: bool = False
    ) -> Iterator[Fill]:
        """Make the edit's fills one after the other; `frugal`: with less memory, slower. Raises LazyDiffusionError."""
        ...

    def forget(self) -> None:
        """Let go of what is kept of the last edit, which would make another one of the same canvas faster."""
        ...
