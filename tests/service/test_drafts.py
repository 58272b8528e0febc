"""Drafts: edits whose fills come into the history only when somebody wants them kept."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.service.small_edits import small_edit, small_fill
from tests.service.test_edits import edit_request, long_request

from lazydiffusion import events
from lazydiffusion.client.core import Core
from lazydiffusion.client.errors import EditRejected
from lazydiffusion.events import Filled
from lazydiffusion.service import drafts
from lazydiffusion.service.errors import NotThere, Unchangeable
from lazydiffusion.service.history import History
from lazydiffusion.service.jobs import KEEP_JOBS, Job


def listed(core: Core) -> list[str]:
    return [entry.id for entry in core.history(1000)]


def test_a_draft_is_in_the_history_only_when_it_is_kept(core: Core) -> None:
    edit = core.submit(replace(edit_request(variations=2, seed=7), draft=True))
    told = list(edit.events())
    made = [edit.fill(number) for number in (0, 1)]

    assert [(event.saved, event.notice) for event in told if isinstance(event, Filled)] == [(False, "")] * 2
    assert edit.id not in listed(core)

    edit.keep()
    edit.keep()  # once more changes nothing
    entry = next(entry for entry in core.history(1000) if entry.id == edit.id)
    assert [(fill.fill, fill.seed) for fill in entry.fills] == [(0, 7), (1, 8)]
    assert core.thumbnail(edit.id, 1).startswith(b"\x89PNG")
    assert [edit.fill(number) for number in (0, 1)] == made


def test_a_kept_draft_is_the_same_as_an_edit_that_was_none(core: Core) -> None:
    plain, draft = (core.submit(replace(edit_request(), draft=draft)) for draft in (False, True))
    plain.wait(), draft.wait()
    draft.keep()
    plain.keep()  # it is there already
    found = {entry.id: entry for entry in core.history(1000)}
    assert found[draft.id].settings == found[plain.id].settings
    assert found[draft.id].state == found[plain.id].state == "done"
    assert core.thumbnail(draft.id, 0) == core.thumbnail(plain.id, 0)


def test_what_cannot_be_kept_is_said(core: Core) -> None:
    running = core.submit(replace(long_request(), draft=True))
    with pytest.raises(EditRejected, match="still running"):
        running.keep()
    running.cancel()
    with pytest.raises(EditRejected, match="draft, and the core has let go of it"):
        core.edit("0" * 16).keep()


def test_old_drafts_are_let_go_of(core: Core) -> None:
    first = core.submit(replace(edit_request(), draft=True))
    first.wait()
    for _ in range(KEEP_JOBS + 1):
        core.submit(replace(edit_request(steps=1), draft=True)).wait()
    with pytest.raises(EditRejected, match="let go of it"):
        first.keep()


def ended_draft() -> Job:
    job = Job(small_edit(), "test", draft=True)
    job.fills[0], job.thumbnails[0] = small_fill(), b"thumbnail"
    job.publish(events.Done(1))
    return job


@pytest.mark.unit
def test_kept_twice_at_once_it_is_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, history = ended_draft(), History(tmp_path)
    add_fill = History.add_fill

    def slowly(*arguments: Any) -> None:
        time.sleep(0.2)
        add_fill(*arguments)

    monkeypatch.setattr(History, "add_fill", slowly)
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda _: drafts.keep(job, history), range(3)))
    [entry] = history.entries(10)
    assert len(entry.fills) == 1


@pytest.mark.unit
def test_a_draft_whose_pixels_are_gone_is_not_kept_in_part(tmp_path: Path) -> None:
    job, history = ended_draft(), History(tmp_path)
    del job.fills[0]
    with pytest.raises(NotThere, match="Generate it again"):
        drafts.keep(job, history)
    assert history.entries(10) == []


@pytest.mark.unit
def test_what_is_in_the_history_needs_no_pixels_to_be_kept(tmp_path: Path) -> None:
    job, history = ended_draft(), History(tmp_path)
    drafts.keep(job, history)
    del job.fills[0]
    drafts.keep(job, history)
    assert len(history.entries(10)) == 1


@pytest.mark.unit
def test_a_folder_that_takes_nothing_is_told_and_the_draft_stays(tmp_path: Path) -> None:
    place = tmp_path / "history"
    place.write_text("a file where the folder should be")
    job, history = ended_draft(), History(place)
    with pytest.raises(Unchangeable, match="could not be saved"):
        drafts.keep(job, history)
    place.unlink()
    drafts.keep(job, history)
    assert [entry.id for entry in history.entries(10)] == [job.id]
