"""The pictures of a request for an edit as arrays."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from lazydiffusion import images
from lazydiffusion.canvas import Canvas
from lazydiffusion.engines.base import Edit
from lazydiffusion.errors import BadInput, OutOfMemory
from lazydiffusion.geometry import bounding_box
from lazydiffusion.protocol import PNG, EditRequest, ImageData
from lazydiffusion.window import Box, region_needed

Pixels = npt.NDArray[np.uint8]


def decoded_bytes(request: EditRequest) -> int:
    """Memory that the arrays of a request take: a PNG file of a few bytes may be a picture of a gigabyte."""
    per_pixel = {"canvas": 3, "overview": 3, "mask": 4, "sketch": 4}
    return sum(per_pixel[name] * i.size[0] * i.size[1] for name, i in request.images().items())


def decode(request: EditRequest) -> Edit:
    """The arrays of a request: takes a moment for large pictures. Raises BadInput, OutOfMemory."""
    try:
        return _decode(request)
    except MemoryError as error:
        raise OutOfMemory(
            "The pictures do not fit in memory: close other programs, or select a smaller part."
        ) from error


def _decode(request: EditRequest) -> Edit:
    region = request.part
    size = (region.w, region.h)
    pixels = _colours(request.canvas, "canvas")
    mask = _mask(request.mask)
    if region != Box(0, 0, *request.canvas_size):
        box = bounding_box(mask).moved(region.x, region.y)
        settings = request.settings
        needed = region_needed(request.canvas_size, box, settings.grow, settings.feather)
        if not region.contains(needed):
            raise BadInput(
                f"The part of the canvas that was sent, {region.as_list()}, is too small for the selection "
                f"{box.as_list()}: send at least {needed.as_list()}."
            )
    overview = _colours(request.overview, "overview") if request.overview is not None else None
    sketch = _sketch(request.sketch, size) if request.sketch is not None else None
    return Edit(Canvas(request.canvas_size, region, pixels, overview), mask, request.settings, sketch)


def _colours(image: ImageData, name: str) -> Pixels:
    """(h, w, 3); where it is transparent, white shows through."""
    if image.format == PNG:
        return images.to_srgb(images.read_canvas(io.BytesIO(image.data), image.size, name))
    pixels = _raw(image)
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    return images.over_white(_as_rgb(pixels, image.format), alpha)


def _mask(image: ImageData) -> npt.NDArray[np.float32]:
    if image.format == PNG:
        return images.read_mask(io.BytesIO(image.data), image.size)
    pixels = _raw(image)
    if image.format == "grey8":
        levels = pixels[..., 0].astype(np.float32)
    else:
        order = (2, 1, 0) if image.format == "bgra8" else (0, 1, 2)
        levels = np.zeros(pixels.shape[:2], np.float32)
        # Channel by channel: all three as floats at once would be twelve bytes a pixel.
        for channel, weight in zip(order, (0.299, 0.587, 0.114), strict=True):
            levels += pixels[..., channel] * np.float32(weight)
        if pixels.shape[2] == 4:
            levels *= pixels[..., 3] / np.float32(255)
    if not levels.any():
        raise BadInput("The selection is empty: select the part of the picture that should be generated.")
    levels /= np.float32(255)
    return levels


def _sketch(image: ImageData, size: tuple[int, int]) -> Pixels:
    """(h, w, 4), straight alpha."""
    if image.format == PNG:
        return images.read_sketch(io.BytesIO(image.data), size)
    pixels = _raw(image)
    opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    alpha = pixels[..., 3:] if pixels.shape[2] == 4 else opaque
    return np.concatenate([_as_rgb(pixels, image.format), alpha], axis=-1)


def _raw(image: ImageData) -> Pixels:
    width, height = image.size
    return np.frombuffer(image.data, np.uint8).reshape(height, width, -1)


def _as_rgb(pixels: Pixels, format: str) -> Pixels:
    if format == "grey8":
        return np.repeat(pixels, 3, axis=-1)
    if format == "bgra8":
        return np.ascontiguousarray(pixels[..., 2::-1])
    return pixels[..., :3] if format == "rgb8" else np.ascontiguousarray(pixels[..., :3])
