"""Where the editors' plugins belong on a user's machine, and what switches Krita's on."""

from __future__ import annotations

from pathlib import Path

import pytest
from gimp_plugin import places as gimp_places
from gimp_plugin.places import GimpFolder, never_started
from krita_plugin.places import KritaFolders, switched

pytestmark = pytest.mark.unit

# As users have them: other groups, comments, values with brackets, the plugin's name elsewhere, no last line's end.
KRITARC = b"""\xef\xbb\xbfEnableHiDPI=true
# [python] in a comment
lastText=[python]\\nenable_lazydiffusion=false

[theme]
enable_lazydiffusion=false
Theme=Krita dark

[python]
enable_tenbrushes=true
 enable_lazydiffusion = false\t
enable_lazydiffusion_other=false
[python][sub]
enable_lazydiffusion=false

[MainWindow][\xc3\xa9\xff]
State=AAAA/wAAAAD9AAAAAwAAAAA="""


# Krita


def test_switching_on_changes_nothing_else_in_kritarc() -> None:
    own, changed = b" enable_lazydiffusion = false\t\n", b" enable_lazydiffusion =true\t\n"
    assert switched(KRITARC, on=True) == KRITARC.replace(own, changed)
    assert switched(switched(KRITARC, on=True), on=True) == KRITARC.replace(own, changed)
    windows = KRITARC.replace(b"\n", b"\r\n")
    assert switched(windows, on=True) == windows.replace(b"= false\t\r\n", b"=true\t\r\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"[python]\nENTRY\n"),
        (b"a=1\n", b"a=1\n\n[python]\nENTRY\n"),
        (b"a=1", b"a=1\n\n[python]\nENTRY\n"),
        (b"[theme]\r\na=1\r\n", b"[theme]\r\na=1\r\n\r\n[python]\r\nENTRY\r\n"),
        (b"[theme]\r\na=1", b"[theme]\r\na=1\r\n\r\n[python]\r\nENTRY\r\n"),
        (b"[python]\nb=1\n[theme]\n", b"[python]\nENTRY\nb=1\n[theme]\n"),
        (b"[theme]\n[python]", b"[theme]\n[python]\nENTRY\n"),
        (b"[python][sub]\na=1\n", b"[python][sub]\na=1\n\n[python]\nENTRY\n"),
        (b"[python]\nenable_lazydiffusion\n", b"[python]\nENTRY\nenable_lazydiffusion\n"),
        # Where groups or entries are there twice, Krita takes the last one.
        (b"[python]\na=1\n[b]\n[python]\nc=1\n", b"[python]\na=1\n[b]\n[python]\nENTRY\nc=1\n"),
        (b"[python]\nENTRY\nenable_lazydiffusion=no\n", b"[python]\nENTRY\nENTRY\n"),
        (b"[python]\nenable_lazydiffusion=true\n", b"[python]\nenable_lazydiffusion=true\n"),
    ],
)  # fmt: skip
def test_switching_on(before: bytes, after: bytes) -> None:
    entry = b"enable_lazydiffusion=true"
    assert switched(before.replace(b"ENTRY", entry), on=True) == after.replace(b"ENTRY", entry)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"[theme]\na=1", b"[theme]\na=1"),
        (b"[python]\nenable_lazydiffusion=true\n", b"[python]\nenable_lazydiffusion=false\n"),
        (b"[python]\r\nenable_lazydiffusion=true", b"[python]\r\nenable_lazydiffusion=false"),
        (b"[other]\nenable_lazydiffusion=true", b"[other]\nenable_lazydiffusion=true"),
    ],
)
def test_switching_off(before: bytes, after: bytes) -> None:
    assert switched(before, on=False) == after


def test_where_krita_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))

    def found(platform: str, **environ: str) -> list[str]:
        folders = KritaFolders.find(platform, environ)
        return [
            path.as_posix().replace(tmp_path.as_posix(), "~") for path in (folders.data, folders.settings)
        ]

    assert found("linux") == ["~/.local/share/krita", "~/.config/kritarc"]
    assert found("linux", XDG_DATA_HOME="/d", XDG_CONFIG_HOME="/c") == ["/d/krita", "/c/kritarc"]
    assert found("linux", XDG_DATA_HOME="d", XDG_CONFIG_HOME="") == [
        "~/.local/share/krita",
        "~/.config/kritarc",
    ]
    assert found("darwin") == ["~/Library/Application Support/krita", "~/Library/Preferences/kritarc"]
    assert found("win32", APPDATA="/r", LOCALAPPDATA="/l") == ["/r/krita", "/l/kritarc"]


def test_the_resource_folder_that_the_user_chose(tmp_path: Path) -> None:
    settings, usual = tmp_path / "kritarc", tmp_path / "data/krita"
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}

    def data(text: str) -> Path:
        settings.write_text(text, encoding="utf8")
        return KritaFolders.find("linux", environ).data

    assert data(f"EnableHiDPI=true\nResourceDirectory={tmp_path}/ärt\n[theme]\n") == tmp_path / "ärt"
    assert data(f"[theme]\nResourceDirectory={tmp_path}/other\n") == usual
    assert data("ResourceDirectory=\n") == usual
    assert data("ResourceDirectory=C:/krita\n") == usual


# GIMP


def program(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf8")
    path.chmod(0o755)
    return path


def test_where_gimp_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for folder in (".config", "Library/Application Support", "AppData/Roaming", "given"):
        for version in ("2.10", "2.99", "3.0", "3.1", "3.10", "3.x", "13.0", "3"):
            (tmp_path / folder / "GIMP" / version).mkdir(parents=True)

    def found(platform: str, **environ: str) -> list[str]:
        folders = [gimp.settings for gimp in GimpFolder.find_all(platform, environ)]
        return [path.relative_to(tmp_path).as_posix() for path in folders]

    versions = ("3.0", "3.1", "3.10")
    usual = [f".config/GIMP/{version}" for version in versions]
    given = [f"given/GIMP/{version}" for version in versions]
    assert found("linux") == usual
    assert found("linux", XDG_CONFIG_HOME=str(tmp_path / "given")) == given
    assert found("linux", XDG_CONFIG_HOME="given") == found("linux", XDG_CONFIG_HOME="") == usual
    assert found("darwin") == [f"Library/Application Support/GIMP/{version}" for version in versions]
    assert found("win32") == [f"AppData/Roaming/GIMP/{version}" for version in versions]
    assert found("win32", APPDATA=str(tmp_path / "given")) == given
    assert found("linux", GIMP3_DIRECTORY="") == usual
    assert found("linux", GIMP3_DIRECTORY=str(tmp_path / "mine")) == ["mine"]
    assert found("linux", GIMP3_DIRECTORY="mine") == ["mine"]


def test_which_gimps_were_never_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(program(tmp_path / "here/gimp", "echo 3.14").parent)
    asked = tmp_path / "asked"
    first, second = tmp_path / "bin", tmp_path / "weitere Programme"
    program(first / "gimp-3.2", f'echo "asked" >> "{asked}"', "echo 'GNU 图像处理程序 版本 3.2.6'")
    (first / "gimp").symlink_to("gimp-3.2")
    program(first / "gimp-2.10", "echo 3.16")
    program(first / "gimptool-3", "echo 3.18")
    program(first / "gimp-console", "echo 'GNU Image Manipulation Program version 2.10.3'")
    program(second / "gimp-console-3.3", "echo 'version 3.3.1'")
    program(second / "gimp-3.0", "exit 3")
    program(second / "gimp-console-3.0", "echo 3.20").chmod(0o644)
    program(second / "snap", "echo 3.22")
    (second / "gimp").symlink_to("snap")

    def told(**environ: str) -> list[str]:
        return never_started("linux", {"PATH": f"{first}::{tmp_path / 'no'}:{second}", **environ})

    assert told() == ["3.2", "3.3"]
    assert asked.read_text() == "asked\n"
    assert told(GIMP3_DIRECTORY="mine") == []
    (tmp_path / ".config/GIMP/3.4").mkdir(parents=True)
    assert told() == ["3.2"]
    (tmp_path / ".config/GIMP/3.2").mkdir()
    assert told() == []
    assert never_started("linux", {}) == []


def test_a_gimp_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gimp_places, "PATIENCE", 0.2)
    program(tmp_path / "gimp-3", "exec sleep 60")
    assert never_started("linux", {"PATH": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}) == []
