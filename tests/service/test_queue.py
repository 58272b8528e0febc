"""Whose edit is next: every client gets its turn, keeps its order, and is told the truth about its place."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.service.small_edits import small_job

from lazydiffusion import events
from lazydiffusion.service import queue as queue_module
from lazydiffusion.service.jobs import Job
from lazydiffusion.service.queue import Queue

pytestmark = pytest.mark.unit

CLIENTS = "abcd"


def place(job: Job) -> int:
    """What the client was told last."""
    told = [event for _, event in job.since(0) if isinstance(event, events.Queued)]
    return told[-1].position


def take(queue: Queue) -> Job:
    taken = queue.take(timeout=0)
    assert isinstance(taken, Job)
    return taken


def drain(queue: Queue) -> list[Job]:
    return [take(queue) for _ in range(len(queue))]


def test_clients_take_turns() -> None:
    queue = Queue()
    a1, a2, a3, b1, b2, c1 = jobs = [small_job(client) for client in "aaabbc"]
    for job in jobs:
        queue.put(job)
    assert drain(queue) == [a1, b1, c1, a2, b2, a3]


def test_a_client_who_has_just_had_its_turn_comes_after_the_others() -> None:
    queue = Queue()
    a1, b1 = small_job("a"), small_job("b")
    queue.put(a1)
    queue.put(b1)
    assert take(queue) is a1
    a2 = small_job("a")
    assert queue.put(a2) == 1
    assert drain(queue) == [b1, a2]


def test_a_change_of_place_is_told_once() -> None:
    queue = Queue()
    a1, a2, b1 = (small_job(client) for client in "aab")
    assert [queue.put(job) for job in (a1, a2, b1)] == [0, 1, 1]
    take(queue)
    assert [event for _, event in a2.since(0)] == [events.Queued(1), events.Queued(2), events.Queued(1)]
    assert [event for _, event in b1.since(0)] == [events.Queued(1), events.Queued(0)]
    queue.remove(b1)
    assert place(a2) == 0


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(CLIENTS)),
        st.tuples(st.just("take"), st.just("")),
        st.tuples(st.just("remove"), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(operations=OPERATIONS)
def test_whatever_happens_nobody_starves_and_places_are_true(
    operations: list[tuple[str, str | int]],
) -> None:
    queue = Queue()
    waiting: list[Job] = []
    others_since: dict[str, Counter[str]] = {}
    """For each client that waits, whose edits were taken since its own last turn, or since it began to wait."""

    def took(job: Job) -> None:
        assert place(job) == 0
        assert job is next(other for other in waiting if other.client == job.client)  # its client's first
        waiting.remove(job)
        for client in {other.client for other in waiting} - {job.client}:
            others_since[client][job.client] += 1
            assert others_since[client][job.client] == 1, f"{client} starves"
        others_since[job.client] = Counter()

    for what, value in operations:
        if what == "put":
            job = small_job(str(value))
            if all(other.client != job.client for other in waiting):
                others_since[job.client] = Counter()
            waiting.append(job)
            assert queue.put(job) == place(job)
        elif what == "take" and waiting:
            took(take(queue))
        elif what == "take":
            assert queue.take(timeout=0) is None
        elif waiting:
            gone = waiting.pop(int(value) % len(waiting))
            assert queue.remove(gone)
            assert not queue.remove(gone)
        assert sorted(place(job) for job in waiting) == list(range(len(queue))) == list(range(len(waiting)))
    promised = sorted(waiting, key=place)
    while waiting:
        taken = take(queue)
        assert taken is promised.pop(0)
        took(taken)


def test_tasks_go_before_edits() -> None:
    queue, done = Queue(), []
    queue.put(small_job())
    queue.put_task(lambda: done.append("first"))
    queue.put_task(lambda: done.append("second"))
    for _ in range(2):
        task = queue.take(timeout=0)
        assert task is not None
        assert not isinstance(task, Job)
        task()
    assert done == ["first", "second"]
    take(queue)


def test_only_so_many_edits_may_wait() -> None:
    queue = Queue()
    for number in range(queue_module.MAX_WAITING):
        assert queue.has_room(0)
        queue.put(small_job(CLIENTS[number % 4]))
    assert not queue.has_room(0)
    take(queue)
    assert queue.has_room(0)


def test_their_pictures_may_take_so_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    job = small_job()
    assert job.waiting_bytes == 20 * 16 * 3 + 20 * 16 * 4  # the canvas, and the mask as floats
    monkeypatch.setattr(queue_module, "MAX_WAITING_BYTES", job.waiting_bytes + 100)
    queue = Queue()
    queue.put(job)
    assert queue.has_room(100)
    assert not queue.has_room(101)
    take(queue)
    assert queue.has_room(101)


def test_waiting_for_an_edit_ends_with_it_with_the_time_and_with_the_queue() -> None:
    queue = Queue()
    began = time.monotonic()
    assert queue.take(timeout=0.05) is None
    assert 0.04 < time.monotonic() - began < 5
    taken: list[object] = []
    for end in (lambda: queue.put(small_job()), lambda: queue.put_task(lambda: None), queue.close):
        waiter = threading.Thread(target=lambda: taken.append(queue.take(timeout=20)))
        waiter.start()
        end()
        waiter.join(5)
        assert not waiter.is_alive()
    assert [type(one) for one in taken][::2] == [Job, type(None)]


def test_a_closed_queue_gives_nothing_but_knows_who_waits() -> None:
    queue, job = Queue(), small_job()
    queue.put(job)
    assert not queue.closed
    queue.close()
    assert queue.closed
    assert queue.take(timeout=20) is None
    assert len(queue) == 1
    assert queue.remove(job)


def test_many_threads_may_put_and_one_takes_all() -> None:
    queue = Queue()
    jobs = {client: [small_job(client) for _ in range(20)] for client in CLIENTS}

    def put_all(client: str) -> None:
        for job in jobs[client]:
            queue.put(job)

    threads = [threading.Thread(target=put_all, args=(client,)) for client in CLIENTS]
    for thread in threads:
        thread.start()
    taken = [queue.take(timeout=5) for _ in range(80)]
    for thread in threads:
        thread.join()
    for client in CLIENTS:
        assert [job for job in taken if isinstance(job, Job) and job.client == client] == jobs[client]
