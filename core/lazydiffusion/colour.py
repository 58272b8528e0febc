"""Pixels of any Pillow mode and ICC profile to 8-bit RGB, and between a picture's RGB space and sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

HIGH_DEPTH_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Grey modes of more than 8 bits, which Pillow's own convert("L") would clip instead of scale."""


def to_rgb(image: Image.Image) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None, bytes | None]:
    """Pixels (H, W, 3), alpha (H, W) or None, and the ICC profile that those pixels are in (None: sRGB).

    An RGB or palette picture keeps its own values and its own profile, whatever the profile is. A profile
    that does not describe RGB cannot stay with RGB pixels: grey, CMYK and Lab pictures with such a profile
    are converted to sRGB, and the profile returned is sRGB. Profiles that are damaged, or of another colour
    space than the pixels, are ignored and dropped. CMYK without a profile is converted by Pillow's plain
    formula.
    """
    alpha = alpha_of(image)
    flat = without_alpha(image)
    profile = image.info.get("icc_profile") or None
    space = "LAB" if flat.mode == "LAB" else _colour_space(profile)
    if {"L": "GRAY", "CMYK": "CMYK", "LAB": "LAB"}.get(flat.mode) == space:
        to_screen = _transform("LAB" if space == "LAB" else profile, flat.mode, _SRGB)
        if to_screen:
            return _pixels(to_screen.apply(flat)), alpha, srgb_profile()

    pixels = _pixels(flat.convert("RGB"))
    to_screen = _transform(profile, "RGB", _SRGB)
    if space != "RGB" or flat.mode == "CMYK" or not to_screen:
        return pixels, alpha, None
    if not _transform(_SRGB, "RGB", profile):
        # A one-way profile, as scanners have: no fill could be brought into it, so the picture leaves it.
        return _through(to_screen, pixels), alpha, srgb_profile()
    return pixels, alpha, profile


def without_alpha(image: Image.Image) -> Image.Image:
    """The picture in mode L, CMYK, LAB or, for everything else, RGB; colours under transparency stay."""
    if image.mode in HIGH_DEPTH_MODES:
        return Image.fromarray(np.rint(grey_levels(image) * 255).astype(np.uint8))
    if image.mode in ("L", "CMYK", "LAB"):
        return image
    if image.mode in ("1", "LA"):
        return image.convert("L")
    # By way of RGBA, because a palette's transparency warns on the way to RGB.
    return (image.convert("RGBA") if image.has_transparency_data else image).convert("RGB")


def alpha_of(image: Image.Image) -> npt.NDArray[np.uint8] | None:
    """Opacity (H, W), 255 is opaque; None without an alpha channel or a transparent colour."""
    if not image.has_transparency_data:
        return None
    if image.mode in HIGH_DEPTH_MODES:
        # Pillow would compare after clipping to 8 bits, and so never find the colour.
        return np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype(np.uint8)
    return np.array(image.convert("RGBA").getchannel("A"))


def grey_levels(image: Image.Image) -> npt.NDArray[np.float32]:
    """Values (H, W) in 0..1 of a picture in one of HIGH_DEPTH_MODES.

    16 bits: 65535 is white. Floats: 1.0 is white and brighter highlights are clipped; but where the largest
    value is above 16 the picture is taken to count to 255 or 65535. Integers of 32 bits: the smallest of 255,
    65535 and the type's largest value that is not under the picture's largest one.
    """
    values: npt.NDArray[Any] = np.asarray(image)
    tags = getattr(image, "tag_v2", {})  # TIFF only
    if image.mode == "I" and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1 and int(values.min()) < 0:
        values = values.view(np.uint32)  # Pillow holds unsigned 32-bit samples in a signed type
    largest = float(values.max(where=np.isfinite(values), initial=0))
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        white = 65535.0
    elif image.mode == "I" and tags.get(_BITS_PER_SAMPLE, (32,))[0] == 16:
        white = 32767.0  # signed samples
    elif image.mode == "F":
        white = 1.0 if largest <= 16 else 255.0 if largest <= 255 else max(65535.0, largest)
    else:
        white = next(level for level in (255.0, 65535.0, 2.0**31 - 1, 2.0**32 - 1) if largest <= level)
    levels: npt.NDArray[np.float32] = values.astype(np.float32)
    levels /= np.float32(white)
    return np.nan_to_num(np.clip(levels, 0, 1), copy=False)


def to_srgb(pixels: npt.NDArray[np.uint8], icc_profile: bytes | None) -> npt.NDArray[np.uint8]:
    """Pixels (H, W, 3) in sRGB of `pixels`, which are in the profile's space.

    Relative colorimetric with black point compensation; colours outside sRGB are clipped. `pixels` itself,
    not a copy, where the profile is None, is sRGB in effect, or is no RGB profile.
    """
    return pixels if is_srgb(icc_profile) else _through(_transform(icc_profile, "RGB", _SRGB), pixels)


def from_srgb(pixels: npt.NDArray[np.uint8], icc_profile: bytes | None) -> npt.NDArray[np.uint8]:
    """The way back of `to_srgb`: sRGB pixels (H, W, 3) in the profile's space, to be put in its picture."""
    return pixels if is_srgb(icc_profile) else _through(_transform(_SRGB, "RGB", icc_profile), pixels)


@lru_cache(maxsize=16)
def is_srgb(icc_profile: bytes | None) -> bool:
    """Whether the profile is sRGB in effect, to one step of 255; True for None and for no RGB profile.

    Measured, because names mislead: "sRGB-elle-V2-g10" and "GIMP built-in Linear sRGB" are not sRGB.
    """
    transform = _transform(icc_profile, "RGB", _SRGB) if icc_profile else None
    if transform is None:
        return True
    steps = np.linspace(0, 255, 18).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(18, -1, 3)
    return int(np.abs(_through(transform, colours).astype(int) - colours).max()) <= 1


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """An sRGB ICC profile, the same bytes at any time."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = _PROFILE_DATE  # LittleCMS puts the present time there
    return bytes(profile)


_SRGB = "sRGB"
_SAMPLE_FORMAT, _BITS_PER_SAMPLE = 339, 258  # TIFF tags
_PROFILE_DATE = b"".join(part.to_bytes(2, "big") for part in (2024, 1, 1, 0, 0, 0))


def _colour_space(profile: bytes | None) -> str | None:
    """The space that the profile describes, by ICC signature: "RGB", "GRAY", "CMYK"; None if unreadable."""
    try:
        return _open_profile(profile).profile.xcolor_space.strip() if profile else None
    except (OSError, ImageCms.PyCMSError):
        return None


def _open_profile(profile: bytes | str) -> ImageCms.ImageCmsProfile:
    if profile == "LAB" or profile == _SRGB:
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB" if profile == "LAB" else "sRGB"))
    assert isinstance(profile, bytes)
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


@lru_cache(maxsize=16)
def _transform(
    source: bytes | str | None, source_mode: str, target: bytes | str | None
) -> ImageCms.ImageCmsTransform | None:
    """The conversion to RGB of the target profile, or None where LittleCMS cannot make it of these profiles."""
    if source is None or target is None:
        return None
    try:
        return ImageCms.buildTransform(
            _open_profile(source),
            _open_profile(target),
            source_mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ImageCms.PyCMSError):
        return None


def _through(
    transform: ImageCms.ImageCmsTransform | None, pixels: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    return pixels if transform is None else _pixels(transform.apply(Image.fromarray(pixels)))


def _pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.array(image)  # a copy: np.asarray would give a read-only array, which torch warns about
