"""The core as a process: it puts the parts together, listens, tells clients where, and ends when nobody needs it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from lazydiffusion.client.errors import CoreError
from lazydiffusion.service.app import Core, make_app
from lazydiffusion.service.connection import Connection
from lazydiffusion.service.downloads import Downloads
from lazydiffusion.service.history import History
from lazydiffusion.service.jobs import Jobs
from lazydiffusion.service.queue import Queue
from lazydiffusion.service.runtime import Runtime, allowed_hosts, listen_tcp
from lazydiffusion.service.security import Guard
from lazydiffusion.service.shelf import Shelf
from lazydiffusion.service.worker import STOPPED, Worker

LOG = logging.getLogger(__name__)

LAST_WORDS = 5.0
"""Seconds that a running edit has to take notice of the core's end."""
FAREWELL = 7
"""Seconds that clients have to hear of it: more than LAST_WORDS, after which they are told in any case."""
LOOK_EVERY = 2.0
"""Seconds between two looks whether clients can still find the core."""


@dataclass(frozen=True)
class Options:
    """What `lazydiffusion serve` was told."""

    history: Path
    tcp: str | None = None
    socket: Path | None = None
    model: str = "clipart"
    device: str = "auto"
    weights: str = "full"
    """devices.WEIGHTS: how many bits a large model's weights are kept in."""
    idle_timeout: float = 1800.0
    """Seconds without use after which the core ends, and half as many after which models are let go; 0: never."""


def serve(options: Options, runtime: Runtime) -> None:
    """Run until it is stopped, or idle for too long. Raises BadInput for an address that cannot be used."""
    # uvicorn ends gently on a signal and then raises it again: the files must be removed even so.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    if options.tcp is not None or not hasattr(socket, "AF_UNIX"):
        listening, address = listen_tcp(options.tcp or "127.0.0.1:0")
    else:
        listening, address = runtime.listen_unix(options.socket)
    with listening:
        _Process(options, runtime, listening, address).run()


class _Process:
    """One run of the core."""

    def __init__(self, options: Options, runtime: Runtime, listening: socket.socket, address: str):
        self.options, self.runtime, self.listening, self.address = options, runtime, listening, address
        self.token = secrets.token_urlsafe(32)
        self._problem = ""
        """What was last logged of why no client can find the core."""
        queue, jobs = Queue(), Jobs()
        shelf = Shelf(options.model, options.device, weights=options.weights)
        history = History(options.history)
        worker = Worker(queue, shelf, history, unload_after=options.idle_timeout / 2, give_up=self.stop)
        self.core = Core(queue, jobs, shelf, history, worker, Downloads(), self.stop)
        self.activity = _Activity(make_app(self.core))
        guard = Guard(self.activity, self.token, allowed_hosts(address))
        config = uvicorn.Config(
            guard, http=Connection, log_level="warning", access_log=False, lifespan="off", ws="none",
            server_header=False, timeout_graceful_shutdown=FAREWELL,
        )  # fmt: skip
        self.server = uvicorn.Server(config)

    def run(self) -> None:
        self.core.worker.start()
        asyncio.run(self._serve())

    def stop(self) -> None:
        """Make the core end; from any thread."""
        self.core.queue.close()
        self.server.should_exit = True

    async def _serve(self) -> None:
        announcing = asyncio.create_task(self._announce())
        watching = asyncio.create_task(self._watch())
        try:
            await self.server.serve(sockets=[self.listening])
        finally:
            for task in (announcing, watching):
                task.cancel()
            await asyncio.gather(announcing, watching, return_exceptions=True)

    async def _announce(self) -> None:
        """Tell clients where the core is, and again whenever that is gone; end when they cannot find it any more."""
        while not self.server.started:
            await asyncio.sleep(0.005)
        LOG.info("The core listens at %s.", self.address)
        await self._tell(partial(self.runtime.announce, self.address, self.token))
        while await self._tell(self.runtime.announce_anew):
            await asyncio.sleep(LOOK_EVERY)
        LOG.warning(
            "No client can find the core any more: its files were removed from %s. It ends after its edits.",
            self.runtime.folder,
        )
        while self.core.jobs.running():
            await asyncio.sleep(0.05)
        self.stop()

    async def _tell(self, tell: Callable[[], object]) -> bool:
        """Whether clients can find the core, or may be able to soon; what keeps them from it is logged once."""
        found, problem = True, ""
        try:
            found = await asyncio.to_thread(tell) is not False  # in a thread: it waits for the disk
        except (OSError, CoreError) as error:
            problem = str(error)
        if problem and problem != self._problem:
            LOG.warning(
                "No client can find the core, for %s cannot be written: %s", self.runtime.file, problem
            )
        self._problem = problem
        return found

    async def _watch(self) -> None:
        """End when idle; and when ending, first end the edits, so that their clients are told why."""
        while not self.server.should_exit:
            await asyncio.sleep(0.05)
            if not self.core.shelf.ready.is_set() or self.core.downloads.running():
                self.activity.touch()  # whoever started it waits for that
            limit = self.options.idle_timeout
            if limit and self.activity.idle_for() >= limit and not self.core.jobs.running():
                LOG.info("Nobody has used the core for %.0f s: it ends.", limit)
                self.stop()
        self.core.queue.close()
        self.core.downloads.close()
        await asyncio.to_thread(self._end_edits)

    def _end_edits(self) -> None:
        for job in self.core.jobs.running():
            job.cancel()
        self.core.worker.join(LAST_WORDS)
        for job in self.core.jobs.running():
            job.publish(STOPPED)


WATCHING = ("/v1/health", "/v1/info")
"""What is asked only to see how the core is: an open editor does so all day, and must not keep the memory taken."""


class _Activity:
    """Knows for how long nobody has asked for anything but how the core is."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self._open = 0
        self._last = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in WATCHING:
            await self.app(scope, receive, send)
            return
        self._open += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._open -= 1
            self.touch()

    def touch(self) -> None:
        """Count this moment as use."""
        self._last = time.monotonic()

    def idle_for(self) -> float:
        """Seconds; 0 while a request is open."""
        return 0.0 if self._open else time.monotonic() - self._last
