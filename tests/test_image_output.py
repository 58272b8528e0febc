"""Results are written whole and without loss, or not at all with one clear sentence, which comes before the work."""

import os
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests import image_files
from tests.image_files import gradient, save

from lazydiffusion import colour
from lazydiffusion.errors import CannotWrite
from lazydiffusion.image_output import check_writable, write_canvas, write_layer
from lazydiffusion.images import read_canvas, read_sketch

pytestmark = pytest.mark.unit

WITH_ALPHA = [".png", ".tif", ".tiff", ".webp", ".jp2", ".tga", ".qoi"]
WITHOUT_ALPHA = [".bmp", ".ppm"]


@st.composite
def pictures(draw: st.DrawFn, channels: int) -> npt.NDArray[np.uint8]:
    """Noise of a few or of all values, (H, W, channels), of odd sizes too."""
    height, width = draw(st.integers(16, 40)), draw(st.integers(16, 40))
    values = np.array(draw(st.lists(st.integers(0, 255), min_size=1, max_size=3)), np.uint8)
    if draw(st.booleans()):
        values = np.arange(256, dtype=np.uint8)
    return np.random.default_rng(draw(st.integers(0, 999))).choice(values, (height, width, channels))


def refusal(path: Path, **needs: object) -> str:
    """The one sentence with which `check_writable` refuses; it names the file and leaves nothing behind."""
    before = sorted(path.parent.iterdir()) if path.parent.is_dir() else None
    with pytest.raises(CannotWrite) as caught:
        check_writable(path, **needs)
    assert before is None or sorted(path.parent.iterdir()) == before
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is written


@given(pixels=pictures(3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@pytest.mark.parametrize("suffix", WITH_ALPHA + WITHOUT_ALPHA)
def test_what_is_written_is_read_again_exactly(
    tmp_path: Path, suffix: str, pixels: npt.NDArray[np.uint8]
) -> None:
    write_canvas(tmp_path / f"out{suffix}", pixels)
    canvas = read_canvas(tmp_path / f"out{suffix}")
    assert (canvas.pixels == pixels).all()
    assert canvas.alpha is None


@given(rgba=pictures(4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@pytest.mark.parametrize("suffix", WITH_ALPHA)
def test_a_layer_keeps_even_the_colours_under_no_alpha(
    tmp_path: Path, suffix: str, rgba: npt.NDArray[np.uint8]
) -> None:
    write_layer(tmp_path / f"layer{suffix}", rgba)
    height, width = rgba.shape[:2]
    assert (read_sketch(tmp_path / f"layer{suffix}", (width, height)) == rgba).all()


def test_a_canvas_keeps_its_alpha(tmp_path: Path) -> None:
    alpha = gradient()[..., 1]
    write_canvas(tmp_path / "out.png", gradient(), alpha)
    canvas = read_canvas(tmp_path / "out.png")
    assert (canvas.pixels == gradient()).all()
    assert canvas.alpha is not None
    assert (canvas.alpha == alpha).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_the_colour_profile_is_kept(tmp_path: Path, suffix: str) -> None:
    adobe = image_files.rgb_profile()
    write_canvas(tmp_path / f"out{suffix}", gradient(), None, adobe)
    assert read_canvas(tmp_path / f"out{suffix}").icc_profile == adobe
    write_canvas(tmp_path / f"plain{suffix}", gradient())
    assert read_canvas(tmp_path / f"plain{suffix}").icc_profile is None


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_jpeg_is_close_and_has_full_colour_resolution(tmp_path: Path, suffix: str) -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    write_canvas(tmp_path / f"out{suffix}", stripes)
    error = abs(read_canvas(tmp_path / f"out{suffix}").pixels.astype(int) - stripes)
    assert error.max() < 40  # at half the colour resolution all would be purple: 128


def test_an_alpha_of_255_needs_no_holding(tmp_path: Path) -> None:
    write_canvas(tmp_path / "out.ppm", gradient(), np.full((32, 48), 255, np.uint8))
    assert (read_canvas(tmp_path / "out.ppm").pixels == gradient()).all()


def test_the_canvas_itself_can_be_overwritten(tmp_path: Path) -> None:
    path = save(tmp_path / "canvas.png", gradient())
    canvas = read_canvas(path)
    write_canvas(path, 255 - canvas.pixels, canvas.alpha, canvas.icc_profile)
    assert (read_canvas(path).pixels == 255 - gradient()).all()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_canvas(tmp_path / "out.png", gradient())
    assert stat.S_IMODE((tmp_path / "out.png").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "usual").stat().st_mode
    )
    (tmp_path / "out.png").chmod(0o640)
    write_canvas(tmp_path / "out.png", gradient())
    assert stat.S_IMODE((tmp_path / "out.png").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out.png").symlink_to(tmp_path / "real" / "picture.png")
    for _ in range(2):  # to a file that is not there yet, then to one that is
        check_writable(tmp_path / "out.png")
        write_canvas(tmp_path / "out.png", gradient())
    assert (tmp_path / "out.png").is_symlink()
    assert [file.name for file in (tmp_path / "real").iterdir()] == ["picture.png"]


# What cannot be written, and is known before


@pytest.mark.parametrize("suffix", [*WITH_ALPHA, *WITHOUT_ALPHA, ".jpg", ".jpeg", ".PNG"])
def test_a_good_name_passes_and_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    check_writable(tmp_path / f"out{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_checking_does_not_touch_what_is_there(tmp_path: Path) -> None:
    path = save(tmp_path / "out.png", gradient())
    before = path.read_bytes(), path.stat().st_mtime_ns
    check_writable(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("name", ["out", "out.gif", "out.psd", "out.kra", ".png", "out.png.txt"])
def test_a_name_must_end_in_a_format_that_can_hold_the_result(tmp_path: Path, name: str) -> None:
    assert ".png, .tif" in refusal(tmp_path / name)


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out.png").mkdir()
    assert "it is a folder" in refusal(tmp_path / "out.png")


def test_no_such_folder(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none" / "out.png")
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    refusal(tmp_path / "file" / "out.png")


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    refusal(tmp_path / ("x" * 300 + ".png"))
    refusal(tmp_path / "nul\0.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    refusal(tmp_path / "loop.png")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder in which even root may not make a file")
def test_a_folder_that_is_not_writable() -> None:
    with pytest.raises(CannotWrite, match=r"/proc/self/out\.png"):
        check_writable(Path("/proc/self/out.png"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_write_protection_is_respected(tmp_path: Path) -> None:
    path = save(tmp_path / "out.png", gradient())
    path.chmod(0o444)
    assert "write-protected" in refusal(path)
    path.unlink()
    tmp_path.chmod(0o555)
    assert "Permission denied" in refusal(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_a_pipe_or_a_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.png")
    refusal(tmp_path / "out.png")
    (tmp_path / "null.png").symlink_to("/dev/null")
    refusal(tmp_path / "null.png")
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_transparency_needs_a_format_that_holds_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    assert "cannot hold transparency; name the file .png instead" in refusal(path, alpha=True)
    with pytest.raises(CannotWrite, match="cannot hold transparency"):
        write_canvas(path, gradient(), np.zeros((32, 48), np.uint8))
    with pytest.raises(CannotWrite, match="cannot hold transparency"):
        write_layer(path, np.dstack([gradient(), gradient()[..., 0]]))
    assert list(tmp_path.iterdir()) == []


def test_a_colour_profile_needs_a_format_that_holds_it(tmp_path: Path) -> None:
    assert "colour profile" in refusal(tmp_path / "out.bmp", icc_profile=image_files.rgb_profile())
    with pytest.raises(CannotWrite, match="colour profile"):
        write_canvas(tmp_path / "out.qoi", gradient(), None, image_files.rgb_profile())
    # sRGB is what a picture without a profile is taken for.
    write_canvas(tmp_path / "out.bmp", gradient(), None, colour.srgb_profile())
    assert (read_canvas(tmp_path / "out.bmp").pixels == gradient()).all()


def test_a_size_needs_a_format_that_holds_it(tmp_path: Path) -> None:
    check_writable(tmp_path / "out.webp", size=(16383, 16))
    check_writable(tmp_path / "out.png", size=(16384, 16384))
    assert "16383 px" in refusal(tmp_path / "out.webp", size=(16384, 16))
    with pytest.raises(CannotWrite, match="16383 px"):
        write_canvas(tmp_path / "out.webp", np.zeros((16, 16384, 3), np.uint8))


# What goes wrong all the same


@pytest.mark.parametrize("suffix", [*WITH_ALPHA, *WITHOUT_ALPHA, ".jpg"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / f"out{suffix}"
    write_canvas(path, gradient())
    before = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))  # no file may grow beyond: as on a full disk
    try:
        with pytest.raises(CannotWrite) as caught:
            write_canvas(path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_went_away_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    check_writable(tmp_path / "folder" / "out.png")
    (tmp_path / "folder").rmdir()
    with pytest.raises(CannotWrite, match="does not exist"):
        write_canvas(tmp_path / "folder" / "out.png", gradient())


def test_only_whole_files_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "out.png", gradient())
    before = path.read_bytes()

    def stopped(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stopped)  # the artist presses Ctrl-C while the disk is busy
    with pytest.raises(KeyboardInterrupt):
        write_canvas(path, 255 - gradient())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_written_file_is_one_that_pillow_knows(tmp_path: Path) -> None:
    for suffix in (*WITH_ALPHA, *WITHOUT_ALPHA, ".jpg"):
        write_canvas(tmp_path / f"out{suffix}", gradient())
        with Image.open(tmp_path / f"out{suffix}") as image:
            assert image.size == (48, 32)
