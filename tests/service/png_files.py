"""PNG files made chunk by chunk, for what no program should write."""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, bits: int = 8, colour: int = 0) -> bytes:
    """IHDR; `colour` 0 is grey, 2 is RGB, 6 is RGBA."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))


@lru_cache
def zeros(count: int) -> bytes:
    """So many zero bytes, compressed a thousand times."""
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    packed = [packer.compress(block) for _ in range(count // len(block))]
    return b"".join([*packed, packer.compress(bytes(count % len(block))), packer.flush()])


def grey(width: int, height: int, *before: bytes) -> bytes:
    """A black grey picture, with more chunks `before` its pixels."""
    pixels = zeros((width + 1) * height)
    return SIGNATURE + header(width, height) + b"".join(before) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
