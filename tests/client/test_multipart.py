"""An edit on the wire: the JSON first, then each picture's bytes, none of them copied."""

from __future__ import annotations

import json
import time
import tracemalloc
from email.parser import BytesParser

import pytest

from lazydiffusion.client.multipart import SLICE, MultipartBody
from lazydiffusion.protocol import EditRequest, EditSettings, ImageData
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit


def test_the_parts_come_in_order_as_long_as_announced() -> None:
    request = EditRequest(
        EditSettings(prompt="a \r\n--cat"), (64, 64),
        canvas=ImageData("rgb8", (16, 16), bytes(768)),
        mask=ImageData("grey8", (16, 16), bytearray(range(256))),
        region=Box(8, 8, 16, 16),
        sketch=ImageData("rgba8", (16, 16), memoryview(bytes(1024)).cast("B", (16, 64))),
        overview=ImageData("png", (32, 32), b"any png\r\n"),
    )  # fmt: skip
    body = MultipartBody(request)
    whole = b"".join(body)
    assert len(whole) == body.length
    assert b"".join(body) == whole  # once more

    message = BytesParser().parsebytes(b"Content-Type: " + body.content_type.encode() + b"\r\n\r\n" + whole)
    parts = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.get_payload()
    }
    assert list(parts) == ["request", "canvas", "mask", "sketch", "overview"]
    assert json.loads(parts["request"]) == request.header()
    assert whole.count(bytes(range(256))) == 1
    assert b"\r\n\r\nany png\r\n\r\n--" in whole


def test_a_large_canvas_is_neither_copied_nor_slow() -> None:
    request = EditRequest(
        EditSettings(), (2048, 2048),
        ImageData("rgb8", (2048, 2048), bytes(2048 * 2048 * 3)), ImageData("grey8", (2048, 2048), bytes(2048**2)),
    )  # fmt: skip
    tracemalloc.start()
    begin = time.perf_counter()
    body = MultipartBody(request)
    pieces = [len(piece) for piece in body]
    took = time.perf_counter() - begin
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(pieces) == body.length
    assert max(pieces) <= SLICE
    assert peak < 100_000  # bytes
    assert took < 0.05


def test_pictures_with_gaps_between_their_bytes_are_sent_without_them() -> None:
    every_second = memoryview(bytes(range(256)) * 2)[::2]
    request = EditRequest(
        EditSettings(), (16, 16), ImageData("rgb8", (16, 16), bytes(768)), ImageData("grey8", (16, 16), every_second)
    )  # fmt: skip
    assert every_second.tobytes() in b"".join(MultipartBody(request))
