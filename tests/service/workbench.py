"""A worker with a real queue, history and shelf, and an engine that needs no model.

The engine stands in for a GPU that runs out of memory or breaks, and for edits that take as long as a test wants,
which cannot be had here.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tests.service.small_edits import BOX, small_fill, small_job

from lazydiffusion import events
from lazydiffusion.engines.base import Edit, Fill, Progress, Report, Step
from lazydiffusion.events import Event, Previewed, Stepped
from lazydiffusion.service.history import History
from lazydiffusion.service.jobs import Job
from lazydiffusion.service.queue import Queue
from lazydiffusion.service.shelf import Shelf
from lazydiffusion.service.worker import Worker

MODEL = "stand-in"
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


class Gate:
    """A trouble that waits at one step until the test lets it go on."""

    def __init__(self, fill: int, step: int):
        self.at = (fill, step)
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self, fill: int, step: int, frugal: bool) -> None:
        if (fill, step) == self.at:
            self.reached.set()
            assert self.open.wait(20)


def benches(folder: Path) -> Iterator[Callable[..., Bench]]:
    """What a fixture yields: starts workers, which end with the test."""
    made: list[Bench] = []

    def start(
        engine: Painter | None = None,
        *,
        load: Callable[[], Painter] | None = None,
        history: Path | None = None,
        unload_after: float = 0,
    ) -> Bench:
        painter = engine or Painter()
        made.append(Bench(folder, load or (lambda: painter), history, unload_after))
        return made[-1]

    yield start
    for one in made:
        one.queue.close()
        one.worker.join(20)
        assert not one.worker.is_alive()
