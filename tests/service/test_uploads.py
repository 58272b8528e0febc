"""A request's body read in pieces of any size, and its pictures in every format as arrays."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.service.core_process import edit_request
from tests.service.raw_http import BOUNDARY, as_the_client_sends, multipart, parts_of

from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import EditRequest, ImageData
from lazydiffusion.service import uploads
from lazydiffusion.service.decoding import decode, decoded_bytes
from lazydiffusion.service.errors import OtherProtocol, Refusal, TooLarge, WrongRequest
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit

SIZE = (24, 18)
KIND = f"multipart/form-data; boundary={BOUNDARY}"
RNG = np.random.default_rng(5)
RGBA = RNG.integers(0, 256, (SIZE[1], SIZE[0], 4), dtype=np.uint8)
RGB, ALPHA = RGBA[..., :3], RGBA[..., 3]
GREY = RGBA[..., 0]
FORMATS = {
    "grey8": GREY,
    "rgb8": RGB,
    "rgba8": RGBA,
    "bgra8": RGBA[..., [2, 1, 0, 3]],
}


def read(body: bytes, cuts: Iterator[int] | None = None, kind: str = KIND) -> EditRequest:
    """The request of a body that comes in pieces of the lengths `cuts`."""

    async def chunks() -> AsyncIterator[bytes]:
        start = 0
        while start < len(body):
            end = start + (next(cuts) if cuts is not None else len(body))
            yield body[start:end]
            start = end

    return asyncio.run(uploads.read_request(kind, len(body), chunks()))


def image(array: np.ndarray, format: str) -> ImageData:
    return ImageData(format, (array.shape[1], array.shape[0]), array.tobytes())


def png(picture: Image.Image, **options: object) -> ImageData:
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return ImageData("png", picture.size, file.getvalue())


def with_images(**images: ImageData) -> EditRequest:
    settings = edit_request(model="clipart").settings
    own = {"canvas": image(RGB, "rgb8"), "mask": image(GREY, "grey8")}
    return EditRequest(settings, SIZE, **{**own, **images})  # type: ignore[arg-type]


def sent(request: EditRequest) -> EditRequest:
    """What arrives of it."""
    content_type, body = as_the_client_sends(request)
    return read(body, kind=content_type)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=40))
def test_where_a_body_is_cut_makes_no_difference(lengths: list[int]) -> None:
    request = with_images(sketch=image(RGBA, "rgba8"))
    content_type, body = as_the_client_sends(request)
    found = read(body, cuts=(lengths[i % len(lengths)] for i in range(len(body))), kind=content_type)
    assert found.header() == request.header()
    assert {name: bytes(i.data) for name, i in found.images().items()} == {
        name: bytes(i.data) for name, i in request.images().items()
    }


@given(st.binary(min_size=16 * 16, max_size=16 * 16))
def test_pixels_may_look_like_boundaries(noise: bytes) -> None:
    tricky = (b"\r\n--" + BOUNDARY[:-1].encode() + b"\r\n--\r\n" + noise)[: 16 * 16]
    plain = edit_request(16, 16, (2, 2, 4, 4))
    request = replace(plain, mask=ImageData("grey8", (16, 16), tricky))
    assert bytes(read(multipart(parts_of(request)), cuts=iter([7] * 10_000)).mask.data) == tricky


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """What lies on paper, from the definition of "over"."""
    share = alpha[..., None] / 255
    return np.floor(colours * share + 255 * (1 - share) + 0.5).astype(np.uint8)


@pytest.mark.parametrize("format", [*FORMATS, "png"])
def test_a_canvas_is_the_same_in_every_format(format: str) -> None:
    data = png(Image.fromarray(RGBA)) if format == "png" else image(FORMATS[format], format)
    wanted = np.repeat(GREY[..., None], 3, axis=-1) if format == "grey8" else RGB
    if format not in ("grey8", "rgb8"):
        wanted = on_white(RGB, ALPHA)
    assert np.array_equal(decode(sent(with_images(canvas=data))).canvas.pixels, wanted)


@pytest.mark.parametrize("format", [*FORMATS, "png"])
def test_a_mask_is_luminance_times_opacity(format: str) -> None:
    data = png(Image.fromarray(RGBA)) if format == "png" else image(FORMATS[format], format)
    luminance = GREY if format == "grey8" else RGB @ np.array([0.299, 0.587, 0.114])
    opacity = 1.0 if format in ("grey8", "rgb8") else ALPHA / 255
    mask = decode(sent(with_images(mask=data))).mask
    assert mask.dtype == np.float32
    assert np.abs(mask - luminance / 255 * opacity).max() < 1 / 255


@pytest.mark.parametrize("format", [*FORMATS, "png"])
def test_a_sketch_keeps_its_alpha(format: str) -> None:
    data = png(Image.fromarray(RGBA)) if format == "png" else image(FORMATS[format], format)
    colours = np.repeat(GREY[..., None], 3, axis=-1) if format == "grey8" else RGB
    alpha = np.full_like(ALPHA, 255) if format in ("grey8", "rgb8") else ALPHA
    sketch = decode(sent(with_images(sketch=data))).sketch
    assert sketch is not None
    assert np.array_equal(sketch, np.dstack([colours, alpha]))


def test_png_files_of_other_kinds_are_read() -> None:
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    few = Image.fromarray(RGB).quantize(16)
    line = Image.fromarray(GREY).convert("1")
    grey3 = np.repeat(GREY[..., None], 3, axis=-1)
    for picture, wanted in [
        (deep, grey3),
        (few, np.asarray(few.convert("RGB"))),
        (Image.fromarray(np.dstack([GREY, ALPHA]), "LA"), on_white(grey3, ALPHA)),
        (line, np.asarray(line.convert("RGB"))),
    ]:
        edit = decode(sent(with_images(canvas=png(picture), mask=png(picture))))
        assert np.abs(edit.canvas.pixels.astype(int) - wanted).max() <= 1, picture.mode
    mask = decode(sent(with_images(mask=png(deep)))).mask
    assert np.abs(mask - GREY / 255).max() < 1e-4


def test_a_small_overview_and_a_small_region_may_be_png_files() -> None:
    """As their raw pixels may: only a canvas has a shortest side."""
    request = EditRequest(
        edit_request(model="clipart").settings, (400, 300),
        png(Image.new("RGB", (8, 8))), png(Image.new("L", (8, 8), 255)),
        region=Box(0, 0, 8, 8), overview=png(Image.new("RGB", (12, 9), "red")),
    )  # fmt: skip
    # They are read; this region is too small for its mask.
    with pytest.raises(BadInput, match="send at least"):
        decode(request)
    overview = decode(with_images(overview=png(Image.new("RGB", (12, 9), "red")))).canvas.overview
    assert overview is not None
    assert overview.shape == (9, 12, 3)


@pytest.mark.parametrize("name", ["canvas", "mask", "sketch", "overview"])
def test_a_png_of_another_size_than_announced_is_named(name: str) -> None:
    other = replace(png(Image.fromarray(RGBA).resize((30, 20))), size=SIZE)
    with pytest.raises(BadInput, match=rf"{name} that was sent is 30 x 20 px, but 24 x 18 px were announced"):
        decode(with_images(**{name: other}))


@pytest.mark.parametrize("name", ["canvas", "mask", "sketch"])
@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", bytes(5000)])
def test_what_is_no_png_is_bad_input(name: str, data: bytes) -> None:
    with pytest.raises(BadInput, match=name):
        decode(with_images(**{name: ImageData("png", SIZE, data)}))


@pytest.mark.parametrize("format", ["grey8", "rgb8", "rgba8", "bgra8"])
def test_an_empty_mask_is_told_in_every_format(format: str) -> None:
    with pytest.raises(BadInput, match="selection is empty"):
        decode(with_images(mask=image(np.zeros_like(FORMATS[format]), format)))


def test_the_memory_of_an_edit_is_known_before_it_is_taken() -> None:
    request = with_images(
        canvas=png(Image.fromarray(RGB)), sketch=image(RGBA, "rgba8"), overview=image(RGB, "rgb8")
    )
    edit = decode(request)
    assert edit.sketch is not None
    assert edit.canvas.overview is not None
    arrays = (edit.canvas.pixels, edit.mask, edit.sketch, edit.canvas.overview)
    assert decoded_bytes(request) == sum(array.nbytes for array in arrays)


def changed(**changes: object) -> bytes:
    return multipart(parts_of(with_images(), **changes))


PARTS = parts_of(with_images())
NOT_EVEN_JSON = [
    b"",
    b"[]",
    b"null",
    b"{",
    b"\xff",
    b"[" * 60_000,
    b"\xef\xbb\xbf{}",
    b'{"protocol": 1'.ljust(70, b" "),
]


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (changed(protocol=2), OtherProtocol, "update the core"),
        (changed(protocol=0), OtherProtocol, "update the plugin"),
        (changed(protocol=True), WrongRequest, "protocol"),
        (changed(protocol="1"), WrongRequest, "protocol"),
        (changed(protocol=10**30), WrongRequest, "31 digits"),
        (changed(settings={"guidance": float("nan")}), WrongRequest, "NaN"),
        (changed(settings={"strength": float("-inf")}), WrongRequest, "Infinity"),
        (changed(settings={"strength": 10**400}), WrongRequest, "401 digits"),
        (changed(settings={"seed": -(10**18)}), BadInput, "seed"),
        (changed(settings={"steps": True}), BadInput, "steps"),
        (changed(settings={"prompt": None}), BadInput, "prompt"),
        (changed(settings={"prompt": "a\ud800"}), BadInput, "broken character"),
        (changed(settings=[]), WrongRequest, "settings"),
        (changed(client="\udfff"), WrongRequest, "client"),
        (changed(client=7), WrongRequest, "client"),
        (changed(canvas_size=[24.0, 18]), WrongRequest, "canvas_size"),
        (changed(canvas_size=[-24, 18]), BadInput, "canvas"),
        (changed(region=[0, 0, 24]), WrongRequest, "region"),
        (changed(region=[0, 0, -24, 18]), BadInput, "region"),
        (changed(images={}), WrongRequest, "canvas and mask"),
        (changed(images={"canvas": {"format": "\ud800", "size": [24, 18]}, "mask": 1}), WrongRequest, "format"),
        (multipart(PARTS[:2]), WrongRequest, '"mask" was announced but is missing'),
        (multipart(PARTS[1:]), WrongRequest, "comes first"),
        (multipart([*PARTS, PARTS[1]]), WrongRequest, 'two parts "canvas"'),
        (multipart([PARTS[0], *PARTS]), WrongRequest, 'two parts "request"'),
        (multipart([*PARTS, ("sketch", b"")]), WrongRequest, "not announced"),
        (multipart([*PARTS, ("\xff" * 500, b"")]), WrongRequest, "not announced"),
        (multipart([PARTS[0], PARTS[1], ("mask", bytes(433))]), TooLarge, "mask"),
        (multipart([PARTS[0], PARTS[1], ("mask", bytes(431))]), BadInput, "431"),
        (multipart(PARTS)[:-8], WrongRequest, "ends in the middle"),
        (multipart([]), WrongRequest, "request"),
        (b"", WrongRequest, "ends in the middle"),
        (b"\x00" * 100, WrongRequest, "multipart"),
        *((multipart([("request", data), *PARTS[1:]]), WrongRequest, "request|protocol") for data in NOT_EVEN_JSON),
    ],
)  # fmt: skip
def test_a_wrong_body_is_refused_with_its_reason(body: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read(body)
    with pytest.raises(error, match=words):
        read(body, cuts=iter([11] * (len(body) // 11 + 1)))


@pytest.mark.parametrize(
    "kind",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=a",
     "multipart/form-data; boundary=" + "a" * 5000, 'multipart/form-data; boundary="', "\xff; \xff=\xff",
     "multipart/form-data; boundary*=utf-8''%FF"],
)  # fmt: skip
def test_a_wrong_content_type_is_refused(kind: str) -> None:
    with pytest.raises(WrongRequest, match=r"multipart|in the middle"):
        read(multipart(PARTS), kind=kind)


def test_a_body_that_stops_coming_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PATIENCE", 0.05)

    async def stalled() -> AsyncIterator[bytes]:
        yield multipart(PARTS)[:100]
        await asyncio.Event().wait()

    with pytest.raises(WrongRequest, match="did not come"):
        asyncio.run(uploads.read_request(KIND, None, stalled()))


def test_a_body_that_comes_slowly_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PATIENCE", 0.2)
    body = multipart(PARTS)

    async def slow() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 200):
            await asyncio.sleep(0.03)
            yield body[start : start + 200]

    assert asyncio.run(uploads.read_request(KIND, None, slow())).canvas_size == SIZE


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 100))
def test_any_damage_is_refused_or_harmless(noise: bytes, where: int, gone: int) -> None:
    body = multipart(PARTS)
    where = where * len(body) // 400
    damaged = body[:where] + noise + body[where + gone :]
    try:
        header = read(damaged).header()
    except (Refusal, BadInput):
        return
    assert json.dumps(header, ensure_ascii=False).encode("utf8")  # can be written and sent on
