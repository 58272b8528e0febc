"""Canvases of every mode, depth, orientation and profile become upright 8-bit RGB that is exact where it can be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tests import image_files
from tests.image_files import ORIENTATION, SIZE, chunk, gradient, png, png16, save

from lazydiffusion.images import Picture, read_canvas, to_srgb

pytestmark = pytest.mark.unit


def test_a_plain_picture_is_read_as_it_is(tmp_path: Path) -> None:
    canvas = read_canvas(save(tmp_path / "canvas.png", gradient()))
    assert canvas.size == SIZE
    assert (canvas.pixels == gradient()).all()
    assert canvas.alpha is None
    assert not canvas.transparent
    assert canvas.icc_profile is None
    assert to_srgb(canvas) is canvas.pixels


def test_transparency_is_kept_and_so_are_the_colours_under_it(tmp_path: Path) -> None:
    alpha = gradient()[..., 0]
    canvas = read_canvas(save(tmp_path / "canvas.png", np.dstack([gradient(), alpha])))
    assert (canvas.pixels == gradient()).all()
    assert canvas.alpha is not None
    assert (canvas.alpha == alpha).all()
    assert canvas.transparent
    assert not Picture(gradient(), np.full(alpha.shape, 255, np.uint8)).transparent


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".tga", ".ppm", ".qoi", ".jp2", ".sgi", ".pcx"])
def test_lossless_formats_give_exact_pixels(tmp_path: Path, suffix: str) -> None:
    assert (read_canvas(save(tmp_path / f"canvas{suffix}", gradient())).pixels == gradient()).all()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".gif"])
def test_lossy_formats_give_close_pixels(tmp_path: Path, suffix: str) -> None:
    image = Image.linear_gradient("L").convert("RGB")
    image.save(tmp_path / f"canvas{suffix}", quality=95)
    pixels = read_canvas(tmp_path / f"canvas{suffix}").pixels
    np.testing.assert_allclose(pixels.astype(int), np.asarray(image).astype(int), atol=8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_every_mode_of_a_tiff_is_converted(tmp_path: Path, mode: str) -> None:
    checks = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((8, 8))).astype(np.uint8) * 255
    Image.fromarray(checks).convert("RGB").convert(mode).save(tmp_path / "canvas.tif")
    pixels = read_canvas(tmp_path / "canvas.tif").pixels
    np.testing.assert_allclose(pixels.astype(int), np.dstack([checks] * 3).astype(int), atol=2)


def test_cmyk_jpegs_are_not_inverted(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "canvas.jpg", quality=95)
    np.testing.assert_allclose(
        read_canvas(tmp_path / "canvas.jpg").pixels[0, 0].astype(int), (255, 0, 0), atol=4
    )


def test_palettes_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(np.kron([[0, 1], [2, 3]], np.ones((8, 8))).astype(np.uint8))
    image = image.convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    image.save(tmp_path / "one.png", transparency=2)
    image.save(tmp_path / "many.png", transparency=bytes([0, 64, 128, 255]))
    for name, expected in (("one", [255, 255, 0, 255]), ("many", [0, 64, 128, 255])):
        canvas = read_canvas(tmp_path / f"{name}.png")
        assert canvas.pixels[::8, ::8].reshape(4, 3).tolist() == [
            [10, 20, 30],
            [40, 50, 60],
            [70, 80, 90],
            [100, 110, 120],
        ]
        assert canvas.alpha is not None
        assert canvas.alpha[::8, ::8].ravel().tolist() == expected


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 32 * 16).reshape(16, 32).astype(np.uint16)
    for name, data in (("grey.png", png16(grey, image_files.GREY)), ("grey.tif", image_files.tiff(grey))):
        (tmp_path / name).write_bytes(data)
        pixels = read_canvas(tmp_path / name).pixels
        assert (pixels == np.rint(grey / 257).astype(np.uint8)[..., None]).all()
    for colour_type, samples in (
        (image_files.RGB, np.dstack([grey, grey[::-1], grey[:, ::-1]])),
        (image_files.RGBA, np.dstack([grey, grey[::-1], grey[:, ::-1], grey])),
        (image_files.GREY_ALPHA, np.dstack([grey, grey])),
    ):
        (tmp_path / "colour.png").write_bytes(png16(samples, colour_type))
        canvas = read_canvas(tmp_path / "colour.png")
        upper = (samples >> 8).astype(np.uint8)
        assert (canvas.pixels == (upper[..., :3] if samples.shape[2] > 2 else upper[..., :1])).all()
        assert canvas.alpha is None if samples.shape[2] == 3 else (canvas.alpha == upper[..., -1]).all()


def test_a_transparent_colour_of_a_png_of_any_depth(tmp_path: Path) -> None:
    grey = np.full((16, 16), 4660, np.uint16)
    grey[:, 8:] = 65535
    rgb = np.dstack([grey] * 3)
    key = (4660).to_bytes(2, "big")
    row2 = b"\0" + bytes([0b01010101] * 2 + [0b11111111] * 2)
    row4 = b"\0" + bytes([0x11] * 4 + [0xFF] * 4)
    one = chunk(b"tRNS", b"\0\1")
    for data in (
        png16(grey, image_files.GREY, chunk(b"tRNS", key)),
        png16(rgb, image_files.RGB, chunk(b"tRNS", key * 3)),
        png((16, 16), 2, image_files.GREY, row2 * 16, one),
        png((16, 16), 4, image_files.GREY, row4 * 16, one),
    ):
        (tmp_path / "canvas.png").write_bytes(data)
        canvas = read_canvas(tmp_path / "canvas.png")
        assert canvas.alpha is not None
        assert (canvas.alpha[:, :8] == 0).all()
        assert (canvas.alpha[:, 8:] == 255).all()
        assert (canvas.pixels[:, 8:] == 255).all()


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint32", "int16", "uint16", "uint8"])
def test_tiffs_of_every_sample_type(tmp_path: Path, dtype: str) -> None:
    white = 1.0 if dtype == "float32" else np.iinfo(dtype).max
    samples = np.repeat(np.linspace(0, white, 16)[None], 16, 0).astype(dtype)
    (tmp_path / "canvas.tif").write_bytes(image_files.tiff(samples))
    pixels = read_canvas(tmp_path / "canvas.tif").pixels
    np.testing.assert_allclose(pixels[0, :, 0].astype(int), np.linspace(0, 255, 16), atol=1)


def test_a_16_bit_pgm_stays_dark(tmp_path: Path) -> None:
    (tmp_path / "canvas.pgm").write_bytes(b"P5 16 16 65535\n" + b"\0\xff" * 256)  # 255 of 65535
    assert (read_canvas(tmp_path / "canvas.pgm").pixels == 1).all()


UPRIGHT = {  # what a viewer does to the stored rows, by EXIF orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_pictures_are_turned_as_exif_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    save(tmp_path / f"canvas{suffix}", gradient(), exif=exif, lossless=True)
    canvas = read_canvas(tmp_path / f"canvas{suffix}")
    assert (canvas.pixels == UPRIGHT[orientation](gradient())).all()
    assert canvas.size == (SIZE if orientation < 5 else SIZE[::-1])


def test_a_photo_held_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    save(tmp_path / "canvas.jpg", gradient(), exif=exif)
    assert read_canvas(tmp_path / "canvas.jpg").size == SIZE[::-1]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_of_an_animation_the_first_frame_counts(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"canvas{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(tmp_path / f"canvas{suffix}") as image:
        assert image.n_frames == 3
    assert (read_canvas(tmp_path / f"canvas{suffix}").pixels == (255, 0, 0)).all()


def test_of_an_icon_the_largest_picture_counts(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "canvas.ico", sizes=[(16, 16), (64, 64)])
    assert read_canvas(tmp_path / "canvas.ico").size == (64, 64)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_the_colour_profile_is_kept_and_the_model_sees_srgb(tmp_path: Path, suffix: str) -> None:
    adobe = image_files.rgb_profile()
    green = np.full((32, 32, 3), (0, 200, 0), np.uint8)
    save(tmp_path / f"canvas{suffix}", green, icc_profile=adobe, quality=100, lossless=True)
    canvas = read_canvas(tmp_path / f"canvas{suffix}")
    assert canvas.icc_profile == adobe
    np.testing.assert_allclose(canvas.pixels.astype(int), green.astype(int), atol=1)
    assert abs(to_srgb(canvas).astype(int) - canvas.pixels).max() > 0


def test_the_largest_and_the_smallest_sides(tmp_path: Path) -> None:
    for size in ((16384, 16), (16, 16384), (16, 16)):
        Image.new("1", size).save(tmp_path / "canvas.png")
        assert read_canvas(tmp_path / "canvas.png").size == size


def test_what_is_transparent_is_shown_to_the_model_as_on_white_paper() -> None:
    colours = np.full((1, 4, 3), (0, 100, 255), np.uint8)
    shown = to_srgb(Picture(colours, np.array([[0, 51, 254, 255]], np.uint8)))
    assert shown.tolist() == [[[255] * 3, [204, 224, 255], [1, 101, 255], [0, 100, 255]]]


def test_comments_in_a_png_do_no_harm(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "painted by hand " * 1000, zip=True)
    assert read_canvas(save(tmp_path / "canvas.png", gradient(), pnginfo=text)).size == SIZE
