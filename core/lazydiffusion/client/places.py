"""Where a user's core and its clients find each other: folders as platformdirs names them, and the runtime file."""

from __future__ import annotations

import json
import ntpath
import os
import posixpath
import stat
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from lazydiffusion.client.errors import CoreError

APP = "lazydiffusion"
RUNTIME_VARIABLE = "LAZYDIFFUSION_RUNTIME"
"""Environment variable that names another runtime folder."""

RUNTIME_FILE = "core.json"
CORE_LOCK = "core.lock"
START_LOCK = "start.lock"
SOCKET = "core.sock"
LOG = "core.log"
POINTER_FILE = "connect.json"
"""In the configuration folder; the others lie in the runtime folder."""

ALREADY_RUNNING = 3
"""Exit status of `lazydiffusion serve` when another core of this user is running."""


def runtime_folder(platform: str = sys.platform) -> Path:
    """The folder in which the running core and its clients meet; not made here, see `make_private_folder`.

    Raises CoreError where another user has taken the folder that would be used.
    """
    override = os.environ.get(RUNTIME_VARIABLE)
    if override:
        return Path(override)
    if platform == "win32":
        return Path(ntpath.join(_local_app_data(), "Temp", APP))
    base = _absolute("XDG_RUNTIME_DIR")
    if platform == "darwin":
        if base and _is_private_folder(base, missing_ok=True):
            return Path(base, APP)
        return Path(_home(), "Library", "Caches", "TemporaryItems", APP)
    if base and _is_private_folder(base, missing_ok=True) and not _is_replaceable(base):
        return Path(base, APP)
    return Path(_default_runtime_folder(platform), APP)


def config_folder(platform: str = sys.platform) -> Path:
    """The folder of the user's settings, among them the pointer file; not made here."""
    if platform == "win32":
        return Path(ntpath.join(_local_app_data(), APP))
    base = _absolute("XDG_CONFIG_HOME")
    if base:
        return Path(base, APP)
    if platform == "darwin":
        return Path(_home(), "Library", "Application Support", APP)
    return Path(_home(), ".config", APP)


def make_private_folder(folder: Path) -> Path:
    """Make the folder, 0700, where it is missing. Raises CoreError if it cannot be, or if others could write in it."""
    try:
        # Of the parents only runtime-UID may be missing in a folder that all share: it must be private too.
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(mode=0o700, exist_ok=True)
        info = folder.lstat()
    except OSError as error:
        raise CoreError(
            'The folder "%s" cannot be made (%s). Set %s to a folder of yours.'
            % (folder, error.strerror, RUNTIME_VARIABLE)
        ) from error
    if not (stat.S_ISDIR(info.st_mode) or stat.S_ISLNK(info.st_mode)):
        raise CoreError(
            'There is a file where the folder "%s" should be. Remove it or set %s to a folder of yours.'
            % (folder, RUNTIME_VARIABLE)
        )
    if os.name == "posix" and (
        not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022
    ):
        raise CoreError(
            'The folder "%s" is not yours alone, so others could listen in. Remove it or set %s to a folder of yours.'
            % (folder, RUNTIME_VARIABLE)
        )
    return folder


def write_private_file(path: Path, text: str, durably: bool = True) -> None:
    """Write a file that only this user can read; who reads meanwhile sees the old one or the new one, never half.

    `durably`: wait until it is on the disk, which may take a second; else the old one is there after a power cut.
    """
    handle, temporary = tempfile.mkstemp(dir=str(path.parent), prefix=".%s-" % path.name)  # 0600
    try:
        with os.fdopen(handle, "w", encoding="utf8") as file:
            file.write(text)
            file.flush()
            if durably:
                os.fsync(file.fileno())
        for attempt in range(10):
            try:
                os.replace(temporary, path)  # noqa: PTH105 - of a string
                break
            except PermissionError:
                # Windows refuses it while somebody reads the old file, which takes a moment only.
                if os.name == "posix" or attempt == 9:
                    raise
                time.sleep(0.02)
    except BaseException:
        Path(temporary).unlink()
        raise


@dataclass(frozen=True)
class RuntimeFile:
    """What a running core says about itself in core.json."""

    protocol: int
    version: str
    pid: int
    address: str
    """unix:PATH or tcp:HOST:PORT."""
    token: str = field(repr=False)
    started: float
    """Seconds since 1970."""
    log: str
    """Path of what the core prints; empty if that goes nowhere."""

    @classmethod
    def read(cls, path: Optional[Path] = None) -> Optional[RuntimeFile]:
        """The file at `path`, by default the user's.

        None if it is missing or not a runtime file; on POSIX also if it is not this user's or others can read it.
        """
        try:
            values = json.loads(_read_private_file(path or runtime_folder() / RUNTIME_FILE))
            return cls(
                protocol=int(values["protocol"]),
                version=str(values.get("version", "")),
                pid=int(values["pid"]),
                address=_text(values["address"]),
                token=_text(values["token"]),
                started=float(values.get("started", 0)),
                log=str(values.get("log", "")),
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write(self, path: Optional[Path] = None) -> None:
        """Replace the file at `path`, by default the user's, at once. Raises OSError, or CoreError for the folder."""
        if path is None:
            path = make_private_folder(runtime_folder()) / RUNTIME_FILE
        write_private_file(path, json.dumps(asdict(self)))


def _read_private_file(path: Path) -> str:
    handle = os.open(str(path), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, encoding="utf8") as file:
        if os.name == "posix":
            info = os.fstat(file.fileno())
            if info.st_uid != os.geteuid() or info.st_mode & 0o077:
                raise PermissionError("not this user's alone")
        return file.read()


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("not a text")
    return value


def _default_runtime_folder(platform: str) -> str:
    if platform.startswith("openbsd"):
        base = "/tmp/run/user"
    elif platform.startswith(("freebsd", "netbsd")):
        base = "/var/run/user"
    else:
        base = "/run/user"
    folder = posixpath.join(base, str(os.geteuid()))
    if _is_private_folder(folder):
        return folder
    # Its name is known to all, so another user may have made it first.
    folder = posixpath.join(tempfile.gettempdir(), "runtime-%d" % os.geteuid())
    try:
        info = os.lstat(folder)
    except FileNotFoundError:
        return folder
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise CoreError(
            '"%s" belongs to somebody else. Set XDG_RUNTIME_DIR or %s to a folder of yours.'
            % (folder, RUNTIME_VARIABLE)
        )
    return folder


def _is_private_folder(path: str, missing_ok: bool = False) -> bool:
    """Whether it is a folder, not a link to one, of this user, with mode 0700, as the XDG specification asks."""
    try:
        info = Path(path).lstat()
    except FileNotFoundError:
        return missing_ok  # then it is made so
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and info.st_mode & 0o777 == 0o700


def _is_replaceable(path: str) -> bool:
    """Whether another user could put something else in the place of one of its parents."""
    shared = False
    for parent in reversed(Path(path).parents):
        try:
            if shared and parent.lstat().st_uid not in (0, os.geteuid()):
                return True
            mode = parent.stat().st_mode
        except OSError:
            return False  # what is missing is made by us
        shared = bool(mode & stat.S_IWOTH)
        if shared and not mode & stat.S_ISVTX:
            return True
    return False


def _absolute(variable: str) -> str:
    path = os.environ.get(variable, "")
    return path if posixpath.isabs(path) else ""


def _home() -> str:
    home = os.environ.get("HOME", "~")
    if posixpath.isabs(home):
        return home
    import pwd  # not on Windows

    return pwd.getpwuid(os.getuid()).pw_dir


def _local_app_data() -> str:
    folder = os.environ.get("LOCALAPPDATA") or ntpath.join(str(Path.home()), "AppData", "Local")
    return ntpath.normpath(folder)
