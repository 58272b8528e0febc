"""Edits on their way into the queue: as many at once as there is memory for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from lazydiffusion.service import decoding, uploads
from lazydiffusion.service.errors import Ending, QueueFull, TooLarge, WrongRequest
from lazydiffusion.service.jobs import Job, Jobs
from lazydiffusion.service.queue import Queue
from lazydiffusion.service.shelf import Shelf
from lazydiffusion.service.worker import Worker

DESERTED_AFTER = 3.0
"""Seconds without a follower after which an edit that is wanted only while it is watched ends."""
LOOK_EVERY = 0.25


class Intake:
    """Reads requests for edits, decodes their pictures and puts them into the queue. For one event loop."""

    def __init__(self, queue: Queue, jobs: Jobs, shelf: Shelf, worker: Worker):
        self._queue, self._jobs, self._shelf, self._worker = queue, jobs, shelf, worker
        self._watching: set[asyncio.Task[None]] = set()
        self._coming = 0
        """Bytes that the requests take which are being read or decoded."""

    async def take(self, request: Request) -> tuple[Job, int]:
        """The edit of a request, and its place in the queue. Raises Refusal and LazyDiffusionError."""
        length = _length(request.headers.get("content-length"))
        self._check_open()
        with self._room(uploads.MAX_BODY if length is None else length):
            try:
                asked = await uploads.read_request(
                    request.headers.get("content-type", ""), length, request.stream()
                )
            except ClientDisconnect as error:
                raise WrongRequest("The connection ended within the request.") from error
        with self._room(decoding.decoded_bytes(asked)):
            await run_in_threadpool(self._shelf.find, asked.settings.model)
            edit = await run_in_threadpool(decoding.decode, asked)
        job = Job(edit, asked.client, asked.draft)
        # Others may have come first meanwhile. From here to the queue nothing awaits, so none can now.
        with self._room(job.waiting_bytes):
            self._jobs.add(job)
            position = self._queue.put(job)
        if self._queue.closed:
            self._worker.cancel(job)
            self._check_open()
        if asked.while_watched:
            watching = asyncio.create_task(self._end_if_deserted(job))
            self._watching.add(watching)  # the loop itself would forget it
            watching.add_done_callback(self._watching.discard)
        return job, position

    async def _end_if_deserted(self, job: Job) -> None:
        """Cancel the edit when nobody follows it; one whose connection broke has a moment to come back."""
        last = time.monotonic()
        while not job.ended:
            if job.watched:
                last = time.monotonic()
            elif time.monotonic() - last > DESERTED_AFTER:
                self._worker.cancel(job)
                return
            await asyncio.sleep(LOOK_EVERY)

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        if not self._queue.has_room(self._coming + size):
            raise QueueFull("Too many edits are waiting. Wait for one to finish, or cancel one.")
        self._coming += size
        try:
            yield
        finally:
            self._coming -= size

    def _check_open(self) -> None:
        if self._queue.closed:
            raise Ending("The core is ending; try again in a moment.")


def _length(header: str | None) -> int | None:
    """The Content-Length. The server has checked that it is a number; too long a body is refused here already."""
    length = int(header) if header is not None else None
    if length is not None and length > uploads.MAX_BODY:
        raise TooLarge(
            f"The request has {length} bytes; {uploads.MAX_BODY} are allowed. Select a smaller part."
        )
    return length
