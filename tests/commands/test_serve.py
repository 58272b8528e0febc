"""`serve`, `status`, `stop`, `connect` and `fill --via-core`, as a user types them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.client import stand_in as stand_in_file
from tests.service.installed import Installed
from typer.testing import CliRunner, Result

from lazydiffusion.cli import app
from lazydiffusion.client import places, start

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A smooth canvas.png, 700 x 500 px, with a mask.png and a sketch.png."""
    y, x = np.mgrid[:500, :700]
    canvas = np.stack([x // 4, y // 2, (x + y) // 6], -1).astype(np.uint8)
    Image.fromarray(canvas).save(tmp_path / "canvas.png")
    mask = Image.new("L", (700, 500))
    mask.paste(255, (300, 200, 380, 260))
    mask.save(tmp_path / "mask.png")
    sketch = Image.new("RGBA", (700, 500))
    sketch.paste((255, 0, 0, 255), (320, 210, 350, 250))
    sketch.save(tmp_path / "sketch.png")
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fill(folder: Path, out: str, *options: object) -> Result:
    return run(
        "fill", folder / "canvas.png", "--mask", folder / "mask.png", "--prompt", "a cat", "--seed", 7,
        "--out", folder / out, *options,
    )  # fmt: skip


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_the_core_makes_what_the_command_line_makes(
    installed: Installed, folder: Path, tiny_model: Path
) -> None:
    options = ("--variations", 2, "--feather", 6, "--sketch", folder / "sketch.png", "--json")
    here = fill(folder, "here.png", "--model", tiny_model, "--layer", folder / "here-layer.png", *options)
    there = fill(
        folder, "there.png", "--model", "tiny", "--via-core", "--layer", folder / "there-layer.png", *options
    )
    assert (here.exit_code, there.exit_code) == (0, 0), there.output
    said = [json.loads(result.stdout) for result in (here, there)]
    for name in ("box", "seeds", "hidden_tokens", "window", "scale", "device", "steps"):
        assert said[0][name] == said[1][name]
    assert set(said[0]["ms"]) <= set(said[1]["ms"])
    canvas, mask = pixels(folder / "canvas.png"), pixels(folder / "mask.png") > 0
    for number in (1, 2):
        out, other = pixels(folder / f"there-{number}.png"), pixels(folder / f"here-{number}.png")
        assert np.array_equal(out[~mask], canvas[~mask])
        assert np.abs(out.astype(int) - other).mean() < 2  # only the overview was seen a little less sharply
        layers = [pixels(folder / f"{where}-layer-{number}.png") for where in ("here", "there")]
        assert np.array_equal(layers[0][..., 3], layers[1][..., 3])

    again = fill(folder, "again.png", "--model", "tiny", "--via-core", "--json")
    assert json.loads(again.stdout)["ms"]["load"] < 1000  # nothing is loaded twice


def test_the_command_line_starts_its_own_installation_though_no_editor_knows_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.RUNTIME_VARIABLE, str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv(start.COMMAND_VARIABLE, raising=False)
    result = fill(folder, "out.png", "--via-core", "--steps", 1)
    assert result.exit_code == 0, result.stderr
    assert (folder / "out.png").is_file()
    assert run("stop").exit_code == 0


def test_what_the_core_refuses_is_one_line(installed: Installed, folder: Path) -> None:
    refused = fill(folder, "out.png", "--model", "nothing", "--via-core")
    assert refused.exit_code == 2
    assert "The core has no model 'nothing'; it has" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (folder / "out.png").exists()
    asked = fill(folder, "out.png", "--via-core", "--device", "cpu")
    assert asked.exit_code == 2
    assert "lazydiffusion serve --device cpu" in asked.stderr


def test_status_and_stop_tell_what_is_there(installed: Installed) -> None:
    assert run("status").exit_code == 1
    assert "not running" in run("status").stdout
    assert json.loads(run("status", "--json").stdout) == {"running": False}
    assert run("stop").exit_code == 1

    from lazydiffusion.client import connect

    connect()
    status = json.loads(run("status", "--json").stdout)
    assert status["running"]
    assert status["pid"] == installed.pid()
    assert status["token_file"] == str(installed.runtime / places.RUNTIME_FILE)
    assert status["address"].startswith("unix:")
    assert status["queue"] == {"running": False, "waiting": 0, "client": ""}
    shown = run("status").stdout
    assert f"pid {installed.pid()}" in shown
    assert str(installed.history) in shown
    assert run("stop").stdout == "The core has ended.\n"
    assert run("status").exit_code == 1


HOLDER = """
import signal, sys
from pathlib import Path
from lazydiffusion.client.locks import FileLock
FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
signal.pause()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_core_that_does_not_say_where_it_is_is_named_and_ended(installed: Installed) -> None:
    lock = places.make_private_folder(installed.runtime) / places.CORE_LOCK
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            told = run("status")
            assert told.exit_code == 1
            assert f"A core is running (pid {process.pid}), but does not say where" in told.stdout
            ended = run("stop")
            assert (ended.exit_code, ended.stdout) == (0, "The core has ended.\n")
            assert process.wait(10) == -signal.SIGTERM
        finally:
            process.kill()
    assert "not running" in run("status").stdout


@pytest.mark.parametrize("kind", ["a fault", "another version"])
def test_what_answers_wrongly_can_be_stopped(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    places.make_private_folder(installed.runtime)
    with stand_in_file.stand_in(f"unix:{installed.runtime / places.SOCKET}") as core:
        stand_in_file.announce(core, installed.runtime)
        if kind == "a fault":
            error = {"code": "internal", "message": "The core met an error that it did not expect."}
            monkeypatch.setattr(
                stand_in_file.Handler, "do_GET", lambda handler: handler.say(500, error=error)
            )
            status = run("status")
            assert status.exit_code == 2
            assert "is running, but has a fault" in status.stderr
        else:
            core.protocol = 0
        threading.Thread(target=lambda: (stopped(core), core.socket.close()), daemon=True).start()
        assert run("stop").stdout == "The core has ended.\n"


def stopped(core: stand_in_file.StandIn) -> None:
    """Wait until it was asked to end."""
    while ("POST", "/v1/stop") not in [seen[:2] for seen in core.seen]:
        time.sleep(0.02)


def test_connect_tells_editors_where_the_core_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(start.COMMAND_VARIABLE, raising=False)
    result = run("connect")
    assert result.exit_code == 0
    command = json.loads((tmp_path / "lazydiffusion" / "connect.json").read_text())["command"]
    assert start.find_command() == command
    assert Path(command[0]).parent == Path(sys.executable).parent


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--weights", "int4"), "'int4'; they must be full, int8 or fp8"),
        (("--device", "tpu"), "'tpu'; it must be auto, cuda or cpu"),
        (("--tcp", "127.0.0.1:0", "--socket", "core.sock"), "Both --tcp and --socket are given"),
        (("--tcp", "0.0.0.0:0"), "listens on this computer only"),
        (("--tcp", "127.0.0.1"), "write HOST:PORT"),
        (("--socket", "/nowhere/at/all.sock"), "cannot be made"),
        (("--socket", "/tmp/" + "x" * 120), "too long for a socket"),
    ],
)
def test_an_option_that_cannot_be_used_is_said_in_one_line(
    installed: Installed, options: tuple[str, ...], words: str
) -> None:
    result = run("serve", *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
