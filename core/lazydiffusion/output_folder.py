"""The folder that a command's results go to: tried before the work, and its faults told as sentences."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lazydiffusion.errors import CannotWrite


def check(out: Path, names: Sequence[str] = (), option: str = "--out", keep: bool = False) -> None:
    """Raise CannotWrite if a folder cannot be made, or files of these names cannot be written in it.

    It really makes the folder and a file, and leaves neither behind, unless it is to `keep` the folder. `option`: what
    the user is to choose anew.
    """
    made: list[Path] = []
    try:
        made = [folder for folder in (out, *out.parents) if not folder.exists()]
        out.mkdir(parents=True, exist_ok=True)
        for path in (out / name for name in names):
            if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
                raise CannotWrite(f"{path} is there and cannot be written over. Choose another {option}.")
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        what = "cannot be written to" if out.is_dir() else "cannot be made"
        raise CannotWrite(f"The folder {out} {what}: {error.strerror}. Choose another {option}.") from error
    finally:
        for folder in [] if keep else made:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """Make the folder, and raise CannotWrite for what fails while the results are written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise CannotWrite(f"The results cannot be written to {out}: {error.strerror or error}.") from error


def put_in_place(new: Path, folder: Path) -> None:
    """Let a folder that is complete take the place of another: at no time is `folder` half written."""
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
