"""Every finished fill on disk with its request, before anybody is told of it: a folder for each edit."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

LOG = logging.getLogger(__name__)

RECORD = "edit.json"
"""In an edit's folder; what it does not list is not part of the history."""
MAX_BYTES = 2 * 1024**3
"""Beyond this the oldest edits are removed, once all files are as small as they will be."""
HURRY = 2
"""How many times that the history may take meanwhile: fills are written in a hurry, many times as large."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a disk says that takes no more."""

_FOLDER = re.compile(r"\d{8,}-[0-9a-f]{16}", re.ASCII)
_FILE = re.compile(r"(edit\.json|(fill|thumbnail)-\d+\.png)(\.part)?", re.ASCII)
"""Nothing of another name is ever removed: the artist may have put it there."""


@dataclass(frozen=True)
class SavedFill:
    """One fill of an edit in the history."""

    fill: int
    seed: int
    box: list[int]
    """[x, y, w, h] on the canvas."""


@dataclass
class Entry:
    """One edit in the history. Its `number` orders it: clocks may jump."""

    id: str
    number: int
    created: float
    """Seconds since 1970, for display."""
    settings: dict[str, Any]
    canvas_size: list[int]
    client: str
    state: str = "running"
    """running, done, failed or cancelled; what a killed core left "running" is failed to the next one."""
    fills: list[SavedFill] = field(default_factory=list)


class History:
    """The edits in a folder. Any thread may call it; one process at a time may own the folder.

    What only tells of the edits never waits for the disk, which may be busy for seconds.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES):
        """Reads what is there. A folder that cannot be made or read is an empty history that cannot be written."""
        self.folder, self.max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        """Of what is in memory; held for moments."""
        self._writing = threading.RLock()
        """Of the files, for who changes them; taken before the other."""
        self._entries: dict[str, Entry] = {}
        self._sizes: dict[str, int] = {}
        self._stored: deque[tuple[str, int]] = deque()
        """Fills whose files are not compressed yet."""
        self._tried = 0
        """The size to which room was last made: a folder that cannot be changed is not tried each second."""
        self._read()

    def add_fill(self, entry: Entry, fill: SavedFill, png: bytes, thumbnail: bytes) -> None:
        """Write a fill durably: when this returns it survives a crash and a power cut. Raises OSError."""
        with self._writing:
            known = self.get(entry.id) is not None
            if not known:
                entry.number = self._next_number()
                entry.fills.clear()  # not empty where the edit was deleted while it ran
            try:
                self._write_fill(entry, fill, png, thumbnail, known)
            except OSError as error:
                if error.errno not in FULL or self.size <= self.max_bytes:
                    raise
                self._make_room(self.max_bytes, keep=entry.id)
                self._write_fill(entry, fill, png, thumbnail, known)
            size = _size(self._path(entry))
            with self._lock:
                entry.fills.append(fill)
                self._entries[entry.id] = entry
                self._sizes[entry.id] = size
            self._note_if_stored(entry, fill)
            self._make_room(HURRY * self.max_bytes, keep=entry.id)

    def _write_fill(self, entry: Entry, fill: SavedFill, png: bytes, thumbnail: bytes, known: bool) -> None:
        """The files of a fill. Raises OSError, after which nothing of them is left."""
        folder = self._path(entry)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            folder.mkdir(exist_ok=True, mode=0o700)
            _write(folder / f"thumbnail-{fill.fill}.png", thumbnail, durable=False)
            _write(folder / f"fill-{fill.fill}.png", png)
            self._write_record(entry, [*entry.fills, fill])
            if not known:
                _sync_folder(self.folder)
        except OSError:
            # Half-written it would keep space on a full disk.
            with suppress(OSError):
                if known:
                    _tidy(folder, entry.fills)
                else:
                    _remove(folder)
            raise

    def make_room(self) -> None:
        """Remove the oldest edits beyond the size, but never the newest one. For idle moments, after compressing."""
        with self._writing:
            newest = self.entries(1)
            if newest and self.size != self._tried:
                self._make_room(self.max_bytes, keep=newest[0].id)
                self._tried = self.size

    def compress_one(self, compress: Callable[[bytes], bytes]) -> bool:
        """Replace one file that was written without compression; False when there is none. For idle moments."""
        with self._lock:
            if not self._stored:
                return False
            id, number = self._stored.popleft()
        found = self.fill(id, number)
        if found is None:
            return True
        smaller = compress(found[1])  # takes a moment, in which others may use the history
        with self._writing:
            entry = self.get(id)
            if entry is not None and found[0] in entry.fills:
                with _told("compress a fill"):
                    _write(self._path(entry) / f"fill-{number}.png", smaller)
                self._measure(entry)
        return True

    def finish(self, entry: Entry, state: str) -> None:
        """Note how an edit ended. A history that cannot be written keeps its fills all the same."""
        entry.state = state
        with self._writing:
            if self.get(entry.id) is None:
                return
            try:
                self._write_record(entry, entry.fills)
                self._measure(entry)
            except OSError as error:
                LOG.warning("The history in %s cannot be written: %s.", self.folder, error.strerror)

    def entries(self, limit: int) -> list[Entry]:
        """The newest edits, newest first."""
        with self._lock:
            newest = sorted(self._entries.values(), key=lambda entry: entry.number, reverse=True)
            return newest[:limit]

    def get(self, id: str) -> Entry | None:
        """The edit of that id; None when it is not in the history."""
        with self._lock:
            return self._entries.get(id)

    def fill(self, id: str, number: int) -> tuple[SavedFill, bytes] | None:
        """A fill and its PNG file (RGBA, w x h of its box); None when there is none, or when it was removed by hand."""
        return self._file(id, number, "fill")

    def thumbnail(self, id: str, number: int) -> bytes | None:
        """A PNG file of at most 256 px a side: the fill with what is around it. None as for `fill`."""
        found = self._file(id, number, "thumbnail")
        return found[1] if found else None

    def delete(self, id: str) -> bool:
        """Remove an edit. False when there is none of that id. Raises OSError."""
        with self._writing:
            entry = self.get(id)
            if entry is None:
                return False
            _remove(self._path(entry))
            with self._lock:
                del self._entries[id], self._sizes[id]
            return True

    def clear(self) -> None:
        """Remove all edits. Raises OSError."""
        with self._writing:
            for id in list(self._entries):
                self.delete(id)

    @property
    def size(self) -> int:
        """Size on disk."""
        with self._lock:
            return sum(self._sizes.values())

    def _file(self, id: str, number: int, kind: str) -> tuple[SavedFill, bytes] | None:
        with self._lock:
            entry = self._entries.get(id)
            saved = next((f for f in entry.fills if f.fill == number), None) if entry else None
            if entry is None or saved is None:
                return None
            path = self._path(entry) / f"{kind}-{number}.png"
        try:
            return saved, path.read_bytes()
        except OSError:
            return None

    def _path(self, entry: Entry) -> Path:
        return self.folder / f"{entry.number:08d}-{entry.id}"

    def _note_if_stored(self, entry: Entry, fill: SavedFill) -> None:
        with suppress(OSError):
            size = (self._path(entry) / f"fill-{fill.fill}.png").stat().st_size
            if size > 4 * fill.box[2] * fill.box[3]:
                self._stored.append((entry.id, fill.fill))  # one step: needs no lock

    def _next_number(self) -> int:
        return max((entry.number for entry in self._entries.values()), default=0) + 1

    def _write_record(self, entry: Entry, fills: list[SavedFill]) -> None:
        values = {**asdict(entry), "fills": [asdict(fill) for fill in fills]}
        _write(self._path(entry) / RECORD, json.dumps(values, indent=1).encode())

    def _measure(self, entry: Entry) -> None:
        size = _size(self._path(entry))
        with self._lock:
            self._sizes[entry.id] = size

    def _make_room(self, limit: int, keep: str) -> None:
        for entry in sorted(self._entries.values(), key=lambda entry: entry.number):
            if self.size <= limit:
                return
            if entry.id != keep:
                with _told("make room"):
                    self.delete(entry.id)

    def _read(self) -> None:
        """Take in what earlier cores left; remove what one was writing when it was killed."""
        try:
            folders = sorted(
                path
                for path in self.folder.iterdir()
                if _FOLDER.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
            )
        except FileNotFoundError:
            return
        except OSError as error:
            LOG.warning("The history in %s cannot be read: %s.", self.folder, error.strerror)
            return
        for folder in folders:
            with _told("tidy up"):
                if not (folder / RECORD).exists():  # killed before its first fill was whole
                    _remove(folder)
                    continue
            entry = _read_record(folder)
            if entry is None:
                LOG.warning("%s is damaged: it is left as it is, and out of the history.", folder / RECORD)
                continue
            if entry.state == "running":
                entry.state = "failed"
            with _told("tidy up"):
                _tidy(folder, entry.fills)
            self._entries[entry.id] = entry
            self._sizes[entry.id] = _size(folder)
            for fill in entry.fills:
                self._note_if_stored(entry, fill)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """House-keeping that fails is told in the log: no edit should fail for it."""
    try:
        yield
    except OSError as error:
        LOG.warning("Could not %s in the history: %s.", what, error)


def _read_record(folder: Path) -> Entry | None:
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf8"))
        # What could not be sent to a client as JSON is damaged too.
        json.dumps(values, allow_nan=False, ensure_ascii=False).encode("utf8")
        fills = [
            SavedFill(int(f["fill"]), int(f["seed"]), [int(v) for v in f["box"]]) for f in values["fills"]
        ]
        entry = Entry(
            id=str(values["id"]), number=int(values["number"]), created=float(values["created"]),
            settings=dict(values["settings"]), canvas_size=[int(v) for v in values["canvas_size"]],
            client=str(values["client"]), state=str(values["state"]), fills=fills,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    whole = fills and len(entry.canvas_size) == 2 and all(len(fill.box) == 4 for fill in fills)
    return entry if whole and folder.name == f"{entry.number:08d}-{entry.id}" else None


def _remove(folder: Path) -> None:
    """Remove an edit, its record first: half-removed it is no edit any more. Raises OSError."""
    (folder / RECORD).unlink(missing_ok=True)
    _tidy(folder, [])
    with suppress(OSError):  # not empty: something in it is not ours
        folder.rmdir()


def _tidy(folder: Path, fills: list[SavedFill]) -> None:
    """Remove what belongs neither to these fills nor to somebody else. Raises OSError."""
    listed = {RECORD, *(f"{kind}-{fill.fill}.png" for fill in fills for kind in ("fill", "thumbnail"))}
    with suppress(FileNotFoundError):  # all of it was removed by hand
        for path in list(folder.iterdir()):
            if _FILE.fullmatch(path.name) and path.name not in listed:
                path.unlink(missing_ok=True)


def _write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file as a whole: no reader and no crash ever finds half of it."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make renames in a folder durable. Windows has no such call, and does not need it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some shared folders cannot do it
            raise
    finally:
        os.close(descriptor)


def _size(folder: Path) -> int:
    size = 0
    with suppress(OSError):  # removed by hand meanwhile
        for path in folder.iterdir():
            size += path.lstat().st_size
    return size
