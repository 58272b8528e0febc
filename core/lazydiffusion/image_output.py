"""Results into picture files: which formats, whether it can be done at all, and whole files only."""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lazydiffusion import colour
from lazydiffusion.errors import CannotWrite
from lazydiffusion.protocol import MAX_SIDE


def check_writable(
    path: Path, *, alpha: bool = False, icc_profile: bytes | None = None, size: tuple[int, int] | None = None
) -> None:
    """Raises CannotWrite if a picture with these properties cannot be written to `path`.

    Leaves nothing behind. To be called before the work: it looks at the extension and really makes a file in
    the folder.
    """
    _format_of(path, alpha, icc_profile, size)
    with _told(path):
        temporary = _temporary(_target(path))
        try:
            temporary.open("xb").close()
        finally:
            temporary.unlink(missing_ok=True)


def write_canvas(
    path: Path,
    pixels: npt.NDArray[np.uint8],
    alpha: npt.NDArray[np.uint8] | None = None,
    icc_profile: bytes | None = None,
) -> None:
    """Writes pixels (H, W, 3), with alpha (H, W) if given, in the format that the extension names.

    Every format is written without loss, but JPEG: there (quality 95, full colour resolution) kept pixels are
    only as exact as JPEG is. The file appears whole or not at all, and carries the ICC profile. Raises
    CannotWrite, also where the format cannot hold the alpha or the profile; an alpha of 255 everywhere needs
    no holding.
    """
    transparent = alpha is not None and int(alpha.min()) < 255
    layout = _format_of(path, transparent, icc_profile, (pixels.shape[1], pixels.shape[0]))
    if alpha is not None and layout.alpha:
        pixels = np.dstack([pixels, alpha])
    _save(path, pixels, layout, icc_profile)


def write_layer(path: Path, rgba: npt.NDArray[np.uint8], icc_profile: bytes | None = None) -> None:
    """Writes a layer (H, W, 4) of straight alpha, and the colours under alpha 0; else as `write_canvas`."""
    layout = _format_of(path, True, icc_profile, (rgba.shape[1], rgba.shape[0]))
    _save(path, rgba, layout, icc_profile)


@dataclass(frozen=True)
class _Format:
    """What one of Pillow's writers can hold, and the options that make it lossless."""

    name: str
    alpha: bool
    icc: bool
    options: dict[str, Any]
    max_side: int = MAX_SIDE


_PNG = _Format("PNG", True, True, {})
_TIFF = _Format("TIFF", True, True, {"compression": "tiff_adobe_deflate"})
_JPEG = _Format("JPEG", False, True, {"quality": 95, "subsampling": 0})
_FORMATS = {
    # Only formats that hold 24-bit RGB: GIF and the like would change pixels that are to be kept.
    ".png": _PNG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": _Format("WEBP", True, True, {"lossless": True, "exact": True}, max_side=16383),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jp2": _Format("JPEG2000", True, False, {}),
    ".bmp": _Format("BMP", False, False, {}),
    ".tga": _Format("TGA", True, False, {}),
    ".ppm": _Format("PPM", False, False, {}),
    ".qoi": _Format("QOI", True, False, {}),
}


def _format_of(path: Path, alpha: bool, icc_profile: bytes | None, size: tuple[int, int] | None) -> _Format:
    suffix = path.suffix.lower()
    layout = _FORMATS.get(suffix)
    if layout is None:
        known = ", ".join(_FORMATS)
        raise CannotWrite(f"Cannot write {path}: its name must end in one of {known}.")
    lacks = (
        "transparency"
        if alpha and not layout.alpha
        else "the canvas's colour profile"
        if not layout.icc and not colour.is_srgb(icc_profile)
        else f"more than {layout.max_side} px a side"
        if size and max(size) > layout.max_side
        else None
    )
    if lacks:
        raise CannotWrite(
            f"Cannot write {path}: {layout.name} cannot hold {lacks}; name the file .png instead."
        )
    return layout


def _save(path: Path, pixels: npt.NDArray[np.uint8], layout: _Format, icc_profile: bytes | None) -> None:
    """Writes a temporary file in the same folder, which then takes the name: never half a picture."""
    options = dict(layout.options, icc_profile=icc_profile) if layout.icc and icc_profile else layout.options
    with _told(path):
        # In memory first: on a full disk Pillow's JPEG 2000 encoder would hang, and its TIFF encoder print.
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, layout.name, **options)
        target = _target(path)
        temporary = _temporary(target)
        try:
            with temporary.open("xb") as file:
                file.write(encoded.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)  # gone already when all went well


def _target(path: Path) -> Path:
    """The file to replace: behind a symbolic link, the one it points to. Raises OSError if none can be."""
    target = Path(os.path.realpath(path))
    try:
        target.stat()
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise OSError(f"the folder {target.parent} does not exist") from None
        return target
    if target.is_dir():
        raise OSError("it is a folder")
    if not target.is_file() or not os.access(target, os.W_OK):
        raise OSError("a file of that name is there and is write-protected")
    return target


def _temporary(target: Path) -> Path:
    return target.with_name(f".lazydiffusion-{secrets.token_hex(8)}.tmp")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what can go wrong while writing into CannotWrite."""
    try:
        yield
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CannotWrite(f"Cannot write {path}: {reason}. Choose another name or folder.") from error
