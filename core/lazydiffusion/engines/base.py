"""The engine protocol: an edit goes in, fills come out one by one, and progress is reported on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lazydiffusion.geometry import Box
from lazydiffusion.protocol import EditSettings

Progress = Callable[[int, int, int], None]
"""(fill, step, steps), after every step. May raise to stop the edit."""


@dataclass(frozen=True)
class Edit:
    """One request: pictures and settings."""

    canvas: npt.NDArray[np.uint8]
    """(H, W, 3), sRGB."""
    mask: npt.NDArray[np.float32]
    """(H, W), 0..1, > 0 = generate here; as the artist made it, before it is grown or feathered."""
    settings: EditSettings
    sketch: npt.NDArray[np.uint8] | None = None
    """(H, W, 4), sRGB, straight alpha."""


@dataclass(frozen=True)
class Fill:
    """One variation: RGBA pixels and where they go."""

    pixels: npt.NDArray[np.uint8]
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
    """Milliseconds by stage: plan, encode, denoise, compose."""


class Engine(Protocol):
    """A way to make fills. It holds its models; an edit holds everything else."""

    def run(self, edit: Edit, report: Report, progress: Progress | None = None) -> Iterator[Fill]:
        """Make the edit's fills one after the other. Raises LazyDiffusionError."""
        ...
