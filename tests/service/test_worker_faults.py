"""What goes wrong while an edit is made, and what becomes of the edit and of the worker; see workbench."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.service.workbench import MODEL, Bench, Gate, Painter, Trouble, benches, kinds, told

from lazydiffusion import checkpoints
from lazydiffusion.engines.base import Edit, Fill, Report
from lazydiffusion.errors import BadInput, BadModel, OutOfMemory
from lazydiffusion.events import Done, Failed, Filled, Loading, Retrying, Started, Stepped
from lazydiffusion.service import pictures
from lazydiffusion.service import worker as worker_module

pytestmark = pytest.mark.integration

FULL = "The GPU's memory is full. Make the selection smaller."


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    yield from benches(tmp_path)


def out_of_memory(fill: int, step: int, *, always: bool = False) -> Trouble:
    """At that step of the first run, or of every one."""
    times = itertools.count()

    def trouble(at_fill: int, at_step: int, frugal: bool) -> None:
        if (at_fill, at_step) == (fill, step) and (always or next(times) == 0):
            raise OutOfMemory(FULL)

    return trouble


def raising(error: Exception) -> Trouble:
    """At the first step of the first edit."""
    times = itertools.count()

    def trouble(fill: int, step: int, frugal: bool) -> None:
        if next(times) == 0:
            raise error

    return trouble


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
    assert heard[-1] == Failed("out-of-memory", FULL)
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
