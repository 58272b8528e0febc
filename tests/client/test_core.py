"""Finding, starting and asking the core."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.client import stand_in as stand_in_file
from tests.client.stand_in import StandIn, announce

from lazydiffusion.client import (
    CoreFailedToStart,
    CoreLost,
    CoreNotInstalled,
    CoreTooOld,
    EditRejected,
    GaveUp,
    connect,
    places,
    start,
)
from lazydiffusion.client.locks import FileLock
from lazydiffusion.protocol import EditRequest
from lazydiffusion.window import Box

pytestmark = pytest.mark.integration

CLIENT = """
from lazydiffusion.client import connect
print(connect().info()["pid"])
"""


@pytest.fixture
def installed(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The runtime folder of an installed core, for which a process of the stand-in is started."""
    command = [sys.executable, stand_in_file.__file__]
    monkeypatch.setenv(start.COMMAND_VARIABLE, shlex.join(command))
    yield runtime
    stand_in_file.stop_all(runtime)


def starts(folder: Path) -> int:
    return len((folder / "starts").read_text().splitlines())


def test_a_running_core_is_found(core: StandIn) -> None:
    assert connect(start=False).address == core.address
    assert connect().info()["protocol"] == 1


def test_a_core_is_started_once_and_ends_when_asked(installed: Path) -> None:
    core = connect()
    assert core.info()["pid"] != 0
    assert connect().info() == core.info()
    assert starts(installed) == 1
    assert "starting ['serve'] %s False" % Path.home() in start.log_tail(installed)
    assert core.stop()
    with pytest.raises(CoreLost):
        core.info()


def test_twenty_clients_at_once_start_one_core(installed: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        cores = list(pool.map(lambda _: connect().info()["pid"], range(20)))
    assert len(set(cores)) == 1
    assert starts(installed) == 1


def test_clients_in_several_processes_start_one_core(installed: Path) -> None:
    command = [sys.executable, "-c", CLIENT]
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({client.communicate(timeout=60)[0] for client in clients}) == 1
    assert starts(installed) == 1


def test_the_file_of_a_killed_core_is_ignored(installed: Path) -> None:
    with stand_in_file.stand_in("unix:%s" % (installed / "old.sock")) as server:
        announce(server, installed)
    with pytest.raises(CoreLost, match="is not running"):
        connect(start=False)
    assert connect().address == "unix:%s" % (installed / places.SOCKET)


def test_a_core_that_fails_is_told_with_the_end_of_its_log(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "1")
    with pytest.raises(CoreFailedToStart) as failure:
        connect()
    assert failure.value.log_tail.splitlines()[-1] == "line 49"
    assert "status 1" in str(failure.value)
    assert str(failure.value).endswith("line 49")
    assert starts(installed) == 1


def test_a_core_with_a_fault_is_told_as_such_and_no_other_is_started(
    core: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = {"code": "internal", "message": "The core met an error that it did not expect."}
    monkeypatch.setattr(stand_in_file.Handler, "do_GET", lambda handler: handler.say(500, error=error))
    for start_it in (False, True):
        with pytest.raises(EditRejected) as fault:
            connect(start=start_it)
        assert fault.value.code == "internal"
        assert str(fault.value).startswith(
            "The LazyDiffusion core is running, but has a fault: The core met an error that it did not expect. "
            "Run `lazydiffusion stop` and try again"
        )
    assert not (Path(core.address.removeprefix("unix:")).parent / "starts").exists()


def test_what_answers_there_and_is_no_core_counts_as_none(
    core: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = {"code": "not-found", "message": "There is no such page."}
    monkeypatch.setattr(stand_in_file.Handler, "do_GET", lambda handler: handler.say(404, error=error))
    with pytest.raises(CoreLost, match="is not running"):
        connect(start=False)


def test_one_that_does_not_say_where_it_is_is_named_by_its_pid(installed: Path) -> None:
    with (
        FileLock(installed / places.CORE_LOCK),
        pytest.raises(CoreFailedToStart, match=rf"One is running \(pid {os.getpid()}\), but does not say"),
    ):
        connect(timeout=0.5)


def test_a_core_that_is_too_slow_is_told_and_found_later(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_TAKES", "2")
    with pytest.raises(CoreFailedToStart, match=r"not ready after 0\.5 seconds"):
        connect(timeout=0.5)
    assert connect().info()
    assert starts(installed) >= 2  # the later ones saw that the first was there, and ended


def test_while_another_core_is_ending_ours_is_started_again(installed: Path) -> None:
    with FileLock(installed / places.CORE_LOCK) as ending, ThreadPoolExecutor(1) as pool:
        core = pool.submit(connect)
        while not (installed / "starts").exists():
            time.sleep(0.05)
        time.sleep(0.3)
        ending.release()
        assert core.result().info()
    assert starts(installed) >= 2


def test_starting_can_be_given_up(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_TAKES", "2")
    begin = time.monotonic()
    with pytest.raises(GaveUp):
        connect(given_up=lambda: time.monotonic() > begin + 0.2)
    assert time.monotonic() - begin < 1
    assert connect().info()  # it went on to start


def test_without_an_installed_core_it_is_said(runtime: Path) -> None:
    with pytest.raises(CoreNotInstalled, match="lazydiffusion connect"):
        connect()


@pytest.mark.parametrize(("protocol", "words"), [(2, "Update the plugin"), (0, "Update LazyDiffusion")])
def test_another_protocol_says_which_side_is_older(core: StandIn, protocol: int, words: str) -> None:
    core.protocol = protocol
    with pytest.raises(CoreTooOld, match=words):
        connect()


def test_an_edit_is_sent_with_the_clients_name(core: StandIn, request_16: EditRequest) -> None:
    edit = connect(client="krita-4711").submit(request_16)
    assert edit.id == "e1"
    sent = core.parts[0]
    assert b'"client": "krita-4711"' in sent["request"]
    assert sent["canvas"] == request_16.canvas.data


def test_an_edit_that_is_given_up_is_not_taken(core: StandIn, request_16: EditRequest) -> None:
    asked: list[int] = []

    def later(pieces: int) -> Callable[[], bool]:
        asked.clear()
        return lambda: asked.append(0) or len(asked) > pieces  # type: ignore[func-returns-value]

    client = connect()
    edit = client.submit(request_16, later(10**9))
    pieces = len(asked)
    for stopped in range(pieces):
        with pytest.raises(GaveUp):
            client.submit(request_16, later(stopped))
    assert edit.id == "e1"
    time.sleep(0.1)
    assert len(core.parts) == 1


def test_a_refused_edit_says_why(core: StandIn, request_16: EditRequest) -> None:
    core.refusals = [(422, "bad-input", "The mask is empty.")]
    with pytest.raises(EditRejected, match=r"^The mask is empty\.$"):
        connect().submit(request_16)


def test_the_history_leaves_out_what_this_version_cannot_read(core: StandIn) -> None:
    entry = {
        "id": "e1", "created": 1.5, "settings": {"prompt": "a cat", "new": 1}, "canvas_size": [64, 48],
        "client": "gimp", "fills": [{"fill": 0, "seed": 7, "box": [1, 2, 3, 4]}], "state": "done",
    }  # fmt: skip
    odd = [{}, {**entry, "settings": {"steps": -1}}, {**entry, "canvas_size": 3}, None]
    core.answers = {"/v1/history": {"edits": [*odd, entry]}}  # type: ignore[attr-defined]
    (earlier,) = connect().history(limit=5)
    assert (earlier.id, earlier.settings.prompt, earlier.canvas_size) == ("e1", "a cat", (64, 48))
    assert earlier.fills[0].box == Box(1, 2, 3, 4)
    assert core.seen[-1][1] == "/v1/history?limit=5"


def test_models_history_and_thumbnails_are_asked_by_their_names(core: StandIn) -> None:
    client = connect()
    core.answers = {  # type: ignore[attr-defined]
        "/v1/models/clipart/load": {"name": "clipart", "state": "loading"},
        "/v1/models/a%2Fb/unload": {"name": "a/b", "state": "absent"},
        "/v1/history": {},
        "/v1/history/e%201": {},
        "/v1/history/e1/fills/2/thumbnail": {},
    }
    assert client.load_model("clipart") == "loading"
    assert client.unload_model("a/b") == "absent"
    client.delete_history()
    client.delete_history("e 1")
    assert client.thumbnail("e1", 2) == b"{}"
    assert [seen[0] for seen in core.seen[-5:]] == ["POST", "POST", "DELETE", "DELETE", "GET"]
