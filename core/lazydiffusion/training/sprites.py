"""The sprite bank: every training sprite decoded, in memory, ready to be pasted into scenes."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from lazydiffusion.errors import BadInput, CannotWrite
from lazydiffusion.training.processes import cores, process_pool
from lazydiffusion.training.shards import HOW_TO_BUILD, Sample, decode_to_file, find_shards, index_shard
from lazydiffusion.training.vocabulary import Vocabulary, captions_for

Progress = Callable[[int, int], None]
"""Called with (sprites done, sprites in all)."""

CACHE_FORMAT = 1  # raise when the cached pixels of the same shards would come out different
CHUNK = 256  # sprites per task: long against its dispatch, short enough to balance over 16 cores
POOLED = 32  # sprites averaged at once: their float32 copy stays in the processor's cache


@dataclass
class SpriteBank:
    """N sprites of S x S px. `pixels` is RGBA with premultiplied alpha: colour <= alpha, in 0..255.

    `sets` indexes `set_names`; `captions` (each the name first, then the name with a tag), `styles` (empty where one is
    not told) and `keys` have one entry per sprite.
    """

    pixels: UInt8[Tensor, "n 4 s s"]
    captions: list[list[str]]
    sets: Int64[Tensor, " n"]
    set_names: list[str]
    styles: list[str]
    keys: list[str]
    _levels: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def side(self) -> int:
        """The sprites' side, px."""
        return self.pixels.shape[-1]

    def held_out(self) -> Bool[Tensor, " n"]:
        """True for about one sprite in 64, chosen by its key alone: the same in every build."""
        flags = [_key_number(key) % 64 == 0 for key in self.keys]
        return torch.tensor(flags, dtype=torch.bool, device=self.sets.device)

    def subset(self, mask: Bool[Tensor, " n"]) -> SpriteBank:
        """The sprites where `mask` is true, in the same order; set numbers keep their meaning."""
        rows = mask.nonzero().flatten()
        listed = rows.tolist()
        return SpriteBank(
            pixels=self.pixels[rows.to(self.pixels.device)],
            captions=[self.captions[row] for row in listed],
            sets=self.sets[rows.to(self.sets.device)],
            set_names=list(self.set_names),
            styles=[self.styles[row] for row in listed],
            keys=[self.keys[row] for row in listed],
            _levels={side: level[rows.to(level.device)] for side, level in self._levels.items()},
        )

    def of_sets(self, names: Sequence[str]) -> SpriteBank:
        """The sprites of some sets only. Raises BadInput for a set that there is not."""
        if unknown := sorted(set(names) - set(self.set_names)):
            raise BadInput(
                f"There is no set {unknown[0]!r} among the sprites; there are {', '.join(sorted(self.set_names))}."
            )
        wanted = torch.tensor([self.set_names.index(name) for name in names], device=self.sets.device)
        return self.subset(torch.isin(self.sets, wanted))

    def of_vocabulary(self, vocabulary: Vocabulary) -> SpriteBank:
        """The sprites whose name it knows, called by its words alone. Raises BadInput for a name that none has."""
        names = [captions[0] for captions in self.captions]
        if missing := sorted(set(vocabulary) - set(names)):
            raise BadInput(
                f"No sprite is called {missing[0]!r}, which the vocabulary has: {len(missing)} such names."
            )
        known = [name in vocabulary for name in names]
        found = self.subset(torch.tensor(known, device=self.sets.device))
        captions = [captions_for(captions[0], vocabulary) for captions in found.captions]
        return replace(found, captions=captions, styles=[""] * len(found))

    def to(self, device: torch.device | str) -> SpriteBank:
        """The same bank with its tensors on `device`."""
        levels = {side: level.to(device) for side, level in self._levels.items()}
        return replace(self, pixels=self.pixels.to(device), sets=self.sets.to(device), _levels=levels)

    def level(self, side: int) -> UInt8[Tensor, "n 4 side side"]:
        """The sprites at `side` px by area average, computed once. `side` must divide the bank's side."""
        if side == self.side:
            return self.pixels
        if not 0 < side < self.side or self.side % side:
            raise BadInput(
                f"Sprites of {self.side} px have no level of {side} px: it must divide {self.side}."
            )
        if side not in self._levels:
            level = torch.empty(len(self), 4, side, side, dtype=torch.uint8, device=self.pixels.device)
            for row in range(0, len(self), POOLED):
                part = self.pixels[row : row + POOLED].float()
                level[row : row + POOLED] = F.avg_pool2d(part, self.side // side).round_()
            self._levels[side] = level
        return self._levels[side]


def _key_number(key: str) -> int:
    """A key's hash digits as a number; a key that is not hexadecimal (someone's own shards) is hashed first."""
    try:
        return int(key, 16)
    except ValueError:
        return int(hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest(), 16)


def load_bank(
    folder: Path,
    side: int = 128,
    workers: int | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> SpriteBank:
    """Decodes all shards (*.tar) of `folder` at `side` px with `workers` processes (all cores if None).

    With `cache`, a folder of its own for these shards, the pixels are kept there and memory-mapped by the next call,
    until the shards' content or `side` changes. A broken sample stops the load and is named: shards are built in one
    piece, so it means a damaged copy, and to skip it would silently change the training set.

    Raises BadInput (no shards, a broken sample, a side below 1), CannotWrite (the cache, or the temporary file).
    """
    if side < 1:
        raise BadInput(f"The sprites' side is {side} px: it must be at least 1.")
    shards = find_shards(folder)
    workers = workers or cores()
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="lazydiffusion-") as scratch:
            built = Path(scratch) / "sprites"
            _build(shards, side, workers, built, progress)
            return _open(built, in_memory=True)
    kept = cache / f"sprites-{side}-{_fingerprint(shards, side)}"
    try:
        return _open(kept, in_memory=False)
    except (OSError, ValueError, EOFError):  # there is none yet, or a power cut damaged it
        _fill_cache(shards, side, workers, kept, progress)
    return _open(kept, in_memory=False)


def _fill_cache(
    shards: Sequence[Path], side: int, workers: int, kept: Path, progress: Progress | None
) -> None:
    """Builds `kept`.npy and .json so that they appear whole, and removes what older shards left beside them."""
    cache = kept.parent
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as scratch:
            built = Path(scratch) / "sprites"
            _build(shards, side, workers, built, progress)
            for suffix in (".npy", ".json"):
                built.with_suffix(suffix).replace(kept.with_suffix(suffix))
        for stale in cache.glob(f"sprites-{side}-*"):
            if stale.stem != kept.name:
                stale.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(f"The sprite cache {cache} cannot be written: {error}.") from error


def _build(shards: Sequence[Path], side: int, workers: int, target: Path, progress: Progress | None) -> None:
    """Writes `target`.npy, the decoded pixels of `shards`, and `target`.json, their labels in the same order."""
    path = target.with_suffix(".npy")
    with process_pool(workers) as pool:
        indexed = pool.map(index_shard, shards) if pool else map(index_shard, shards)
        samples = list(chain.from_iterable(indexed))
        if not samples:
            raise BadInput(f"The shards in {shards[0].parent} hold no sprites: {HOW_TO_BUILD}.")
        try:
            labels = [[sample.key, sample.set_name, sample.style, sample.captions] for sample in samples]
            target.with_suffix(".json").write_text(json.dumps(labels), encoding="utf-8")
            with path.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(samples), 4, side, side)}
                np.lib.format.write_array_header_1_0(file, header)
                start = file.tell()
            starts = range(0, len(samples), CHUNK)
            tasks = [(samples[row : row + CHUNK], side, path, start + row * 4 * side**2) for row in starts]
            done = 0
            for count in _run(pool, tasks):
                done += count
                if progress:
                    progress(done, len(samples))
        except OSError as error:
            raise CannotWrite(f"The decoded sprites cannot be written to {path.parent}: {error}.") from error


def _open(built: Path, in_memory: bool) -> SpriteBank:
    """The bank that `_build` wrote; if not `in_memory`, its pixels are read from the file as they are used."""
    # "c", copy on write: torch wants a writable array, and the file must stay as it is.
    pixels = np.load(built.with_suffix(".npy"), mmap_mode=None if in_memory else "c")
    keys, names, styles, captions = zip(
        *json.loads(built.with_suffix(".json").read_text(encoding="utf-8")), strict=True
    )
    set_names = sorted(set(names))
    return SpriteBank(
        pixels=torch.from_numpy(pixels),
        captions=list(captions),
        sets=torch.tensor([set_names.index(name) for name in names], dtype=torch.int64),
        set_names=set_names,
        styles=list(styles),
        keys=list(keys),
    )


def _run(pool: Executor | None, tasks: Iterable[tuple[Sequence[Sample], int, Path, int]]) -> Iterator[int]:
    if pool is None:
        yield from (decode_to_file(*task) for task in tasks)
        return
    for future in as_completed([pool.submit(decode_to_file, *task) for task in tasks]):
        yield future.result()


def _fingerprint(shards: Sequence[Path], side: int) -> str:
    """A digest of the shards' names and content: tars are padded, so that sizes alone miss a rebuild."""
    digest = hashlib.sha256(f"{CACHE_FORMAT} {side}".encode())
    for shard in shards:
        try:
            with shard.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BadInput(f"The shard {shard} cannot be read: {error}.") from error
        digest.update(f"{shard.name} {content}".encode())
    return digest.hexdigest()[:16]
