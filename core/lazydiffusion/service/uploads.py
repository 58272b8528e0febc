"""The body of a request for an edit: read with every limit checked before memory is taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import (
    BYTES_PER_PIXEL,
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
from lazydiffusion.window import Box

MAX_BODY = 2 * 1024**3
"""Longest body, bytes: a canvas of the largest size as raw RGB, with its mask, fits."""
MAX_PARTS = 1 + len(IMAGES)
MAX_PART_HEADER = 1024
"""Longest header line of a part, bytes."""
MAX_DIGITS = 20
"""Digits that a whole number in the JSON part may have: any more fit no setting, and not every conversion."""
PATIENCE = 20.0
"""Seconds without a byte after which a body is given up: a client sends at once what it has in memory."""


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
    async for chunk in _in_time(chunks):
        taken += len(chunk)
        if taken > MAX_BODY:
            raise TooLarge(f"The request has more than {MAX_BODY} bytes. Select a smaller part.")
        form.write(chunk)
    return form.finish()


async def _in_time(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, as long as they keep coming."""
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise WrongRequest(
                f"The rest of the request did not come within {PATIENCE:g} seconds."
            ) from error
        yield chunk


class _Form:
    """The parts of a body as they come in. The first says how long the others may be."""

    def __init__(self, boundary: bytes):
        self.parts: dict[str, bytearray] = {}
        self.header: dict[str, Any] | None = None
        self._limits: dict[str, int] = {"request": MAX_REQUEST}
        self._name = ""
        self._field, self._value = b"", b""
        self._ended = False
        with _told():
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
        with _told():
            self._parser.write(chunk)

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


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except FormParserError as error:
        raise WrongRequest(f"The body is no proper multipart/form-data: {error}.") from error


def _read_header(data: bytes) -> dict[str, Any]:
    """The JSON part, its shape checked; the values are checked by EditRequest."""
    try:
        header = json.loads(data.decode("utf8"), parse_int=_whole_number, parse_constant=_no_number)
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
        if not isinstance(image, dict) or image.get("format") not in (*BYTES_PER_PIXEL, PNG):
            known = ", ".join((*BYTES_PER_PIXEL, PNG))
            raise WrongRequest(f'"images": "{name}" must be an object with size and a format of {known}.')
        if not _whole_numbers(image.get("size"), 2):
            raise WrongRequest(f'"images": the size of "{name}" must be [width, height].')
    if not _whole_numbers(header.get("canvas_size"), 2):
        raise WrongRequest('"canvas_size" must be [width, height].')
    if header.get("region") is not None and not _whole_numbers(header["region"], 4):
        raise WrongRequest('"region" must be [x, y, w, h] or null.')
    if not isinstance(header.get("settings"), dict):
        raise WrongRequest('"settings" must be an object.')
    if not _is_text(header.get("client", "")):
        raise WrongRequest('"client" must be a text.')
    for name in ("while_watched", "draft"):
        if not isinstance(header.get(name, False), bool):
            raise WrongRequest(f'"{name}" must be true or false.')
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
        while_watched=header.get("while_watched", False), draft=header.get("draft", False),
    )  # fmt: skip


def _whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number there")


def _is_text(value: object) -> bool:
    """Whether it is a text that can be written and sent on: JSON can also spell half a character."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole_numbers(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(_whole(v) for v in value)
