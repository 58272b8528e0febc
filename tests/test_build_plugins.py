"""The plugins' zips: what is in them, and what is refused."""

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
from build_plugins import EDITORS, GIMP, KRITA, Editor, PluginError, foreign_imports

import lazydiffusion

ROOT = build_plugins.ROOT
CORE, KRITA_PLUGIN, GIMP_PLUGIN = (
    ROOT / name for name in ("core/lazydiffusion", "krita_plugin", "gimp_plugin")
)

each_editor = pytest.mark.parametrize("editor", EDITORS.values(), ids=EDITORS)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("dist")
    return {name: build_plugins.build(editor, out) for name, editor in EDITORS.items()}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of what the builder reads, to change."""
    return copy_sources(tmp_path / "sources")


def copy_sources(root: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__")
    for plugin in (KRITA_PLUGIN, GIMP_PLUGIN):
        shutil.copytree(plugin, root / plugin.name, ignore=ignore)
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


def own_tree(sources: Path, editor: Editor) -> Path:
    return sources / f"{editor.name}_plugin/lazydiffusion"


# What is in the zips


@pytest.mark.integration
def test_they_are_the_same_wherever_they_are_built(
    archives: dict[str, Path], sources: Path, tmp_path: Path
) -> None:
    for number, path in enumerate(sorted(sources.rglob("*"))):
        os.utime(path, (10**9 + number, 10**9 + number))
        path.chmod(0o700)
    subprocess.run(
        [sys.executable, sources / "build_plugins.py", "--out", "elsewhere"],
        cwd=tmp_path, env={**os.environ, "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7"}, umask=0o077,
        check=True, capture_output=True,
    )  # fmt: skip
    others = {path.name: path.read_bytes() for path in (tmp_path / "elsewhere").iterdir()}
    assert others == {path.name: path.read_bytes() for path in archives.values()}


@pytest.mark.integration
def test_their_date_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    with zipfile.ZipFile(build_plugins.build(GIMP, tmp_path)) as file:
        assert {entry.date_time for entry in file.infolist()} == {(2023, 11, 14, 22, 13, 20)}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(PluginError, match='SOURCE_DATE_EPOCH is "yesterday"'):
        build_plugins.build(GIMP, tmp_path)


@pytest.mark.integration
def test_kritas_importer_finds_what_it_looks_for(archives: dict[str, Path]) -> None:
    archive = archives["krita"]
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
def test_gimp_finds_what_it_starts(archives: dict[str, Path], tmp_path: Path) -> None:
    """A folder in which a file of the folder's name can be run; beside it, the package that it imports."""
    archive = archives["gimp"]
    assert archive.name == f"lazydiffusion-gimp-{lazydiffusion.__version__}.zip"
    with zipfile.ZipFile(archive) as file:
        modes = {entry.filename: entry.external_attr >> 16 for entry in file.infolist()}
        program = file.read("lazydiffusion/lazydiffusion.py")
    assert program.startswith(b"#!/usr/bin/env python3\n")
    assert modes.pop("lazydiffusion/lazydiffusion.py") == 0o100755
    assert {mode for name, mode in modes.items() if not name.endswith("/")} == {0o100644}
    assert {mode for name, mode in modes.items() if name.endswith("/")} == {0o40755}
    assert {name for name in modes if name.count("/") == 1} == {"lazydiffusion/"}
    assert "lazydiffusion/lazydiffusion/__init__.py" in modes
    assert "lazydiffusion/lazydiffusion/lazydiffusion.py" not in modes

    build_plugins.extract(archive, tmp_path)
    runnable = [path for path in tmp_path.rglob("*") if path.is_file() and os.access(path, os.X_OK)]
    assert runnable == [tmp_path / "lazydiffusion/lazydiffusion.py"]


@pytest.mark.integration
@each_editor
def test_they_hold_both_trees_as_they_are(editor: Editor, archives: dict[str, Path]) -> None:
    with zipfile.ZipFile(archives[editor.name]) as file:
        packed = {name: file.read(name) for name in file.namelist() if not name.endswith("/")}
    tree = own_tree(ROOT, editor)
    carried = {
        path.relative_to(CORE).as_posix(): path
        for name in build_plugins.CARRIED
        for path in [CORE / name, *(CORE / name).rglob("*.py")]
        if path.is_file()
    }
    own = {
        path.relative_to(tree).as_posix(): path
        for path in [*tree.rglob("*.py"), *tree.rglob("*.html")]
        if path != GIMP_PLUGIN / "lazydiffusion/lazydiffusion.py"
    }
    assert not set(own) & set(carried)
    assert packed == {
        **{f"{editor.package}/{name}": path.read_bytes() for name, path in {**own, **carried}.items()},
        f"{editor.package}/LICENSE": (ROOT / "LICENSE").read_bytes(),
        **{name: (tree.parent / name).read_bytes() for name in editor.beside},
    }


@pytest.mark.unit
def test_the_actions_have_the_shortcuts_that_the_manual_and_the_readme_tell() -> None:
    actions = ElementTree.parse(KRITA_PLUGIN / "lazydiffusion.action").getroot().findall("Actions/Action")
    shortcuts = {action.get("name"): action.findtext("shortcut") for action in actions}
    assert list(shortcuts) == [
        f"lazydiffusion_{name}" for name in ("generate", "live", "cancel", "apply", "next", "previous")
    ]
    assert len(set(shortcuts.values())) == len(shortcuts)
    for text in (
        (KRITA_PLUGIN / "lazydiffusion/Manual.html").read_text("utf8"),
        (ROOT / "README.md").read_text("utf8"),
    ):
        assert [shortcut for shortcut in shortcuts.values() if f"{shortcut}" not in text] == []


# What is refused


@pytest.mark.integration
@each_editor
def test_they_are_imported_by_python_3_9(editor: Editor, archives: dict[str, Path]) -> None:
    if build_plugins.old_python() is None:
        pytest.skip("there is no Python 3.9 here")
    assert build_plugins.check(editor, archives[editor.name]).startswith("Checked: Python 3.9.")


@pytest.mark.integration
@each_editor
def test_what_only_newer_pythons_can_import_is_refused(editor: Editor, sources: Path, tmp_path: Path) -> None:
    if build_plugins.old_python() is None:
        pytest.skip("there is no Python 3.9 here")
    (sources / "core/lazydiffusion/client/newer.py").write_text("def f(x: int | None) -> None: ...\n")
    with pytest.raises(PluginError, match=r"(?s)cannot be imported by Python 3\.9.*newer\.py.*TypeError"):
        build_plugins.build(editor, tmp_path / "dist", sources)
    assert list((tmp_path / "dist").iterdir()) == []


@pytest.mark.integration
@each_editor
def test_the_grammar_of_python_3_9_is_kept_wherever_they_are_built(
    editor: Editor, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    if build_plugins.old_python() is None:
        assert "Of Python 3.9, which is not here, only the grammar" in build_plugins.check(
            editor, build_plugins.build(editor, tmp_path / "dist", sources)
        )
    (own_tree(sources, editor) / "newer.py").write_text("match 1:\n    case 1: pass\n")
    with pytest.raises(PluginError, match=r"newer\.py"):
        build_plugins.build(editor, tmp_path / "dist", sources)


@pytest.mark.unit
@each_editor
@pytest.mark.parametrize(
    "name", ["errors.py", "Protocol.py", "client.py", "client/panel.py", "window/__init__.py"]
)
def test_a_name_in_both_trees_is_refused(editor: Editor, sources: Path, name: str) -> None:
    path = own_tree(sources, editor) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('"""Nothing."""\n')
    with pytest.raises(
        PluginError, match=rf"{editor.name}_plugin/lazydiffusion/{name} has the name of core/"
    ):
        build_plugins.zip_files(editor, sources)


@pytest.mark.unit
@each_editor
def test_files_that_are_no_part_of_a_plugin(editor: Editor, sources: Path) -> None:
    plugin = own_tree(sources, editor)
    before = build_plugins.zip_files(editor, sources)
    for name in ("__pycache__/panel.cpython-39.pyc", ".panel.py.swp", "../places.py"):
        (plugin / name).parent.mkdir(exist_ok=True)
        (plugin / name).write_bytes(b"")
    assert build_plugins.zip_files(editor, sources) == before
    (plugin / "panel.py~").write_text("")
    with pytest.raises(PluginError, match=r'panel\.py~" is no file of a plugin'):
        build_plugins.zip_files(editor, sources)
    (plugin / "panel.py~").unlink()
    (plugin / "__init__.py").unlink()
    with pytest.raises(PluginError, match=r"__init__\.py is missing"):
        build_plugins.zip_files(editor, sources)


@pytest.mark.unit
@each_editor
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
        ("docker.py", "from ..docker import x"),
        ("docker.py", "import of_the_other_editor"),
        ("client/core.py", "import of_the_editor"),
        ("client/core.py", "from ..service import app"),
    ],
)
def test_imports_of_what_an_editor_lacks_are_found(editor: Editor, name: str, line: str) -> None:
    of_the_editor, of_the_other = ("PyQt6", "gi") if editor is KRITA else ("gi", "PyQt6")
    good = {
        "__init__.py": "",
        "docker.py": "import json, os.path\nfrom of_the_editor import x\nimport of_the_editor.y\nfrom . import qt\n"
        "from lazydiffusion.client import core\nimport lazydiffusion.errors",
        "qt.py": "from .docker import x",
        "errors.py": "from __future__ import annotations",
        "client/__init__.py": "from lazydiffusion.errors import X",
        "client/core.py": "from . import core\nfrom ..errors import X",
    }

    def foreign(sources: dict[str, str]) -> list[str]:
        named = {
            f"lazydiffusion/{name}": text.replace("of_the_editor", of_the_editor).replace(
                "of_the_other_editor", of_the_other
            )
            for name, text in sources.items()
        }
        return foreign_imports(
            {**named, "lazydiffusion.py": "from lazydiffusion.qt import main"}, editor.brings
        )

    assert foreign(good) == []
    (found,) = foreign({**good, name: f"{good[name]}\n{line}"})
    assert found.startswith(f"lazydiffusion/{name} imports ")


@pytest.mark.integration
@each_editor
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import numpy\n", r"(Krita|GIMP) has only .* brings: lazydiffusion/broken\.py imports numpy\."),
        ("x = = 1\n", r"lazydiffusion/broken\.py is no Python, see line 1"),
        ("raise OSError('at import')\n", r"(?s)cannot be imported by Python .*OSError: at import"),
    ],
)
def test_no_zip_is_left_of_what_is_refused(
    editor: Editor, sources: Path, tmp_path: Path, text: str, told: str
) -> None:
    (own_tree(sources, editor) / "broken.py").write_text(text)
    with pytest.raises(PluginError, match=told):
        build_plugins.build(editor, tmp_path / "dist", sources)
    assert not (tmp_path / "dist").exists() or list((tmp_path / "dist").iterdir()) == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("from lazydiffusion.nowhere import main\n", "lazydiffusion.py imports lazydiffusion.nowhere"),
        ("from .plugin import main\n", "lazydiffusion.py imports plugin"),
        ("raise OSError('at import')\n", r"(?s)cannot be imported by Python .*OSError: at import"),
    ],
)
def test_what_gimp_starts_is_checked_too(sources: Path, tmp_path: Path, text: str, told: str) -> None:
    (own_tree(sources, GIMP) / "lazydiffusion.py").write_text(text)
    with pytest.raises(PluginError, match=told):
        build_plugins.build(GIMP, tmp_path / "dist", sources)
