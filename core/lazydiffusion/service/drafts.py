"""Edits whose fills come into the history only when they are asked for: while an artist paints, most are not wanted."""

from __future__ import annotations

from lazydiffusion.service import pictures
from lazydiffusion.service.errors import CannotBeDone, NotThere, Unchangeable
from lazydiffusion.service.history import History, SavedFill
from lazydiffusion.service.jobs import Job


def keep(job: Job, history: History) -> None:
    """Put a draft's fills into the history; of any other edit they are there already, as far as they could be.

    Raises CannotBeDone while they are being made, NotThere where memory has let go of one, Unchangeable where they
    cannot be written.
    """
    if not job.draft:
        return
    if not job.ended:
        raise CannotBeDone(
            "The edit is still running. Keep its fills when it has ended, or send it as no draft."
        )
    with job.keeping:
        entry = history.get(job.id)
        saved = {fill.fill for fill in entry.fills} if entry is not None else set()
        _write(job, sorted(job.thumbnails.keys() - saved), history)


def _write(job: Job, missing: list[int], history: History) -> None:
    fills = dict(job.fills)  # once: they may be let go of meanwhile
    if not fills.keys() >= set(missing):
        raise NotThere(
            "The core has let go of this draft's fill, because many were made since. Generate it again."
        )
    try:
        for number in missing:
            fill = fills[number]
            saved = SavedFill(number, fill.seed, fill.box.as_list())
            history.add_fill(job.entry, saved, pictures.stored_png(fill.pixels), job.thumbnails[number])
    except OSError as error:
        raise Unchangeable(
            f"The fill could not be saved in the history ({history.folder}: {error.strerror}). Make room on the "
            "disk, and try again."
        ) from error
