"""What the worker does with edits, and what it tells of them; see workbench."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.service.small_edits import BOX
from tests.service.workbench import MODEL, Bench, Gate, Painter, benches, kinds, told, until

from lazydiffusion.errors import BadModel
from lazydiffusion.events import Cancelled, Done, Filled, Loading, Previewed, Started, Stepped
from lazydiffusion.service import pictures
from lazydiffusion.service import worker as worker_module
from lazydiffusion.service.history import History
from lazydiffusion.service.worker import PREVIEW_EVERY

pytestmark = pytest.mark.integration


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    yield from benches(tmp_path)


def test_an_edit_from_its_first_event_to_its_last(bench: Callable[..., Bench]) -> None:
    here = bench()
    job, heard = here.do(variations=2)
    steps = [(event.fill, event.step, event.steps) for event in heard if isinstance(event, Stepped)]
    assert steps == [(0, 1, 3), (0, 2, 3), (0, 3, 3), (1, 1, 3), (1, 2, 3), (1, 3, 3)]
    assert kinds(heard) == [Started, Filled, Filled, Done]  # the default model is there already
    assert [event for event in heard if isinstance(event, Filled)] == [
        Filled(0, 7, BOX.as_list(), saved=True),
        Filled(1, 8, BOX.as_list(), saved=True),
    ]
    done = heard[-1]
    assert isinstance(done, Done)
    assert done.fills == 2
    assert done.report["window"] == BOX.as_list()
    assert (done.report["scale"], done.report["hidden_tokens"], done.report["steps"]) == (0.5, 12, 3)
    assert done.report["device"] == "cpu"
    assert {"load", "save", "total", "waited"} <= set(done.report["ms"])
    assert all(ms >= 0 for ms in done.report["ms"].values())

    entry = here.history.get(job.id)
    assert entry is not None
    assert (entry.state, len(entry.fills)) == ("done", 2)
    for number in range(2):
        saved = here.history.fill(job.id, number)
        assert saved is not None
        assert np.array_equal(pictures.pixels(saved[1]), job.fills[number].pixels)
        assert here.history.thumbnail(job.id, number)


def test_a_fill_is_on_disk_before_anybody_is_told_of_it(bench: Callable[..., Bench], tmp_path: Path) -> None:
    gate = Gate(1, 1)
    here = bench(Painter(gate))
    job = here.put(variations=2)
    assert gate.reached.wait(20)
    assert isinstance(job.since(0)[-1][1], Filled)
    found = History(tmp_path / "history").get(job.id)  # as the next core would, after a power cut now
    assert found is not None
    assert [fill.seed for fill in found.fills] == [7]
    gate.open.set()
    assert kinds(told(job))[-1] is Done


def test_a_waiting_edit_is_cancelled_at_once_and_alone(bench: Callable[..., Bench]) -> None:
    gate = Gate(0, 1)
    engine = Painter(gate)
    here = bench(engine)
    running, waiting, other = here.put(), here.put(seed=8), here.put(seed=9)
    assert gate.reached.wait(20)
    assert here.worker.current is running
    here.worker.cancel(waiting)
    assert waiting.ended  # though the worker is busy
    assert told(waiting) == [Cancelled()]
    assert here.history.get(waiting.id) is None
    gate.open.set()
    assert kinds(told(running))[-1] is kinds(told(other))[-1] is Done
    assert [seed for seed, _, _ in engine.runs] == [7, 9]


def test_a_running_edit_is_cancelled_at_its_next_step_and_keeps_its_fills(
    bench: Callable[..., Bench],
) -> None:
    gate = Gate(1, 2)
    engine = Painter(gate)
    here = bench(engine)
    job = here.put(variations=3)
    assert gate.reached.wait(20)
    here.worker.cancel(job)
    assert not job.ended
    gate.open.set()
    heard = told(job)
    assert kinds(heard) == [Started, Filled, Cancelled]
    steps = [(event.fill, event.step) for event in heard if isinstance(event, Stepped)]
    assert steps == [(0, 1), (0, 2), (0, 3), (1, 1)]
    entry = here.history.get(job.id)
    assert entry is not None
    assert (entry.state, len(entry.fills)) == ("cancelled", 1)
    here.worker.cancel(job)  # it has ended: nothing happens
    assert told(job) == heard
    assert len(engine.held) == 0


def test_an_edit_that_is_cancelled_while_its_model_is_loaded_is_not_begun(
    bench: Callable[..., Bench],
) -> None:
    begun, go_on, engine = threading.Event(), threading.Event(), Painter()
    times = itertools.count()

    def load() -> Painter:
        if next(times) == 0:
            raise BadModel("Not now.")  # so that it is loaded with the edit, not before
        begun.set()
        assert go_on.wait(20)
        return engine

    here = bench(load=load)
    job = here.put()
    assert begun.wait(20)
    here.worker.cancel(job)
    go_on.set()
    assert told(job) == [Started(), Loading(MODEL), Cancelled()]
    assert engine.runs == []
    assert kinds(here.do()[1]) == [Started, Filled, Done]


def test_the_time_left_is_estimated_from_the_steps_taken(bench: Callable[..., Bench]) -> None:
    here = bench(Painter(lambda fill, step, frugal: time.sleep(0.02), steps=5))
    assert here.shelf.ready.wait(20)
    began = time.monotonic()
    _, heard = here.do(variations=3)
    elapsed = time.monotonic() - began
    steps = [event for event in heard if isinstance(event, Stepped)]
    assert len(steps) == 15
    for taken, event in enumerate(steps, start=1):
        left = 15 - taken
        assert 0.02 * left - 0.01 <= event.seconds_left <= elapsed / taken * left + 0.01
    assert steps[-1].seconds_left == 0


def test_previews_come_now_and_then(bench: Callable[..., Bench]) -> None:
    engine = Painter(lambda fill, step, frugal: time.sleep(0.02), steps=40)
    job = bench(engine).put()
    heard: dict[int, Previewed] = {}
    while not job.ended:  # of an edit that has ended no preview is kept
        heard |= {number: event for number, event in job.since(0) if isinstance(event, Previewed)}
        time.sleep(0.002)
    previews = list(heard.values())
    assert len(previews) == len(engine.previews) >= 2
    assert all(gap >= PREVIEW_EVERY for gap in np.diff(engine.previews))
    assert {(event.fill, tuple(event.box)) for event in previews} == {(0, tuple(BOX.as_list()))}
    assert previews[0].picture().startswith(b"\x89PNG")


def test_an_edit_that_is_done_at_once_has_no_preview(bench: Callable[..., Bench]) -> None:
    engine = Painter()
    _, heard = bench(engine).do()
    assert Previewed not in [type(event) for event in heard]
    assert engine.previews == []


def test_clients_take_turns_at_the_worker(bench: Callable[..., Bench]) -> None:
    gate = Gate(0, 1)
    engine = Painter(gate)
    here = bench(engine)
    first = here.put("a", seed=0)
    assert gate.reached.wait(20)
    rest = [here.put("a", seed=1), here.put("a", seed=2), here.put("b", seed=10)]
    gate.open.set()
    for job in (first, *rest):
        told(job)
    assert [seed for seed, _, _ in engine.runs] == [0, 1, 10, 2]


def test_a_model_that_is_idle_is_let_go_and_loaded_when_needed(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "TICK", 0.01)
    here = bench(unload_after=0.05)
    until(here.shelf.ready.is_set)
    until(lambda: here.shelf.state(MODEL) == "absent")
    assert kinds(here.do()[1]) == [Started, Loading, Filled, Done]
    until(lambda: here.shelf.state(MODEL) == "absent")


def test_a_model_counts_as_used_until_the_edits_end(bench: Callable[..., Bench]) -> None:
    """Else it would be let go at once after an edit that takes longer than a model may be idle."""
    gate = Gate(0, 3)
    here = bench(Painter(gate))
    job = here.put()
    assert gate.reached.wait(20)
    late = time.monotonic()
    gate.open.set()
    assert kinds(told(job))[-1] is Done
    assert here.shelf._loaded[MODEL].used >= late


def test_when_nobody_waits_room_is_made_in_the_history(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "TICK", 0.01)
    here = bench()
    here.do()
    one = here.history.size
    here.history.max_bytes = one + one // 2
    job, _ = here.do()
    until(lambda: len(here.history.entries(10)) == 1)
    assert here.history.entries(10)[0].id == job.id
