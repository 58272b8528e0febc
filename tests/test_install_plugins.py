"""How the plugins get into a user's editors and out again, and what they change there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import build_plugins
import pytest
from krita_plugin.places import KritaFolders, switched

from lazydiffusion.commands.serve import own_command

KRITARC = b"""[theme]
enable_lazydiffusion=false
Theme=Krita dark

[python]
enable_tenbrushes=true
enable_lazydiffusion=false
"""


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


# In Krita and out again


@pytest.fixture
def krita_home(tmp_path: Path) -> Path:
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
def test_in_krita_and_out_again(krita_home: Path) -> None:
    data, settings = krita_home / ".local/share/krita", krita_home / ".config/kritarc"
    ran = run_builder("--install", "krita", home=krita_home)
    assert ran.returncode == 0, ran.stderr
    krita = KritaFolders(data, settings)
    pointer = krita_home / ".config/lazydiffusion/connect.json"
    for told in (krita.folder, krita.desktop, krita.action, settings, pointer, "Restart Krita"):
        assert str(told) in ran.stdout
    assert "Flatpak" not in ran.stdout
    (archive,) = (krita_home / "dist").iterdir()
    with zipfile.ZipFile(archive) as file:
        packed = {name: file.read(name) for name in file.namelist() if not name.endswith("/")}
    action = packed.pop("lazydiffusion.action")
    others = {"actions/other.action": b"old", "pykrita/other/own.py": b"old"}
    installed = {f"pykrita/{name}": content for name, content in packed.items()}
    assert tree(data) == {**others, **installed, "actions/lazydiffusion.action": action}
    assert not (data / "pykrita/.lazydiffusion-killed").exists()
    assert settings.read_bytes() == switched(KRITARC, on=True)
    assert json.loads(pointer.read_text("utf8")) == {"command": own_command()}

    before = tree(krita_home)
    assert run_builder("--install", "krita", home=krita_home).returncode == 0
    assert tree(krita_home) == before

    ran = run_builder("--uninstall", "krita", home=krita_home)
    assert ran.returncode == 0, ran.stderr
    assert tree(data) == others
    assert not krita.folder.exists()
    assert settings.read_bytes() == switched(switched(KRITARC, on=True), on=False)
    assert pointer.exists()

    ran = run_builder("--uninstall", "krita", home=krita_home)
    assert ran.returncode == 0
    assert f"There is no {krita.folder}." in ran.stdout


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
def test_links_stay_links_in_krita(krita_home: Path) -> None:
    """Some keep kritarc elsewhere, and work on a plugin where it is."""
    package = krita_home / ".local/share/krita/pykrita/lazydiffusion"
    settings = krita_home / ".config/kritarc"
    package.rename(krita_home / "work")
    package.symlink_to(krita_home / "work")
    settings.rename(krita_home / "dotfile")
    settings.symlink_to("../dotfile")
    (krita_home / "dotfile").chmod(0o600)
    assert run_builder("--install", "krita", home=krita_home).returncode == 0
    assert settings.is_symlink()
    assert (krita_home / "dotfile").read_bytes() == switched(KRITARC, on=True)
    assert (krita_home / "dotfile").stat().st_mode & 0o777 == 0o600
    assert not package.is_symlink()
    assert tree(krita_home / "work") == {"client/stale.py": b"old"}


@pytest.mark.integration
def test_a_krita_from_flatpak_is_told_of(krita_home: Path) -> None:
    (krita_home / ".var/app/org.kde.krita").mkdir(parents=True)
    ran = run_builder("--install", "krita", home=krita_home)
    assert "its sandbox can neither start the core nor reach its socket" in ran.stdout
    assert tree(krita_home / ".var") == {}


# In every GIMP 3 and out again

PLUG_IN = "plug-ins/lazydiffusion"


@pytest.fixture
def gimp_home(tmp_path: Path) -> Path:
    """A home where several GIMPs have been used, and an older plug-in is in one of them."""
    home = tmp_path / "Zoës home"
    for name in (
        f"3.0/{PLUG_IN}/lazydiffusion/client/stale.py",
        f"3.0/{PLUG_IN}/lazydiffusion.py",
        "3.0/plug-ins/other/other.py",
        "3.0/plug-ins/.lazydiffusion-killed/old/lazydiffusion.py",
        "3.2/gimprc",
        "2.10/plug-ins/other.py",
        "3.2 (copy)/gimprc",
    ):
        (home / ".config/GIMP" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / ".config/GIMP" / name).write_text("old")
    (home / ".config/GIMP/3.4").write_text("no folder")
    return home


def packed_for_gimp(home: Path) -> dict[str, bytes]:
    (archive,) = (home / "dist").glob("lazydiffusion-gimp-*.zip")
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name) for name in file.namelist() if not name.endswith("/")}


@pytest.mark.integration
def test_in_every_gimp_3_and_out_again(gimp_home: Path) -> None:
    every = gimp_home / ".config/GIMP"
    ran = run_builder("--install", "gimp", home=gimp_home)
    assert ran.returncode == 0, ran.stderr
    folders = [every / version / PLUG_IN for version in ("3.0", "3.2")]
    pointer = gimp_home / ".config/lazydiffusion/connect.json"
    for told in (*folders, pointer, "Restart GIMP to load it."):
        assert str(told) in ran.stdout
    assert "Krita" not in ran.stdout
    assert "sandbox" not in ran.stdout
    packed = packed_for_gimp(gimp_home)
    others = {
        "2.10/plug-ins/other.py": b"old",
        "3.0/plug-ins/other/other.py": b"old",
        "3.2/gimprc": b"old",
        "3.2 (copy)/gimprc": b"old",
        "3.4": b"no folder",
    }
    installed = {
        f"{version}/plug-ins/{name}": content
        for version in ("3.0", "3.2")
        for name, content in packed.items()
    }
    assert tree(every) == {**others, **installed}
    assert not (every / "3.0/plug-ins/.lazydiffusion-killed").exists()
    runnable = [path for path in every.rglob("*") if path.is_file() and os.access(path, os.X_OK)]
    assert sorted(runnable) == [folder / "lazydiffusion.py" for folder in folders]
    assert json.loads(pointer.read_text("utf8")) == {"command": own_command()}

    before = tree(gimp_home)
    assert run_builder("--install", "gimp", home=gimp_home).returncode == 0
    assert tree(gimp_home) == before

    ran = run_builder("--uninstall", "gimp", home=gimp_home)
    assert ran.returncode == 0, ran.stderr
    assert tree(every) == others
    assert not any(folder.exists() for folder in folders)
    assert pointer.exists()

    ran = run_builder("--uninstall", "gimp", home=gimp_home)
    assert ran.returncode == 0
    assert f"There is no {folders[0]}." in ran.stdout


@pytest.mark.integration
def test_the_gimp_that_gimp3_directory_names(gimp_home: Path, tmp_path: Path) -> None:
    before = tree(gimp_home / ".config/GIMP")
    chosen = tmp_path / "für GIMP 3"
    ran = run_builder("--install", "gimp", home=gimp_home, GIMP3_DIRECTORY=str(chosen))
    assert ran.returncode == 0, ran.stderr
    assert tree(chosen / "plug-ins") == packed_for_gimp(gimp_home)
    assert tree(gimp_home / ".config/GIMP") == before
    assert run_builder("--uninstall", "gimp", home=gimp_home, GIMP3_DIRECTORY=str(chosen)).returncode == 0
    assert list((chosen / "plug-ins").iterdir()) == []
    assert tree(gimp_home / ".config/GIMP") == before


@pytest.mark.integration
def test_where_there_is_no_gimp_3(tmp_path: Path) -> None:
    (tmp_path / ".config/GIMP/2.10/plug-ins").mkdir(parents=True)
    ran = run_builder("--install", "gimp", home=tmp_path, PATH=str(tmp_path / "bin"))
    assert ran.returncode == 2
    assert ran.stderr == (
        "build_plugins: No folder of a GIMP 3 was found. Start GIMP once, or set GIMP3_DIRECTORY, and run this again.\n"
    )
    assert "Restart" not in ran.stdout
    assert [path.name for path in tmp_path.rglob("*lazydiffusion*")] == [
        f"lazydiffusion-gimp-{build_plugins.version()}.zip"
    ]
    assert run_builder("--uninstall", "gimp", home=tmp_path).returncode == 0


@pytest.mark.integration
def test_a_gimp_that_was_never_started_is_told_of(gimp_home: Path) -> None:
    """It takes over an older one's settings when it makes its folder: nothing else may make that before."""
    program = gimp_home / "my programs/gimp-3.4"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'GIMP, Version 3.4.1'\n")
    program.chmod(0o755)
    path = str(program.parent)
    (gimp_home / ".config/GIMP/3.4").unlink()
    ran = run_builder("--install", "gimp", home=gimp_home, PATH=path)
    assert ran.returncode == 0, ran.stderr
    assert "GIMP 3.4 has never been started" in ran.stdout
    assert (gimp_home / ".config/GIMP/3.2" / PLUG_IN).is_dir()
    assert not (gimp_home / ".config/GIMP/3.4").exists()

    alone = gimp_home / "another home"
    ran = run_builder("--install", "gimp", home=alone, PATH=path)
    assert ran.returncode == 2
    assert "GIMP 3.4 has never been started" in ran.stdout
    assert "Start GIMP once" in ran.stderr
    assert not (alone / ".config").exists()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("folder", "packaging"), [(".var/app/org.gimp.GIMP", "Flatpak"), ("snap/gimp", "Snap")]
)
def test_a_gimp_in_a_sandbox_is_told_of(gimp_home: Path, folder: str, packaging: str) -> None:
    (gimp_home / folder).mkdir(parents=True)
    ran = run_builder("--install", "gimp", home=gimp_home)
    assert ran.returncode == 0, ran.stderr
    assert f"GIMP from {packaging} is here too and cannot use the plug-in: its sandbox" in ran.stdout
    assert tree(gimp_home / folder) == {}


@pytest.mark.integration
def test_links_stay_links_in_gimp(gimp_home: Path) -> None:
    """Some have one folder for the plug-ins of all versions, and work on a plug-in where it is."""
    plug_ins = gimp_home / ".config/GIMP/3.0/plug-ins"
    (plug_ins / "lazydiffusion").rename(gimp_home / "work")
    (plug_ins / "lazydiffusion").symlink_to(gimp_home / "work")
    plug_ins.rename(gimp_home / "plug-ins")
    plug_ins.symlink_to(gimp_home / "plug-ins")
    before = tree(gimp_home / "work")
    assert run_builder("--install", "gimp", home=gimp_home).returncode == 0
    assert plug_ins.is_symlink()
    assert not (plug_ins / "lazydiffusion").is_symlink()
    assert os.access(plug_ins / "lazydiffusion/lazydiffusion.py", os.X_OK)
    assert tree(gimp_home / "work") == before


# In either

each_editor = pytest.mark.parametrize("editor", ["krita", "gimp"])


@pytest.mark.integration
@each_editor
def test_a_python_without_the_core(editor: str, tmp_path: Path) -> None:
    (tmp_path / ".config/GIMP/3.0").mkdir(parents=True)
    ran = run_builder("--install", editor, home=tmp_path, python=(sys.executable, "-S"))
    assert ran.returncode == 0, ran.stderr
    assert "LazyDiffusion itself is not installed in" in ran.stdout
    assert len(list(tmp_path.rglob("client/core.py"))) == 1
    assert not (tmp_path / ".config/lazydiffusion").exists()


@pytest.mark.integration
@each_editor
def test_a_folder_that_cannot_be_is_told_in_a_sentence(editor: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    outside = {"krita": "XDG_DATA_HOME", "gimp": "GIMP3_DIRECTORY"}[editor]
    ran = run_builder("--install", editor, home=tmp_path, **{outside: str(tmp_path / "file/folder")})
    assert ran.returncode == 2
    assert ran.stderr.startswith("build_plugins: ")
    assert "Traceback" not in ran.stderr
    assert str(tmp_path / "file") in ran.stderr


@pytest.mark.unit
def test_an_install_that_fails_leaves_the_old_plugin(tmp_path: Path) -> None:
    old = tmp_path / "lazydiffusion/__init__.py"
    old.parent.mkdir()
    old.write_text("old")
    with pytest.raises(FileNotFoundError):
        build_plugins.put_in_place(tmp_path / "no-such-tree", tmp_path / "lazydiffusion", tmp_path / "aside")
    assert tree(tmp_path) == {"lazydiffusion/__init__.py": b"old"}
