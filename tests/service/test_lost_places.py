"""A real core whose files are removed or damaged while it runs, and a disk that keeps it waiting."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.service.core_process import CoreProcess, edit_request, long_request
from tests.service.installed import Installed

from lazydiffusion.client import EditRejected, connect, places
from lazydiffusion.events import Filled, Started, Stepped
from lazydiffusion.service.worker import STOPPED

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_core_whose_file_goes_is_found_again(installed: Installed) -> None:
    pid = connect().info()["pid"]
    (installed.runtime / places.RUNTIME_FILE).unlink()
    assert connect().info()["pid"] == pid


def test_a_core_that_cannot_say_where_it_is_logs_it_and_tries_again(
    new_process: Callable[..., CoreProcess],
) -> None:
    process = new_process()
    process.start()
    file = process.runtime / places.RUNTIME_FILE
    file.unlink()
    file.mkdir()  # which no file replaces
    wait_until(lambda: f"No client can find the core, for {file} cannot be written" in process.said())
    file.rmdir()
    wait_until(lambda: places.RuntimeFile.read(file))
    assert process.client().info()["pid"] == process.pid
    assert process.end() == 0
    assert not file.exists()


def test_a_core_whose_folder_was_emptied_leaves_the_next_one_alone(
    new_process: Callable[..., CoreProcess], tmp_path: Path
) -> None:
    old = new_process()
    old.start()
    shutil.rmtree(old.runtime)
    new = new_process(environment={places.RUNTIME_VARIABLE: str(old.runtime)})
    new.runtime = old.runtime
    core = new.start()
    assert old.wait(60) == 0  # nobody could have found it any more
    assert "No client can find the core any more" in old.said()
    assert {path.name for path in new.runtime.iterdir()} == {
        places.CORE_LOCK, places.RUNTIME_FILE, places.SOCKET,
    }  # fmt: skip
    assert core.info()["pid"] == new.client().info()["pid"] == new.pid


def test_a_core_that_nobody_finds_any_more_finishes_its_edit(
    new_process: Callable[..., CoreProcess],
) -> None:
    process = new_process()
    core = process.start()
    edit = core.submit(long_request(variations=2))
    stream = edit.events()
    next(event for event in stream if isinstance(event, Stepped))
    shutil.rmtree(process.runtime)
    assert len([event for event in stream if isinstance(event, Filled)]) == 2
    assert process.wait(60) == 0
    [entry] = process.start().history()
    assert (entry.state, len(entry.fills)) == ("done", 2)


SLOW_DISK = """
import os, pathlib, time
waiting, free, fsync = pathlib.Path(os.environ["TEST_WAITING"]), pathlib.Path(os.environ["TEST_FREE"]), os.fsync
def slow(file):
    if "history" in os.readlink(f"/proc/self/fd/{file}"):
        waiting.touch()
        while not free.exists():
            time.sleep(0.02)
    fsync(file)
os.fsync = slow
from lazydiffusion.cli import app
app()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux, to tell which file is written")
def test_while_the_disk_is_busy_the_core_answers(
    new_process: Callable[..., CoreProcess], tmp_path: Path
) -> None:
    waiting, free = tmp_path / "waiting", tmp_path / "free"
    environment = {"TEST_WAITING": str(waiting), "TEST_FREE": str(free)}
    process = new_process(environment=environment, program=("-c", SLOW_DISK))
    core = process.start()
    edit = core.submit(edit_request())
    wait_until(waiting.exists)
    try:
        info = core.info()
        assert info["state"] == "busy"
        assert info["history"]["bytes"] == 0
        with pytest.raises(EditRejected, match="no such edit"):
            next(core.edit("0" * 16).events())
        assert core.history() == []
    finally:
        free.touch()
    assert len(edit.wait()) == 1


SLOW_STEPS = """
import time
from lazydiffusion.service import worker
step = worker._Progress.__call__
worker._Progress.__call__ = lambda progress, taken: (time.sleep(3.5), step(progress, taken))
from lazydiffusion.cli import app
app()
"""


def test_a_core_that_is_stopped_in_a_long_step_tells_the_edit_too(
    new_process: Callable[..., CoreProcess],
) -> None:
    process = new_process(program=("-c", SLOW_STEPS))
    core = process.start()
    stream = core.submit(edit_request()).events()
    next(event for event in stream if isinstance(event, Started))
    core._transport.json("POST", "/v1/stop")
    assert list(stream)[-1] == STOPPED
    assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--model", "flux2-klein"), ""),
        (("--device", "cuda"), "CUDA cannot be used: "),
    ],
    ids=["a model that is not downloaded", "a device that there is not"],
)
def test_what_cannot_be_had_is_told_by_a_core_that_is_ready(
    new_process: Callable[..., CoreProcess], options: tuple[str, ...], problem: str
) -> None:
    process = new_process(environment={"CUDA_VISIBLE_DEVICES": ""})
    info = process.start(*options).info()
    assert info["state"] == "ready"
    assert info["problem"].startswith(problem)
    assert (info["device"] is None) == bool(info["problem"]) == bool(problem)
    assert [known["name"] for known in info["downloadable"]] == ["flux2-klein"]


def test_a_fill_that_is_damaged_on_the_disk_is_said_to_be(new_process: Callable[..., CoreProcess]) -> None:
    process = new_process()
    edit = process.start().submit(edit_request(variations=2))
    kept = edit.wait()[1]
    process.end()
    [file] = process.history.glob("*/fill-0.png")
    file.write_bytes(file.read_bytes()[:200])
    core = process.start()
    for fetch in (core.edit(edit.id).fill, core.edit(edit.id).fill_png):
        with pytest.raises(EditRejected) as refused:
            fetch(0)
        assert refused.value.code == "not-there"
        assert str(refused.value) == "This fill is damaged on the disk. Delete its edit from the history."
    assert core.edit(edit.id).fill(1).rgba == kept.rgba
    assert "Traceback" not in process.said()
