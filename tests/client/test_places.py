"""Where core and clients meet: the same folders as platformdirs names, and a runtime file nobody else can read."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path, PurePosixPath

import pytest
from platformdirs.macos import MacOS
from platformdirs.unix import Unix
from platformdirs.windows import Windows

from lazydiffusion.client import places
from lazydiffusion.client.errors import CoreError
from lazydiffusion.client.places import RuntimeFile

pytestmark = pytest.mark.unit

FILE = RuntimeFile(1, "0.1.0", 4711, "unix:/run/core.sock", "secret", 1.5, "/run/core.log")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (places.RUNTIME_VARIABLE, "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    # Both: the standard library keeps what it has found, and platformdirs looks whether the variables say the same.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path


def unix() -> Unix:
    return Unix("lazydiffusion", appauthor=False)


@pytest.mark.parametrize("kind", ["unset", "private", "open", "missing", "a link", "relative", "replaceable"])
@pytest.mark.filterwarnings("ignore::platformdirs.RuntimeDirWarning")
def test_the_runtime_folder_is_platformdirs_on_linux(
    home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = home / "runtime"
    if kind != "missing":
        folder.mkdir(mode=0o755 if kind == "open" else 0o700)
    if kind == "a link":
        (home / "link").symlink_to(folder)
        folder = home / "link"
    if kind == "replaceable":
        (home / "all").mkdir()
        (home / "all").chmod(0o777)
        folder = home / "all" / "mine"
        folder.mkdir(mode=0o700)
    if kind != "unset":
        monkeypatch.setenv("XDG_RUNTIME_DIR", "here" if kind == "relative" else str(folder))
    assert places.runtime_folder("linux") == unix().user_runtime_path
    assert (places.runtime_folder("linux").parent == folder) == (kind in ("private", "missing"))


def test_a_shared_fallback_of_somebody_else_is_refused_as_platformdirs_does(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "tmp" / ("runtime-%d" % os.geteuid())).symlink_to(home)
    with pytest.raises(CoreError, match="belongs to somebody else"):
        places.runtime_folder("linux")


@pytest.mark.parametrize("xdg", [False, True])
def test_the_config_folder_is_platformdirs(home: Path, monkeypatch: pytest.MonkeyPatch, xdg: bool) -> None:
    if xdg:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "settings"))
    assert places.config_folder("linux") == unix().user_config_path
    assert places.config_folder("darwin") == MacOS("lazydiffusion", appauthor=False).user_config_path


def test_the_runtime_folder_is_platformdirs_on_macos(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = MacOS("lazydiffusion", appauthor=False)
    assert places.runtime_folder("darwin") == folders.user_runtime_path
    (home / "runtime").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "runtime"))
    assert places.runtime_folder("darwin") == folders.user_runtime_path == home / "runtime" / "lazydiffusion"


def test_the_folders_are_platformdirs_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    local = "C:\\Users\\Zoë Ö\\AppData\\Local"
    monkeypatch.setenv("LOCALAPPDATA", local)
    monkeypatch.setenv("WIN_PD_OVERRIDE_LOCAL_APPDATA", local)  # platformdirs asks Windows itself otherwise
    folders = Windows("lazydiffusion", appauthor=False)

    def windows_path(path: str) -> PurePosixPath:
        return PurePosixPath(path.replace("\\", "/"))

    assert windows_path(str(places.runtime_folder("win32"))) == windows_path(folders.user_runtime_dir)
    assert windows_path(str(places.config_folder("win32"))) == windows_path(folders.user_config_dir)


def test_an_environment_variable_names_another_runtime_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.RUNTIME_VARIABLE, str(home / "ünd so"))
    assert places.runtime_folder() == home / "ünd so"


def test_a_made_folder_is_private(home: Path) -> None:
    folder = places.make_private_folder(home / "a" / "b")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert places.make_private_folder(folder) == folder


@pytest.mark.parametrize("kind", ["open", "a link", "a file"])
def test_a_folder_that_others_could_write_in_is_refused(home: Path, kind: str) -> None:
    folder = home / "run"
    if kind == "open":
        folder.mkdir()
        folder.chmod(0o777)
    elif kind == "a link":
        folder.symlink_to(home / "tmp")
    else:
        folder.write_text("")
    with pytest.raises(CoreError, match="LAZYDIFFUSION_RUNTIME"):
        places.make_private_folder(folder)


def test_the_runtime_file_is_read_as_it_was_written_and_is_private(home: Path) -> None:
    path = home / places.RUNTIME_FILE
    FILE.write(path)
    assert RuntimeFile.read(path) == FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in home.iterdir() if file.is_file()] == [places.RUNTIME_FILE]
    assert "secret" not in repr(FILE)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"protocol": 1}', '{"protocol": "x"}', "\x00", "\ud800"]
)
def test_a_garbled_runtime_file_is_none(home: Path, text: str) -> None:
    path = home / places.RUNTIME_FILE
    assert RuntimeFile.read(path) is None  # none yet
    path.write_bytes(text.encode("utf8", "surrogatepass"))
    path.chmod(0o600)
    assert RuntimeFile.read(path) is None


def test_a_runtime_file_that_others_can_read_or_that_is_a_link_is_not_trusted(home: Path) -> None:
    path = home / places.RUNTIME_FILE
    FILE.write(path)
    (home / "link").symlink_to(path)
    assert RuntimeFile.read(home / "link") is None
    path.chmod(0o640)
    assert RuntimeFile.read(path) is None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a file away")
def test_a_runtime_file_of_somebody_else_is_not_trusted(home: Path) -> None:
    FILE.write(home / places.RUNTIME_FILE)
    os.chown(home / places.RUNTIME_FILE, 12345, -1)
    assert RuntimeFile.read(home / places.RUNTIME_FILE) is None


def test_who_reads_while_the_file_is_replaced_sees_a_whole_one(home: Path) -> None:
    path = home / places.RUNTIME_FILE
    FILE.write(path)
    writing = threading.Thread(target=lambda: [FILE.write(path) for _ in range(50)])
    writing.start()
    seen = set()
    while writing.is_alive():
        seen.add(RuntimeFile.read(path))
    writing.join()
    assert seen == {FILE}
