"""What can go wrong around the core, done to a real one: the client is told, and nothing finished is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.service.core_process import CoreProcess, edit_request, long_request
from tests.service.installed import Installed
from tests.service.small_disk import make_read_only, small_disk

from lazydiffusion import events
from lazydiffusion.client import CoreLost, EditController, State, connect, places
from lazydiffusion.events import Done, Failed, Filled, Stepped

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_a_core_that_is_killed_is_noticed_at_once_and_replaced(installed: Installed) -> None:
    core = connect()
    edit = core.submit(long_request(prompt="before"))
    stream = edit.events()
    first = next(event for event in stream if isinstance(event, Filled))
    pixels = edit.fill(first.fill).rgba
    killed = installed.kill()
    since = time.monotonic()
    with pytest.raises(CoreLost):
        list(stream)
    assert time.monotonic() - since < 2

    again = connect()
    assert installed.pid() != killed
    assert len(again.submit(edit_request(prompt="after")).wait()) == 1
    after, before = again.history()
    assert (after.settings.prompt, before.settings.prompt) == ("after", "before")
    assert before.state == "failed"
    told = list(again.edit(edit.id).events())  # an editor that comes back finds what was finished
    assert isinstance(told[0], Filled)
    assert isinstance(told[-1], Failed)
    assert again.edit(edit.id).fill(first.fill).rgba == pixels


def test_a_controller_says_that_the_core_was_lost_and_starts_the_next(installed: Installed) -> None:
    states: list[State] = []
    errors: list[Exception] = []
    running = threading.Event()

    def on_event(event: events.Event) -> None:
        if isinstance(event, Stepped):
            running.set()

    controller = EditController(on_state=states.append, on_event=on_event, on_error=errors.append)
    controller.start(long_request())
    assert running.wait(60)
    installed.kill()
    assert controller.wait(2)
    assert states[-1] is State.FAILED
    assert [type(error) for error in errors] == [CoreLost]

    fills: list[object] = []
    again = EditController(on_state=states.append, on_fill=fills.append, on_error=errors.append)
    again.start(edit_request())
    assert again.wait(60)
    assert states[-1] is State.DONE
    assert len(fills) == 1
    assert len(errors) == 1


def test_twenty_clients_that_start_at_once_get_one_core(installed: Installed) -> None:
    script = "from lazydiffusion.client import connect; print(connect(60).info()['pid'])"
    clients = [installed.run(script) for _ in range(20)]
    said = [client.communicate(timeout=120) for client in clients]
    assert [client.returncode for client in clients] == [0] * 20, said
    pids = {int(out) for out, _ in said}
    assert pids == {installed.pid()}
    assert installed.cores() == [installed.pid()]


def test_what_a_killed_core_left_behind_does_not_matter(installed: Installed) -> None:
    connect()
    killed = installed.kill()
    psutil.wait_procs([psutil.Process(killed)] if psutil.pid_exists(killed) else [], timeout=5)
    left = {path.name for path in installed.runtime.iterdir()}
    assert {places.RUNTIME_FILE, places.CORE_LOCK, places.SOCKET} <= left

    assert connect().info()["pid"] != killed


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"pid": "x"}', json.dumps({"protocol": 1, "pid": 1, "address": "x", "token": "y"})],
)
def test_a_garbled_runtime_file_is_replaced(installed: Installed, content: str) -> None:
    places.make_private_folder(installed.runtime)
    places.write_private_file(installed.runtime / places.RUNTIME_FILE, content)
    assert connect().info()["pid"] == installed.pid()


def test_a_full_disk_keeps_the_fill_in_memory_and_says_so(
    new_process: Callable[..., CoreProcess], tmp_path: Path
) -> None:
    process = new_process()
    with small_disk(process.history, 400) as disk:
        core = process.start()
        large = edit_request(600, 400, (50, 30, 400, 300))  # noise: half a megabyte as PNG
        edit = core.submit(large)
        told = list(edit.events())
        filled = next(event for event in told if isinstance(event, Filled))
        assert not filled.saved
        assert "No space left" in filled.notice
        assert isinstance(told[-1], Done)
        made = edit.fill(0)
        assert len(made.rgba) == 400 * 300 * 4
        assert core.history() == []
        assert not list(disk.iterdir())  # no half-written edit takes the space that is left

        small = core.submit(edit_request())
        assert next(event for event in small.events() if isinstance(event, Filled)).saved
        assert [entry.id for entry in core.history()] == [small.id]
        process.end()


def test_a_read_only_history_loses_nothing_that_was_in_it(
    new_process: Callable[..., CoreProcess],
) -> None:
    process = new_process()
    with small_disk(process.history, 4000) as disk:
        core = process.start()
        kept = core.submit(edit_request(prompt="kept"))
        pixels = kept.wait()[0].rgba
        make_read_only(disk)
        edit = core.submit(edit_request(prompt="not kept"))
        filled = next(event for event in edit.events() if isinstance(event, Filled))
        assert not filled.saved
        assert "Read-only" in filled.notice
        assert len(edit.fill(0).rgba) == 60 * 50 * 4
        with pytest.raises(Exception, match="cannot be changed"):
            core.delete_history(kept.id)
        assert [entry.settings.prompt for entry in core.history()] == ["kept"]
        process.end()
        again = process.start()
        assert again.edit(kept.id).fill(0).rgba == pixels
        process.end()


def test_a_client_that_dies_leaves_its_edit_to_be_finished(installed: Installed) -> None:
    core = connect()
    script = """
import os, signal
from lazydiffusion.client import connect
from tests.service.core_process import long_request
edit = connect(start=False).submit(long_request(variations=2))
next(edit.events())
os.kill(os.getpid(), signal.SIGKILL)
"""
    client = installed.run(script)
    client.communicate(timeout=60)
    assert client.returncode == -9
    deadline = time.monotonic() + 60
    while not (core.history() and core.history()[0].state == "done"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(core.history()[0].fills) == 2


def test_a_client_that_dies_while_it_sends_is_forgotten(installed: Installed) -> None:
    core = connect()
    script = """
import os, signal
from lazydiffusion.client import connect
from lazydiffusion.client.multipart import MultipartBody
from tests.service.core_process import edit_request
core = connect(start=False)
body = MultipartBody(edit_request())
def half():
    for number, piece in enumerate(body):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield piece
headers = {"Content-Type": body.content_type, "Content-Length": str(body.length)}
core._transport.json("POST", "/v1/edits", headers=headers, body=half())
"""
    client = installed.run(script)
    client.communicate(timeout=60)
    assert client.returncode == -9
    assert len(core.submit(edit_request()).wait()) == 1
    assert core.info()["queue"] == {"running": False, "waiting": 0, "client": ""}
    assert len(core.history()) == 1


CLOCK = """
import os, sys, time, pathlib
clock, real, real_ns = pathlib.Path(os.environ["TEST_CLOCK"]), time.time, time.time_ns
shift = lambda: 86400 * int(clock.read_text() or 0)
time.time, time.time_ns = lambda: real() + shift(), lambda: real_ns() + 10**9 * shift()
from lazydiffusion.cli import app
app()
"""


def test_a_jumping_clock_disturbs_nothing(new_process: Callable[..., CoreProcess], tmp_path: Path) -> None:
    """The wall clock of the core's process is replaced as its Python reads it: the machine's own must stay right."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    process = new_process(environment={"TEST_CLOCK": str(clock)}, program=("-c", CLOCK))
    core = process.start("--idle-timeout", "600")
    for jump in ("400", "-800", "0"):
        edit = core.submit(long_request(prompt=jump, variations=2))
        stream = edit.events()
        next(event for event in stream if isinstance(event, Stepped))
        clock.write_text(jump)
        assert isinstance(list(stream)[-1], Done)
    entries = core.history()
    assert [entry.settings.prompt for entry in entries] == [
        "0",
        "-800",
        "400",
    ]  # in the order of their making
    spread = max(e.created for e in entries) - min(e.created for e in entries)
    assert spread > 300 * 86400  # the core's clock did jump


def test_a_home_with_spaces_and_other_scripts_will_do(tiny_model: Path, tmp_path: Path) -> None:
    home = tmp_path / "Zoë Müller 家 's home"
    (home / "run").mkdir(parents=True, mode=0o700)
    program = Installed(home / "bin", tiny_model)
    program.history = home / ".local" / "share" / "lazydiffusion" / "history"
    text = program.program.read_text(encoding="utf8").replace("--history", "--idle-timeout 600 --history", 1)
    program.program.write_text(text.partition(" --history")[0] + "\n", encoding="utf8")
    program.environment = {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "XDG_DATA_HOME": "",
        "XDG_CONFIG_HOME": "",
    }
    pointing = subprocess.run(
        [sys.executable, "-c", POINT, str(program.program)],
        env={**os.environ, **program.environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert pointing.returncode == 0, pointing.stderr
    assert (home / ".config" / "lazydiffusion" / "connect.json").is_file()

    client = program.run(EDIT)
    out, error = client.communicate(timeout=120)
    assert client.returncode == 0, error
    assert out.split() == ["12000", "True", "True"]
    assert (home / "run" / "lazydiffusion").is_dir()
    assert len(list(program.history.iterdir())) == 1


POINT = "import sys; from lazydiffusion.client.start import remember_command; remember_command(sys.argv[1:])"
EDIT = """
from tests.service.core_process import edit_request
from lazydiffusion.client import connect
core = connect(60)
made = core.submit(edit_request()).wait()[0]
print(len(made.rgba), len(core.history()) == 1, core.stop())
"""


def test_a_runtime_folder_with_a_long_path_will_do(tiny_model: Path, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a folder within a folder"] * 6)
    program = Installed(deep, tiny_model)
    client = program.run(EDIT)
    out, error = client.communicate(timeout=120)
    assert client.returncode == 0, error
    assert out.split() == ["12000", "True", "True"]


def test_a_core_that_is_stopped_tells_the_edits_that_were_running(
    new_process: Callable[..., CoreProcess],
) -> None:
    process = new_process()
    core = process.start()
    edit, waiting = core.submit(long_request()), core.submit(edit_request())
    told: list[events.Event] = []
    other = threading.Thread(target=lambda: told.extend(waiting.events()))
    other.start()
    stream = edit.events()
    next(event for event in stream if isinstance(event, Stepped))
    assert core.stop()
    last = list(stream)[-1]
    other.join(10)
    for end in (last, told[-1]):
        assert isinstance(end, Failed)
        assert end.code == "stopped"
    assert process.wait(10) == 0
    assert {path.name for path in process.runtime.iterdir()} <= {places.CORE_LOCK, places.START_LOCK}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["terminated", "Ctrl-C"])
def test_a_signal_ends_the_core_as_gently(
    new_process: Callable[..., CoreProcess], number: signal.Signals
) -> None:
    process = new_process()
    core = process.start()
    edit = core.submit(long_request())
    stream = edit.events()
    next(event for event in stream if isinstance(event, Stepped))
    since = time.monotonic()
    assert process.end(number) == 0
    assert time.monotonic() - since < 6
    assert "cancelled" not in process.said()
    last = list(stream)[-1]
    assert isinstance(last, Failed)
    assert not (process.runtime / places.RUNTIME_FILE).exists()


def test_an_idle_core_ends_by_itself_and_not_while_it_works(new_process: Callable[..., CoreProcess]) -> None:
    process = new_process()
    core = process.start("--idle-timeout", "1.5")
    edit = core.submit(long_request(variations=4))
    began = time.monotonic()
    deadline = began + 60
    while process.running:  # nobody follows it, and who only looks whether the core is busy does not use it
        with contextlib.suppress(CoreLost):
            core.info()
        time.sleep(0.5)
        assert time.monotonic() < deadline
    assert process.wait(0) == 0
    again = process.start()
    assert again.history()[0].id == edit.id
    assert again.history()[0].state == "done"
    assert len(again.history()[0].fills) == 4


def test_a_second_core_says_that_there_is_one(new_process: Callable[..., CoreProcess]) -> None:
    process = new_process()
    process.start(until="loading")
    second = subprocess.run(process.command(), env=process.environment, capture_output=True, text=True)
    assert second.returncode == places.ALREADY_RUNNING
    assert f"A core is running already (pid {process.pid}" in second.stderr


def test_a_history_that_is_gone_is_made_again(new_process: Callable[..., CoreProcess]) -> None:
    process = new_process()
    core = process.start()
    core.submit(edit_request()).wait()
    shutil.rmtree(process.history)
    edit = core.submit(edit_request())
    assert next(event for event in edit.events() if isinstance(event, Filled)).saved
