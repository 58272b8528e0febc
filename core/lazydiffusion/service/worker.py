"""The one thread that touches the device: it takes edits from the queue and makes their fills."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from lazydiffusion import events
from lazydiffusion.engines.base import Fill, Report, Step
from lazydiffusion.errors import LazyDiffusionError, OutOfMemory
from lazydiffusion.service import pictures
from lazydiffusion.service.errors import code_of
from lazydiffusion.service.history import History, SavedFill
from lazydiffusion.service.jobs import EditCancelled, Job
from lazydiffusion.service.queue import Queue
from lazydiffusion.service.shelf import Shelf

LOG = logging.getLogger(__name__)

PREVIEW_EVERY = 0.3
"""Least number of seconds between two previews."""
TICK = 1.0
"""Seconds between two looks at what is idle."""


class Worker(threading.Thread):
    """Does one thing at a time, until the queue is closed."""

    def __init__(
        self,
        queue: Queue,
        shelf: Shelf,
        history: History,
        *,
        unload_after: float,
        give_up: Callable[[], None],
    ):
        """`unload_after`: seconds without use after which a model is let go; 0 keeps it. `give_up`: ends the core."""
        super().__init__(name="worker", daemon=True)
        self.queue, self.shelf, self.history = queue, shelf, history
        self.unload_after, self.give_up = unload_after, give_up
        self.current: Job | None = None

    def run(self) -> None:
        """Choose the device and load the default model, so that the first edit need not; then work."""
        self._in_peace("The default model could not be loaded", self._warm_up)
        self.shelf.ready.set()
        while not self.queue.closed:
            next_ = self.queue.take(timeout=TICK)
            if isinstance(next_, Job):
                self._do(next_)
            elif next_ is not None:
                self._in_peace("A model could not be loaded or let go", next_)
            elif not self.queue.closed:
                self._in_peace("The core could not be tidied", self._tidy)

    def _warm_up(self) -> None:
        self.shelf.start()  # whether the default model is here or not: clients ask for the device
        self.shelf.load(self.shelf.default)

    def _tidy(self) -> None:
        """What is done while nobody waits."""
        if self.history.compress_one(pictures.compressed_png):
            return  # the next thing when again nobody waits
        self.history.make_room()
        if self.unload_after:
            self.shelf.unload_idle(self.unload_after)

    def cancel(self, job: Job) -> None:
        """End an edit: at once when it waits, at its next step when it runs."""
        job.cancel()
        if self.queue.remove(job):
            job.publish(events.Cancelled())

    def _in_peace(self, what: str, task: Callable[[], object]) -> None:
        """Nobody waits for this: what goes wrong is told in the log, and again to the first edit that needs it."""
        try:
            task()
        except LazyDiffusionError as error:
            LOG.warning("%s: %s", what, error)
        except Exception:
            LOG.exception("%s.", what)

    def _do(self, job: Job) -> None:
        """One edit, from its first event to its last."""
        started = time.monotonic()
        self.current = job
        try:
            job.check()
            job.publish(events.Started())
            report = self._fill(job)
            total = 1000 * (time.monotonic() - started)
            waited = 1000 * (started - job.arrived)
            end: events.Event = events.Done(len(job.fills), self._cost(report, total, waited))
        except EditCancelled:
            end = STOPPED if self.queue.closed else events.Cancelled()
        except LazyDiffusionError as error:
            end = events.Failed(code_of(error), str(error))
        except Exception as error:
            LOG.exception("Edit %s failed.", job.id)
            end = self._unexpected(error)
        self.shelf.note_use(job.settings.model)  # an edit may take longer than a model may be idle
        self.history.finish(job.entry, _STATES[type(end)])
        self.current = (
            None  # before the client hears that the edit has ended, and asks whether the core is busy
        )
        job.publish(end)
        if isinstance(end, events.Failed):
            self._in_peace("Memory could not be given back", self.shelf.empty_cache)

    def _fill(self, job: Job) -> Report:
        """Make the fills; when memory is short, once more with less, without those that are made already."""
        loading = time.monotonic()
        engine = self.shelf.get(job.settings.model, lambda: job.publish(events.Loading(job.settings.model)))
        report = Report()
        report.ms["load"] = 1000 * (time.monotonic() - loading)
        progress = _Progress(job)
        made = 0
        for frugal in (False, True):
            job.check()  # loading may have taken long
            settings = replace(
                job.settings, seed=job.settings.seed + made, variations=job.settings.variations - made
            )
            edit = replace(job.edit, settings=settings)
            progress.first = made
            try:
                for fill in engine.run(edit, report, progress, frugal):
                    job.check()
                    self._keep(job, made, fill, report)
                    made += 1
                return report
            except OutOfMemory as error:
                if frugal:
                    raise
                LOG.warning("Edit %s is tried again with less: %s", job.id, str(error))
            # Outside of the handler, whose error holds on to what the first try had in memory.
            self.shelf.unload_others(job.settings.model)
            self.shelf.empty_cache()
            job.publish(events.Retrying("Memory was short: trying again with less."))
        raise AssertionError("the second try returns or raises")

    def _keep(self, job: Job, number: int, fill: Fill, report: Report) -> None:
        """Put a fill into the history, unless it is a draft's, then tell of it.

        What cannot be written stays in memory and says why.
        """
        saving = time.monotonic()
        saved = SavedFill(number, fill.seed, fill.box.as_list())
        notice = ""
        try:
            thumbnail = pictures.thumbnail(job.edit.canvas, fill)
            if job.draft:
                job.thumbnails[number] = thumbnail
            else:
                self.history.add_fill(job.entry, saved, pictures.stored_png(fill.pixels), thumbnail)
        except Exception as error:  # whatever it is, a finished fill is not lost for it
            job.unsaved.add(number)
            reason = error.strerror if isinstance(error, OSError) else None
            notice = (
                f"The fill could not be saved in the history ({self.history.folder}: {reason or repr(error)}). "
                "Apply it before you close the program, and make room on the disk."
            )
            LOG.warning(notice, exc_info=reason is None)
        report.ms["save"] = report.ms.get("save", 0.0) + 1000 * (time.monotonic() - saving)
        job.fills[number] = fill
        in_history = not (job.draft or notice)
        job.publish(events.Filled(number, fill.seed, saved.box, saved=in_history, notice=notice))

    def _unexpected(self, error: Exception) -> events.Failed:
        """After an error of the GPU itself nothing works any more in this process: the next edit needs a new one."""
        if "CUDA error" in str(error):
            self.give_up()
            return events.Failed(
                "stopped",
                "The GPU stopped working for this program. The core ends; try again, which starts a new one.",
            )
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no more is known"
        return events.Failed(
            "internal",
            f"The core met an error that it did not expect ({type(error).__name__}: {reason}). "
            "Try again; if it happens again, please report it with the core's log.",
        )

    def _cost(self, report: Report, total: float, waited: float) -> dict[str, object]:
        assert report.window is not None
        choice = self.shelf.choice
        return {
            "window": report.window.as_list(),
            "scale": report.scale,
            "hidden_tokens": report.hidden_tokens,
            "steps": report.steps,
            "device": str(choice.device) if choice else "cpu",
            "ms": {
                stage: round(ms, 1) for stage, ms in {**report.ms, "total": total, "waited": waited}.items()
            },
        }


STOPPED = events.Failed("stopped", "The core was stopped before the edit was finished. Try again.")
_STATES = {events.Done: "done", events.Failed: "failed", events.Cancelled: "cancelled"}


class _Progress:
    """Tells of each step, estimates the time left, makes a preview now and then, and stops a cancelled edit."""

    def __init__(self, job: Job):
        self.job = job
        self.first = 0
        """Number of the first fill of this try."""
        self._started = self._previewed = time.monotonic()
        self._taken = 0

    def __call__(self, step: Step) -> None:
        self.job.check()
        now = time.monotonic()
        fill = self.first + step.fill
        self._taken += 1
        left = (self.job.settings.variations - fill) * step.steps - step.step
        # The first step counts from the edit's beginning: it is too long rather than too short.
        seconds_left = left * (now - self._started) / self._taken
        self.job.publish(events.Stepped(fill, step.step, step.steps, round(seconds_left, 2)))
        if now - self._previewed >= PREVIEW_EVERY and step.step < step.steps:
            self.job.publish(
                events.Previewed(fill, step.box.as_list(), pictures.small_png_base64(step.preview()))
            )
            self._previewed = time.monotonic()
        self.job.check()
