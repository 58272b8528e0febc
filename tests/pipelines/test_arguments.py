"""What pipelines take for a picture, a mask and a sketch, and what they refuse in a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lazydiffusion.canvas import Canvas
from lazydiffusion.errors import BadInput
from lazydiffusion.pipelines.arguments import canvas_array, check_edit, mask_array, sketch_array

pytestmark = pytest.mark.unit


def test_a_picture_and_its_bytes_are_the_same_canvas() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    assert np.array_equal(canvas_array(pixels), pixels)
    assert np.array_equal(canvas_array(Image.fromarray(pixels)), pixels)
    assert canvas_array(Image.new("L", (24, 16), 7)).tolist() == np.full((16, 24, 3), 7).tolist()


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64, bool])
def test_a_mask_of_bytes_and_one_of_shares_say_the_same(kind: type) -> None:
    levels = np.array([[0, 255]] if kind is np.uint8 else [[0, 1]], kind)
    mask = mask_array(levels)
    assert mask.dtype == np.float32
    assert mask.tolist() == [[0, 1]]


def test_levels_of_a_mask_are_kept_and_those_out_of_range_are_not() -> None:
    assert mask_array(np.array([[51, 102]], np.uint8)) == pytest.approx(np.array([[0.2, 0.4]]))
    assert mask_array(Image.new("RGB", (2, 1), (51, 51, 51))) == pytest.approx(np.full((1, 2), 0.2))
    assert mask_array(np.array([[-0.5, 0.25, 2.0]])).tolist() == [[0, 0.25, 1]]


def test_a_sketch_may_be_left_out() -> None:
    assert sketch_array(None) is None
    assert np.array_equal(sketch_array(Image.new("RGB", (2, 1), "red")), [[(255, 0, 0, 255)] * 2])


@pytest.mark.parametrize(
    ("read", "given", "words"),
    [
        (canvas_array, np.zeros((4, 5, 3)), "The image is an array of float64 (4, 5, 3); it must be uint8"),
        (canvas_array, np.zeros((4, 5, 4), np.uint8), "an array of uint8 (4, 5, 4)"),
        (canvas_array, np.zeros((4, 3), np.uint8), "an array of uint8 (4, 3)"),
        (mask_array, np.zeros((4, 5, 1)), "The mask is an array of shape (4, 5, 1)"),
        (sketch_array, np.zeros((4, 5, 4)), "The sketch is an array of float64 (4, 5, 4); it must be uint8"),
        (sketch_array, np.zeros((4, 5, 3), np.uint8), "an array of uint8 (4, 5, 3)"),
        (sketch_array, np.zeros((5, 4), np.uint8), "an array of uint8 (5, 4)"),
    ],
)
def test_arrays_of_another_kind_are_refused(read: Callable[[Any], Any], given: object, words: str) -> None:
    with pytest.raises(BadInput, match=re.escape(words)):
        read(given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask": np.zeros((16, 23))}, "The mask is 23 x 16 px but the canvas is 24 x 16 px"),
        ({"sketch": np.zeros((24, 16, 4))}, "The sketch is 16 x 24 px but the canvas is 24 x 16 px"),
        ({"strength": 0.0}, "The strength is 0; it must be above 0 and at most 1."),
        ({"strength": 1.01}, "The strength is 1.01"),
        ({"strength": float("nan")}, "The strength is nan"),
        ({"steps": 0}, "The number of steps is 0"),
        ({"guidance": -0.1}, "The guidance is -0.1"),
    ],
)
def test_what_an_edit_cannot_be_is_told(changes: dict[str, Any], words: str) -> None:
    possible: dict[str, Any] = {
        "canvas": Canvas.of(np.zeros((16, 24, 3), np.uint8)), "mask": np.ones((16, 24)),
        "sketch": np.zeros((16, 24, 4)), "strength": 1, "steps": 1, "guidance": 0,
    }  # fmt: skip
    check_edit(**possible)
    with pytest.raises(BadInput, match=re.escape(words)):
        check_edit(**{**possible, **changes})
