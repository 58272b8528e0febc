"""What the history keeps, in which order, and what it lets go."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazydiffusion.service.history import RECORD, Entry, History, SavedFill

pytestmark = pytest.mark.unit

PNG, THUMBNAIL = b"the fill's file" * 20, b"the thumbnail's file"


def edit(number: int, created: float = 1000.0) -> Entry:
    """An edit as it is before its first fill; `number` makes its id."""
    return Entry(
        id=f"{number:016x}", number=0, created=created, settings={"prompt": f"edit {number}"},
        canvas_size=[200, 120], client="test",
    )  # fmt: skip


def add(history: History, entry: Entry, fill: int = 0, png: bytes = PNG) -> None:
    history.add_fill(entry, SavedFill(fill, 7 + fill, [5, 6, 60, 50]), png, THUMBNAIL)


def ids(history: History) -> list[int]:
    return [int(entry.id, 16) for entry in history.entries(100)]


def test_the_next_core_finds_the_fills_and_what_was_asked_for(tmp_path: Path) -> None:
    first, entry = History(tmp_path / "history"), edit(1)
    add(first, entry, 0, b"zero")
    add(first, entry, 1, b"one")
    first.finish(entry, "done")

    history = History(tmp_path / "history")
    found = history.get(entry.id)
    assert found == entry
    assert found.fills == [SavedFill(0, 7, [5, 6, 60, 50]), SavedFill(1, 8, [5, 6, 60, 50])]
    assert found.state == "done"
    assert history.fill(entry.id, 1) == (SavedFill(1, 8, [5, 6, 60, 50]), b"one")
    assert history.thumbnail(entry.id, 0) == THUMBNAIL
    assert history.size == first.size == sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())


def test_what_is_not_there_is_not_given(tmp_path: Path) -> None:
    history, entry = History(tmp_path / "none"), edit(1)
    assert history.entries(100) == []
    assert not (tmp_path / "none").exists()  # made with the first fill
    add(history, entry)
    assert history.get("0" * 16) is None
    assert history.fill("0" * 16, 0) is None
    assert history.fill(entry.id, 1) is None
    assert history.thumbnail(entry.id, 1) is None


def test_an_edit_without_a_fill_is_no_part_of_it(tmp_path: Path) -> None:
    history, entry = History(tmp_path), edit(1)
    history.finish(entry, "failed")
    assert history.entries(100) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("left", "found"), [("done", "done"), ("cancelled", "cancelled"), (None, "failed")])
def test_how_an_edit_ended_is_kept_and_a_killed_one_has_failed(
    tmp_path: Path, left: str | None, found: str
) -> None:
    history, entry = History(tmp_path), edit(1)
    add(history, entry)
    if left is not None:
        history.finish(entry, left)
    assert [entry.state for entry in History(tmp_path).entries(1)] == [found]


def test_the_newest_comes_first_even_when_the_clock_jumped_back(tmp_path: Path) -> None:
    for number, created in enumerate([5000.0, 4000.0, 9000.0, -1.0]):
        add(History(tmp_path), edit(number, created))  # each by a core of its own
    history = History(tmp_path)
    assert ids(history) == [3, 2, 1, 0]
    assert [entry.created for entry in history.entries(2)] == [-1.0, 9000.0]


def test_edits_keep_their_order_when_their_fills_come_in_turns(tmp_path: Path) -> None:
    history, first, second = History(tmp_path), edit(1), edit(2)
    for fill in range(2):
        add(history, first, fill)
        add(history, second, fill)
    assert ids(history) == ids(History(tmp_path)) == [2, 1]
    assert len(list(tmp_path.iterdir())) == 2


def test_beyond_its_size_the_oldest_go(tmp_path: Path) -> None:
    add(History(tmp_path), edit(0))
    one = History(tmp_path).size
    history = History(tmp_path, max_bytes=3 * one + one // 4)
    for number in range(1, 6):
        add(history, edit(number))
    assert ids(history) == [5, 4, 3, 2, 1, 0]  # it may take twice as much while files are not compressed
    add(history, edit(6))
    assert ids(history) == [6, 5, 4, 3, 2, 1]
    history.make_room()
    assert ids(history) == ids(History(tmp_path)) == [6, 5, 4]
    assert history.size == pytest.approx(3 * one, abs=9)


def test_the_edit_that_is_made_stays_however_large_it_is(tmp_path: Path) -> None:
    history = History(tmp_path, max_bytes=100)
    add(history, edit(1))
    large = edit(2)
    for fill in range(3):
        add(history, large, fill)
    assert ids(history) == [2]
    assert all(history.fill(large.id, fill) is not None for fill in range(3))
    history.make_room()
    assert ids(history) == [2]


def test_a_large_edit_that_will_be_compressed_pushes_nothing_out(tmp_path: Path) -> None:
    History(tmp_path).make_room()  # of nothing
    history = History(tmp_path, max_bytes=2 * len(LARGE))
    for number in range(3):
        add(history, edit(number))
    for fill in range(2):
        add(history, edit(3) if fill == 0 else history.entries(1)[0], fill, LARGE)
    assert history.size > history.max_bytes
    while history.compress_one(lambda file: file[:100]):
        assert ids(history) == [3, 2, 1, 0]
    history.make_room()
    assert ids(history) == ids(History(tmp_path)) == [3, 2, 1, 0]
    assert history.size < history.max_bytes


def test_a_busy_disk_keeps_nobody_waiting_who_only_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, kept, entry = History(tmp_path), edit(1), edit(2)
    add(history, kept)
    before = history.size
    waiting, free, fsync = threading.Event(), threading.Event(), os.fsync

    def slow(file: int) -> None:
        waiting.set()
        assert free.wait(20)
        fsync(file)

    monkeypatch.setattr(os, "fsync", slow)
    writer = threading.Thread(target=add, args=(history, entry))
    looker = ThreadPoolExecutor(1)
    writer.start()
    try:
        assert waiting.wait(20)
        for look, seen in (
            (lambda: history.size, before),
            (lambda: ids(history), [1]),
            (lambda: history.get(entry.id), None),
            (lambda: history.fill(kept.id, 0), (kept.fills[0], PNG)),
        ):
            assert looker.submit(look).result(timeout=10) == seen
    finally:
        free.set()
        writer.join()
        looker.shutdown()
    assert ids(history) == [2, 1]


def test_one_or_all_can_be_deleted(tmp_path: Path) -> None:
    history = History(tmp_path)
    for number in range(4):
        add(history, edit(number))
    assert history.delete(edit(2).id)
    assert not history.delete(edit(2).id)
    assert ids(history) == ids(History(tmp_path)) == [3, 1, 0]
    history.clear()
    assert ids(history) == ids(History(tmp_path)) == []
    assert history.size == 0
    assert list(tmp_path.iterdir()) == []


def test_of_an_edit_that_is_deleted_while_it_runs_only_the_later_fills_are_kept(tmp_path: Path) -> None:
    history, entry = History(tmp_path), edit(1)
    add(history, entry, 0)
    history.delete(entry.id)
    add(history, entry, 1)
    history.finish(entry, "done")
    for now in (history, History(tmp_path)):
        found = now.get(entry.id)
        assert found is not None
        assert [fill.fill for fill in found.fills] == [1]
        assert now.fill(entry.id, 1) is not None


def test_what_was_removed_by_hand_is_not_given_and_can_be_deleted(tmp_path: Path) -> None:
    history = History(tmp_path)
    for number in range(3):
        add(history, edit(number))
    shutil.rmtree(next(tmp_path.glob(f"*-{edit(1).id}")))
    assert history.fill(edit(1).id, 0) is None
    assert history.thumbnail(edit(1).id, 0) is None
    assert history.delete(edit(1).id)
    assert ids(history) == [2, 0]
    for folder in tmp_path.iterdir():
        shutil.rmtree(folder)
    history.clear()
    assert history.size == 0


def test_room_is_made_when_edits_were_removed_by_hand(tmp_path: Path) -> None:
    add(History(tmp_path), edit(0))
    history = History(tmp_path, max_bytes=3 * History(tmp_path).size)
    add(history, edit(1))
    shutil.rmtree(next(tmp_path.glob(f"*-{edit(0).id}")))
    for number in (2, 3):
        add(history, edit(number))
    history.make_room()
    assert ids(history) == [3, 2, 1]  # the removed one made way, and no other


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_nobody_else_can_look_into_it(tmp_path: Path) -> None:
    add(History(tmp_path / "history"), edit(1))
    folders = [tmp_path / "history", *(tmp_path / "history").iterdir()]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700, 0o700]


def test_many_threads_may_use_it(tmp_path: Path) -> None:
    history = History(tmp_path)
    entries = [edit(number) for number in range(4)]

    def make(entry: Entry) -> None:
        for fill in range(4):
            add(history, entry, fill)
        history.finish(entry, "done")

    threads = [threading.Thread(target=make, args=(entry,)) for entry in entries]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for entry in history.entries(100):
            assert entry.fills  # whoever is listed has a fill to show
            assert history.fill(entry.id, entry.fills[0].fill) is not None
    for thread in threads:
        thread.join()
    assert sorted(entry.number for entry in entries) == [1, 2, 3, 4]
    assert {entry.state for entry in History(tmp_path).entries(100)} == {"done"}


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 4)),
        st.tuples(st.just("delete"), st.integers(0, 4)),
        st.tuples(st.just("start anew"), st.just(0)),
    ),
    max_size=12,
)


@given(operations=OPERATIONS)
@settings(max_examples=30)
def test_whatever_is_done_every_listed_fill_is_there_and_the_next_core_agrees(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    history = History(folder)
    expected: dict[int, int] = {}
    """Number of fills by edit, the oldest edit first."""
    entries = {number: edit(number) for number in range(5)}
    for what, number in operations:
        if what == "add":
            add(history, entries[number], expected.get(number, 0))
            expected[number] = expected.get(number, 0) + 1
        elif what == "delete":
            assert history.delete(entries[number].id) == (expected.pop(number, 0) > 0)
        else:
            history = History(folder)
            entries |= {int(entry.id, 16): entry for entry in history.entries(100)}
    for now in (history, History(folder)):
        assert ids(now) == list(reversed(expected))
        for number, count in expected.items():
            found = now.get(entries[number].id)
            assert found is not None
            assert [fill.fill for fill in found.fills] == list(range(count))
            assert all(now.fill(found.id, fill) is not None for fill in range(count))
        assert now.size == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert len(list(folder.iterdir())) == len(expected) == len(list(folder.rglob(RECORD)))


LARGE = b"not compressed " * 1000
"""More bytes than a fill's raw pixels have: so is a file that was written in a hurry."""


def test_fills_that_were_written_in_a_hurry_are_compressed_one_by_one(tmp_path: Path) -> None:
    history, entry = History(tmp_path / "history"), edit(1)
    add(history, entry, 0, LARGE)
    add(history, entry, 1, PNG)  # small enough as it is
    add(history, entry, 2, LARGE)
    before = history.size
    assert history.compress_one(lambda file: file[:100])
    assert history.compress_one(lambda file: file[:100])
    assert not history.compress_one(lambda file: file[:100])
    assert [len(history.fill(entry.id, fill)[1]) for fill in range(3)] == [100, len(PNG), 100]  # type: ignore[index]
    assert history.size == before - 2 * (len(LARGE) - 100)


def test_what_a_killed_core_had_not_compressed_the_next_one_does(tmp_path: Path) -> None:
    add(History(tmp_path / "history"), edit(1), 0, LARGE)
    again = History(tmp_path / "history")
    assert again.compress_one(lambda file: b"small")
    assert again.fill(edit(1).id, 0) == (SavedFill(0, 7, [5, 6, 60, 50]), b"small")


def test_an_edit_that_is_deleted_meanwhile_stays_deleted(tmp_path: Path) -> None:
    history, entry = History(tmp_path / "history"), edit(1)
    add(history, entry, 0, LARGE)

    def slow(file: bytes) -> bytes:
        history.delete(entry.id)
        return b"small"

    assert history.compress_one(slow)
    assert history.entries(10) == []
    assert list((tmp_path / "history").iterdir()) == []
    add(history, edit(2), 0, LARGE)
    history.delete(edit(2).id)
    assert history.compress_one(lambda file: b"small")
    assert history.size == 0
