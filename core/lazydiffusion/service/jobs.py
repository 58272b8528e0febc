"""An edit inside the core: its events, which any number of clients may follow, and its fills while in memory."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from operator import itemgetter

from lazydiffusion import events
from lazydiffusion.engines.base import Edit, Fill
from lazydiffusion.events import Event
from lazydiffusion.service.history import Entry

KEEP_JOBS = 64
"""Ended edits whose events can still be read."""
KEEP_BYTES = 256 * 1024**2
"""Fills of ended edits that stay in memory; older ones are read from the history."""
KEEP_UNSAVED_BYTES = 2 * 1024**3
"""The same for fills that could not be saved, which are lost when they are let go."""


class EditCancelled(Exception):
    """Raised inside an edit that was cancelled."""


class Job:
    """One edit from its arrival to its end. Any thread may call it."""

    def __init__(self, edit: Edit, client: str, draft: bool = False):
        """`draft`: see protocol.EditRequest."""
        self.id = secrets.token_hex(8)
        self.client = client
        self.draft = draft
        self.settings = edit.settings
        self.entry = Entry(
            id=self.id, number=0, created=time.time(), settings=asdict(edit.settings),
            canvas_size=list(edit.canvas.size), client=client,
        )  # fmt: skip
        self.arrived = time.monotonic()
        self.fills: dict[int, Fill] = {}
        self.thumbnails: dict[int, bytes] = {}
        """Of a draft's fills, PNG files: what is around them is let go at the end."""
        self.keeping = threading.Lock()
        """Held while a draft's fills are put into the history."""
        self.unsaved: set[int] = set()
        """Fills that exist in memory alone: these are kept as long as possible."""
        self.on_end: Callable[[], None] = lambda: None
        """Called once its last event was published."""
        self._edit: Edit | None = edit
        self._events: list[tuple[int, Event]] = []
        """With their numbers: of previews only the newest is kept, and none after the end."""
        self._count = 0
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._followers: set[_Follower] = set()

    @property
    def edit(self) -> Edit:
        """The edit with its pictures, which are let go at the end."""
        assert self._edit is not None, "the edit has ended"
        return self._edit

    @property
    def waiting_bytes(self) -> int:
        """Memory that the pictures take."""
        edit = self._edit
        if edit is None:
            return 0
        pictures = (edit.canvas.pixels, edit.canvas.overview, edit.mask, edit.sketch)
        return sum(picture.nbytes for picture in pictures if picture is not None)

    @property
    def ended(self) -> bool:
        """Whether its last event was published."""
        with self._lock:
            return self._has_ended()

    def cancel(self) -> None:
        """Ask the edit to end. It does so at its next step."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises EditCancelled when the edit was cancelled."""
        if self.cancelled:
            raise EditCancelled

    def publish(self, event: Event) -> None:
        """Add an event and wake the followers. After the last event nothing more is added."""
        with self._lock:
            if self._has_ended():
                return
            if isinstance(event, (events.Previewed, *events.LAST)):
                self._events = [it for it in self._events if not isinstance(it[1], events.Previewed)]
            self._count += 1
            self._events.append((self._count, event))
            if isinstance(event, events.LAST):
                self._edit = None
            followers = list(self._followers)
        for follower in followers:
            follower.wake()
        if isinstance(event, events.LAST):
            self.on_end()

    def _has_ended(self) -> bool:
        return bool(self._events) and isinstance(self._events[-1][1], events.LAST)

    def since(self, number: int) -> list[tuple[int, Event]]:
        """The events after event `number` (they count from 1) that are still kept, with their numbers."""
        with self._lock:
            return self._events[bisect_right(self._events, number, key=itemgetter(0)) :]

    @property
    def watched(self) -> bool:
        """Whether anybody follows its events now."""
        with self._lock:
            return bool(self._followers)

    @contextmanager
    def followed(self) -> Iterator[asyncio.Event]:
        """An asyncio event that is set whenever something was published. For use in a coroutine."""
        follower = _Follower()
        with self._lock:
            self._followers.add(follower)
        try:
            yield follower.news
        finally:
            with self._lock:
                self._followers.discard(follower)


class _Follower:
    """Wakes a coroutine from any thread."""

    def __init__(self) -> None:
        self.loop, self.news = asyncio.get_running_loop(), asyncio.Event()

    def wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self.loop.call_soon_threadsafe(self.news.set)


class Jobs:
    """The edits that are waiting or running, and the last ones that ended."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, job: Job) -> None:
        """Take an edit in, and let go of old ones, now and when it ends."""
        job.on_end = self._tidy
        with self._lock:
            self._jobs[job.id] = job
        self._tidy()

    def _tidy(self) -> None:
        with self._lock:
            ended = [old for old in self._jobs.values() if old.ended]
            # The oldest goes first, but one with unsaved fills only after all others.
            excess = max(0, len(ended) - KEEP_JOBS)
            for old in sorted(ended, key=lambda job: bool(job.unsaved))[:excess]:
                del self._jobs[old.id]
                ended.remove(old)
            _let_go(ended, KEEP_BYTES, unsaved=False)
            _let_go(ended, KEEP_UNSAVED_BYTES, unsaved=True)

    def get(self, id: str) -> Job | None:
        """The edit of that id, unless it ended long ago."""
        with self._lock:
            return self._jobs.get(id)

    def running(self) -> list[Job]:
        """Those that have not ended, in the order of their arrival."""
        with self._lock:
            return [job for job in self._jobs.values() if not job.ended]


def _let_go(ended: list[Job], limit: int, *, unsaved: bool) -> None:
    """Drop fills from memory, the oldest first, until those that are unsaved, or those that are not, fit."""
    fills = [
        (job, number) for job in ended for number in list(job.fills) if (number in job.unsaved) == unsaved
    ]
    held = sum(job.fills[number].pixels.nbytes for job, number in fills)
    for job, number in fills:
        if held <= limit:
            return
        held -= job.fills.pop(number).pixels.nbytes
        job.unsaved.discard(number)
