"""The rules of the house that no linter knows: each test names one and lists what breaks it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import build_plugins
import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lazydiffusion

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "core" / "lazydiffusion"
KRITA_PLUGIN = sorted((ROOT / "krita_plugin" / "lazydiffusion").rglob("*.py"))
GIMP_PLUGIN = sorted((ROOT / "gimp_plugin" / "lazydiffusion").rglob("*.py"))
FOLDERS = (PACKAGE, ROOT / "gimp_plugin", ROOT / "krita_plugin", ROOT / "tests")
SOURCES = sorted([*(path for folder in FOLDERS for path in folder.rglob("*.py")), ROOT / "build_plugins.py"])

# The editors' plugins import these, in the Python that the editor brings.
FOR_PLUGINS = sorted(
    path
    for name in build_plugins.CARRIED
    for path in [PACKAGE / name, *(PACKAGE / name).rglob("*.py")]
    if path.is_file()
)

# What is not Python's own, and where in the plugins it may be imported: all else goes through these files.
QT = {"qt.py"}
KRITA = {"__init__.py", "docker.py", "document.py"}
GI = {"gi_modules.py", "gtk.py", "pixbufs.py"}

LONGEST_FILE = 450
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "handler", "misc", "common"}
HEAVY = {"torch", "numpy", "PIL", "diffusers", "transformers"}

pytestmark = pytest.mark.unit


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=name(path))


def imported_modules(tree: ast.Module) -> set[str]:
    """Absolute names of what a module imports, wherever the import stands; relative imports start with dots."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def imported_beside(tree: ast.Module) -> set[str]:
    """Names of the modules of its own package that a module imports when it is loaded: not first in a function."""
    found: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += ast.iter_child_nodes(node)
    return found


def foreign_to_plugins(path: Path) -> set[str]:
    """What a module imports that is neither in Python 3.9 nor carried."""
    carried = "|".join(name.removesuffix(".py") for name in build_plugins.CARRIED)
    allowed = re.compile(rf"\.|lazydiffusion\.({carried})\b")
    standard = sys.stdlib_module_names - build_plugins.NEWER_THAN_3_9
    tops = {
        module if allowed.match(module) else module.partition(".")[0]
        for module in imported_modules(parse(path))
    }
    return {top for top in tops if not allowed.match(top) and top not in standard}


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 20
    assert len(FOR_PLUGINS) > 10
    assert len(KRITA_PLUGIN) > 3
    assert len(GIMP_PLUGIN) > 3


def test_files_are_short() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_each_file_says_its_subject_in_one_line() -> None:
    subjects = {name(path): (ast.get_docstring(parse(path)) or "").partition("\n")[0] for path in SOURCES}
    assert [path for path, subject in subjects.items() if not subject.endswith(".")] == []


def test_file_names_say_what_a_thing_is() -> None:
    assert [name(path) for path in SOURCES if VAGUE_NAMES & set(path.stem.split("_"))] == []


@pytest.mark.parametrize("path", [*FOR_PLUGINS, *GIMP_PLUGIN, *KRITA_PLUGIN], ids=name)
def test_what_plugins_run_is_valid_python_3_9(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=name(path), feature_version=(3, 9))

    # `int | None` in an annotation is an error in 3.9 unless annotations are left unevaluated.
    futures = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for alias in node.names
    }
    assert (
        not any(isinstance(node, ast.AnnAssign | ast.arg) for node in ast.walk(tree))
        or "annotations" in futures
    )

    newer_keywords = {"dataclass": {"slots", "kw_only"}, "field": {"kw_only"}, "zip": {"strict"}}
    used = [
        f"{node.func.id}({keyword.arg}=...) in line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        for keyword in node.keywords
        if keyword.arg in newer_keywords.get(node.func.id, set())
    ]
    assert used == []


@pytest.mark.parametrize("path", FOR_PLUGINS, ids=name)
def test_what_plugins_import_needs_only_the_standard_library(path: Path) -> None:
    assert foreign_to_plugins(path) == set()


@pytest.mark.parametrize("path", KRITA_PLUGIN, ids=name)
def test_the_krita_plugin_meets_qt_and_krita_in_one_place_each(path: Path) -> None:
    allowed = ({"PyQt5", "PyQt6"} if path.name in QT else set()) | (
        {"krita"} if path.name in KRITA else set()
    )
    assert foreign_to_plugins(path) <= allowed


@pytest.mark.parametrize("path", GIMP_PLUGIN, ids=name)
def test_the_gimp_plug_in_meets_gimps_libraries_in_few_places(path: Path) -> None:
    # What GIMP starts imports its package by the name that it has there.
    allowed = {"gi"} if path.name in GI else {"lazydiffusion"} if path.stem == "lazydiffusion" else set()
    assert foreign_to_plugins(path) <= allowed


def test_gimps_pixels_are_read_and_written_in_one_place() -> None:
    imported = {
        path.name
        for path in GIMP_PLUGIN
        for node in ast.walk(parse(path))
        if isinstance(node, ast.alias) and node.name.split(".")[-1] == "Gegl"
    }
    assert imported == {"gi_modules.py", "image.py"}


def test_a_fill_without_a_dialog_needs_no_gtk() -> None:
    """GTK wants a screen: what GIMP starts imports the modules that show something only where it shows them."""
    plugin = GIMP_PLUGIN[0].parent
    reached, pending = set(), {"plugin"}
    while pending:
        reached |= pending
        found = {name for module in pending for name in imported_beside(parse(plugin / f"{module}.py"))}
        pending = {name for name in found - reached if (plugin / f"{name}.py").is_file()}
    assert {"plugin", "arguments", "image", "snapshot"} <= reached
    assert "gtk" not in reached
    showing = {
        path.name
        for path in GIMP_PLUGIN
        for node in ast.walk(parse(path))
        if isinstance(node, ast.alias) and node.name.split(".")[-1] in {"Gtk", "GimpUi"}
        if path.stem in reached
    }
    assert showing == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from .gtk import Gtk", {"gtk"}),
        ("from . import gtk, image", {"gtk", "image"}),
        ("from . import gtk as toolkit", {"gtk"}),
        ("try:\n    from . import gtk\nexcept ImportError:\n    pass", {"gtk"}),
        ("if True:\n    from .gtk import Gtk", {"gtk"}),
        ("class Shown:\n    from .gtk import Gtk", {"gtk"}),
        ("def show():\n    from .gtk import Gtk", set()),
        ("async def show():\n    from . import gtk", set()),
        ("from lazydiffusion.window import Box\nimport os", set()),
    ],
)
def test_what_a_module_imports_when_it_is_loaded_is_found_in_every_form(source: str, found: set[str]) -> None:
    assert imported_beside(ast.parse(source)) == found


def test_importing_what_plugins_carry_loads_nothing_heavy() -> None:
    """The package's own __init__ runs first, so it has to be as light as they are."""
    code = (
        "import sys, lazydiffusion.errors, lazydiffusion.protocol, lazydiffusion.client; print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(run.stdout.split()) == set()


def test_what_the_package_imports_it_declares() -> None:
    """A package that only another package brings is gone when that one drops it."""
    metadata = WheelBuilder(str(ROOT)).metadata.core
    declared = [*metadata.dependencies, *chain.from_iterable(metadata.optional_dependencies.values())]
    projects = {canonicalize_name(Requirement(line).name) for line in declared}
    installed = packages_distributions()
    undeclared = {
        f"{name(path)}: {top}"
        for path in PACKAGE.rglob("*.py")
        for top in {module.partition(".")[0] for module in imported_modules(parse(path))}
        if top not in {"", "lazydiffusion", *sys.stdlib_module_names}
        and not projects & {canonicalize_name(project) for project in installed.get(top, [top])}
    }
    assert undeclared == set()


def test_nothing_reads_pickles() -> None:
    """A checkpoint is data, never code: safetensors only, or tensors and nothing else of what others publish."""
    readers = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = parse(path)
        readers += [
            f"{name(path)}: import {module}" for module in imported_modules(tree) & {"pickle", "dill"}
        ]
        tensors_only = {
            node.func
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True"
        }
        readers += [
            f"{name(path)}:{node.lineno}: {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and ast.unparse(node) in {"torch.load", "torch.save"}
            and node not in tensors_only
        ]
    assert readers == []


def test_the_wheel_holds_every_asset() -> None:
    """An entry of .gitignore that matches an asset would keep it out of the wheel without a word."""
    builder = WheelBuilder(str(ROOT))
    packed = {file.relative_path for file in builder.recurse_included_files()}
    assets = {path.relative_to(ROOT).as_posix() for path in (PACKAGE / "assets").rglob("*") if path.is_file()}
    assert {path for path in assets if "__pycache__" not in path} - packed == set()
    assert "core/lazydiffusion/assets/sample/canvas.png" in packed
    assert builder.metadata.version == lazydiffusion.__version__


def test_the_source_distribution_holds_what_its_texts_link_to() -> None:
    builder = SdistBuilder(str(ROOT))
    assert [name for name in builder.target_config["include"] if not (ROOT / name[1:]).exists()] == []
    packed = {Path(file.path).resolve() for file in builder.recurse_included_files()}
    folders = {folder for path in packed for folder in path.parents}
    broken = [
        f"{name(text)}: {link}"
        for text in sorted(path for path in packed if path.suffix == ".md")
        for link in re.findall(r"\]\(([^)#\s]+)", text.read_text(encoding="utf-8"))
        if "://" not in link and (text.parent / link).resolve() not in packed | folders
    ]
    assert broken == []


def test_the_readme_names_real_commands_and_files() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    commands = re.findall(r"^\s*make ([a-z]+)", readme, flags=re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", readme) if "://" not in link]
    assert {"demo", "test", "check"} <= set(commands) <= set(targets)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_project_stands_alone() -> None:
    """Nothing that runs or is tested may need a folder outside the repository."""
    outside = re.compile(r"\.\./" + r"shared\b|(?<!\w)/" + r"work/")
    files = [*SOURCES, ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "README.md"]
    assert [name(path) for path in files if outside.search(path.read_text(encoding="utf-8"))] == []
