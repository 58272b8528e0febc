"""An edit of a few pixels and a fill for it, for tests of the core's parts without a model."""

from __future__ import annotations

import numpy as np

from lazydiffusion.canvas import Canvas
from lazydiffusion.engines.base import Edit, Fill
from lazydiffusion.protocol import EditSettings
from lazydiffusion.service.jobs import Job
from lazydiffusion.window import Box

BOX = Box(4, 2, 8, 6)
"""What the edit fills of its canvas, 20 x 16 px."""


def small_edit(**settings: object) -> Edit:
    mask = np.zeros((16, 20), np.float32)
    mask[BOX.slices()] = 1
    return Edit(Canvas.of(np.full((16, 20, 3), 90, np.uint8)), mask, EditSettings(**settings))  # type: ignore[arg-type]


def small_job(client: str = "", **settings: object) -> Job:
    return Job(small_edit(**settings), client)


def small_fill(seed: int = 0, box: Box = BOX) -> Fill:
    """Opaque, of one colour that follows from the seed."""
    return Fill(np.full((box.h, box.w, 4), (seed % 256, 50, 200, 255), np.uint8), box, seed)
