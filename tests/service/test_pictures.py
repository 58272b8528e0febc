"""Fills, previews and thumbnails as PNG files."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from tests.service.small_edits import BOX, small_edit, small_fill

from lazydiffusion.canvas import Canvas
from lazydiffusion.engines.base import Fill
from lazydiffusion.service import pictures
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit


def opened(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.asarray(image)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(4))))
def test_a_fill_comes_back_as_it_was_also_where_it_is_transparent(pixels: np.ndarray) -> None:
    assert np.array_equal(pictures.pixels(pictures.png(pixels)), pixels)


def test_a_fill_may_have_more_pixels_than_pillow_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself it refuses 179 megapixels, and our largest canvas has 268."""
    png = pictures.png(small_fill().pixels)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert pictures.pixels(png).shape == (6, 8, 4)


def test_a_damaged_file_is_refused() -> None:
    png = pictures.png(np.random.default_rng(0).integers(0, 256, (40, 40, 4), dtype=np.uint8))
    for damaged in (b"", b"no picture", png[:500]):
        with pytest.raises((OSError, SyntaxError)):
            pictures.pixels(damaged)


@pytest.mark.parametrize("make", [pictures.png, pictures.stored_png])
def test_only_a_whole_file_of_the_right_size_is_given_out(make: Callable[[np.ndarray], bytes]) -> None:
    shown = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    file = make(shown)
    assert pictures.whole(file, [30, 20]) == file
    assert pictures.raw(file, [30, 20]) == shown.tobytes()
    assert pictures.whole(file, [20, 30]) is pictures.raw(file, [20, 30]) is None
    for length in range(len(file)):
        assert pictures.whole(file[:length], [30, 20]) is None
        assert pictures.raw(file[:length], [30, 20]) in (None, shown.tobytes())
    for at in range(len(file)):
        assert pictures.whole(file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :], [30, 20]) is None
    assert pictures.raw(file[: len(file) // 2], [30, 20]) is None


@pytest.mark.parametrize(
    ("size", "expected"),
    [((100, 40), (100, 40)), ((192, 1), (192, 1)), ((1000, 500), (192, 96)), ((3, 4000), (1, 192))],
)
def test_a_preview_is_small(size: tuple[int, int], expected: tuple[int, int]) -> None:
    png = base64.b64decode(pictures.small_png_base64(np.full((size[1], size[0], 3), 9, np.uint8)))
    assert opened(png).shape == (expected[1], expected[0], 3)


def test_a_thumbnail_shows_the_fill_and_a_little_around_it() -> None:
    edit = small_edit()
    thumbnail = opened(pictures.thumbnail(edit.canvas, small_fill(200)))
    margin = 1  # 0.15 of the longer side, 8 px
    assert thumbnail.shape == (BOX.h + 2 * margin, BOX.w + 2 * margin, 3)
    assert (thumbnail[margin:-margin, margin:-margin] == (200, 50, 200)).all()
    assert (thumbnail[0] == 90).all()


def test_where_the_fill_is_transparent_a_thumbnail_shows_the_canvas() -> None:
    fill = small_fill(200)
    fill.pixels[:, :4, 3] = 0
    thumbnail = opened(pictures.thumbnail(small_edit().canvas, fill))
    assert (thumbnail[1:-1, 1:5] == 90).all()
    assert (thumbnail[1:-1, 5:-1] == (200, 50, 200)).all()


def test_a_thumbnail_ends_where_the_known_region_ends() -> None:
    region = Box(100, 200, 30, 40)
    pixels = np.full((40, 30, 3), 90, np.uint8)
    canvas = Canvas((1000, 1000), region, pixels, overview=np.zeros((10, 10, 3), np.uint8))
    fill = small_fill(7, Box(100, 210, 30, 30))  # touches the left, right and lower edges
    thumbnail = opened(pictures.thumbnail(canvas, fill))
    assert thumbnail.shape == (4 + 30, 30, 3)
    assert (thumbnail[:4] == 90).all()
    assert (thumbnail[4:] == (7, 50, 200)).all()
    assert (pixels == 90).all()  # the canvas itself is as it was


@pytest.mark.parametrize("size", [(2000, 10), (10, 2000), (700, 700), (1, 1)])
def test_a_thumbnail_has_at_most_256_px_a_side(size: tuple[int, int]) -> None:
    canvas = Canvas.of(np.zeros((2048, 2048, 3), np.uint8))
    fill = Fill(np.full((size[1], size[0], 4), 255, np.uint8), Box(3, 5, *size), 0)
    assert max(opened(pictures.thumbnail(canvas, fill)).shape) <= 256


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_stored_file_is_a_png_of_the_same_pixels(width: int, height: int, seed: int) -> None:
    rgba = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    stored = pictures.stored_png(rgba)
    with Image.open(io.BytesIO(stored)) as image:
        image.load()
        assert (image.format, image.mode) == ("PNG", "RGBA")
        assert np.array_equal(np.asarray(image), rgba)
    assert np.array_equal(pictures.pixels(pictures.compressed_png(stored)), rgba)


def test_compressing_makes_a_stored_file_smaller() -> None:
    flat = np.full((200, 300, 4), 90, np.uint8)
    stored = pictures.stored_png(flat)
    assert len(stored) > flat.nbytes
    assert len(pictures.compressed_png(stored)) < flat.nbytes / 50
