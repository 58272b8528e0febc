"""Finding the installed core and starting it as a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from lazydiffusion.client import places
from lazydiffusion.client.errors import CoreFailedToStart, CoreNotInstalled

COMMAND_VARIABLE = "LAZYDIFFUSION_CORE"
"""Environment variable with the command that starts the core: a program's path, or a command line."""
PROGRAM = "lazydiffusion"
LOG_LINES = 20

# What an editor sets for the libraries that it brings: its Python, its Qt or GTK, its linker's paths.
EDITORS_OWN = (
    "PYTHON", "LD_", "DYLD_", "QT_", "QML", "GI_TYPELIB_PATH", "GTK_", "GDK_", "GIO_", "GSETTINGS_", "GST_", "GEGL_",
    "BABL_", "GIMP", "KRITA", "APPDIR", "APPIMAGE", "APPRUN", "ARGV0", "OWD", "__PYVENV_LAUNCHER__",
)  # fmt: skip


class _Detached(subprocess.Popen[bytes]):
    """A process that is meant to outlive this one, so that nobody need be warned of it."""

    def __del__(self) -> None:
        pass


_started: list[subprocess.Popen[bytes]] = []


def find_command() -> list[str]:
    """The command, without `serve`, that this user's core is started by. Raises CoreNotInstalled."""
    given = os.environ.get(COMMAND_VARIABLE, "").strip()
    if given:
        command = _split(given)
        if not command or not _is_program(command[0]):
            raise CoreNotInstalled(
                '%s is "%s", but there is no such program. Correct it, or remove it to use the installed core.'
                % (COMMAND_VARIABLE, given)
            )
        return command
    remembered = _remembered()
    if remembered is not None and _is_program(remembered[0]):
        return remembered
    found = shutil.which(PROGRAM)
    if found:
        return [found]
    if remembered is not None:
        raise CoreNotInstalled(
            'LazyDiffusion was installed at "%s" but is not there any more. Install it again and run '
            "`lazydiffusion connect`." % remembered[0]
        )
    raise CoreNotInstalled(
        "LazyDiffusion is not installed, or this editor does not know where. Install it and run "
        "`lazydiffusion connect`."
    )


def remember_command(command: list[str]) -> Path:
    """Write the pointer file, so that this user's editors find the core; its path. Raises OSError."""
    folder = places.config_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / places.POINTER_FILE
    places.write_private_file(path, json.dumps({"command": command}))
    return path


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for the core: the editor's, without what the editor set for its own libraries.

    What an AppImage or another bundle had put aside as NAME_ORIG is given back.
    """
    bundle = environ.get("APPDIR", "").rstrip("/")
    kept: dict[str, str] = {}
    for name, value in environ.items():
        if not name.startswith(EDITORS_OWN):
            kept[name] = value
        elif name.endswith("_ORIG") and name[:-5] in environ and value:
            kept[name[:-5]] = value
    if bundle and "PATH" in kept:
        kept["PATH"] = os.pathsep.join(
            folder for folder in kept["PATH"].split(os.pathsep) if not (folder + "/").startswith(bundle + "/")
        )
    return kept


def start_core(command: list[str], folder: Path, new_log: bool = True) -> subprocess.Popen[bytes]:
    """Start `command serve` detached from this process, for the runtime folder `folder`, its output in core.log there.

    `new_log`: the log begins anew; otherwise it goes on. Raises CoreFailedToStart where the program cannot be run.
    """
    reap()
    environment = child_environment(os.environ)
    environment[places.RUNTIME_VARIABLE] = str(folder)
    home = Path("~").expanduser()
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        detached = {
            "creationflags": subprocess.DETACHED_PROCESS
            | subprocess.CREATE_NEW_PROCESS_GROUP
            | subprocess.CREATE_NO_WINDOW
        }
    try:
        # Appending: should another core still write there, it goes on after what is cut off here.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        log = os.open(str(folder / places.LOG), flags | (os.O_TRUNC if new_log else 0), 0o600)
        try:
            if os.name == "posix":
                os.fchmod(log, 0o600)  # should it be there already
            process = _Detached(
                [*command, "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=str(home) if home.is_dir() else None,
                env=environment,
                **detached,
            )
        finally:
            os.close(log)
    except OSError as error:
        raise CoreFailedToStart(
            'The LazyDiffusion core cannot be started by "%s": %s. Install it again and run '
            "`lazydiffusion connect`." % (" ".join(command), error.strerror or error)
        ) from error
    _started.append(process)
    return process


def reap() -> None:
    """Let the system forget the cores that this process has started and that have ended."""
    _started[:] = [process for process in _started if process.poll() is None]


def log_tail(folder: Path, lines: int = LOG_LINES) -> str:
    """The last lines of core.log in that folder; empty where there is none."""
    try:
        with (folder / places.LOG).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 64 * 1024))
            text = file.read().decode("utf8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def _split(line: str) -> list[str]:
    if Path(line).is_file():
        return [line]  # a path may have spaces in it
    try:
        words = shlex.split(line, posix=os.name == "posix")
    except ValueError:
        return []
    return [word.strip('"') for word in words] if os.name != "posix" else words


def _is_program(name: str) -> bool:
    return shutil.which(name) is not None


def _remembered() -> Optional[list[str]]:
    try:
        text = (places.config_folder() / places.POINTER_FILE).read_text(encoding="utf8")
        command = json.loads(text)["command"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if isinstance(command, list) and command and all(isinstance(word, str) for word in command):
        return command
    return None
