"""Canvases, masks and sketches from picture files, checked before anything is decoded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from lazydiffusion import colour
from lazydiffusion.errors import BadInput, OutOfMemory, first_line
from lazydiffusion.protocol import MAX_SIDE, MIN_SIDE

JPEG_MASK_FLOOR = 16 / 255
"""Below this a mask in a JPEG counts as 0: beside hard edges JPEG rings to here at quality 90."""

ICON = b"\0\0\1\0"
"""A Windows icon begins so. Pillow decodes the picture in one when it is opened, whatever its size."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as its file has it: upright, 8 bits, RGB in the file's own colour space."""

    pixels: npt.NDArray[np.uint8]
    """(H, W, 3). Not sRGB where there is an ICC profile: `to_srgb` gives what a model should see."""
    alpha: npt.NDArray[np.uint8] | None = None
    """(H, W), 255 is opaque; None where the file holds no transparency."""
    icc_profile: bytes | None = None
    """The RGB profile that the pixels are in, for the result to carry; None is sRGB."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), px."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def transparent(self) -> bool:
        """Whether any pixel is less than opaque, so that a result must hold alpha."""
        return self.alpha is not None and int(self.alpha.min()) < 255


Source = Path | IO[bytes]
"""A picture's file: by its path in any format, or as a stream that must hold a PNG (from another program)."""


def read_canvas(source: Source, size: tuple[int, int] | None = None, role: str = "canvas") -> Picture:
    """The first frame of a picture in any format that Pillow reads but PostScript, turned as EXIF says.

    RGB and palette pictures keep their exact values and their ICC profile. Everything else becomes 8-bit RGB:
    16-bit, 32-bit and float grey are scaled (`colour.grey_levels` says how; of 16-bit RGB, Pillow keeps the
    upper 8 bits), CMYK, Lab and grey with an ICC profile of their own become sRGB (`colour.to_rgb` says how).

    `size`: (width, height) that a stream must hold, where it was announced. `role` names it in errors.

    Raises BadInput for what is missing, unreadable, damaged, or not of 16 to 16384 px a side or of `size` (found in
    the header, before anything is decoded), and OutOfMemory if it does not fit in memory.
    """
    with _opened(source, role, size) as image:
        return Picture(*colour.to_rgb(image))


def read_mask(source: Source, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Mask (H, W) in 0..1 of a file of exactly `size` (width, height) px: luminance times opacity.

    So white on black and white on transparent both say "generate here". Colour profiles do not count: a mask
    is data. In a JPEG, values below JPEG_MASK_FLOOR are 0. Raises as `read_canvas` does, and BadInput for
    another size and for a mask that is 0 everywhere.
    """
    with _opened(source, "mask", size) as image:
        if image.mode in colour.HIGH_DEPTH_MODES:
            mask = colour.grey_levels(image)
        else:
            mask = np.asarray(_luminance(colour.without_alpha(image))).astype(np.float32)
            mask /= 255
        alpha = colour.alpha_of(image)
        if alpha is not None:
            mask *= alpha / np.float32(255)
        if image.format in ("JPEG", "MPO"):
            mask[mask < JPEG_MASK_FLOOR] = 0
    if not mask.any():
        raise BadInput(
            f"{_name(source, 'mask')} is empty: paint the part to generate in white, then save it again."
        )
    return mask


def read_sketch(source: Source, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Sketch (H, W, 4) of a file of exactly `size` (width, height) px: sRGB with straight alpha.

    Alpha is 255 everywhere if the file has none. Raises as `read_canvas` does, and BadInput for another size.
    """
    with _opened(source, "sketch", size) as image:
        pixels, alpha, icc_profile = colour.to_rgb(image)
        opacity = np.full(pixels.shape[:2], 255, np.uint8) if alpha is None else alpha
        return np.dstack([colour.to_srgb(pixels, icc_profile), opacity])


def to_srgb(canvas: Picture) -> npt.NDArray[np.uint8]:
    """What a model should see of the canvas: (H, W, 3) sRGB, white where it is transparent.

    The canvas's own array where it is opaque and sRGB already.
    """
    return over_white(colour.to_srgb(canvas.pixels, canvas.icc_profile), canvas.alpha)


def over_white(pixels: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
    """Colours (H, W, 3) with straight alpha (H, W), laid over white as on paper; the same array where all is opaque.

    What a picture holds where it is transparent is anything: nobody has ever seen it.
    """
    if alpha is None or alpha.min() == 255:
        return pixels
    opacity = alpha[..., None].astype(np.uint16)
    return ((pixels * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


_pillow_limit_lock = threading.Lock()


@contextmanager
def _pillow_limit(pixels: int | None) -> Iterator[None]:
    """Pillow's own limit against decompression bombs set to `pixels`, then back.

    Its default is below our MAX_SIDE squared and it warns before it refuses, so our size check takes its
    place. The limit is global to the process: the lock keeps readers in several threads from restoring each
    other's value.
    """
    with _pillow_limit_lock:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _opened(source: Source, role: str, size: tuple[int, int] | None = None) -> Iterator[Image.Image]:
    """The decoded, upright first frame, of `size` if that is given. `role` names the picture in errors."""
    name = _name(source, role)
    try:
        if isinstance(source, Path):
            with _file(source, name) as file:
                image = _decode(file, name)
        else:
            image = _decode(source, name, formats=("PNG",), declared=size)
        if size and image.size != size:
            raise BadInput(
                f"{name} is {_px(image.size)}, but the canvas is {_px(size)}: make both the same size."
            )
        yield image
    except BadInput:
        raise
    except MemoryError as error:
        raise OutOfMemory(
            f"{name} does not fit in memory: close other programs, or scale it down."
        ) from error
    except UnidentifiedImageError as error:
        raise BadInput(f"{name} is not a picture in a format that can be read: export it as PNG.") from error
    except Exception as error:
        # On damaged files decoding, and converting too, raise nearly anything: zlib.error, KeyError, SyntaxError.
        raise BadInput(
            f"{name} is damaged or incomplete ({first_line(error)}): export it again, as PNG."
        ) from error


def _file(path: Path, name: str) -> IO[bytes]:
    try:
        if not path.exists():
            raise BadInput(f"{name} does not exist: check the name and the folder.")
        if not path.is_file():
            raise BadInput(f"{name} is a folder or a device: name a picture file.")
        if path.stat().st_size == 0:
            raise BadInput(f"{name} is an empty file: save it again.")
        return path.open("rb")
    except OSError as error:
        raise BadInput(
            f"{name} cannot be opened ({error.strerror}): check its name and permissions."
        ) from error


def _name(source: Source, role: str) -> str:
    return f"The {role} {source}" if isinstance(source, Path) else f"The {role} that was sent"


def _decode(
    file: IO[bytes],
    name: str,
    formats: tuple[str, ...] | None = None,
    declared: tuple[int, int] | None = None,
) -> Image.Image:
    """`declared`: a size that the header must have, before anything is decoded."""
    icon = file.read(len(ICON)) == ICON
    file.seek(0)
    with _pillow_limit(MAX_SIDE**2 if icon else None):  # of others only the header is read here
        image = Image.open(file, formats=formats)
    if declared is None:
        _check_size(image.size, name)
    elif image.size != declared:
        raise BadInput(f"{name} is {_px(image.size)}, but {_px(declared)} were announced.")
    if image.format == "EPS":  # decoding would run Ghostscript
        raise BadInput(f"{name} is a PostScript drawing: export it as PNG.")
    _correct_png_transparency(image)
    with _pillow_limit(MAX_SIDE**2):  # for the picture within the picture, as Apple's icons have
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    if declared is None:
        _check_size(image.size, name)
    return image


def _check_size(size: tuple[int, int], name: str) -> None:
    if max(size) > MAX_SIDE:
        raise BadInput(f"{name} is {_px(size)}: scale or crop it to at most {MAX_SIDE} px a side.")
    if min(size) < MIN_SIDE:
        raise BadInput(f"{name} is {_px(size)}: it needs at least {MIN_SIDE} px a side.")


def _luminance(flat: Image.Image) -> Image.Image:
    """Mode L of a picture in one of the modes of `colour.without_alpha`."""
    if flat.mode == "LAB":
        return flat.getchannel("L")
    return flat if flat.mode == "L" else flat.convert("RGB").convert("L")


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"


def _correct_png_transparency(image: Image.Image) -> None:
    """Scales a PNG's transparent colour to 8 bits as its pixels are, which Pillow leaves undone."""
    colour_key, tiles = image.info.get("transparency"), getattr(image, "tile", [])
    if image.format != "PNG" or colour_key is None or not tiles:
        return
    if tiles[0].args in ("L;2", "L;4"):
        image.info["transparency"] = colour_key * (85 if tiles[0].args == "L;2" else 17)
    elif tiles[0].args == "RGB;16B":
        image.info["transparency"] = tuple(channel >> 8 for channel in colour_key)
