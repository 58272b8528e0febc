"""One edit after the other for an editor: a state machine that works in a thread of its own and tells what happens."""

from __future__ import annotations

import logging
import threading
import time
from enum import Enum
from typing import Any, Callable, Optional, Union

from lazydiffusion.client.core import connect
from lazydiffusion.client.edit import Edit, FillPixels
from lazydiffusion.client.errors import CoreError, CoreLost, EditFailed, GaveUp
from lazydiffusion.errors import LazyDiffusionError
from lazydiffusion.events import LAST, Cancelled, Event, Failed, Filled, Queued
from lazydiffusion.protocol import EditRequest

LOG = logging.getLogger(__name__)

RESTART_TIMEOUT = 10.0
"""Seconds in which a core that is ending must have made place for a new one."""
RESTART_PAUSE = 0.1


class State(Enum):
    """Where an edit stands."""

    IDLE = "idle"
    STARTING_CORE = "starting-core"
    """The core is looked for, started where it is not running, and sent the edit."""
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (State.IDLE, State.DONE, State.FAILED, State.CANCELLED)
"""The states in which a new edit may start."""


class EditRunning(CoreError):
    """An edit was started while another one is running."""

    def __init__(self) -> None:
        super().__init__("An edit is running already. Wait for it or cancel it first.")


class _Run:
    """One edit of a controller."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.edit: Optional[Edit] = None
        self.callback_failed = False


class EditController:
    """Runs one edit at a time, from finding the core to its last fill.

    The callbacks, each of which may be left out:
        on_state(state)   each State that the edit comes to; one of ENDED is the last thing that is told of it
        on_event(event)   each of `lazydiffusion.events`
        on_fill(fill)     a fill's FillPixels, after its Filled event; or what `prepare` makes of them, in the worker's
                          thread always: for what would keep the editor waiting
        on_error(error)   why an edit failed, before the state FAILED; also the first error that a callback raised.
                          `str(error)` is a sentence for the artist
    They are called in the worker's thread, or handed to `call`, which brings them into the editor's own thread, in
    their order, and must not wait for them. After an end a new edit may start, also from within on_state.
    """

    def __init__(
        self,
        on_state: Optional[Callable[[State], Any]] = None,
        on_event: Optional[Callable[[Event], Any]] = None,
        on_fill: Optional[Callable[[Any], Any]] = None,
        on_error: Optional[Callable[[Exception], Any]] = None,
        call: Optional[Callable[[Callable[[], None]], Any]] = None,
        client: str = "",
        prepare: Optional[Callable[[FillPixels], Any]] = None,
    ) -> None:
        self._on_state = on_state
        self._on_event = on_event
        self._on_fill = on_fill
        self._on_error = on_error
        self._call = call
        self._client = client
        self._prepare = prepare
        self._lock = threading.Lock()  # of the fields below; never held while anything is called or sent
        self._state = State.IDLE
        self._run: Optional[_Run] = None
        self._threads: list[threading.Thread] = []

    @property
    def state(self) -> State:
        """Where the last edit stands."""
        return self._state

    @property
    def edit_id(self) -> Optional[str]:
        """The id of the edit that is running; None before the core has taken it, and after its end."""
        run = self._run
        return run.edit.id if run is not None and run.edit is not None else None

    def start(self, request: Union[EditRequest, Callable[[], EditRequest]]) -> None:
        """Begin with an edit and return at once. A function that makes the request is called in the worker's thread.

        Raises EditRunning while another one is running.
        """
        with self._lock:
            if self._run is not None:
                raise EditRunning()
            run = self._run = _Run()
            self._state = State.STARTING_CORE
            self._begin(lambda: self._work(run, request))

    def cancel(self) -> None:
        """End the running edit soon, whatever it is doing, and return at once; nothing happens if there is none."""
        with self._lock:
            run = self._run
            if run is None or run.cancelled.is_set():
                return
            run.cancelled.set()
            edit = run.edit
            if edit is not None:
                # Not here: the editor must not wait for the core's answer.
                self._begin(lambda: self._cancel(edit))

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Whether, within `timeout` seconds, all is over and no thread of this controller is left.

        None waits as long as it takes. The worker's own thread, in a callback, is not waited for.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                threads = [
                    it for it in self._threads if it.is_alive() and it is not threading.current_thread()
                ]
            if not threads:
                return True
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            threads[0].join(left)

    def _begin(self, work: Callable[[], None]) -> None:
        # A daemon: an editor that quits does not wait for an edit.
        thread = threading.Thread(target=work, name="lazydiffusion-edit", daemon=True)
        self._threads = [it for it in self._threads if it.is_alive()] + [thread]
        thread.start()

    def _work(self, run: _Run, request: Union[EditRequest, Callable[[], EditRequest]]) -> None:
        error: Optional[Exception] = None
        self._tell(run, self._on_state, State.STARTING_CORE)
        try:
            edit = self._submitted(run, request if isinstance(request, EditRequest) else request())
            self._enter(run, State.QUEUED)
            end = self._followed(run, edit)
        except Exception as raised:
            end, error = State.FAILED, raised
            if run.edit is not None and not isinstance(raised, (CoreLost, EditFailed)):
                self._cancel(run.edit)  # nobody would fetch its fills
            if run.cancelled.is_set():
                # The artist does not want it any more, so what went wrong with it does not matter.
                LOG.info("A cancelled edit ended with an error: %s", raised)
                end, error = State.CANCELLED, None
        if error is not None and not isinstance(error, LazyDiffusionError):
            LOG.error("An edit failed unexpectedly.", exc_info=error)
            unexpected = CoreError("The edit failed unexpectedly: %s. Try again." % error)
            unexpected.__cause__ = error
            error = unexpected
        if error is not None:
            self._tell(run, self._on_error, error)
        with self._lock:
            self._state = end
            self._run = None
        self._tell(run, self._on_state, end)

    def _submitted(self, run: _Run, request: EditRequest) -> Edit:
        edit = self._taken(run, request)
        with self._lock:
            run.edit = edit
            too_late = run.cancelled.is_set()
        if too_late:
            self._cancel(edit)
        return edit

    def _taken(self, run: _Run, request: EditRequest) -> Edit:
        given_up = run.cancelled.is_set
        deadline = time.monotonic() + RESTART_TIMEOUT
        while not given_up():
            try:
                return connect(client=self._client, given_up=given_up).submit(request, given_up)
            except CoreLost as lost:
                # It may be ending after it was found, as it does when nobody has used it for long.
                if not lost.untouched or time.monotonic() >= deadline:
                    raise
            run.cancelled.wait(RESTART_PAUSE)
        raise GaveUp()

    def _followed(self, run: _Run, edit: Edit) -> State:
        for event in edit.events():
            if isinstance(event, Queued):
                self._enter(run, State.QUEUED)
            elif not isinstance(event, LAST):
                self._enter(run, State.RUNNING)
            self._tell(run, self._on_event, event)
            if isinstance(event, Filled) and self._on_fill is not None:
                fill = edit.fill(event.fill)
                self._tell(run, self._on_fill, fill if self._prepare is None else self._prepare(fill))
            elif isinstance(event, Failed):
                raise EditFailed(event.message, event.code)
            elif isinstance(event, Cancelled):
                return State.CANCELLED
        return State.DONE

    @staticmethod
    def _cancel(edit: Edit) -> None:
        try:
            edit.cancel()
        except CoreError as error:
            # Whoever follows the edit notices it too, and is the one to say so.
            LOG.info("An edit could not be cancelled: %s", error)

    def _enter(self, run: _Run, state: State) -> None:
        with self._lock:
            changed = self._state is not state
            self._state = state
        if changed:
            self._tell(run, self._on_state, state)

    def _tell(self, run: _Run, callback: Optional[Callable[[Any], Any]], value: Any) -> None:
        if callback is None:
            return
        try:
            if self._call is None:
                self._safely(run, callback, value)
            else:
                self._call(lambda: self._safely(run, callback, value))
        except Exception:
            LOG.exception("The editor could not be told of an edit.")

    def _safely(self, run: _Run, callback: Callable[[Any], Any], value: Any) -> None:
        """Call back; an error in the editor's own code is told once per edit and does not end it."""
        try:
            callback(value)
        except Exception as error:
            LOG.exception("The editor's own code failed.")
            if run.callback_failed or self._on_error is None:
                return
            run.callback_failed = True
            if callback != self._on_error:
                wrapped = CoreError("The plugin made a mistake: %s. The edit goes on." % error)
                wrapped.__cause__ = error
                self._safely(run, self._on_error, wrapped)
