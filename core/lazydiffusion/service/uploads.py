"""The body of a request for an edit: read with every limit checked before memory is taken, then decoded."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import numpy.typing as npt
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from lazydiffusion import images
from lazydiffusion.canvas import Canvas
from lazydiffusion.engines.base import Edit
from lazydiffusion.errors import BadInput
from lazydiffusion.geometry import bounding_box
from lazydiffusion.protocol import (
    IMAGES,
    MAX_REQUEST,
    MAX_SIDE,
    PNG,
    PROTOCOL,
    EditRequest,
    ImageData,
    raw_bytes,
    settings_of,
)
from lazydiffusion.service.errors import OtherProtocol, TooLarge, WrongRequest
from lazydiffusion.window import Box, region_needed

MAX_BODY = 2 * 1024**3
"""Longest body, bytes: a canvas of the largest size as raw RGB, with its mask, fits."""
MAX_PARTS = 1 + len(IMAGES)
MAX_PART_HEADER = 1024
"""Longest header line of a part, bytes."""

Pixels = npt.NDArray[np.uint8]


async def read_request(content_type: str, length: int | None, chunks: AsyncIterator[bytes]) -> EditRequest:
    """An edit's request of its body. `length`: the Content-Length, if there is one.

    Raises WrongRequest for what is malformed, TooLarge, OtherProtocol, and BadInput for what cannot be an edit.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise WrongRequest("The body must be multipart/form-data with a boundary.")
    if length is not None and length > MAX_BODY:
        raise TooLarge(f"The request has {length} bytes; {MAX_BODY} are allowed. Select a smaller part.")
    form = _Form(boundary)
    taken = 0
    async for chunk in chunks:
        taken += len(chunk)
        if taken > MAX_BODY:
            raise TooLarge(f"The request has more than {MAX_BODY} bytes. Select a smaller part.")
        form.write(chunk)
    return form.finish()


def decode(request: EditRequest) -> Edit:
    """The arrays of a request: takes a moment for large pictures. Raises BadInput, OutOfMemory."""
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


class _Form:
    """The parts of a body as they come in. The first says how long the others may be."""

    def __init__(self, boundary: bytes):
        self.parts: dict[str, bytearray] = {}
        self.header: dict[str, Any] | None = None
        self._limits: dict[str, int] = {"request": MAX_REQUEST}
        self._name = ""
        self._field, self._value = b"", b""
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise WrongRequest(f"The body is no proper multipart/form-data: {error}.") from error

    def finish(self) -> EditRequest:
        if not self._ended:
            raise WrongRequest("The body ends in the middle of a part.")
        if self.header is None:
            raise WrongRequest('The part "request" is missing.')
        return _assemble(self.header, self.parts)

    def _begin_part(self) -> None:
        self._name = ""
        if len(self.parts) >= MAX_PARTS:
            raise WrongRequest(f"There are more than {MAX_PARTS} parts.")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]
        if len(self._field) > MAX_PART_HEADER:
            raise WrongRequest("A part's header is too long.")

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        if len(self._value) > MAX_PART_HEADER:
            raise WrongRequest("A part's header is too long.")

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"name", b"").decode("latin-1")
        self._field, self._value = b"", b""

    def _end_headers(self) -> None:
        if self._name in self.parts:
            raise WrongRequest(f'There are two parts "{self._name}".')
        if self._name not in self._limits:
            known = ", ".join(self._limits)
            raise WrongRequest(
                f'The part "{self._name[:32]}" was not announced; known here: {known}. "request" comes first.'
            )
        self.parts[self._name] = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[self._name]
        if len(part) + end - start > self._limits[self._name]:
            raise TooLarge(
                f'The part "{self._name}" is longer than the {self._limits[self._name]} bytes that its size allows.'
            )
        part += memoryview(data)[start:end]

    def _end_part(self) -> None:
        if self._name == "request":
            self.header = _read_header(bytes(self.parts["request"]))
            self._limits |= {name: _limit(image) for name, image in self.header["images"].items()}

    def _end(self) -> None:
        self._ended = True


def _read_header(data: bytes) -> dict[str, Any]:
    """The JSON part, its shape checked; the values are checked by EditRequest."""
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WrongRequest(f'The part "request" is no JSON: {error}.') from error
    if not isinstance(header, dict):
        raise WrongRequest('The part "request" must be a JSON object.')
    version = header.get("protocol")
    if not isinstance(version, int) or isinstance(version, bool):
        raise WrongRequest('"protocol" must be a whole number.')
    if version != PROTOCOL:
        raise OtherProtocol(
            f"The editor's plugin speaks version {version} of the protocol and the core version {PROTOCOL}: "
            f"update the {'core' if version > PROTOCOL else 'plugin'}."
        )
    images_ = header.get("images")
    if (
        not isinstance(images_, dict)
        or not set(images_) <= set(IMAGES)
        or not {"canvas", "mask"} <= set(images_)
    ):
        raise WrongRequest(f'"images" must hold canvas and mask, and may hold {", ".join(IMAGES[2:])}.')
    for name, image in images_.items():
        if not isinstance(image, dict) or not isinstance(image.get("format"), str):
            raise WrongRequest(f'"images": "{name}" must be an object with format and size.')
        if not _whole_numbers(image.get("size"), 2):
            raise WrongRequest(f'"images": the size of "{name}" must be [width, height].')
    if not _whole_numbers(header.get("canvas_size"), 2):
        raise WrongRequest('"canvas_size" must be [width, height].')
    if header.get("region") is not None and not _whole_numbers(header["region"], 4):
        raise WrongRequest('"region" must be [x, y, w, h] or null.')
    if not isinstance(header.get("settings"), dict):
        raise WrongRequest('"settings" must be an object.')
    if not isinstance(header.get("client", ""), str):
        raise WrongRequest('"client" must be a text.')
    return header


def _limit(image: dict[str, Any]) -> int:
    """Bytes that a declared picture may have; for a PNG a little more than its raw pixels."""
    width, height = image["size"]
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise BadInput(f"A picture is {width} x {height} px; each side must be between 1 and {MAX_SIDE} px.")
    raw = raw_bytes(image["format"], (width, height))
    return raw if raw is not None else 8 * width * height + height + 2**20


def _assemble(header: dict[str, Any], parts: dict[str, bytearray]) -> EditRequest:
    missing = [name for name in header["images"] if name not in parts]
    if missing:
        raise WrongRequest(f'The part "{missing[0]}" was announced but is missing.')
    given = {
        name: ImageData(image["format"], (image["size"][0], image["size"][1]), parts[name])
        for name, image in header["images"].items()
    }
    settings = settings_of(header["settings"])
    region = Box(*header["region"]) if header.get("region") is not None else None
    size = (header["canvas_size"][0], header["canvas_size"][1])
    return EditRequest(
        settings=settings, canvas_size=size, region=region, client=header.get("client", ""),
        canvas=given["canvas"], mask=given["mask"], sketch=given.get("sketch"), overview=given.get("overview"),
    )  # fmt: skip


def _colours(image: ImageData, name: str) -> Pixels:
    """(h, w, 3); alpha is left out."""
    if image.format == PNG:
        picture = images.read_canvas(io.BytesIO(image.data))
        _check_size(picture.size, image, name)
        return images.to_srgb(picture)
    return _as_rgb(_raw(image), image.format)


def _mask(image: ImageData) -> npt.NDArray[np.float32]:
    if image.format == PNG:
        return images.read_mask(io.BytesIO(image.data), image.size)
    pixels = _raw(image)
    if image.format == "grey8":
        levels = pixels[..., 0].astype(np.float32)
    else:
        luminance = _as_rgb(pixels, image.format) @ np.array([0.299, 0.587, 0.114], np.float32)
        opacity = pixels[..., 3] / np.float32(255) if pixels.shape[2] == 4 else np.float32(1)
        levels = luminance * opacity
    if not levels.any():
        raise BadInput("The selection is empty: select the part of the picture that should be generated.")
    return np.asarray(levels / np.float32(255), np.float32)


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


def _check_size(found: tuple[int, int], image: ImageData, name: str) -> None:
    if found != image.size:
        raise BadInput(
            f"The {name} is {found[0]} x {found[1]} px, but {image.size[0]} x {image.size[1]} px were announced."
        )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole_numbers(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(_whole(v) for v in value)
