"""A folder in files that are small enough to be fetched from a lent machine."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

PART_BYTES = 15_500_000
"""A file that comes back has at most 16 MiB."""
FILES = 8
"""So many come back of one call."""


def pack(folder: Path, out: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """`folder` as a tar in `out`, in parts NAME.tar.00, NAME.tar.01, ...: `cat` makes one of them again."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(folder, folder.name)
    content = packed.getbuffer()
    out.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, start in enumerate(range(0, len(content), part_bytes)):
        parts.append(out / f"{folder.name}.tar.{number:02d}")
        parts[-1].write_bytes(content[start : start + part_bytes])
    return parts
