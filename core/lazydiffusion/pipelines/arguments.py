"""What pipelines are called with, checked: pictures of several kinds as arrays, and sizes that must fit each other."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lazydiffusion.canvas import Canvas
from lazydiffusion.errors import BadInput


def canvas_array(image: Any) -> npt.NDArray[np.uint8]:
    """A picture as (H, W, 3) uint8. Raises BadInput."""
    if image is None:
        raise BadInput("There is no image: give the canvas as `image`.")
    array = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise BadInput(
            f"The image is an array of {array.dtype} {array.shape}; it must be uint8 (height, width, 3)."
        )
    return array


def mask_array(mask: Any) -> npt.NDArray[np.float32]:
    """A greyscale picture, or an array of bytes or of 0..1, as (H, W) from 0 to 1. Raises BadInput."""
    if mask is None:
        raise BadInput("There is no mask: give `mask_image`, above 0 where the picture should be generated.")
    array = np.asarray(mask.convert("L") if isinstance(mask, Image.Image) else mask)
    if array.ndim != 2:
        raise BadInput(f"The mask is an array of shape {array.shape}; it must be (height, width).")
    scale = 255 if array.dtype == np.uint8 else 1
    return np.clip(array.astype(np.float32) / scale, 0, 1)


def sketch_array(sketch: Any) -> npt.NDArray[np.uint8] | None:
    """A picture as (H, W, 4) uint8; None stays None. Raises BadInput."""
    if sketch is None:
        return None
    array = np.asarray(sketch.convert("RGBA") if isinstance(sketch, Image.Image) else sketch)
    if array.ndim != 3 or array.shape[2] != 4 or array.dtype != np.uint8:
        raise BadInput(
            f"The sketch is an array of {array.dtype} {array.shape}; it must be uint8 (height, width, 4)."
        )
    return array


def check_output_type(output_type: str) -> None:
    """Raises BadInput for another than "pil" and "np"."""
    if output_type not in ("pil", "np"):
        raise BadInput(f'The output type is "{output_type}"; it must be "pil" or "np".')


def check_count(fills: int) -> None:
    """Raises BadInput for a number of fills that is none."""
    if not (isinstance(fills, Integral) and fills >= 1):
        raise BadInput(f"The number of images per prompt is {fills}; it must be a whole number, 1 or more.")


def check_edit(
    canvas: Canvas,
    mask: npt.NDArray[Any],
    sketch: npt.NDArray[Any] | None,
    strength: float,
    steps: int,
    guidance: float,
) -> None:
    """Raises BadInput for a mask or sketch of another size than the canvas's region, and for numbers out of range."""
    for name, picture in (("mask", mask), ("sketch", sketch)):
        if picture is not None and picture.shape[:2] != canvas.pixels.shape[:2]:
            raise BadInput(
                f"The {name} is {picture.shape[1]} x {picture.shape[0]} px but the canvas is {canvas.region.w} x "
                f"{canvas.region.h} px; they must be the same size."
            )
    if not 0 < strength <= 1:
        raise BadInput(f"The strength is {strength:g}; it must be above 0 and at most 1.")
    if not (isinstance(steps, Integral) and steps >= 1):
        raise BadInput(f"The number of steps is {steps}; it must be a whole number, 1 or more.")
    if not (isinstance(guidance, Real) and 0 <= guidance < math.inf):
        raise BadInput(f"The guidance is {guidance}; it must be a number, 0 or more. 1 is off.")
