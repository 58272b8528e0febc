"""An edit inside the core: its events, which any number of clients may follow, and its fills while in memory."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from lazydiffusion import events
from lazydiffusion.engines.base import Edit, Fill
from lazydiffusion.events import Event
from lazydiffusion.service.history import Entry

KEEP_JOBS = 64
"""Ended edits whose events can still be read."""
KEEP_BYTES = 256 * 1024**2
"""Fills of ended edits that stay in memory; older ones are read from the history."""


class EditCancelled(Exception):
    """Raised inside an edit that was cancelled."""


class Job:
    """One edit from its arrival to its end. Any thread may call it."""

    def __init__(self, edit: Edit, client: str):
        self.id = secrets.token_hex(8)
        self.client = client
        self.settings = edit.settings
        self.entry = Entry(
            id=self.id, number=0, created=time.time(), settings=asdict(edit.settings),
            canvas_size=list(edit.canvas.size), client=client,
        )  # fmt: skip
        self.arrived = time.monotonic()
        self.fills: dict[int, Fill] = {}
        self.unsaved: set[int] = set()
        """Fills that exist in memory alone: these are kept as long as possible."""
        self._edit: Edit | None = edit
        self._events: list[Event] = []
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
            return bool(self._events) and isinstance(self._events[-1], events.LAST)

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
            if self._events and isinstance(self._events[-1], events.LAST):
                return
            self._events.append(event)
            if isinstance(event, events.LAST):
                self._edit = None
            followers = list(self._followers)
        for follower in followers:
            follower.wake()

    def since(self, number: int) -> list[tuple[int, Event]]:
        """The events after event `number` (they count from 1), with their numbers."""
        with self._lock:
            return list(enumerate(self._events[number:], start=number + 1))

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
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.news.set)


class Jobs:
    """The edits that are waiting or running, and the last ones that ended."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, job: Job) -> None:
        """Take an edit in, and let go of old ones."""
        with self._lock:
            self._jobs[job.id] = job
            ended = [old for old in self._jobs.values() if old.ended]
            for old in ended[: max(0, len(ended) - KEEP_JOBS)]:
                del self._jobs[old.id]
            held = sum(fill.pixels.nbytes for old in ended for fill in old.fills.values())
            for old in ended:
                for number in list(old.fills):
                    if held <= KEEP_BYTES:
                        return
                    if number not in old.unsaved:
                        held -= old.fills.pop(number).pixels.nbytes

    def get(self, id: str) -> Job | None:
        """The edit of that id, unless it ended long ago."""
        with self._lock:
            return self._jobs.get(id)

    def running(self) -> list[Job]:
        """Those that have not ended, in the order of their arrival."""
        with self._lock:
            return [job for job in self._jobs.values() if not job.ended]
