"""What a pipeline's call gives and calls back, as the inpainting pipelines of diffusers have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from lazydiffusion import compose
from lazydiffusion.canvas import Canvas
from lazydiffusion.pipelines.sampling import Callback
from lazydiffusion.window import Box

StepCallback = Callable[[Any, int, Tensor, dict[str, Any]], dict[str, Any]]
"""(pipeline, step, time step, {"tokens": ...}) -> values to go on with."""


@dataclass
class LazyDiffusionOutput(BaseOutput):
    """`images`: the canvas with each fill pasted in. `fills`: RGBA pixels (h, w, 4) inside `box` = (x, y, w, h)."""

    images: list[Image.Image] | npt.NDArray[np.uint8]
    fills: list[npt.NDArray[np.uint8]]
    box: tuple[int, int, int, int]

    @classmethod
    def of(cls, canvas: Canvas, fills: list[npt.NDArray[np.uint8]], box: Box, output_type: str) -> Self:
        """With the images as `output_type` has them: "pil", or "np" ((N, H, W, 3))."""
        images: Any = [compose.paste(canvas.pixels, fill, box) for fill in fills]
        images = [Image.fromarray(it) for it in images] if output_type == "pil" else np.stack(images)
        return cls(images=images, fills=fills, box=(box.x, box.y, box.w, box.h))


def as_callback(
    pipeline: Any, on_step_end: StepCallback | None, inputs: Sequence[str], name: str
) -> Callback | None:
    """What `denoise` calls after a step, of a pipeline's `callback_on_step_end`, which knows its tokens as `name`."""
    if on_step_end is None:
        return None

    def on_step(step: int, timestep: Tensor, tokens: Tensor, clean: Tensor) -> Tensor | None:
        values = {name: tokens} if name in inputs else {}
        return on_step_end(pipeline, step, timestep, values).get(name)

    return on_step
