"""The core as a client sees it: found or started by `connect`, then asked for edits."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional
from urllib.parse import quote

from lazydiffusion.client import places
from lazydiffusion.client.edit import PNG, Edit, misunderstood
from lazydiffusion.client.errors import (
    CoreFailedToStart,
    CoreLost,
    CoreTooOld,
    EditRejected,
    GaveUp,
)
from lazydiffusion.client.history import HistoryEntry, entries_of
from lazydiffusion.client.locks import FileLock, holder
from lazydiffusion.client.multipart import MultipartBody, Piece
from lazydiffusion.client.start import find_command, log_tail, reap, start_core
from lazydiffusion.client.transport import Transport
from lazydiffusion.protocol import PROTOCOL, EditRequest

START_TIMEOUT = 30.0
"""Seconds that a core may take until it answers."""
HANDSHAKE_TIMEOUT = 3.0
"""Seconds in which a core that is running must say what it is."""
PAUSE = 0.05
"""Seconds between two looks at a core that is starting."""
FAULT = "internal"
"""The code of what the core itself did not expect."""
FIRST_RESTART = 0.5
"""Seconds after which, a core having found another one that does not answer, it is started again; then twice them."""


def never() -> bool:
    """That nothing is given up."""
    return False


class Core:
    """A running core. Threads may share it; nothing has to be closed."""

    def __init__(self, transport: Transport, client: str = "") -> None:
        """`client`: who asks, for the requests that do not say it themselves."""
        self._transport = transport
        self._client = client

    @property
    def address(self) -> str:
        """unix:PATH or tcp:HOST:PORT."""
        return self._transport.address

    def info(self) -> dict[str, Any]:
        """What the core says about itself, its device, models and queue (docs/service.md). Raises CoreLost."""
        return self._transport.json("GET", "/v1/info")

    def submit(self, request: EditRequest, given_up: Callable[[], bool] = never) -> Edit:
        """Send an edit; the pictures' bytes must not change meanwhile.

        `given_up` is asked between the pieces that are sent, the last time before the edit is whole.
        Raises EditRejected, CoreLost, CoreTooOld, GaveUp.
        """
        if not request.client and self._client:
            request = replace(request, client=self._client)
        body = MultipartBody(request)
        headers = {"Content-Type": body.content_type, "Content-Length": str(body.length)}
        answer = self._transport.json("POST", "/v1/edits", headers=headers, body=_unless(given_up, body))
        if "id" not in answer:
            raise misunderstood()
        return Edit(self._transport, str(answer["id"]))

    def edit(self, id: str) -> Edit:
        """An edit that was sent before, by any client."""
        return Edit(self._transport, id)

    def history(self, limit: int = 100) -> list[HistoryEntry]:
        """Earlier edits, the newest first; `limit` 1 to 1000."""
        return entries_of(self._transport.json("GET", "/v1/history?limit=%d" % limit))

    def thumbnail(self, id: str, fill: int) -> bytes:
        """A PNG file of at most 256 px a side of a fill in the history."""
        path = "/v1/history/%s/fills/%d/thumbnail" % (quote(id, safe=""), fill)
        return self._transport.content(path, PNG)[1]

    def delete_history(self, id: Optional[str] = None) -> None:
        """Forget one edit, or all."""
        self._transport.json("DELETE", "/v1/history" + ("" if id is None else "/" + quote(id, safe="")))

    def load_model(self, name: str) -> str:
        """Begin to load a model; its state now. Raises EditRejected for one that there is not."""
        return self._model(name, "load")

    def unload_model(self, name: str) -> str:
        """Give a model's memory back; its state now."""
        return self._model(name, "unload")

    def download_model(self, name: str) -> None:
        """Begin to download a model of info()'s `downloadable`, or go on with it, in the background.

        Raises EditRejected for any other.
        """
        self._transport.json("POST", "/v1/models/%s/download" % quote(name, safe=""))

    def stop_download(self, name: str) -> None:
        """End a download soon; what is downloaded is kept."""
        self._transport.json("DELETE", "/v1/models/%s/download" % quote(name, safe=""))

    def stop(self, timeout: float = 10.0) -> bool:
        """Whether the core has stopped listening within `timeout` seconds of being asked to end."""
        deadline = time.monotonic() + timeout
        with contextlib.suppress(CoreLost):
            self._transport.json("POST", "/v1/stop", timeout=timeout)
        while self._transport.listens():
            if time.monotonic() >= deadline:
                return False
            time.sleep(PAUSE)
        reap()
        return True

    def _model(self, name: str, what: str) -> str:
        answer = self._transport.json("POST", "/v1/models/%s/%s" % (quote(name, safe=""), what))
        return str(answer.get("state", ""))


def connect(
    timeout: float = START_TIMEOUT,
    start: bool = True,
    client: str = "",
    given_up: Callable[[], bool] = never,
    command: Optional[list[str]] = None,
) -> Core:
    """This user's core; started first where none is running, unless `start` is false.

    `timeout`: seconds that it may take to start. `client`: who asks, for instance "krita-4711". `given_up` is asked
    many times a second while the core starts; the core then goes on to start by itself. `command`: what starts it,
    without `serve`; where it is left out, it is looked for (start.find_command).
    Raises CoreNotInstalled, CoreFailedToStart, CoreTooOld, GaveUp; CoreLost where none is running and none is wanted;
    EditRejected, with the code "internal", where the one that runs has a fault.
    """
    core = _running(client)
    if core is not None:
        return core
    if not start:
        raise CoreLost(
            "The LazyDiffusion core is not running. It starts with the first edit.", untouched=True
        )
    command = command or find_command()
    folder = places.make_private_folder(places.runtime_folder())
    patience = _Patience(timeout, given_up, folder)
    lock = FileLock(folder / places.START_LOCK)
    try:
        # Who holds the lock is starting a core, and that one will do.
        while not lock.acquire(timeout=0):
            patience.pause()
            core = _running(client)
            if core is not None:
                return core
        return _running(client) or _started(command, client, patience)
    except OSError as error:
        raise CoreFailedToStart(
            'The LazyDiffusion core cannot be started: "%s" cannot be used (%s).'
            % (lock.path, error.strerror)
        ) from error
    finally:
        lock.release()


def look() -> Optional[dict[str, Any]]:
    """What the core says about itself; None where none is running, which this does not change.

    Raises CoreNotInstalled where none could be started either: better said now than after the first click.
    """
    try:
        return connect(start=False).info()
    except CoreLost:
        find_command()
        return None


def announced(client: str = "") -> Optional[Core]:
    """The core that the runtime file names, whether it answers or not."""
    found = places.RuntimeFile.read()
    with contextlib.suppress(CoreLost):  # its address is none
        return Core(Transport(found.address, found.token), client) if found is not None else None
    return None


def _running(client: str) -> Optional[Core]:
    """The core that answers at the place that the runtime file names. Raises CoreTooOld, EditRejected."""
    core = announced(client)
    if core is None:
        return None
    try:
        protocol = core._transport.json("GET", "/v1/info", timeout=HANDSHAKE_TIMEOUT).get("protocol")
    except EditRejected as error:
        if error.code == FAULT:
            raise EditRejected(
                "The LazyDiffusion core is running, but has a fault: %s Run `lazydiffusion stop` and try again; "
                "please report it with the core's log if it comes back." % error,
                FAULT,
            ) from error
        return None  # something else answers there by now
    except CoreLost:
        return None  # the file of a core that was killed
    if protocol != PROTOCOL:
        raise CoreTooOld.of_protocol(protocol)
    return core


def _started(command: list[str], client: str, patience: _Patience) -> Core:
    """The core that this starts; or the one because of which ours ended, for there is only one of them."""
    process = start_core(command, patience.folder)
    ended_at: Optional[float] = None
    pause = FIRST_RESTART
    while True:
        # Asked before looking: what ended after it was seen to answer has not failed to start.
        status = process.poll()
        core = _running(client)
        if core is not None:
            return core
        if status is not None and status != places.ALREADY_RUNNING:
            raise CoreFailedToStart(
                "The LazyDiffusion core ended while it was starting (status %d). Run `lazydiffusion doctor` to see "
                "what is missing." % status,
                log_tail(patience.folder),
            )
        if status is not None:
            # The other core is starting too, or it is just ending: then ours is needed after all.
            ended_at = ended_at or time.monotonic()
            if time.monotonic() - ended_at >= pause:
                process = start_core(command, patience.folder, new_log=False)
                ended_at, pause = None, 2 * pause
        patience.pause()


class _Patience:
    """How long a start may take."""

    def __init__(self, timeout: float, given_up: Callable[[], bool], folder: Path) -> None:
        self.folder = folder
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._given_up = given_up

    def pause(self) -> None:
        """Wait a little. Raises GaveUp, or CoreFailedToStart when it has taken too long."""
        if self._given_up():
            raise GaveUp()
        if time.monotonic() >= self._deadline:
            raise CoreFailedToStart(
                "The LazyDiffusion core is not ready after %g seconds.%s Try again in a moment; if that does not "
                "help, run `lazydiffusion stop` first." % (self._timeout, _who_runs(self.folder)),
                log_tail(self.folder),
            )
        time.sleep(PAUSE)


def _who_runs(folder: Path) -> str:
    """A sentence on the core that is running without saying where; empty where there is none, or it does not tell."""
    pid = holder(folder / places.CORE_LOCK)
    return " One is running (pid %d), but does not say where." % pid if pid else ""


def _unless(given_up: Callable[[], bool], pieces: Iterable[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        if given_up():
            raise GaveUp()
        yield piece
