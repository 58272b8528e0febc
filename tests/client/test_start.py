"""Finding the installed core, and starting it without what the editor brings for itself."""

from __future__ import annotations

import json
import os
import shlex
import stat
import sys
from pathlib import Path

import pytest

from lazydiffusion.client import places, start
from lazydiffusion.client.errors import CoreFailedToStart, CoreNotInstalled
from lazydiffusion.client.start import child_environment, find_command

pytestmark = pytest.mark.unit


def program(path: Path, text: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n%s\n" % text)
    path.chmod(0o755)
    return path


def point_to(text: str) -> None:
    places.config_folder().mkdir(parents=True, exist_ok=True)
    (places.config_folder() / places.POINTER_FILE).write_text(text)


def test_a_variable_names_a_program_with_spaces(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = program(tmp_path / "Zoë's own programs" / "lazy diffusion")
    monkeypatch.setenv(start.COMMAND_VARIABLE, str(path))
    assert find_command() == [str(path)]


def test_a_variable_holds_a_command_line(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(start.COMMAND_VARIABLE, "%s -m 'lazy diffusion'" % shlex.quote(sys.executable))
    assert find_command() == [sys.executable, "-m", "lazy diffusion"]


@pytest.mark.parametrize("value", ["/no/such/program", "'unfinished", "nothing-of-that-name serve"])
def test_a_variable_that_names_nothing_is_said(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(start.COMMAND_VARIABLE, value)
    with pytest.raises(CoreNotInstalled, match="LAZYDIFFUSION_CORE is") as refusal:
        find_command()
    assert value in str(refusal.value)


def test_the_pointer_file_is_found_before_the_path(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_path = program(tmp_path / "bin" / "lazydiffusion")
    monkeypatch.setenv("PATH", "%s:/bin" % on_path.parent)
    assert find_command() == [str(on_path)]

    installed = program(tmp_path / "vénv" / "lazydiffusion")
    path = start.remember_command([str(installed), "--quiet"])
    assert json.loads(path.read_text()) == {"command": [str(installed), "--quiet"]}
    assert find_command() == [str(installed), "--quiet"]

    installed.unlink()
    assert find_command() == [str(on_path)]
    on_path.unlink()
    with pytest.raises(CoreNotInstalled, match=r"was installed at .*lazydiffusion connect"):
        find_command()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"command": []}', '{"command": "a"}', '{"command": [1]}'])
def test_a_garbled_pointer_file_counts_as_none(runtime: Path, text: str) -> None:
    point_to(text)
    with pytest.raises(CoreNotInstalled, match="is not installed"):
        find_command()


def test_the_editors_own_environment_is_left_out() -> None:
    own = {
        "PYTHONPATH": "/krita/python", "PYTHONHOME": "/krita", "PYTHONSTARTUP": "a", "PYTHONNOUSERSITE": "1",
        "LD_LIBRARY_PATH": "/krita/lib", "LD_PRELOAD": "/krita/lib/a.so", "DYLD_LIBRARY_PATH": "/krita",
        "QT_PLUGIN_PATH": "/krita/plugins", "QML2_IMPORT_PATH": "/krita/qml", "GI_TYPELIB_PATH": "/gimp",
        "GTK_PATH": "/gimp", "GDK_PIXBUF_MODULE_FILE": "/gimp", "APPDIR": "/krita", "APPIMAGE": "/krita.appimage",
    }  # fmt: skip
    others = {
        "HOME": "/home/zoë", "DISPLAY": ":0", "XDG_RUNTIME_DIR": "/run/user/1", "CUDA_VISIBLE_DEVICES": "0",
        "LANG": "de_DE.UTF-8", "LAZYDIFFUSION_RUNTIME": "/r", "PATH": "/usr/bin:/bin", "LDAP": "x",
    }  # fmt: skip
    assert child_environment({**own, **others}) == others


def test_what_a_bundle_has_put_aside_is_given_back() -> None:
    environ = {
        "LD_LIBRARY_PATH": "/tmp/.mount_krita/lib",
        "LD_LIBRARY_PATH_ORIG": "/opt/cuda/lib",
        "QT_PLUGIN_PATH": "/tmp/.mount_krita/qt",
        "QT_PLUGIN_PATH_ORIG": "",
        "APPDIR": "/tmp/.mount_krita",
        "PATH": "/tmp/.mount_krita/usr/bin:/usr/bin:/tmp/.mount_kritas",
    }
    assert child_environment(environ) == {
        "LD_LIBRARY_PATH": "/opt/cuda/lib",
        "PATH": "/usr/bin:/tmp/.mount_kritas",
    }
    assert "APPDIR" in environ


def test_a_started_program_is_detached_and_writes_a_private_log(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/krita/python")
    monkeypatch.setenv("HOME", str(tmp_path))
    (runtime / places.LOG).write_text("of an earlier start\n" * 100)
    path = program(
        tmp_path / "ä core", 'echo "$@|$PWD|$PYTHONPATH|$LAZYDIFFUSION_RUNTIME"; echo oops >&2; cat'
    )
    process = start.start_core([str(path)], runtime)
    assert os.getsid(process.pid) == process.pid
    assert process.wait(10) == 0  # `cat` read nothing
    assert start.log_tail(runtime) == "serve|%s||%s\noops" % (tmp_path, runtime)
    assert stat.S_IMODE((runtime / places.LOG).stat().st_mode) == 0o600
    start.reap()


def test_what_is_no_program_is_said(runtime: Path, tmp_path: Path) -> None:
    with pytest.raises(CoreFailedToStart, match="cannot be started by"):
        start.start_core([str(tmp_path)], runtime)


def test_only_the_end_of_a_log_is_shown(runtime: Path) -> None:
    assert start.log_tail(runtime) == ""
    (runtime / places.LOG).write_text("\n".join("line %d" % i for i in range(100_000)) + "\n\n")
    tail = start.log_tail(runtime).splitlines()
    assert (len(tail), tail[0], tail[-1]) == (20, "line 99980", "line 99999")
