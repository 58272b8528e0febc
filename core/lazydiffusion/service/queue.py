"""Whose edit is next: clients take turns, and each client's edits keep their order."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from lazydiffusion import events
from lazydiffusion.service.jobs import Job

Task = Callable[[], None]
"""Something else for the worker to do, such as loading a model: goes before edits."""

MAX_WAITING = 64
"""Edits that may wait."""
MAX_WAITING_BYTES = 4 * 1024**3
"""Memory that the pictures of waiting edits may take."""


class Queue:
    """Edits by client, taken in turns. Any thread may call it."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, deque[Job]] = OrderedDict()
        """In the order of their turns."""
        self._tasks: deque[Task] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, job: Job) -> int:
        """Add an edit; gives its place, 0 is next. Tells it, and those whose place changes."""
        with self._changed:
            self._clients.setdefault(job.client, deque()).append(job)
            self._tell_places()
            self._changed.notify()
            return self._order().index(job)

    def put_task(self, task: Task) -> None:
        """Add something that is no edit."""
        with self._changed:
            self._tasks.append(task)
            self._changed.notify()

    def take(self, timeout: float) -> Job | Task | None:
        """The next edit or task; None when there was none for `timeout` seconds, or after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self._clients or self._closed, timeout)
            if self._closed:
                return None
            if self._tasks:
                return self._tasks.popleft()
            if not self._clients:
                return None
            client, waiting = self._clients.popitem(last=False)
            job = waiting.popleft()
            if waiting:
                self._clients[client] = waiting  # its next turn comes after everybody else's
            self._tell_places()
            return job

    def remove(self, job: Job) -> bool:
        """Take a waiting edit out; False when it is not waiting (any more)."""
        with self._changed:
            waiting = self._clients.get(job.client, deque())
            if job not in waiting:
                return False
            waiting.remove(job)
            if not waiting:
                del self._clients[job.client]
            self._tell_places()
            return True

    def close(self) -> None:
        """`take` gives None from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def has_room(self, more_bytes: int) -> bool:
        """Whether one more edit with pictures of so many bytes may wait."""
        with self._changed:
            jobs = [job for waiting in self._clients.values() for job in waiting]
        held = sum(job.waiting_bytes for job in jobs)
        return len(jobs) < MAX_WAITING and held + more_bytes <= MAX_WAITING_BYTES

    def __len__(self) -> int:
        with self._changed:
            return sum(len(waiting) for waiting in self._clients.values())

    def _order(self) -> list[Job]:
        """The edits in the order in which they will be taken, if none is added."""
        turns = [list(waiting) for waiting in self._clients.values()]
        longest = max(map(len, turns), default=0)
        return [waiting[turn] for turn in range(longest) for waiting in turns if turn < len(waiting)]

    def _tell_places(self) -> None:
        for place, job in enumerate(self._order()):
            last = job.since(0)
            if not last or last[-1][1] != events.Queued(place):
                job.publish(events.Queued(place))
