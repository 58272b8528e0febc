"""How the plugin gets into a user's Krita and out again, and what it changes there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import build_plugins
import pytest
from build_plugins import KritaFolders, switched

from lazydiffusion.commands.serve import own_command

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


def run_builder(
    *arguments: str | Path, home: Path, python: tuple[str, ...] = (sys.executable,), **environment: str
) -> subprocess.CompletedProcess[str]:
    """As a user runs it, in a home of the test's own."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "PYENV_ROOT") if name in os.environ}
    return subprocess.run(
        [*python, str(build_plugins.ROOT / "build_plugins.py"), "--out", str(home / "dist"), *map(str, arguments)],
        env={**kept, "HOME": str(home), "USERPROFILE": str(home), **environment},
        capture_output=True, text=True,
    )  # fmt: skip


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Kritarc


@pytest.mark.unit
def test_switching_on_changes_nothing_else_in_kritarc() -> None:
    own, changed = b" enable_lazydiffusion = false\t\n", b" enable_lazydiffusion =true\t\n"
    assert switched(KRITARC, on=True) == KRITARC.replace(own, changed)
    assert switched(switched(KRITARC, on=True), on=True) == KRITARC.replace(own, changed)
    windows = KRITARC.replace(b"\n", b"\r\n")
    assert switched(windows, on=True) == windows.replace(b"= false\t\r\n", b"=true\t\r\n")


@pytest.mark.unit
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


@pytest.mark.unit
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


# In Krita and out again


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a Krita that has been used, and an older plugin in it."""
    data = tmp_path / ".local/share/krita"
    for name in ("pykrita/lazydiffusion/client/stale.py", "pykrita/other/own.py", "actions/other.action"):
        (data / name).parent.mkdir(parents=True)
        (data / name).write_text("old")
    (data / "pykrita/lazydiffusion.desktop").write_text("old")
    (data / "pykrita/.lazydiffusion-killed/old").mkdir(parents=True)
    (tmp_path / ".config").mkdir()
    (tmp_path / ".config/kritarc").write_bytes(KRITARC)
    return tmp_path


@pytest.mark.integration
def test_install_and_uninstall(home: Path) -> None:
    data, settings = home / ".local/share/krita", home / ".config/kritarc"
    ran = run_builder("--install", "krita", home=home)
    assert ran.returncode == 0, ran.stderr
    krita = KritaFolders(data, settings)
    pointer = home / ".config/lazydiffusion/connect.json"
    for told in (krita.package, krita.desktop, krita.action, settings, pointer, "Restart Krita"):
        assert str(told) in ran.stdout
    assert "Flatpak" not in ran.stdout
    (archive,) = (home / "dist").iterdir()
    with zipfile.ZipFile(archive) as file:
        packed = {name: file.read(name) for name in file.namelist() if not name.endswith("/")}
    action = packed.pop("lazydiffusion.action")
    others = {"actions/other.action": b"old", "pykrita/other/own.py": b"old"}
    installed = {f"pykrita/{name}": content for name, content in packed.items()}
    assert tree(data) == {**others, **installed, "actions/lazydiffusion.action": action}
    assert not (data / "pykrita/.lazydiffusion-killed").exists()
    assert settings.read_bytes() == switched(KRITARC, on=True)
    assert json.loads(pointer.read_text("utf8")) == {"command": own_command()}

    before = tree(home)
    assert run_builder("--install", "krita", home=home).returncode == 0
    assert tree(home) == before

    ran = run_builder("--uninstall", "krita", home=home)
    assert ran.returncode == 0, ran.stderr
    assert tree(data) == others
    assert not krita.package.exists()
    assert settings.read_bytes() == switched(switched(KRITARC, on=True), on=False)
    assert pointer.exists()

    ran = run_builder("--uninstall", "krita", home=home)
    assert ran.returncode == 0
    assert f"There is no {krita.package}." in ran.stdout


@pytest.mark.integration
def test_install_where_krita_has_never_run(tmp_path: Path) -> None:
    ran = run_builder(
        "--install", "krita", home=tmp_path,
        XDG_DATA_HOME=str(tmp_path / "data"), XDG_CONFIG_HOME=str(tmp_path / "config"),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "data/krita/pykrita/lazydiffusion/__init__.py").is_file()
    assert (tmp_path / "config/kritarc").read_bytes() == b"[python]\nenable_lazydiffusion=true\n"


@pytest.mark.integration
def test_links_stay_links(home: Path) -> None:
    """Some keep kritarc elsewhere, and work on a plugin where it is."""
    package, settings = home / ".local/share/krita/pykrita/lazydiffusion", home / ".config/kritarc"
    package.rename(home / "work")
    package.symlink_to(home / "work")
    settings.rename(home / "dotfile")
    settings.symlink_to("../dotfile")
    (home / "dotfile").chmod(0o600)
    assert run_builder("--install", "krita", home=home).returncode == 0
    assert settings.is_symlink()
    assert (home / "dotfile").read_bytes() == switched(KRITARC, on=True)
    assert (home / "dotfile").stat().st_mode & 0o777 == 0o600
    assert not package.is_symlink()
    assert tree(home / "work") == {"client/stale.py": b"old"}


@pytest.mark.integration
def test_a_python_without_the_core(home: Path) -> None:
    ran = run_builder("--install", "krita", home=home, python=(sys.executable, "-I", "-S"))
    assert ran.returncode == 0, ran.stderr
    assert "LazyDiffusion itself is not installed in" in ran.stdout
    assert (home / ".local/share/krita/pykrita/lazydiffusion/client/core.py").is_file()
    assert not (home / ".config/lazydiffusion").exists()


@pytest.mark.integration
def test_a_krita_from_flatpak_is_told_of(home: Path) -> None:
    (home / ".var/app/org.kde.krita").mkdir(parents=True)
    ran = run_builder("--install", "krita", home=home)
    assert "its sandbox can neither start the core nor reach its socket" in ran.stdout
    assert tree(home / ".var") == {}


@pytest.mark.integration
def test_a_folder_that_cannot_be_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".local").write_text("not a folder")
    ran = run_builder("--install", "krita", home=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.startswith("build_plugins: ")
    assert "Traceback" not in ran.stderr
    assert str(tmp_path / ".local") in ran.stderr


@pytest.mark.unit
def test_an_install_that_fails_leaves_the_old_plugin(tmp_path: Path) -> None:
    old = tmp_path / "lazydiffusion/__init__.py"
    old.parent.mkdir()
    old.write_text("old")
    with pytest.raises(FileNotFoundError):
        build_plugins.put_in_place(tmp_path / "no-such-tree", tmp_path / "lazydiffusion", tmp_path / "aside")
    assert tree(tmp_path) == {"lazydiffusion/__init__.py": b"old"}


@pytest.mark.unit
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


@pytest.mark.unit
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
