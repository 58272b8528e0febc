"""The sprite shards: WebDataset tars of KEY.webp (RGBA, straight alpha) and KEY.json, written, read, decoded.

Without torch, so that the worker processes that decode start in a fraction of a second.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lazydiffusion.errors import BadInput

HOW_TO_BUILD = "build them with `lazydiffusion data clipart --out DIR`"


@dataclass(frozen=True, slots=True)
class Sample:
    """One sprite's place in a shard (`offset` and `size` of its image, bytes) and its labels."""

    shard: Path
    key: str
    offset: int
    size: int
    set_name: str
    style: str
    captions: tuple[str, ...]


def write_shards(
    folder: Path, sprites: Iterable[tuple[str, bytes, Mapping[str, object]]], shard_bytes: int = 40 << 20
) -> list[Path]:
    """Writes (key, encoded image, labels) to `folder`/clipart-000.tar and so on, in the given order.

    A shard is closed once its contents reach `shard_bytes`. The same sprites give the same bytes: the tars hold no
    times and no owners. Gives the shards; raises OSError.
    """
    shards: list[Path] = []
    waiting = iter(sprites)
    sprite = next(waiting, None)
    while sprite is not None:
        shards.append(folder / f"clipart-{len(shards):03d}.tar")
        size = 0
        with tarfile.open(shards[-1], "w") as tar:
            while sprite is not None and size < shard_bytes:
                key, image, labels = sprite
                for suffix, blob in (("webp", image), ("json", json.dumps(labels).encode())):
                    entry = tarfile.TarInfo(f"{key}.{suffix}")
                    entry.size = len(blob)
                    tar.addfile(entry, io.BytesIO(blob))
                    size += entry.size
                sprite = next(waiting, None)
    return shards


def find_shards(folder: Path) -> list[Path]:
    """The *.tar files of `folder`, by name. Raises BadInput if there are none."""
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        state = "has no sprite shards (*.tar)" if folder.is_dir() else "is not a folder of sprite shards"
        raise BadInput(f"{folder} {state}: {HOW_TO_BUILD}.")
    return shards


def index_shard(shard: Path) -> list[Sample]:
    """The samples of one shard in the file's order; images are located, not decoded.

    Raises BadInput, naming shard and sample, for a cut-off tar, an image without its JSON (or the reverse) and a
    JSON without captions: a shard is built in one piece, so any of these means that the copy is damaged.
    """
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, tuple[str, str, tuple[str, ...]]] = {}
    try:
        length = shard.stat().st_size
        with tarfile.open(shard, "r:") as tar:
            for entry in tar:
                key, _, suffix = entry.name.partition(".")
                if entry.offset_data + entry.size > length:
                    raise tarfile.ReadError("unexpected end of data")
                if suffix == "webp":
                    images[key] = entry.offset_data, entry.size
                elif suffix == "json" and (file := tar.extractfile(entry)) is not None:
                    labels[key] = _labels(shard, key, file.read())
    except (OSError, tarfile.TarError) as error:
        raise BadInput(
            f"The shard {shard} cannot be read ({error}): copy it again, or {HOW_TO_BUILD}."
        ) from error
    if odd := sorted(images.keys() ^ labels.keys()):
        raise BadInput(
            f"The shard {shard} is incomplete: {odd[0]} lacks its image or its JSON; {HOW_TO_BUILD}."
        )
    return [Sample(shard, key, offset, size, *labels[key]) for key, (offset, size) in images.items()]


def _labels(shard: Path, key: str, blob: bytes) -> tuple[str, str, tuple[str, ...]]:
    try:
        meta = json.loads(blob)
        set_name, style, captions = str(meta["set"]), str(meta["style"]), tuple(meta["captions"])
        if not captions or not all(isinstance(caption, str) for caption in captions):
            raise ValueError("no captions")
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"The sample {key} in {shard} has unusable labels ({error!r}); {HOW_TO_BUILD}."
        ) from error
    return set_name, style, captions


def decode_sprite(blob: bytes, side: int) -> npt.NDArray[np.uint8]:
    """An encoded square RGBA image as (4, side, side) uint8 with premultiplied alpha (each colour <= alpha).

    Scaling happens after the premultiplication, so that the colour of transparent pixels never bleeds in. Raises
    ValueError or OSError if it is not a square image that Pillow can read.
    """
    with Image.open(io.BytesIO(blob)) as image:
        if image.width != image.height:
            raise ValueError(f"{image.width} x {image.height} px is not square")
        sprite = image.convert("RGBA").convert("RGBa")
    if sprite.width != side:
        if sprite.width % side == 0:  # the area average: exact, no halo, ten times faster than LANCZOS
            sprite = sprite.reduce(sprite.width // side)
        else:
            sprite = sprite.resize((side, side), Image.Resampling.LANCZOS)
    pixels: npt.NDArray[np.uint8] = np.asarray(sprite).transpose(2, 0, 1).copy()
    np.minimum(pixels[:3], pixels[3], out=pixels[:3])  # LANCZOS may overshoot the alpha
    return pixels


def decode_samples(samples: Sequence[Sample], side: int) -> npt.NDArray[np.uint8]:
    """The pixels of `samples`, (n, 4, side, side). Raises BadInput that names the first sample that is broken."""
    pixels = np.empty((len(samples), 4, side, side), np.uint8)
    for row, sample in enumerate(samples):
        try:
            with sample.shard.open("rb") as file:
                file.seek(sample.offset)
                pixels[row] = decode_sprite(file.read(sample.size), side)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise BadInput(
                f"The sprite {sample.key} in {sample.shard} cannot be decoded ({error}): copy the shard again, "
                f"or {HOW_TO_BUILD}."
            ) from error
    return pixels


def decode_to_file(samples: Sequence[Sample], side: int, path: Path, offset: int) -> int:
    """Decodes `samples` into the bytes of `path` from `offset` on, and gives their number.

    Workers write their own piece of one file: gigabytes of pixels through a pipe would take longer than decoding.
    Plain writes rather than a memory map, because a full disk is then an OSError and not a crash.
    """
    pixels = decode_samples(samples, side)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(pixels.data)
    return len(samples)
