"""What cannot be a canvas is refused with one clear sentence, and a bomb before anything of it is decoded."""

import io
import os
import threading
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests import image_files
from tests.image_files import SIZE, chunk, gradient, png, refusal, save

from lazydiffusion.errors import BadInput
from lazydiffusion.images import read_canvas, read_mask, read_sketch

pytestmark = pytest.mark.unit


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
    start = time.process_time()  # seconds of computing, whatever else the machine does
    assert "20000 x 20000 px" in refusal(lambda: read_canvas(path), path)
    assert time.process_time() - start < 0.5


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
    megabytes = zlib.compress(bytes(20_000_000))
    rows = (b"\0" + bytes(16)) * 16
    many = [chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1_000_000)))] * 70
    for chunks in (
        [chunk(b"zTXt", b"key\0\0" + megabytes)],
        [chunk(b"iTXt", b"key\0\1\0\0\0" + megabytes)],
        [chunk(b"iCCP", b"key\0\0" + megabytes)],
        many,
    ):
        path.write_bytes(png((16, 16), 8, image_files.GREY, rows, *chunks))
        refusal(lambda: read_canvas(path), path)


def icon_of_64_px(inner: bytes) -> bytes:
    entry = bytes([64, 64, 0, 0, 1, 0, 32, 0]) + len(inner).to_bytes(4, "little") + (22).to_bytes(4, "little")
    return b"\0\0\1\0\1\0" + entry + inner


def test_a_bomb_inside_an_icon(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ico"
    path.write_bytes(icon_of_64_px(png((60000, 60000), 8, image_files.RGB, b"")))
    refusal(lambda: read_canvas(path), path)
    path.write_bytes(icon_of_64_px(png((24000, 24000), 1, image_files.GREY, bytes(24000 * 3001))))
    assert path.stat().st_size < 100_000  # 576 million pixels
    start = time.process_time()
    assert "exceeds limit" in refusal(lambda: read_canvas(path), path)
    assert time.process_time() - start < 0.5


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
    limit = Image.MAX_IMAGE_PIXELS
    path = save(tmp_path / "canvas.tif", gradient())
    threads = [threading.Thread(target=lambda: [read_canvas(path) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limit == Image.MAX_IMAGE_PIXELS


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


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        message = str(error)
        assert "\n" not in message
    else:
        assert canvas.pixels.shape == (canvas.size[1], canvas.size[0], 3)
