"""The state machine that the editors share: what it tells, and that it can be cancelled at any time."""

from __future__ import annotations

import queue
import shlex
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.client import stand_in as stand_in_file
from tests.client.stand_in import DONE, UNTIL_CANCELLED, StandIn, announce, stand_in

from lazydiffusion.client import (
    CoreError,
    CoreLost,
    EditController,
    EditFailed,
    EditRejected,
    EditRunning,
    FillPixels,
    State,
    start,
)
from lazydiffusion.events import Filled
from lazydiffusion.protocol import EditRequest

pytestmark = pytest.mark.integration

GOOD = [State.STARTING_CORE, State.QUEUED, State.RUNNING, State.DONE]


class Editor:
    """What an editor is told."""

    def __init__(self, call: Callable[[Callable[[], None]], Any] | None = None, **callbacks: Any) -> None:
        self.told: list[Any] = []
        self.reached = {state: threading.Event() for state in State}
        own = {"on_event": self.told.append, "on_fill": self.told.append, "on_error": self.told.append}
        self.controller = EditController(
            on_state=callbacks.pop("on_state", self.state),
            call=call,
            client="krita-1",
            **{**own, **callbacks},
        )

    def state(self, state: State) -> None:
        self.told.append(state)
        self.reached[state].set()

    def states(self) -> list[State]:
        return [it for it in self.told if isinstance(it, State)]

    def errors(self) -> list[Exception]:
        return [it for it in self.told if isinstance(it, Exception)]

    def run(self, request: EditRequest | Callable[[], EditRequest]) -> list[State]:
        self.told.clear()
        self.controller.start(request)
        assert self.controller.wait(20)
        return self.states()


def edit_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lazydiffusion-edit"]


def test_an_edit_is_told_from_its_start_to_its_fill(core: StandIn, request_16: EditRequest) -> None:
    editor = Editor()
    assert editor.controller.state is State.IDLE
    assert editor.run(request_16) == GOOD
    assert [type(it).__name__ for it in editor.told] == [
        "State", "State", "Queued", "State", "Started", "Stepped", "Filled", "FillPixels", "Done", "State"
    ]  # fmt: skip
    assert editor.controller.state is State.DONE
    assert b'"client": "krita-1"' in core.parts[0]["request"]
    assert edit_threads() == []


def test_callbacks_may_be_left_out(core: StandIn, request_16: EditRequest) -> None:
    controller = EditController()
    controller.start(request_16)
    assert controller.wait(20)
    assert controller.state is State.DONE


def test_a_request_may_be_made_by_the_worker(core: StandIn, request_16: EditRequest) -> None:
    made_in: list[threading.Thread] = []

    def make() -> EditRequest:
        made_in.append(threading.current_thread())
        return request_16

    assert Editor().run(make) == GOOD
    assert made_in != [threading.current_thread()]


def test_callbacks_can_be_brought_to_the_editors_own_thread(core: StandIn, request_16: EditRequest) -> None:
    jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    threads = set()
    editor = Editor(call=jobs.put, on_event=lambda event: threads.add(threading.current_thread()))
    editor.controller.start(request_16)
    while not editor.reached[State.DONE].is_set():
        jobs.get(timeout=20)()
    assert threads == {threading.current_thread()}
    assert editor.states() == GOOD
    assert editor.controller.wait(20)


def test_a_fill_can_be_prepared_beside_the_editor(core: StandIn, request_16: EditRequest) -> None:
    jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    prepared_in: list[threading.Thread] = []

    def prepare(fill: FillPixels) -> tuple[str, int]:
        prepared_in.append(threading.current_thread())
        return "prepared", fill.fill

    editor = Editor(call=jobs.put, prepare=prepare)
    editor.controller.start(request_16)
    while not editor.reached[State.DONE].is_set():
        jobs.get(timeout=20)()
    assert ("prepared", 0) in editor.told
    assert not any(isinstance(it, FillPixels) for it in editor.told)
    assert [thread.name for thread in prepared_in] == ["lazydiffusion-edit"]


def test_what_cannot_be_prepared_ends_the_edit_with_its_reason(
    core: StandIn, request_16: EditRequest
) -> None:
    def prepare(fill: FillPixels) -> None:
        raise MemoryError("no room for a picture")

    editor = Editor(prepare=prepare)
    assert editor.run(request_16)[-1] is State.FAILED
    [error] = editor.errors()
    assert str(error) == "The edit failed unexpectedly: no room for a picture. Try again."


def test_while_one_edit_runs_no_other_starts(core: StandIn, request_16: EditRequest) -> None:
    core.script = [*DONE[:3], UNTIL_CANCELLED]
    editor = Editor()
    editor.controller.start(request_16)
    assert editor.reached[State.RUNNING].wait(20)
    with pytest.raises(EditRunning, match="cancel it first"):
        editor.controller.start(request_16)
    assert editor.controller.edit_id == "e1"
    assert not editor.controller.wait(0.05)
    editor.controller.cancel()
    assert editor.controller.wait(20)


def test_the_next_edit_may_start_from_within_the_last_callback(
    core: StandIn, request_16: EditRequest
) -> None:
    editor = Editor()
    again = [request_16]

    def on_state(state: State) -> None:
        editor.state(state)
        if state is State.DONE and again:
            editor.controller.start(again.pop())

    editor.controller._on_state = on_state
    assert editor.run(request_16) == GOOD * 2
    assert edit_threads() == []


@pytest.mark.parametrize("at", [State.QUEUED, State.RUNNING])
def test_an_edit_is_cancelled_at_the_core(core: StandIn, request_16: EditRequest, at: State) -> None:
    core.script = [*DONE[: 1 if at is State.QUEUED else 3], UNTIL_CANCELLED]
    editor = Editor()
    editor.controller.start(request_16)
    assert editor.reached[at].wait(20)
    for _ in range(3):
        editor.controller.cancel()
    assert editor.controller.wait(20)
    assert editor.states()[-1] is State.CANCELLED
    assert editor.errors() == []
    assert len([method for method, _, _ in core.seen if method == "DELETE"]) == 1
    editor.controller.cancel()  # afterwards it is nothing
    assert editor.controller.state is State.CANCELLED
    assert edit_threads() == []


def test_a_callback_may_cancel(core: StandIn, request_16: EditRequest) -> None:
    core.script = [*DONE[:4], UNTIL_CANCELLED]
    editor = Editor(on_event=lambda event: isinstance(event, Filled) and editor.controller.cancel())
    assert editor.run(request_16)[-1] is State.CANCELLED


def test_an_edit_is_cancelled_while_its_request_is_made(core: StandIn, request_16: EditRequest) -> None:
    editor = Editor()

    def make() -> EditRequest:
        editor.controller.cancel()
        return request_16

    assert editor.run(make) == [State.STARTING_CORE, State.CANCELLED]
    assert core.parts == []


def test_an_edit_is_cancelled_just_as_it_is_sent(core: StandIn, request_16: EditRequest) -> None:
    """Whatever the moment is: the core has no edit that goes on."""
    core.script = [UNTIL_CANCELLED]
    for delay in range(0, 20, 2):
        core.cancelled.clear()
        taken = len(core.parts)
        editor = Editor()
        editor.controller.start(request_16)
        time.sleep(delay / 1000)
        editor.controller.cancel()
        assert editor.controller.wait(20)
        assert editor.states()[-1] is State.CANCELLED
        assert core.cancelled.is_set() == (len(core.parts) > taken)


def test_an_edit_is_cancelled_while_the_core_starts(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, request_16: EditRequest
) -> None:
    monkeypatch.setenv(start.COMMAND_VARIABLE, shlex.join([sys.executable, stand_in_file.__file__]))
    monkeypatch.setenv("STAND_IN_TAKES", "1")
    editor = Editor()
    editor.controller.start(request_16)
    while not (runtime / "starts").exists():
        time.sleep(0.02)
    begin = time.monotonic()
    editor.controller.cancel()
    assert editor.controller.wait(20)
    assert time.monotonic() - begin < 1
    assert editor.states() == [State.STARTING_CORE, State.CANCELLED]
    assert editor.run(request_16) == GOOD
    stand_in_file.stop_all(runtime)


def test_a_core_that_ends_is_told_and_the_next_edit_finds_the_next_core(
    runtime: Path, request_16: EditRequest
) -> None:
    editor = Editor()
    with stand_in("unix:%s" % (runtime / "first.sock")) as first:
        announce(first, runtime)
        first.script = [*DONE[:3], UNTIL_CANCELLED]
        editor.controller.start(request_16)
        assert editor.reached[State.RUNNING].wait(20)
        first.drops = {3}
        first.shutdown()
        first.socket.close()
        first.cancelled.set()  # the stream goes on, and breaks
        begin = time.monotonic()
        assert editor.controller.wait(20)
    assert time.monotonic() - begin < 2
    assert isinstance(editor.errors()[0], CoreLost)
    assert editor.states()[-1] is State.FAILED
    with stand_in("unix:%s" % (runtime / "second.sock")) as second:
        announce(second, runtime)
        assert editor.run(request_16) == GOOD


def test_a_refused_edit_fails_with_the_cores_words(core: StandIn, request_16: EditRequest) -> None:
    core.refusals = [(422, "bad-input", "The mask is empty.")]
    editor = Editor()
    assert editor.run(request_16) == [State.STARTING_CORE, State.FAILED]
    (error,) = editor.errors()
    assert isinstance(error, EditRejected)
    assert str(error) == "The mask is empty."


def test_an_edit_that_fails_at_the_core_is_told(core: StandIn, request_16: EditRequest) -> None:
    core.script = [*DONE[:3], ("failed", {"code": "internal", "message": "Try again."})]
    editor = Editor()
    assert editor.run(request_16)[-1] is State.FAILED
    (error,) = editor.errors()
    assert isinstance(error, EditFailed)
    assert editor.run(request_16)[-1] is State.FAILED  # and once more


def test_an_edit_whose_fill_cannot_be_fetched_fails_and_is_ended(
    core: StandIn, request_16: EditRequest
) -> None:
    core.script = [("fill", {"fill": 9, "seed": 7, "box": [3, 4, 2, 1], "saved": True}), UNTIL_CANCELLED]
    editor = Editor()
    assert editor.run(request_16)[-1] is State.FAILED
    assert "There is no /v1/edits/e1/fills/9." in str(editor.errors()[0])
    assert core.cancelled.is_set()


def test_a_core_that_is_just_ending_is_asked_again(core: StandIn, request_16: EditRequest) -> None:
    core.refusals = [(503, "ending", "The core is ending.")] * 2
    assert Editor().run(request_16) == GOOD


def test_without_a_core_it_is_said_and_no_thread_is_left(runtime: Path, request_16: EditRequest) -> None:
    editor = Editor()
    assert editor.run(request_16) == [State.STARTING_CORE, State.FAILED]
    assert "not installed" in str(editor.errors()[0])
    assert edit_threads() == []


def test_a_mistake_in_a_callback_is_told_once_and_ends_nothing(
    core: StandIn, request_16: EditRequest
) -> None:
    def wrong(event: object) -> None:
        raise ZeroDivisionError("of the plugin")

    editor = Editor(on_event=wrong)
    assert editor.run(request_16) == GOOD
    (error,) = editor.errors()
    assert isinstance(error, CoreError)
    assert isinstance(error.__cause__, ZeroDivisionError)

    editor = Editor(on_event=wrong, on_error=wrong, on_fill=wrong)
    assert editor.run(request_16) == GOOD


def test_an_editor_that_can_no_longer_be_told_does_not_end_the_edit(
    core: StandIn, request_16: EditRequest
) -> None:
    def gone(job: Callable[[], None]) -> None:
        raise RuntimeError("the window was closed")

    editor = Editor(call=gone)
    assert editor.run(request_16) == []
    assert editor.controller.state is State.DONE


def test_a_mistake_in_making_the_request_is_a_failure(core: StandIn) -> None:
    def make() -> EditRequest:
        raise KeyError("layer")

    editor = Editor()
    assert editor.run(make) == [State.STARTING_CORE, State.FAILED]
    (error,) = editor.errors()
    assert isinstance(error, CoreError)
    assert isinstance(error.__cause__, KeyError)


def test_many_edits_cancelled_at_any_time_leave_nothing_behind(
    core: StandIn, request_16: EditRequest
) -> None:
    controller = EditController()
    for i in range(40):
        controller.start(request_16)
        time.sleep(i / 4000)
        controller.cancel()
        assert controller.wait(20)
        assert controller.state in (State.DONE, State.CANCELLED)
    assert edit_threads() == []
    assert controller.edit_id is None
