"""The history after a kill, on a disk that fails, and beside what others have put there."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.service.small_disk import make_read_only, small_disk
from tests.service.test_history import PNG, THUMBNAIL, add, edit, ids

from lazydiffusion.service.history import RECORD, History

pytestmark = pytest.mark.unit

KILLED = """
import json, os, sys
from pathlib import Path
from lazydiffusion.service.history import Entry, History, SavedFill

PNG = b"the fill's file" * 20
parent = os.getpid()

def add(history, number, fills):
    entry = Entry(f"{number:016x}", 0, 1000.0, {"prompt": "a cat"}, [200, 120], "test")
    for fill in fills:
        history.add_fill(entry, SavedFill(fill, 7 + fill, [5, 6, 60, 50]), PNG, b"small")
        if os.getpid() != parent:
            os.write(1, b" %d" % fill)
    history.finish(entry, "done")

def die_before(step, folder):
    left = step

    def before(event, arguments):
        nonlocal left
        if event in CHANGES and str(folder) in str(arguments[0]):
            left -= 1
            if left < 0:
                os._exit(9)

    sys.addaudithook(before)

CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")
status, step = 9, 0
while status == 9:
    folder = Path(sys.argv[1], f"{step:03d}")
    add(History(folder), 0, [0])
    os.write(1, b"%d:" % step)
    child = os.fork()
    if not child:
        history = History(folder, max_bytes=550)
        die_before(step, folder)
        add(history, 1, [0, 1])
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(1, b"\\n")
    step += 1
sys.exit(status)
"""
"""Adds two fills, for which an older edit must go, again and again: the n-th time it dies before the n-th step that
touches a file. Prints which fills it was told are safe."""


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_a_kill_between_any_two_steps_loses_no_fill_that_was_told_of(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True)
    assert killed.returncode == 0, killed.stderr
    lines = killed.stdout.splitlines()
    assert len(lines) > 20
    oldest_stayed = set()
    for step, line in enumerate(lines):
        folder = tmp_path / f"{step:03d}"
        told = [int(fill) for fill in line.partition(":")[2].split()]
        left = History(folder)
        found = left.get(edit(1).id)
        fills = [fill.fill for fill in found.fills] if found else []
        assert fills[: len(told)] == told
        expected = {(f"{kind}-{fill}.png", edit(1).id) for fill in fills for kind in ("fill", "thumbnail")}
        if left.get(edit(0).id) is not None:
            expected |= {(f"{kind}-0.png", edit(0).id) for kind in ("fill", "thumbnail")}
        oldest_stayed.add(left.get(edit(0).id) is not None)
        assert all(left.fill(edit(1).id, fill)[1] == PNG for fill in fills)  # type: ignore[index]
        files = {(file.name, file.parent.name[9:]) for file in folder.rglob("*.p*")}
        assert files == expected, step  # all that is listed, and nothing half-written that takes space
    assert fills == told == [0, 1]
    assert oldest_stayed == {True, False}


def test_what_a_killed_core_was_writing_is_removed(tmp_path: Path) -> None:
    add(History(tmp_path), edit(1))
    kept = next(tmp_path.iterdir())
    for name in ("fill-1.png", "thumbnail-1.png", "fill-2.png.part", "edit.json.part"):
        (kept / name).write_bytes(b"half")
    half = tmp_path / f"00000002-{edit(2).id}"
    half.mkdir()
    (half / "thumbnail-0.png").write_bytes(b"half")
    (half / "fill-0.png.part").write_bytes(b"half")
    empty = tmp_path / f"00000003-{edit(3).id}"
    empty.mkdir()

    history = History(tmp_path)
    assert ids(history) == [1]
    assert list(tmp_path.iterdir()) == [kept]
    assert {path.name for path in kept.iterdir()} == {RECORD, "fill-0.png", "thumbnail-0.png"}
    add(history, edit(4))
    assert ids(history) == [4, 1]


@pytest.mark.parametrize(
    "damage",
    [
        "", "{", "[]", "null", '"text"', "{}", "\x00" * 500, "[" * 100_000,
        {"number": 2}, {"number": "x"}, {"number": None}, {"id": "../../etc"}, {"id": "f" * 16},
        {"fills": {}}, {"fills": [{}]}, {"fills": [{"fill": 0, "seed": 1, "box": [1, 2]}]}, {"fills": 3},
        {"canvas_size": []}, {"canvas_size": None}, {"settings": 5}, {"settings": {"guidance": float("nan")}},
        {"created": "yesterday"}, {"created": float("inf")}, {"created": 10**400}, {"client": "\ud800"},
    ],
    ids=lambda damage: json.dumps(damage)[:30],
)  # fmt: skip
def test_a_damaged_record_is_left_as_it_is_and_out_of_the_history(
    tmp_path: Path, damage: str | dict[str, Any]
) -> None:
    for number in (1, 2):
        add(History(tmp_path), edit(number))
    record = tmp_path / f"00000001-{edit(1).id}" / RECORD
    text = damage if isinstance(damage, str) else json.dumps(json.loads(record.read_text()) | damage)
    record.write_text(text)

    history = History(tmp_path)
    history.entries(100)
    assert ids(history) == [2]
    history.clear()
    assert record.read_text() == text
    assert (record.parent / "fill-0.png").read_bytes() == PNG


def test_bytes_that_are_no_text_are_a_damaged_record(tmp_path: Path) -> None:
    add(History(tmp_path), edit(1))
    next(tmp_path.rglob(RECORD)).write_bytes(b"\xff\xfe\x00")
    assert ids(History(tmp_path)) == []


def test_what_others_have_put_there_is_never_removed(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    elsewhere = tmp_path / "elsewhere"
    foreign = [
        folder / "20240101-holiday" / "beach.png",
        folder / "12345678" / "fill-0.png",
        folder / "00000001" / "thumbnail-0.png",
        folder / "00000005-notes" / "edit.json.part",
        folder / f"0000000²-{edit(8).id}" / "fill-0.png",
        folder / f"00000009-{edit(9).id}" / "my own.png",  # named as ours, but what is in it is not
        folder / "drawings" / "a" / "b.kra",
        folder / "fill-0.png",
        elsewhere / "fill-0.png",
    ]
    for file in foreign:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"mine")
    (folder / f"00000007-{edit(7).id}").symlink_to(elsewhere)

    for number in range(3):
        add(History(folder, max_bytes=500), edit(number))
    History(folder).clear()
    assert [file for file in foreign if file.read_bytes() != b"mine"] == []
    assert (folder / f"00000007-{edit(7).id}").is_symlink()


def test_what_was_put_into_an_edits_folder_outlives_the_edit(tmp_path: Path) -> None:
    history = History(tmp_path)
    add(history, edit(1))
    own = next(tmp_path.iterdir()) / "favourite.txt"
    own.write_text("mine")
    assert history.delete(edit(1).id)
    assert ids(History(tmp_path)) == []
    assert list(own.parent.iterdir()) == [own]


def test_a_dangling_link_in_an_edits_folder_keeps_no_core_from_starting(tmp_path: Path) -> None:
    add(History(tmp_path), edit(1))
    (next(tmp_path.iterdir()) / "link").symlink_to("nowhere")
    assert ids(History(tmp_path)) == [1]


def test_a_folder_that_cannot_be_made_is_an_empty_history(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    history = History(tmp_path / "file" / "history")
    assert history.entries(100) == []
    with pytest.raises(NotADirectoryError):
        add(history, edit(1))
    assert history.entries(100) == []


def test_a_full_disk_keeps_what_was_there_and_nothing_half_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 128) as disk:
        history, entry = History(disk / "history"), edit(1)
        add(history, entry, 0)
        before = {path for path in disk.rglob("*") if path.is_file()}
        for large in (entry, edit(2)):
            with pytest.raises(OSError, match="No space left") as refused:
                add(history, large, 1, b"x" * 200_000)
            assert refused.value.errno == errno.ENOSPC
        assert {path for path in disk.rglob("*") if path.is_file()} == before
        assert [fill.fill for fill in entry.fills] == [0]
        add(history, entry, 2)  # a small one still fits
        history.finish(entry, "done")
        found = History(disk / "history").get(entry.id)
        assert found == entry
        assert [fill.fill for fill in found.fills] == [0, 2]


def test_a_disk_that_is_full_while_files_are_not_compressed_makes_room_for_the_newest(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        history = History(disk / "history", max_bytes=150_000)
        for number in range(5):
            add(history, edit(number), 0, b"x" * 60_000)
        assert ids(history) == ids(History(disk / "history")) == [4, 3, 2]


def test_room_that_cannot_be_made_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", 1000) as disk:
        history = History(disk)
        for number in range(3):
            add(history, edit(number))
        history.max_bytes = 1
        make_read_only(disk)
        history.make_room()
        told = caplog.text.count("Could not make room")
        history.make_room()
    assert told == caplog.text.count("Could not make room") == 2
    assert ids(history) == [2, 1, 0]


def test_a_read_only_folder_can_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", 1000) as disk:
        history, entry = History(disk), edit(1)
        add(history, entry)
        half = disk / f"00000002-{edit(2).id}"
        half.mkdir()
        make_read_only(disk)
        for refused in (lambda: add(history, entry, 1), lambda: history.delete(entry.id), history.clear):
            with pytest.raises(OSError, match="Read-only"):
                refused()
        history.finish(entry, "done")
        assert "cannot be written: Read-only file system." in caplog.text
        for now in (history, History(disk)):  # which cannot tidy up, and says so
            assert ids(now) == [1]
            assert now.fill(entry.id, 0) == (entry.fills[0], PNG)
            assert now.thumbnail(entry.id, 0) == THUMBNAIL
        assert "Could not tidy up" in caplog.text
