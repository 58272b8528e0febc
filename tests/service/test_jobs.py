"""An edit's events and who follows them, and which ended edits stay in memory."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.service.small_edits import small_edit, small_fill, small_job

from lazydiffusion import events
from lazydiffusion.service import jobs as jobs_module
from lazydiffusion.service.jobs import EditCancelled, Job, Jobs

pytestmark = pytest.mark.unit

FILL_BYTES = small_fill().pixels.nbytes


def ended(fills: int = 0, unsaved: tuple[int, ...] = ()) -> Job:
    job = small_job()
    job.fills = {number: small_fill(number) for number in range(fills)}
    job.unsaved = set(unsaved)
    job.publish(events.Done(fills))
    return job


def test_events_are_numbered_from_one() -> None:
    job = small_job()
    job.publish(events.Queued(0))
    job.publish(events.Started())
    assert job.since(0) == [(1, events.Queued(0)), (2, events.Started())]
    assert job.since(1) == [(2, events.Started())]
    assert job.since(2) == job.since(99) == []


@pytest.mark.parametrize("last", [events.Done(1), events.Failed("internal", "No."), events.Cancelled()])
def test_after_the_last_event_there_is_no_other_and_the_pictures_are_let_go(last: events.Event) -> None:
    job = small_job()
    job.publish(events.Started())
    assert not job.ended
    assert job.waiting_bytes > 0
    job.publish(last)
    job.publish(events.Failed("stopped", "Too late."))
    assert job.ended
    assert job.since(1) == [(2, last)]
    assert job.waiting_bytes == 0
    with pytest.raises(AssertionError, match="the edit has ended"):
        _ = job.edit


def test_of_previews_only_the_newest_is_kept_and_none_after_the_end() -> None:
    job = small_job()
    previews = [events.Previewed(0, [0, 0, 8, 8], letter) for letter in "abc"]
    job.publish(events.Started())
    for step, preview in enumerate(previews, start=1):
        job.publish(events.Stepped(0, step, 4, 1.0))
        job.publish(preview)
    job.publish(events.Stepped(0, 4, 4, 0.0))
    told = job.since(0)
    assert [number for number, _ in told] == [1, 2, 4, 6, 7, 8]
    assert [event for _, event in told if isinstance(event, events.Previewed)] == [previews[-1]]
    assert [number for number, _ in job.since(3)] == [4, 6, 7, 8]
    assert job.since(7) == [(8, events.Stepped(0, 4, 4, 0.0))]
    job.publish(events.Done(1))
    assert [number for number, _ in job.since(0)] == [1, 2, 4, 6, 8, 9]
    assert job.since(8) == [(9, events.Done(1))]


def test_what_the_history_will_hold_is_known_from_the_start() -> None:
    job = Job(small_edit(prompt="a hat", seed=4), "krita-1")
    assert job.entry.id == job.id
    assert len(job.id) == 16
    assert (job.entry.settings["prompt"], job.entry.settings["seed"]) == ("a hat", 4)
    assert (job.entry.canvas_size, job.entry.client, job.entry.state) == ([20, 16], "krita-1", "running")
    assert job.id != small_job().id


def test_a_cancelled_edit_notices_at_its_next_step() -> None:
    job = small_job()
    job.check()
    job.cancel()
    assert job.cancelled
    with pytest.raises(EditCancelled):
        job.check()


def test_followers_are_woken_from_other_threads() -> None:
    job, count = small_job(), 200

    async def follow() -> list[int]:
        heard: list[int] = []
        with job.followed() as news:
            ready.set()
            while True:
                news.clear()
                for number, event in job.since(len(heard)):
                    heard.append(number)
                    if isinstance(event, events.LAST):
                        return heard
                await asyncio.wait_for(news.wait(), 10)

    def publish() -> None:
        ready.wait()
        for step in range(count):
            job.publish(events.Stepped(0, step, count, 0.0))
        job.publish(events.Done(0))

    async def follow_three_times() -> list[list[int]]:
        return await asyncio.gather(follow(), follow(), follow())

    ready = threading.Event()
    publisher = threading.Thread(target=publish)
    publisher.start()
    heard = asyncio.run(follow_three_times())
    publisher.join()
    assert heard == [list(range(1, count + 2))] * 3


def test_a_follower_whose_program_has_ended_disturbs_nobody() -> None:
    job = small_job()
    follower = job.followed()

    async def begin() -> None:
        follower.__enter__()

    asyncio.run(begin())
    job.publish(events.Started())
    follower.__exit__(None, None, None)
    assert job.since(0) == [(1, events.Started())]


def test_those_that_have_not_ended_are_never_forgotten() -> None:
    jobs = Jobs()
    running = [small_job() for _ in range(jobs_module.KEEP_JOBS + 10)]
    for job in running:
        jobs.add(job)
    assert jobs.running() == running
    running[3].publish(events.Cancelled())
    assert jobs.running() == running[:3] + running[4:]
    assert jobs.get(running[3].id) is running[3]


def test_so_many_ended_edits_are_kept_the_last_ones() -> None:
    jobs = Jobs()
    old = [ended() for _ in range(jobs_module.KEEP_JOBS + 5)]
    for job in old:
        jobs.add(job)
    jobs.add(small_job())
    assert [jobs.get(job.id) is not None for job in old] == [False] * 5 + [True] * jobs_module.KEEP_JOBS


def test_an_edit_with_unsaved_fills_is_forgotten_after_all_others() -> None:
    jobs = Jobs()
    unsaved = ended(1, unsaved=(0,))
    jobs.add(unsaved)
    saved = [ended(1) for _ in range(jobs_module.KEEP_JOBS + 5)]
    for job in saved:
        jobs.add(job)
    jobs.add(small_job())
    assert jobs.get(unsaved.id) is unsaved
    assert unsaved.fills
    assert [jobs.get(job.id) is not None for job in saved] == [False] * 6 + [True] * (
        jobs_module.KEEP_JOBS - 1
    )


def test_old_fills_leave_memory_and_their_events_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "KEEP_BYTES", 3 * FILL_BYTES)
    jobs, old = Jobs(), [ended(2) for _ in range(3)]
    for job in old:
        jobs.add(job)
    jobs.add(small_job())
    assert [list(job.fills) for job in old] == [[], [1], [0, 1]]
    assert all(job.since(0) for job in old)


def test_an_edits_own_fills_leave_memory_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "KEEP_BYTES", 2 * FILL_BYTES)
    jobs, job = Jobs(), small_job()
    jobs.add(job)
    job.fills = {number: small_fill(number) for number in range(5)}
    job.unsaved = {0}
    job.publish(events.Done(5))
    assert list(job.fills) == [0, 3, 4]


def test_fills_of_forgotten_edits_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "KEEP_BYTES", 2 * FILL_BYTES)
    monkeypatch.setattr(jobs_module, "KEEP_JOBS", 1)
    jobs, old = Jobs(), [ended(9), ended(2)]
    for job in old:
        jobs.add(job)
    jobs.add(small_job())
    assert jobs.get(old[0].id) is None
    assert list(old[1].fills) == [0, 1]


def test_a_running_edit_keeps_its_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "KEEP_BYTES", 0)
    jobs, running = Jobs(), small_job()
    jobs.add(running)
    running.fills[0] = small_fill()
    jobs.add(small_job())
    assert list(running.fills) == [0]


def test_unsaved_fills_stay_when_saved_ones_go_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "KEEP_BYTES", 0)
    monkeypatch.setattr(jobs_module, "KEEP_UNSAVED_BYTES", 3 * FILL_BYTES)
    jobs, old = Jobs(), [ended(3, unsaved=(1, 2)), ended(3, unsaved=(0,))]
    for job in old:
        jobs.add(job)
    jobs.add(small_job())
    assert [list(job.fills) for job in old] == [[1, 2], [0]]
    jobs.add(ended(1, unsaved=(0,)))
    jobs.add(small_job())
    assert [list(job.fills) for job in old] == [[2], [0]]  # the disk is full for good: the oldest goes


@given(st.lists(st.lists(st.booleans(), max_size=4), max_size=12), st.integers(0, 12), st.integers(0, 12))
def test_what_stays_in_memory_is_bounded_and_the_newest(
    edits: list[list[bool]], keep_saved: int, keep_unsaved: int
) -> None:
    jobs = Jobs()
    old = [ended(len(saved), tuple(n for n, s in enumerate(saved) if not s)) for saved in edits]
    for job in old:
        jobs._jobs[job.id] = job
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs_module, "KEEP_BYTES", keep_saved * FILL_BYTES)
        patch.setattr(jobs_module, "KEEP_UNSAVED_BYTES", keep_unsaved * FILL_BYTES)
        jobs.add(small_job())
    for saved, limit in ((True, keep_saved), (False, keep_unsaved)):
        made = [
            (job, number)
            for job, kinds in zip(old, edits, strict=True)
            for number, s in enumerate(kinds)
            if s == saved
        ]
        stayed = [(job, number) for job, number in made if number in job.fills]
        assert stayed == made[len(made) - min(limit, len(made)) :]
    assert all(
        np.array_equal(fill.pixels, small_fill(n).pixels) for job in old for n, fill in job.fills.items()
    )
