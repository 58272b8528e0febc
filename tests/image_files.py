"""Pictures for tests, among them files and colour profiles that Pillow cannot write itself."""

import itertools
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lazydiffusion.errors import BadInput

SIZE = (48, 32)
"""(width, height) of `gradient`, px."""
ORIENTATION = 0x0112  # an EXIF tag

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6  # PNG colour types

SRGB_PRIMARIES = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
ADOBE_PRIMARIES = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))


def gradient(width: int = SIZE[0], height: int = SIZE[1]) -> npt.NDArray[np.uint8]:
    """RGB pixels (H, W, 3), no two alike and none symmetric under turning or mirroring."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), (7 * x + 13 * y) % 256], -1).astype(
        np.uint8
    )


def save(path: Path, pixels: npt.NDArray[np.generic], **options: object) -> Path:
    """The file at `path`, written by Pillow."""
    Image.fromarray(pixels).save(path, **options)
    return path


def refusal(read: Callable[[], object], path: Path) -> str:
    """The one sentence with which the file is refused; it always names the file."""
    with pytest.raises(BadInput) as caught:
        read()
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size: tuple[int, int], bits: int, colour_type: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG file of raw `rows` (each begins with its filter byte), with `chunks` before the pixels."""
    header = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + end


def png16(samples: npt.NDArray[np.uint16], colour_type: int, *chunks: bytes) -> bytes:
    """A 16-bit PNG of samples (H, W) or (H, W, C)."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png((samples.shape[1], samples.shape[0]), 16, colour_type, rows, *chunks)


def tiff(samples: npt.NDArray[np.generic]) -> bytes:
    """An uncompressed one-channel TIFF of samples (H, W) of any integer or float type."""
    height, width = samples.shape
    data = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    fields = {
        256: width,
        257: height,
        258: samples.dtype.itemsize * 8,
        259: 1,  # no compression
        262: 1,  # 0 is black
        273: 8,  # the pixels follow the file's head
        277: 1,
        278: height,
        279: len(data),
        339: {"u": 1, "i": 2, "f": 3}[samples.dtype.kind],
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", len(fields)) + entries + struct.pack("<I", 0)


def rgb_profile(primaries: Sequence[Sequence[float]] = ADOBE_PRIMARIES, gamma: float = 2.2) -> bytes:
    """An RGB profile of three primaries (XYZ, adapted to D50) and a gamma; Adobe RGB (1998) unless told otherwise."""
    tags = {b"wtpt": _xyz(0.9642, 1.0, 0.8249)}
    for name, primary in zip(b"rgb", primaries, strict=True):
        tags[bytes([name]) + b"XYZ"] = _xyz(*primary)
        tags[bytes([name]) + b"TRC"] = _gamma(gamma)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    """A grey profile: black to white by a gamma."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": _xyz(0.9642, 1.0, 0.8249), b"kTRC": _gamma(gamma)})


def cmyk_profile(inks: Sequence[Sequence[int]]) -> bytes:
    """A CMYK profile in which the inks have these four sRGB colours; overprints multiply."""
    corners = itertools.product((False, True), repeat=4)
    colours = [
        np.prod(
            [np.array(ink) / 255 for ink, on in zip(inks, corner, strict=True) if on] or [np.ones(3)], axis=0
        )
        for corner in corners
    ]
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": _lookup_table(4, colours)})


def scanner_profile() -> bytes:
    """An RGB profile by which one can come to Lab, but not back; its blue is a dull one."""
    colours = [np.array(c) * (1, 1, 0.5) for c in itertools.product((0.0, 1.0), repeat=3)]
    return _profile(b"scnr", b"RGB ", b"Lab ", {b"A2B0": _lookup_table(3, colours)})


def _lookup_table(inputs: int, colours: list[npt.NDArray[np.float64]]) -> bytes:
    """An ICC lut8Type with two grid points an input, from the colours (sRGB, 0..1) at the corners."""
    rgb = Image.fromarray(np.uint8(np.rint(np.array([colours]) * 255)))
    # Pillow hands out a and b as TIFF has them, ICC wants 128 to be neutral.
    signed = np.asarray(rgb.convert("LAB"))
    lab = (signed ^ np.array([0, 128, 128], np.uint8)).tobytes()
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    return b"mft1\0\0\0\0" + bytes([inputs, 3, 2, 0]) + matrix + identity * inputs + lab + identity * 3


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))


def _gamma(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _profile(device: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC version 2 profile: head, table of tags, tags."""
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    date = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    head = struct.pack(
        ">I4sI4s4s4s12s4s", start + len(body), b"\0" * 4, 0x02400000, device, space, pcs, date, b"acsp"
    )
    head += b"\0" * 28 + _xyz(0.9642, 1.0, 0.8249)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
