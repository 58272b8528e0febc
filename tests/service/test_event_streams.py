"""An edit's events as a stream: while it runs, with signs of life, and from the history."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest
from tests.service.small_edits import small_job

from lazydiffusion import events
from lazydiffusion.service import event_streams
from lazydiffusion.service.history import Entry, SavedFill
from lazydiffusion.service.jobs import Job

pytestmark = pytest.mark.unit

ALIVE = b": alive\n\n"


def heard(stream: AsyncIterator[bytes]) -> list[bytes]:
    async def read() -> list[bytes]:
        return [piece async for piece in stream]

    return asyncio.run(read())


def told(pieces: list[bytes]) -> list[tuple[int, events.Event]]:
    """What a client reads of it."""
    found = []
    for piece in pieces:
        assert piece.endswith(b"\n\n")
        if not piece.startswith(b":"):
            fields = dict(line.split(": ", 1) for line in piece.decode().strip().split("\n"))
            event = events.from_json(fields["event"], json.loads(fields["data"]))
            assert event is not None
            found.append((int(fields["id"]), event))
    return found


def later(*tasks: Callable[[], object], after: float = 0.1) -> threading.Thread:
    """Done one after the other by another thread, with a pause before each."""

    def run() -> None:
        for task in tasks:
            time.sleep(after)
            task()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def job_with(*happened: events.Event) -> Job:
    job = small_job()
    for event in happened:
        job.publish(event)
    return job


def test_an_event_has_its_number_its_name_and_its_fields() -> None:
    assert event_streams.encode(3, events.Failed("internal", "Zwei\nZeilen, 家")) == (
        b'id: 3\nevent: failed\ndata: {"code": "internal", "message": "Zwei\\nZeilen, \\u5bb6"}\n\n'
    )


def test_one_who_comes_late_hears_everything() -> None:
    happened = [events.Queued(0), events.Started(), events.Done(0, {"steps": 3})]
    assert told(heard(event_streams.follow(job_with(*happened), 0))) == list(enumerate(happened, start=1))


@pytest.mark.parametrize(("after", "left"), [(0, [1, 2, 3]), (2, [3]), (3, []), (99, [])])
def test_one_who_comes_back_goes_on_where_it_was(after: int, left: list[int]) -> None:
    job = job_with(events.Queued(0), events.Started(), events.Cancelled())
    assert [number for number, _ in told(heard(event_streams.follow(job, after)))] == left


def test_what_other_threads_publish_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_with(events.Queued(0))
    monkeypatch.setattr(event_streams, "ALIVE_EVERY", 60.0)
    publisher = later(lambda: job.publish(events.Started()), lambda: job.publish(events.Done(0)))
    began = time.monotonic()
    assert [number for number, _ in told(heard(event_streams.follow(job, 0)))] == [1, 2, 3]
    assert time.monotonic() - began < 10
    publisher.join()


def test_while_nothing_happens_it_says_that_the_core_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    assert event_streams.ALIVE_EVERY == 1
    monkeypatch.setattr(event_streams, "ALIVE_EVERY", 0.05)
    job = job_with(events.Started())
    publisher = later(lambda: job.publish(events.Done(0)), after=0.5)
    pieces = heard(event_streams.follow(job, 0))
    publisher.join()
    assert len(told(pieces)) == 2
    assert pieces[1:-1] == [ALIVE] * (len(pieces) - 2)
    assert 3 <= len(pieces) - 2 <= 10


def test_a_follower_that_goes_away_is_forgotten() -> None:
    job = job_with(events.Started())

    async def hear_one() -> None:
        stream = event_streams.follow(job, 0)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(hear_one())
    assert job._followers == set()


@pytest.mark.parametrize(
    ("state", "last"),
    [("done", events.Done(2)), ("cancelled", events.Cancelled()), ("failed", events.Failed), ("odd", events.Failed)],
    ids=["done", "cancelled", "failed", "odd"],
)  # fmt: skip
def test_of_an_edit_of_an_earlier_core_the_fills_and_the_end_are_told(state: str, last: object) -> None:
    fills = [SavedFill(0, 7, [1, 2, 3, 4]), SavedFill(1, 8, [1, 2, 3, 4])]
    entry = Entry("0" * 16, 1, 0.0, {}, [20, 16], "", state, fills)
    numbers, happened = zip(*told(heard(event_streams.replay(entry, 0))), strict=True)
    assert numbers == (1, 2, 3)
    assert happened[:2] == (
        events.Filled(0, 7, [1, 2, 3, 4], saved=True),
        events.Filled(1, 8, [1, 2, 3, 4], saved=True),
    )
    if last is events.Failed:
        assert happened[2].code == "stopped"
        assert "The fills that are here are whole." in happened[2].message
    else:
        assert happened[2] == last


def test_who_comes_back_for_an_edit_in_the_history_is_told_all_of_it_under_new_numbers() -> None:
    """A client leaves out what it has heard by its number, so an old number would never reach it."""
    entry = Entry("0" * 16, 1, 0.0, {}, [20, 16], "", "done", [SavedFill(0, 7, [1, 2, 3, 4])])
    for after in (1, 500):
        assert told(heard(event_streams.replay(entry, after))) == [
            (after + 1, events.Filled(0, 7, [1, 2, 3, 4], saved=True)),
            (after + 2, events.Done(1)),
        ]
