"""Pictures from files: converted properly, or refused with one clear sentence before anything is decoded."""

import io
import os
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, PngImagePlugin

from lazydiffusion.errors import BadInput
from lazydiffusion.images import Canvas, read_canvas, read_mask, read_sketch, to_srgb
from tests import image_files
from tests.image_files import chunk, gradient, png, png16, save

pytestmark = pytest.mark.unit

ORIENTATION = 0x0112
SIZE = (48, 32)  # of `gradient`


def refusal(read: Callable[[], object], path: Path) -> str:
    """The one sentence with which the file is refused; it always names the file."""
    with pytest.raises(BadInput) as caught:
        read()
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# Canvases that work


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
    assert not Canvas(gradient(), np.full(alpha.shape, 255, np.uint8)).transparent


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


# Canvases that are refused


@pytest.mark.parametrize("size", [(16385, 16), (16, 16385), (15, 64), (64, 15), (1, 1)])
def test_sides_beyond_the_limits(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "canvas.png"
    Image.new("1", size).save(path)
    message = refusal(lambda: read_canvas(path), path)
    assert f"{size[0]} x {size[1]} px" in message
    assert ("at most 16384 px" if max(size) > 16384 else "at least 16 px") in message


@pytest.mark.parametrize("size", [(60000, 60000), (17000, 17000), (2**31 - 1, 2**31 - 1)])
def test_a_huge_size_is_refused_by_the_header_alone(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(size, 8, image_files.RGB, b"these are no pixels"))
    # Were it decoded, it would be called damaged.
    assert refusal(lambda: read_canvas(path), path).endswith("at most 16384 px a side.")
    assert refusal(lambda: read_mask(path, SIZE), path).endswith("at most 16384 px a side.")
    assert refusal(lambda: read_sketch(path, SIZE), path).endswith("at most 16384 px a side.")


def test_a_small_file_of_many_pixels_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    packer = zlib.compressobj()
    rows = b"".join([packer.compress(b"\0" + bytes(20000 // 8)) for _ in range(20000)]) + packer.flush()
    whole = png((20000, 20000), 1, image_files.GREY, b"")
    path.write_bytes(whole.replace(chunk(b"IDAT", zlib.compress(b"")), chunk(b"IDAT", rows)))
    assert path.stat().st_size < 100_000  # 400 million pixels
    start = time.perf_counter()
    assert "20000 x 20000 px" in refusal(lambda: read_canvas(path), path)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize("suffix", [".gif", ".bmp", ".tif", ".jp2", ".tga", ".qoi", ".ppm", ".pcx"])
def test_too_large_in_any_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb{suffix}"
    Image.new("RGB", (16400, 16)).save(path)
    assert "16400 x 16 px" in refusal(lambda: read_canvas(path), path)


def test_a_webp_that_claims_the_largest_size_it_can_name(tmp_path: Path) -> None:
    path = tmp_path / "bomb.webp"
    body = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + (2**24 - 1).to_bytes(3, "little") * 2
    path.write_bytes(b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body)
    refusal(lambda: read_canvas(path), path)


def test_bombs_in_text_and_profile_chunks(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    megabytes = zlib.compress(bytes(50_000_000))
    rows = (b"\0" + bytes(16)) * 16
    many = [chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1_000_000)))] * 100
    for chunks in (
        [chunk(b"zTXt", b"key\0\0" + megabytes)],
        [chunk(b"iTXt", b"key\0\1\0\0\0" + megabytes)],
        [chunk(b"iCCP", b"key\0\0" + megabytes)],
        many,
    ):
        path.write_bytes(png((16, 16), 8, image_files.GREY, rows, *chunks))
        refusal(lambda: read_canvas(path), path)


def test_a_bomb_inside_an_icon(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ico"
    inner = png((60000, 60000), 8, image_files.RGB, b"")
    entry = bytes([64, 64, 0, 0, 1, 0, 32, 0]) + len(inner).to_bytes(4, "little") + (22).to_bytes(4, "little")
    path.write_bytes(b"\0\0\1\0\1\0" + entry + inner)
    refusal(lambda: read_canvas(path), path)


def test_pillows_own_limit_is_neither_needed_nor_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for suffix in (".tif", ".webp", ".png", ".gif"):
        save(tmp_path / f"canvas{suffix}", gradient())
        assert read_canvas(tmp_path / f"canvas{suffix}").size == SIZE
    with pytest.raises(BadInput):
        read_canvas(tmp_path / "none.png")
    assert Image.MAX_IMAGE_PIXELS == 100


def test_readers_in_many_threads_leave_pillows_limit_alone(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    path = save(tmp_path / "canvas.tif", gradient())
    threads = [threading.Thread(target=lambda: [read_canvas(path) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == before


def test_what_is_not_a_picture_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is a letter")
    (tmp_path / "folder.png").mkdir()
    for name, words in {
        "missing.png": "does not exist",
        "no-folder/canvas.png": "does not exist",
        "text.png/canvas.png": "does not exist",
        "empty.png": "is an empty file",
        "text.png": "is not a picture",
        "folder.png": "is a folder",
        "x" * 300 + ".png": "cannot be opened",
        "nul\0.png": "does not exist",
    }.items():
        assert words in refusal(lambda path=tmp_path / name: read_canvas(path), tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "is a folder or a device" in refusal(
        lambda: read_canvas(tmp_path / "pipe.png"), tmp_path / "pipe.png"
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = save(tmp_path / "canvas.png", gradient())
    path.chmod(0)
    assert "cannot be opened" in refusal(lambda: read_canvas(path), path)


def test_postscript_is_not_run(tmp_path: Path) -> None:
    path = save(tmp_path / "canvas.eps", gradient())
    assert "PostScript" in refusal(lambda: read_canvas(path), path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".gif", ".bmp", ".jp2", ".avif", ".tga"])
def test_a_truncated_file_is_refused_in_every_format(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"canvas{suffix}", gradient(200, 150))
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        refusal(lambda: read_canvas(path), path)


def encoded(name: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(gradient(20, 17)).save(file, name)
    return file.getvalue()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(
        [encoded(name) for name in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "TGA", "PCX", "ICO")]
    ),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_file_is_a_canvas_or_bad_input(
    tmp_path: Path, data: bytes, damage: list[tuple[int, int]]
) -> None:
    damaged = bytearray(data)
    for position, value in damage:
        damaged[position % len(damaged)] = value
    path = tmp_path / "canvas.png"
    path.write_bytes(damaged)
    try:
        canvas = read_canvas(path)
    except BadInput as error:
        assert "\n" not in str(error)
    else:
        assert canvas.pixels.shape == (canvas.size[1], canvas.size[0], 3)


# Masks


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
    path.write_bytes(encoded("PNG")[:60])
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
    expected = to_srgb(Canvas(gradient(), None, adobe))
    assert (read_sketch(tmp_path / "sketch.png", SIZE)[..., :3] == expected).all()


def test_comments_in_a_png_do_no_harm(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "painted by hand " * 1000, zip=True)
    assert read_canvas(save(tmp_path / "canvas.png", gradient(), pnginfo=text)).size == SIZE
