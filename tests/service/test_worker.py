"""The worker with a real queue, history and shelf.

Its engine is written here and needs no model: it stands in for a GPU that runs out of memory or breaks, and for edits
that take as long as a test wants, which cannot be had here.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.service.small_edits import BOX, small_fill, small_job

from lazydiffusion import checkpoints, events
from lazydiffusion.engines.base import Edit, Fill, Progress, Report, Step
from lazydiffusion.errors import BadInput, BadModel, OutOfMemory
from lazydiffusion.events import (
    Cancelled,
    Done,
    Event,
    Failed,
    Filled,
    Loading,
    Previewed,
    Retrying,
    Started,
    Stepped,
)
from lazydiffusion.service import pictures
from lazydiffusion.service import worker as worker_module
from lazydiffusion.service.history import History
from lazydiffusion.service.jobs import Job
from lazydiffusion.service.queue import Queue
from lazydiffusion.service.shelf import Shelf
from lazydiffusion.service.worker import PREVIEW_EVERY, Worker

pytestmark = pytest.mark.integration

MODEL = "stand-in"
FULL = OutOfMemory("The GPU's memory is full. Make the selection smaller.")
Trouble = Callable[[int, int, bool], None]
"""Called before each step with fill, step and whether the run is frugal; may raise, or wait."""


class Ballast:
    """What an edit holds on the GPU while it runs."""


class Painter:
    """An engine that makes fills of one colour, in three steps."""

    def __init__(self, trouble: Trouble = lambda fill, step, frugal: None, steps: int = 3):
        self.trouble, self.steps = trouble, steps
        self.runs: list[tuple[int, int, bool]] = []
        """Seed, variations and frugal of each run."""
        self.held: weakref.WeakSet[Ballast] = weakref.WeakSet()
        self.held_at_start: list[int] = []
        self.previews: list[float] = []
        """time.monotonic() of each."""

    def run(
        self, edit: Edit, report: Report, progress: Progress | None = None, frugal: bool = False
    ) -> Iterator[Fill]:
        assert progress is not None
        self.held_at_start.append(len(self.held))
        self.runs.append((edit.settings.seed, edit.settings.variations, frugal))
        ballast = Ballast()
        self.held.add(ballast)
        report.window, report.scale, report.hidden_tokens, report.steps = BOX, 0.5, 12, self.steps
        for fill in range(edit.settings.variations):
            for step in range(1, self.steps + 1):
                self.trouble(fill, step, frugal)
                progress(Step(fill, step, self.steps, BOX, self.preview))
            yield small_fill(edit.settings.seed + fill)
        del ballast

    def preview(self) -> np.ndarray:
        self.previews.append(time.monotonic())
        return np.zeros((6, 8, 3), np.uint8)


class Bench:
    """A worker and what belongs to it."""

    def __init__(self, folder: Path, load: Callable[[], Painter], history: Path | None, unload_after: float):
        (folder / MODEL).mkdir(exist_ok=True)
        self.gave_up = threading.Event()
        self.queue = Queue()
        self.shelf = Shelf(str(folder / MODEL), "cpu", lambda where, choice: load())
        self.history = History(history or folder / "history")
        self.worker = Worker(
            self.queue, self.shelf, self.history, unload_after=unload_after, give_up=self.gave_up.set
        )
        self.worker.start()

    def put(self, client: str = "", **settings: object) -> Job:
        job = small_job(client, **{"model": MODEL, "seed": 7, **settings})
        self.queue.put(job)
        return job

    def do(self, **settings: object) -> tuple[Job, list[Event]]:
        job = self.put(**settings)
        return job, told(job)


def told(job: Job) -> list[Event]:
    """All that happened to an edit but its place in the queue, when it has ended."""
    until(lambda: job.ended)
    return [event for _, event in job.since(0) if not isinstance(event, events.Queued)]


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kinds(told: list[Event]) -> list[type]:
    return [type(event) for event in told if not isinstance(event, Stepped | Previewed)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Starts workers that end with the test."""
    made: list[Bench] = []

    def start(
        engine: Painter | None = None,
        *,
        load: Callable[[], Painter] | None = None,
        history: Path | None = None,
        unload_after: float = 0,
    ) -> Bench:
        painter = engine or Painter()
        made.append(Bench(tmp_path, load or (lambda: painter), history, unload_after))
        return made[-1]

    yield start
    for one in made:
        one.queue.close()
        one.worker.join(20)
        assert not one.worker.is_alive()


class Gate:
    """A trouble that waits at one step until the test lets it go on."""

    def __init__(self, fill: int, step: int):
        self.at = (fill, step)
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self, fill: int, step: int, frugal: bool) -> None:
        if (fill, step) == self.at:
            self.reached.set()
            assert self.open.wait(20)


def out_of_memory(fill: int, step: int, *, always: bool = False) -> Trouble:
    """At that step of the first run, or of every one."""
    times = itertools.count()

    def trouble(at_fill: int, at_step: int, frugal: bool) -> None:
        if (at_fill, at_step) == (fill, step) and (always or next(times) == 0):
            raise OutOfMemory(str(FULL))

    return trouble


def raising(error: Exception) -> Trouble:
    """At the first step of the first edit."""
    times = itertools.count()

    def trouble(fill: int, step: int, frugal: bool) -> None:
        if next(times) == 0:
            raise error

    return trouble


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


def test_when_memory_was_short_only_what_is_missing_is_made_again_with_the_right_seeds(
    bench: Callable[..., Bench],
) -> None:
    engine = Painter(out_of_memory(2, 2))
    here = bench(engine)
    job, heard = here.do(seed=100, variations=4)
    assert engine.runs == [(100, 4, False), (102, 2, True)]
    assert kinds(heard) == [Started, Filled, Filled, Retrying, Filled, Filled, Done]
    fills = [event for event in heard if isinstance(event, Filled)]
    assert [(event.fill, event.seed) for event in fills] == [(0, 100), (1, 101), (2, 102), (3, 103)]
    after = [e.fill for e in heard[[type(e) for e in heard].index(Retrying) :] if isinstance(e, Stepped)]
    assert after == [2, 2, 2, 3, 3, 3]
    assert {number: fill.seed for number, fill in job.fills.items()} == {0: 100, 1: 101, 2: 102, 3: 103}
    entry = here.history.get(job.id)
    assert entry is not None
    assert [(fill.fill, fill.seed) for fill in entry.fills] == [(0, 100), (1, 101), (2, 102), (3, 103)]


def test_what_the_first_try_held_is_free_before_the_second(bench: Callable[..., Bench]) -> None:
    engine = Painter(out_of_memory(0, 2))
    _, heard = bench(engine).do()
    assert isinstance(heard[-1], Done)
    assert engine.held_at_start == [0, 0]


def test_when_memory_is_short_twice_the_edit_fails_with_the_sentence(bench: Callable[..., Bench]) -> None:
    engine = Painter(out_of_memory(1, 1, always=True))
    here = bench(engine)
    job, heard = here.do(variations=3)
    # The second run begins with fill 1, so that it is its own second fill that fails.
    assert engine.runs == [(7, 3, False), (8, 2, True)]
    assert kinds(heard) == [Started, Filled, Retrying, Filled, Failed]
    assert heard[-1] == Failed("out-of-memory", str(FULL))
    entry = here.history.get(job.id)
    assert entry is not None
    assert (entry.state, [fill.seed for fill in entry.fills]) == ("failed", [7, 8])
    assert kinds(here.do()[1]) == [Started, Filled, Done]  # one fill alone still fits


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BadInput("The mask is empty."), Failed("bad-input", "The mask is empty.")),
        (BadModel("It is damaged."), Failed("bad-model", "It is damaged.")),
        (
            ValueError("7 is no shape\nand more"),
            Failed("internal", "(ValueError: 7 is no shape). Try again;"),
        ),
        (KeyError(), Failed("internal", "(KeyError: no more is known). Try again;")),
        (AssertionError("  "), Failed("internal", "(AssertionError: no more is known). Try again;")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_edit_that_fails_says_why_and_the_next_one_is_done(
    bench: Callable[..., Bench], error: Exception, expected: Failed
) -> None:
    here = bench(Painter(raising(error)))
    _, heard = here.do()
    assert kinds(heard) == [Started, Failed]
    last = heard[-1]
    assert isinstance(last, Failed)
    assert last.code == expected.code
    assert expected.message in last.message
    assert here.worker.current is None
    assert kinds(here.do()[1]) == [Started, Filled, Done]
    assert not here.gave_up.is_set()


def test_an_engine_that_leaves_its_report_empty_does_not_end_the_worker(bench: Callable[..., Bench]) -> None:
    class Careless(Painter):
        def run(self, edit: Edit, report: Report, *rest: object, **more: object) -> Iterator[Fill]:
            yield from super().run(edit, Report(), *rest, **more)  # type: ignore[arg-type]

    here = bench(Careless())
    for _ in range(2):
        job, heard = here.do()
        assert kinds(heard) == [Started, Filled, Failed]
        assert list(job.fills) == [0]


def test_when_the_gpu_breaks_the_core_gives_up_so_that_a_new_one_is_started(
    bench: Callable[..., Bench],
) -> None:
    here = bench(Painter(raising(RuntimeError("CUDA error: an illegal memory access was encountered"))))
    _, heard = here.do()
    assert here.gave_up.is_set()
    last = heard[-1]
    assert isinstance(last, Failed)
    assert last.code == "stopped"
    assert "try again" in last.message


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


def test_a_default_model_that_cannot_be_loaded_is_told_to_the_first_edit(bench: Callable[..., Bench]) -> None:
    def load() -> Painter:
        raise BadModel("The model was altered. Reinstall it.")

    here = bench(load=load)
    assert here.shelf.ready.wait(20)
    for _ in range(2):
        _, heard = here.do()
        assert heard == [
            Started(),
            Loading(MODEL),
            Failed("bad-model", "The model was altered. Reinstall it."),
        ]


def test_a_history_that_cannot_be_written_keeps_the_fill_in_memory_and_says_so(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    here = bench(history=tmp_path / "file" / "history")
    job, heard = here.do(variations=2)
    assert kinds(heard) == [Started, Filled, Filled, Done]
    for event in heard:
        if isinstance(event, Filled):
            assert not event.saved
            assert f"({tmp_path / 'file' / 'history'}: Not a directory)" in event.notice
            assert "Apply it" in event.notice
    assert sorted(job.fills) == sorted(job.unsaved) == [0, 1]
    assert heard[-1] == Done(2, heard[-1].report)  # type: ignore[union-attr]


def test_a_fill_whose_thumbnail_cannot_be_made_reaches_the_artist_all_the_same(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(pictures, "thumbnail", fail)
    job, heard = bench().do()
    assert kinds(heard) == [Started, Filled, Done]
    assert job.unsaved == {0}
    filled = next(event for event in heard if isinstance(event, Filled))
    assert "MemoryError" in filled.notice


def test_the_time_left_is_estimated_from_the_steps_taken(bench: Callable[..., Bench]) -> None:
    here = bench(Painter(lambda fill, step, frugal: time.sleep(0.02), steps=5))
    assert here.shelf.ready.wait(20)
    began = time.monotonic()
    job, heard = here.do(variations=3)
    elapsed = time.monotonic() - began
    steps = [event for event in heard if isinstance(event, Stepped)]
    assert len(steps) == 15
    for taken, event in enumerate(steps, start=1):
        left = 15 - taken
        assert 0.02 * left - 0.01 <= event.seconds_left <= elapsed / taken * left + 0.01
    assert steps[-1].seconds_left == 0


def test_previews_come_now_and_then(bench: Callable[..., Bench]) -> None:
    engine = Painter(lambda fill, step, frugal: time.sleep(0.02), steps=40)
    job, heard = bench(engine).do()
    previews = [event for event in heard if isinstance(event, Previewed)]
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


def test_other_tasks_are_done_and_may_fail(bench: Callable[..., Bench]) -> None:
    here, done = bench(), threading.Event()

    def fail() -> None:
        raise ValueError("This was no good.")

    here.queue.put_task(fail)
    here.queue.put_task(lambda: here.shelf.load(checkpoints.EMBEDDED + "?"))
    here.queue.put_task(done.set)
    assert done.wait(20)
    assert kinds(here.do()[1]) == [Started, Filled, Done]


def test_when_the_core_ends_the_running_edit_is_told_that_it_was_stopped(bench: Callable[..., Bench]) -> None:
    gate = Gate(1, 1)
    here = bench(Painter(gate))
    job = here.put(variations=2)
    assert gate.reached.wait(20)
    here.queue.close()
    job.cancel()
    gate.open.set()
    heard = told(job)
    assert kinds(heard) == [Started, Filled, Failed]
    assert heard[-1] == worker_module.STOPPED
    here.worker.join(20)
    entry = here.history.get(job.id)
    assert entry is not None
    assert entry.state == "failed"
