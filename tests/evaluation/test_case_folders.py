"""Cases from folders: what they may hold, and how each thing that is wrong with them is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.case_files import HOLE, SIZE, write_case

from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.own_cases.folders import find_cases
from lazydiffusion.protocol import EditSettings

pytestmark = pytest.mark.unit

SETTINGS = EditSettings(variations=3, steps=2)


def test_a_case_is_a_folder_of_pictures_and_words(tmp_path: Path) -> None:
    write_case(tmp_path / "b", "ein großes\r\nBoot", sketched=True)
    (tmp_path / "b" / "negative.txt").write_text("people", encoding="utf-8-sig")
    write_case(tmp_path / "a")
    Image.open(tmp_path / "a" / "canvas.png").save(tmp_path / "a" / "canvas.tif")
    (tmp_path / "a" / "canvas.png").unlink()
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / "notes.txt").touch()
    first, second = find_cases(tmp_path, SETTINGS)
    assert (first.name, first.settings.prompt, first.sketch) == ("a", "a cat", None)
    assert second.settings.prompt == "ein großes Boot"
    assert second.settings.negative_prompt == "people"
    assert (second.settings.variations, second.settings.steps) == (3, 2)
    edit = second.edit()
    assert edit.canvas.size == SIZE
    assert (edit.mask > 0).sum() == HOLE.w * HOLE.h
    assert edit.sketch is not None
    assert first.edit().sketch is None
    assert np.array_equal(first.edit().canvas.pixels, edit.canvas.pixels)


def test_a_folder_with_a_canvas_is_a_case_itself(tmp_path: Path) -> None:
    write_case(tmp_path / "boat")
    [case] = find_cases(tmp_path / "boat", SETTINGS)
    assert case.name == "boat"


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("no canvas", "Case boat: .* has no canvas: save it there, as canvas.png"),
        ("no mask", "Case boat: .* has no mask"),
        ("no prompt", "Case boat: .*prompt.txt is missing"),
        ("two canvases", "canvas.jpg and .*canvas.png are both there"),
        ("broken canvas", "Case boat: .*canvas.png is not a picture"),
        ("small mask", "Case boat: .*mask.png is 20 x 20 px, but the canvas is 96 x 64 px"),
        ("binary prompt", "prompt.txt is no text in UTF-8"),
        ("long prompt", "Case boat: The prompt has 2000 characters"),
    ],
)
def test_what_is_wrong_with_a_case_is_told(tmp_path: Path, harm: str, words: str) -> None:
    boat = write_case(tmp_path / "boat")
    if harm == "no canvas":
        (boat / "canvas.png").unlink()
    elif harm == "no mask":
        (boat / "mask.png").unlink()
    elif harm == "no prompt":
        (boat / "prompt.txt").unlink()
    elif harm == "two canvases":
        Image.new("RGB", SIZE).save(boat / "canvas.jpg")
    elif harm == "broken canvas":
        (boat / "canvas.png").write_text("a picture")
    elif harm == "small mask":
        Image.new("L", (20, 20), 255).save(boat / "mask.png")
    elif harm == "binary prompt":
        (boat / "prompt.txt").write_bytes(b"\xff\xfe\x00")
    else:
        (boat / "prompt.txt").write_text("x" * 2000)
    with pytest.raises(BadInput, match=words):
        find_cases(tmp_path, SETTINGS)


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere cannot be read \(No such file"):
        find_cases(tmp_path / "nowhere", SETTINGS)
    with pytest.raises(BadInput, match="There are no cases in"):
        find_cases(tmp_path, SETTINGS)
