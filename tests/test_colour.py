"""Any mode and any profile become 8-bit RGB; pictures with a profile of their own go to sRGB and come back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms
from tests import image_files
from tests.image_files import gradient

from lazydiffusion import colour

pytestmark = pytest.mark.unit

PRESS_INKS = (
    (0, 158, 224),
    (230, 0, 126),
    (255, 237, 0),
    (29, 29, 27),
)  # cyan, magenta, yellow and black on paper


def with_profile(image: Image.Image, profile: bytes) -> Image.Image:
    image.info["icc_profile"] = profile
    return image


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "RGBa", "YCbCr", "HSV", "LAB", "CMYK"])
def test_every_colour_mode_gives_the_same_red(mode: str) -> None:
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    image = red.convert("RGBA").convert("RGBa") if mode == "RGBa" else red.convert(mode)
    pixels, _, _ = colour.to_rgb(image)
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    # 8 bits of Lab are coarse: one step of b is 5 of blue here.
    np.testing.assert_allclose(pixels[0, 0].astype(int), (255, 0, 0), atol=5 if mode == "LAB" else 1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "I", "I;16", "F"])
def test_every_grey_mode_gives_white(mode: str) -> None:
    white = {"I;16": 65535, "F": 1.0, "I": 255, "LA": (255, 255), "PA": (0, 255)}.get(mode, 255)
    image = Image.new(mode, (16, 16), white)
    if mode in ("P", "PA"):
        image.putpalette([255, 255, 255] * 256)
    pixels, _, profile = colour.to_rgb(image)
    assert (pixels == 255).all()
    assert profile is None


def test_arrays_can_be_written_to() -> None:
    pixels, alpha, _ = colour.to_rgb(Image.new("RGBA", (16, 16)))
    assert pixels.flags.writeable  # or torch.from_numpy warns
    assert alpha is not None
    assert alpha.flags.writeable


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.array([[0.0, 0.5, 1.0, 4.0, -1.0]], np.float32), [0, 0.5, 1, 1, 0]),  # highlights above 1 clip
        (np.array([[0.0, 127.5, 255.0]], np.float32), [0, 0.5, 1]),
        (np.array([[0.0, 13107.0, 65535.0]], np.float32), [0, 0.2, 1]),
        (np.array([[np.nan, np.inf, -np.inf, 1.0]], np.float32), [0, 1, 0, 1]),
        (np.array([[0, 51, 255]], np.int32), [0, 0.2, 1]),
        (np.array([[0, 13107, 65535]], np.int32), [0, 0.2, 1]),
        (np.array([[0, -5, 2**31 - 1]], np.int32), [0, 0, 1]),
        (np.array([[0, 13107, 65535]], np.uint16), [0, 0.2, 1]),
        (np.array([[0, 1, 2]], np.uint16), [0, 1 / 65535, 2 / 65535]),  # dark, but 16 bits stay 16 bits
    ],
    ids=[
        "float 1",
        "float 255",
        "float 65535",
        "not finite",
        "int 255",
        "int 65535",
        "int 32",
        "16 bits",
        "dark",
    ],
)
def test_high_depth_grey_is_scaled_not_clipped(values: np.ndarray, levels: list[float]) -> None:
    image = Image.fromarray(values)
    image.info["icc_profile"] = b""
    if values.dtype == np.int32 and values.min() < 0:
        image.tag_v2 = {339: (2,)}  # as a TIFF of signed samples has it
    np.testing.assert_allclose(colour.grey_levels(image)[0], levels, atol=1e-6)


@given(hnp.arrays(np.uint8, (4, 4)))
def test_eight_bits_survive_sixteen(values: np.ndarray) -> None:
    image = Image.fromarray(values.astype(np.uint16) * 257)
    assert (colour.to_rgb(image)[0] == values[..., None]).all()


def test_rgb_pixels_keep_their_values_and_their_profile() -> None:
    adobe = image_files.rgb_profile()
    pixels, _, profile = colour.to_rgb(with_profile(Image.fromarray(gradient()), adobe))
    assert (pixels == gradient()).all()
    assert profile == adobe


def test_grey_with_a_grey_profile_becomes_srgb() -> None:
    linear = image_files.grey_profile(1.0)
    pixels, _, profile = colour.to_rgb(with_profile(Image.new("L", (16, 16), 55), linear))
    # 55 / 255 = 0.2157 linear is 0.502 in sRGB: 128
    np.testing.assert_allclose(pixels[0, 0].astype(int), (128, 128, 128), atol=1)
    assert profile == colour.srgb_profile()


def test_grey_with_an_rgb_profile_keeps_both() -> None:
    adobe = image_files.rgb_profile()
    pixels, _, profile = colour.to_rgb(with_profile(Image.new("L", (16, 16), 55), adobe))
    assert (pixels == 55).all()
    assert profile == adobe


def test_cmyk_goes_through_its_profile_to_srgb() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert tuple(colour.to_rgb(cyan)[0][0, 0]) == (0, 255, 255)  # without a profile: the plain formula
    pixels, _, profile = colour.to_rgb(with_profile(cyan, image_files.cmyk_profile(PRESS_INKS)))
    np.testing.assert_allclose(pixels[0, 0].astype(int), PRESS_INKS[0], atol=6)
    assert profile == colour.srgb_profile()


def test_a_one_way_profile_is_left_for_srgb() -> None:
    image = with_profile(Image.new("RGB", (16, 16), (0, 0, 255)), image_files.scanner_profile())
    pixels, _, profile = colour.to_rgb(image)
    np.testing.assert_allclose(pixels[0, 0].astype(int), (0, 0, 128), atol=6)
    assert profile == colour.srgb_profile()


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", b"not a profile"),
        ("RGB", image_files.rgb_profile()[:200]),
        ("RGB", image_files.cmyk_profile(PRESS_INKS)),
        ("RGB", image_files.grey_profile(2.2)),
        ("L", image_files.cmyk_profile(PRESS_INKS)),
        ("CMYK", image_files.rgb_profile()),
    ],
    ids=["noise", "cut", "cmyk on rgb", "grey on rgb", "cmyk on grey", "rgb on cmyk"],
)
def test_a_profile_that_does_not_fit_is_dropped(mode: str, profile: bytes) -> None:
    plain = Image.fromarray(gradient()).convert(mode)
    pixels, _, kept = colour.to_rgb(with_profile(plain.copy(), profile))
    assert kept is None
    assert (pixels == np.asarray(plain.convert("RGB"))).all()


@pytest.mark.parametrize(
    "profile", [None, colour.srgb_profile(), b"not a profile"], ids=["none", "srgb", "noise"]
)
def test_srgb_pixels_are_not_touched(profile: bytes | None) -> None:
    pixels = gradient()
    assert colour.is_srgb(profile)
    assert colour.to_srgb(pixels, profile) is pixels
    assert colour.from_srgb(pixels, profile) is pixels


def test_srgb_is_told_by_measure_not_by_name() -> None:
    assert not colour.is_srgb(image_files.rgb_profile(image_files.SRGB_PRIMARIES, 1.0))  # linear
    assert not colour.is_srgb(image_files.rgb_profile(image_files.SRGB_PRIMARIES, 2.2))
    assert not colour.is_srgb(image_files.rgb_profile())


def test_adobe_rgb_is_converted_by_the_book() -> None:
    adobe = image_files.rgb_profile()
    pixels = np.array([[(255, 255, 255), (0, 0, 0), (128, 200, 100)]], np.uint8)
    white, black, green = colour.to_srgb(pixels, adobe)[0].astype(int)
    np.testing.assert_allclose(white, 255, atol=1)
    np.testing.assert_allclose(black, 0, atol=1)
    np.testing.assert_allclose(green, expected_srgb((128, 200, 100)), atol=2)


def expected_srgb(adobe: tuple[int, int, int]) -> list[int]:
    """By the book: gamma 2.2, the two matrices, the sRGB curve."""
    linear = (np.array(adobe) / 255) ** 2.19921875
    xyz = np.array(image_files.ADOBE_PRIMARIES).T @ linear
    rgb = np.clip(np.linalg.inv(np.array(image_files.SRGB_PRIMARIES).T) @ xyz, 0, 1)
    return list(np.rint(255 * np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)))


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_srgb_colours_come_back_from_a_wider_space(rgb: tuple[int, int, int]) -> None:
    adobe = image_files.rgb_profile()
    pixels = np.full((16, 16, 3), rgb, np.uint8)
    back = colour.to_srgb(colour.from_srgb(pixels, adobe), adobe)
    # One step of a bright channel is many of a dark one once the primaries are mixed, and 8 bits have no finer step.
    tolerance = 3 if min(rgb) >= 64 else 14
    np.testing.assert_allclose(back.astype(int), pixels.astype(int), atol=tolerance)


def test_the_srgb_profile_is_srgb_and_always_the_same_bytes() -> None:
    colour.srgb_profile.cache_clear()
    first = colour.srgb_profile()
    colour.srgb_profile.cache_clear()
    assert colour.srgb_profile() == first
    assert colour.is_srgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
