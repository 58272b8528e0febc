"""The Krita plugin's zip: what is in it, and what is refused."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import build_plugins
import pytest
from build_plugins import PluginError, foreign_imports

import lazydiffusion

ROOT = build_plugins.ROOT
CORE, PLUGIN = ROOT / "core/lazydiffusion", ROOT / "krita_plugin/lazydiffusion"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_plugins.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of what the builder reads, to change."""
    return copy_sources(tmp_path / "sources")


def copy_sources(root: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "krita_plugin", root / "krita_plugin", ignore=ignore)
    for name in build_plugins.CARRIED:
        target = root / "core/lazydiffusion" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (CORE / name).is_dir():
            shutil.copytree(CORE / name, target, ignore=ignore)
        else:
            shutil.copyfile(CORE / name, target)
    for name in ("build_plugins.py", "LICENSE"):
        shutil.copyfile(ROOT / name, root / name)
    return root


# What is in the zip


@pytest.mark.integration
def test_it_is_the_same_wherever_it_is_built(archive: Path, sources: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(sources.rglob("*"))):
        os.utime(path, (10**9 + number, 10**9 + number))
        path.chmod(0o700)
    subprocess.run(
        [sys.executable, sources / "build_plugins.py", "--out", "elsewhere"],
        cwd=tmp_path, env={**os.environ, "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7"}, umask=0o077,
        check=True, capture_output=True,
    )  # fmt: skip
    other = tmp_path / "elsewhere" / archive.name
    assert other.read_bytes() == archive.read_bytes()


@pytest.mark.integration
def test_its_date_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    with zipfile.ZipFile(build_plugins.build(tmp_path)) as file:
        assert {entry.date_time for entry in file.infolist()} == {(2023, 11, 14, 22, 13, 20)}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(PluginError, match='SOURCE_DATE_EPOCH is "yesterday"'):
        build_plugins.build(tmp_path)


@pytest.mark.integration
def test_kritas_importer_finds_what_it_looks_for(archive: Path) -> None:
    assert archive.name == f"lazydiffusion-krita-{lazydiffusion.__version__}.zip"
    with zipfile.ZipFile(archive) as file:
        names = file.namelist()
        desktop = configparser.ConfigParser()
        desktop.read_string(file.read("lazydiffusion.desktop").decode("utf8"))
    entry = desktop["Desktop Entry"]
    assert [name for name in names if name.endswith(".desktop")] == [f"{entry['X-KDE-Library']}.desktop"]
    assert [name for name in names if name.endswith(".action")] == ["lazydiffusion.action"]
    assert entry["ServiceTypes"] == "Krita/PythonPlugin"
    assert {"lazydiffusion/", "lazydiffusion/__init__.py", f"lazydiffusion/{entry['X-Krita-Manual']}"} <= set(
        names
    )
    assert {name.rpartition("/")[0] + "/" for name in names if "/" in name} <= set(names)
    assert names == sorted(set(names))


@pytest.mark.integration
def test_it_holds_both_trees_as_they_are(archive: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        packed = {name: file.read(name) for name in file.namelist() if not name.endswith("/")}
    carried = {
        path.relative_to(CORE).as_posix(): path
        for name in build_plugins.CARRIED
        for path in [CORE / name, *(CORE / name).rglob("*.py")]
        if path.is_file()
    }
    own = {path.relative_to(PLUGIN).as_posix(): path for path in PLUGIN.rglob("*.py")}
    expected = {**carried, **own, "Manual.html": PLUGIN / "Manual.html", "LICENSE": ROOT / "LICENSE"}
    assert packed == {
        **{f"lazydiffusion/{name}": path.read_bytes() for name, path in expected.items()},
        **{
            name: (PLUGIN.parent / name).read_bytes()
            for name in ("lazydiffusion.desktop", "lazydiffusion.action")
        },
    }


@pytest.mark.unit
def test_the_actions_have_the_shortcuts_that_the_manual_and_the_readme_tell() -> None:
    actions = ElementTree.parse(PLUGIN.parent / "lazydiffusion.action").getroot().findall("Actions/Action")
    shortcuts = {action.get("name"): action.findtext("shortcut") for action in actions}
    assert list(shortcuts) == [
        f"lazydiffusion_{name}" for name in ("generate", "cancel", "apply", "next", "previous")
    ]
    assert len(set(shortcuts.values())) == len(shortcuts)
    for text in ((PLUGIN / "Manual.html").read_text("utf8"), (ROOT / "README.md").read_text("utf8")):
        assert [shortcut for shortcut in shortcuts.values() if f"{shortcut}" not in text] == []


# What is refused


@pytest.mark.integration
def test_it_is_imported_by_python_3_9(archive: Path) -> None:
    if build_plugins.old_python() is None:
        pytest.skip("there is no Python 3.9 here")
    assert build_plugins.check(archive).startswith("Checked: Python 3.9.")


@pytest.mark.integration
def test_what_only_newer_pythons_can_import_is_refused(sources: Path, tmp_path: Path) -> None:
    if build_plugins.old_python() is None:
        pytest.skip("there is no Python 3.9 here")
    (sources / "core/lazydiffusion/client/newer.py").write_text("def f(x: int | None) -> None: ...\n")
    with pytest.raises(PluginError, match=r"(?s)cannot be imported by Python 3\.9.*newer\.py.*TypeError"):
        build_plugins.build(tmp_path / "dist", sources)
    assert list((tmp_path / "dist").iterdir()) == []


@pytest.mark.integration
def test_the_grammar_of_python_3_9_is_kept_wherever_it_is_built(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    if build_plugins.old_python() is None:
        assert "Of Python 3.9, which is not here, only the grammar" in build_plugins.check(
            build_plugins.build(tmp_path / "dist", sources)
        )
    (sources / "krita_plugin/lazydiffusion/newer.py").write_text("match 1:\n    case 1: pass\n")
    with pytest.raises(PluginError, match=r"newer\.py"):
        build_plugins.build(tmp_path / "dist", sources)


@pytest.mark.unit
@pytest.mark.parametrize(
    "name", ["errors.py", "Protocol.py", "client.py", "client/panel.py", "window/__init__.py"]
)
def test_a_name_in_both_trees_is_refused(sources: Path, name: str) -> None:
    path = sources / "krita_plugin/lazydiffusion" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('"""Nothing."""\n')
    with pytest.raises(PluginError, match=rf"krita_plugin/lazydiffusion/{name} has the name of core/"):
        build_plugins.package_files(sources)


@pytest.mark.unit
def test_files_that_are_no_part_of_a_plugin(sources: Path) -> None:
    plugin = sources / "krita_plugin/lazydiffusion"
    before = build_plugins.package_files(sources)
    for name in ("__pycache__/docker.cpython-39.pyc", ".docker.py.swp"):
        (plugin / name).parent.mkdir(exist_ok=True)
        (plugin / name).write_bytes(b"")
    assert build_plugins.package_files(sources) == before
    (plugin / "docker.py~").write_text("")
    with pytest.raises(PluginError, match=r'docker\.py~" is no file of a plugin'):
        build_plugins.package_files(sources)
    (plugin / "docker.py~").unlink()
    (plugin / "__init__.py").unlink()
    with pytest.raises(PluginError, match=r"__init__\.py is missing"):
        build_plugins.package_files(sources)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("docker.py", "import numpy"),
        ("docker.py", "def f():\n    from PIL import Image"),
        ("docker.py", "import tomllib"),
        ("docker.py", "from lazydiffusion.canvas import Canvas"),
        ("docker.py", "from lazydiffusion import __version__"),
        ("docker.py", "from .nowhere import x"),
        ("docker.py", "from . import nowhere"),
        ("client/core.py", "from PyQt6 import QtCore"),
        ("client/core.py", "from ..service import app"),
    ],
)
def test_imports_of_what_an_editor_lacks_are_found(name: str, line: str) -> None:
    good = {
        "__init__.py": "",
        "docker.py": "import json, os.path\nfrom krita import Krita\nfrom PyQt5 import QtCore\nfrom . import qt\n"
        "from lazydiffusion.client import core\nimport lazydiffusion.errors",
        "qt.py": "from .docker import x",
        "errors.py": "from __future__ import annotations",
        "client/__init__.py": "from lazydiffusion.errors import X",
        "client/core.py": "from . import core\nfrom ..errors import X",
    }
    assert foreign_imports(good) == []
    (found,) = foreign_imports({**good, name: f"{good[name]}\n{line}"})
    assert found.startswith(f"{name} imports ")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import numpy\n", r"An editor has only .* brings: qt\.py imports numpy\."),
        ("x = = 1\n", r"qt\.py is no Python, see line 1"),
        ("raise OSError('at import')\n", r"(?s)cannot be imported by Python .*OSError: at import"),
    ],
)
def test_no_zip_is_left_of_what_is_refused(sources: Path, tmp_path: Path, text: str, told: str) -> None:
    (sources / "krita_plugin/lazydiffusion/qt.py").write_text(text)
    with pytest.raises(PluginError, match=told):
        build_plugins.build(tmp_path / "dist", sources)
    assert not (tmp_path / "dist").exists() or list((tmp_path / "dist").iterdir()) == []
