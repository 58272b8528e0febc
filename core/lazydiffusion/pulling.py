"""A model from the hub into the user's folder: whole, checked, or not at all. For the command line and for the core."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lazydiffusion import checkpoints, hub
from lazydiffusion.client.locks import FileLock
from lazydiffusion.errors import BadInput, BadModel, CannotWrite, LazyDiffusionError
from lazydiffusion.known_models import KNOWN

SOURCE = "source.json"
"""In a pulled model's folder: its repo, revision (the commit) and licence."""


class Stopped(LazyDiffusionError):
    """A download was ended on purpose; what is downloaded is kept."""


@dataclass(frozen=True)
class Source:
    """Where a folder's model is from."""

    repo: str
    commit: str


@dataclass(frozen=True)
class Pull:
    """What pulling a model would do, as the hub describes it; nothing is changed yet."""

    name: str
    """What it will be called."""
    model: hub.Published
    target: Path
    """Its folder, when it is whole."""
    here: Source | None
    """What is in that folder now."""
    problem: str = ""
    """Why what is there has to be downloaded again although it is from that commit."""

    @property
    def is_done(self) -> bool:
        """Whether exactly this is there, and whole."""
        return self.here == Source(self.model.repo, self.model.commit) and not self.problem

    @property
    def partial(self) -> Path:
        """Where its files are until all are there: of one commit, in a folder of its own."""
        return checkpoints.partial_folder(self.name) / self.model.commit

    @property
    def lacking(self) -> int:
        """Bytes that are still to be downloaded."""
        return self.model.bytes - hub.downloaded_bytes(self.model, self.partial)

    @property
    def free(self) -> int:
        """Bytes that are free on the disk that it goes to."""
        return shutil.disk_usage(self._disk).free

    @property
    def _disk(self) -> Path:
        return next(parent for parent in self.target.parents if parent.exists())

    def check_room(self) -> None:
        """Raises CannotWrite when the disk has too little for it."""
        free, lacking = self.free, self.lacking
        if free < lacking:
            raise CannotWrite(
                f"Nothing was downloaded: {size(lacking)} are needed and {size(free)} are free at {self._disk}. Free "
                "some space on this disk."
            )

    def run(
        self,
        progress: Callable[[int], None],
        checking: Callable[[], None] = lambda: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Download beside the model's place, check, and only then put it there.

        `progress` is told bytes as they come, `checking` that all have come; `stopped` is asked at each piece. Raises
        Stopped, what hub.download raises, and CannotWrite, also when another process pulls the same model.
        """

        def piece(count: int) -> None:
            progress(count)
            if stopped():
                raise Stopped("The download was stopped; what is downloaded is kept.")

        folder = checkpoints.partial_folder(self.name)
        lock = FileLock(self.target.parent.parent / f"{self.name}.lock")  # not among the models
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            if not lock.acquire(timeout=0):
                raise CannotWrite(
                    f"{self.name} is being downloaded by another program already. Wait for that, or stop it first."
                )
            _tidy(folder, self.target, keep=self.partial)
            hub.download(self.model, self.partial, piece)
            checking()
            source = {"repo": self.model.repo, "revision": self.model.commit, "licence": self.model.licence}
            (self.partial / SOURCE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf8")
            checkpoints.write_hashes(self.partial)
            checkpoints.verify(self.partial, required=True)
            _put_in_place(self.partial, self.target, folder / checkpoints.REPLACED)
            shutil.rmtree(folder)
        except OSError as error:
            raise CannotWrite(
                f"The model cannot be written to {self.target.parent}: {error.strerror or error}."
            ) from error
        finally:
            lock.release()


def prepare(wanted: str, revision: str | None = None) -> Pull:
    """Ask the hub what pulling a known name or a hub id would do.

    The commit is what the hub has at `revision`, else the one that KNOWN has for the name, else the main branch's. For
    a name without one, flux2-klein among them, nothing here vouches for the first commit but the hub itself; from then
    on source.json has it, and `here` tells of another one. Raises BadInput, BadModel, HubUnreachable.
    """
    repo = KNOWN[wanted].repo if wanted in KNOWN else wanted
    if not checkpoints.HUB_ID.fullmatch(repo):
        raise BadInput(
            f"{wanted!r} cannot be pulled: give a hub id such as owner/name, or one of {', '.join(KNOWN)}."
        )
    known = next((model for model in KNOWN.values() if model.repo == repo), None)
    name = known.name if known is not None else repo.partition("/")[2]
    target = checkpoints.user_folder() / name
    here, problem = _source(target, name), ""
    model = hub.describe(repo, revision or (known.commit if known is not None else None))
    if here == Source(model.repo, model.commit):
        try:
            checkpoints.verify(target, required=True)
        except BadModel as error:
            problem = str(error)
    return Pull(name, model, target, here, problem)


def size(count: int) -> str:
    """Bytes for people who watch a disk."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _source(target: Path, name: str) -> Source | None:
    """What was pulled to a folder. Raises BadInput when something else is there."""
    if name == checkpoints.EMBEDDED:
        raise BadInput(
            f"{name} is the name of the model that is installed with the package; nothing replaces it."
        )
    if not target.exists():
        return None
    try:
        source = json.loads((target / SOURCE).read_text(encoding="utf8"))
        return Source(str(source["repo"]), str(source["revision"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{target} was not pulled from the hub, so it is not replaced: give it another name, then pull again."
        ) from error


def _tidy(folder: Path, target: Path, keep: Path) -> None:
    """Remove other commits' files; and bring back what a pull that was killed had just put aside."""
    replaced = folder / checkpoints.REPLACED
    if replaced.exists() and not target.exists():
        replaced.rename(target)
    for other in folder.iterdir() if folder.is_dir() else ():
        # Not the files that a system leaves wherever it looks, such as .DS_Store: they are in nobody's way.
        if other != keep and other.is_dir() and not other.is_symlink():
            shutil.rmtree(other)


def _put_in_place(whole: Path, target: Path, replaced: Path) -> None:
    if target.exists():
        target.rename(replaced)
    try:
        whole.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
