"""Masks and sketches from files: what they say where, and which are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests import image_files
from tests.image_files import ORIENTATION, SIZE, gradient, png16, refusal, save

from lazydiffusion.images import Picture, read_mask, read_sketch, to_srgb

pytestmark = pytest.mark.unit


def circle(mode: str = "L") -> Image.Image:
    """A white disc on black."""
    image = Image.new(mode, SIZE)
    ImageDraw.Draw(image).ellipse(
        (10, 5, 30, 25), fill=tuple([255] * len(image.getbands())) if mode != "1" else 1
    )
    return image


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_white_on_black_says_generate(tmp_path: Path, mode: str) -> None:
    image = circle().convert("RGBA" if mode == "RGBA" else "RGB").convert(mode)
    image.save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", SIZE)
    assert mask.dtype == np.float32
    assert mask.shape == (32, 48)
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert ((mask == 1) == (np.asarray(circle()) == 255)).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_white_on_transparent_says_generate(tmp_path: Path, mode: str) -> None:
    white = Image.new(mode, SIZE, "white")
    white.putalpha(circle())
    white.save(tmp_path / "mask.png")
    assert ((read_mask(tmp_path / "mask.png", SIZE) == 1) == (np.asarray(circle()) == 255)).all()


def test_a_mask_is_luminance_times_opacity(tmp_path: Path) -> None:
    Image.new("RGBA", SIZE, (51, 51, 51, 102)).save(tmp_path / "mask.png")
    np.testing.assert_allclose(read_mask(tmp_path / "mask.png", SIZE), 0.2 * 0.4, rtol=1e-6)
    palette = Image.new("P", SIZE, 1)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.save(tmp_path / "mask.png", transparency=bytes([0, 51]))
    np.testing.assert_allclose(read_mask(tmp_path / "mask.png", SIZE), 0.2, rtol=1e-6)


def test_the_finest_steps_of_a_16_bit_mask_survive(tmp_path: Path) -> None:
    values = np.arange(48 * 32, dtype=np.uint16).reshape(32, 48)
    (tmp_path / "mask.png").write_bytes(png16(values, image_files.GREY))
    np.testing.assert_allclose(read_mask(tmp_path / "mask.png", SIZE), values / 65535, rtol=1e-5)


def test_a_float_mask_is_taken_as_it_is(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 48 * 32, dtype=np.float32).reshape(32, 48)
    (tmp_path / "mask.tif").write_bytes(image_files.tiff(values))
    assert (read_mask(tmp_path / "mask.tif", SIZE) == values).all()


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_masks_in_odd_colour_modes(tmp_path: Path, mode: str) -> None:
    circle("RGB").convert(mode).save(tmp_path / "mask.tif")
    np.testing.assert_allclose(
        read_mask(tmp_path / "mask.tif", SIZE), np.asarray(circle()).astype(np.float32) / 255, atol=0.01
    )


def test_colour_profiles_do_not_change_a_mask(tmp_path: Path) -> None:
    save(tmp_path / "mask.png", np.full((32, 48), 51, np.uint8), icc_profile=image_files.grey_profile(1.0))
    np.testing.assert_allclose(read_mask(tmp_path / "mask.png", SIZE), 0.2, rtol=1e-6)


def test_what_jpeg_leaves_around_a_mask_is_not_paint(tmp_path: Path) -> None:
    circle().save(tmp_path / "mask.jpg", quality=90)
    with Image.open(tmp_path / "mask.jpg") as stored:
        assert (np.asarray(stored)[np.asarray(circle()) == 0] > 0).any()
    mask = read_mask(tmp_path / "mask.jpg", SIZE)
    assert (mask[np.asarray(circle()) == 0] == 0).all()
    assert (mask[np.asarray(circle()) == 255] > 0.9).all()


def test_a_mask_is_turned_as_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    circle().save(tmp_path / "mask.png", exif=exif)
    assert read_mask(tmp_path / "mask.png", SIZE[::-1]).shape == (48, 32)


def test_a_mask_of_all_ones_works(tmp_path: Path) -> None:
    Image.new("L", SIZE, 255).save(tmp_path / "mask.png")
    assert (read_mask(tmp_path / "mask.png", SIZE) == 1).all()


@pytest.mark.parametrize("colour", [(0, 0, 0, 255), (255, 255, 255, 0), (0, 0, 0, 0)])
def test_an_empty_mask_is_refused(tmp_path: Path, colour: tuple[int, int, int, int]) -> None:
    path = tmp_path / "mask.png"
    Image.new("RGBA", SIZE, colour).save(path)
    assert "is empty" in refusal(lambda: read_mask(path, SIZE), path)


def test_a_mask_or_a_sketch_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    circle().save(path)
    for read in (read_mask, read_sketch):
        message = refusal(lambda read=read: read(path, (1024, 768)), path)
        assert "48 x 32 px" in message
        assert "1024 x 768 px" in message


def test_what_is_not_a_mask_file(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    assert "The mask" in refusal(lambda: read_mask(path, SIZE), path)
    path.write_bytes(save(path, gradient()).read_bytes()[:60])
    assert "is damaged" in refusal(lambda: read_mask(path, SIZE), path)


# Sketches


def test_an_opaque_sketch_is_opaque_everywhere(tmp_path: Path) -> None:
    sketch = read_sketch(save(tmp_path / "sketch.png", gradient()), SIZE)
    assert sketch.dtype == np.uint8
    assert (sketch[..., :3] == gradient()).all()
    assert (sketch[..., 3] == 255).all()


def test_a_sketch_has_straight_alpha(tmp_path: Path) -> None:
    rgba = np.dstack([gradient(), gradient()[..., 2]])
    assert (read_sketch(save(tmp_path / "sketch.png", rgba), SIZE) == rgba).all()


def test_a_sketch_is_given_in_srgb(tmp_path: Path) -> None:
    adobe = image_files.rgb_profile()
    save(tmp_path / "sketch.png", gradient(), icc_profile=adobe)
    expected = to_srgb(Picture(gradient(), None, adobe))
    assert (read_sketch(tmp_path / "sketch.png", SIZE)[..., :3] == expected).all()
