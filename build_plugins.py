"""Builds the editors' plugins: `python build_plugins.py [--install EDITOR | --uninstall EDITOR]`, Python 3.11 or newer.

dist/lazydiffusion-EDITOR-VERSION.zip holds one package, `lazydiffusion`, merged of two trees: the plugin's own files,
which import each other relatively, and what is CARRIED of core/lazydiffusion, imported absolutely. The same sources
give the same bytes wherever they are built. What differs from editor to editor is in KRITA and GIMP below.
"""

from __future__ import annotations

import argparse
import ast
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gimp_plugin.places import GimpFolder, gimps_without_folder
from krita_plugin.places import KritaFolders, sandboxed_kritas

ROOT = Path(__file__).resolve().parent
NAME = "lazydiffusion"
CARRIED = ("errors.py", "events.py", "protocol.py", "version.py", "window.py", "client")
"""What of core/lazydiffusion every plugin brings along: standard library only, valid Python 3.9."""
SHIPPED = {".py", ".html", ".svg", ".png"}
NEWER_THAN_3_9 = {"annotationlib", "compression", "tomllib"}
FIRST_ZIP_DATE = 315532800
"""1980-01-01, in seconds since 1970: a zip cannot say earlier ones."""
FILE, PROGRAM = 0o644, 0o755

IMPORT_ALL = """
import ast, sys
from importlib import import_module
from pathlib import Path
from runpy import run_path

root, from_the_editor = Path(sys.argv[1]), sys.argv[2:]
sys.path.insert(0, str(root))
for path in sorted(root.rglob("*.py")):
    ast.parse(path.read_bytes(), str(path.relative_to(root)), feature_version=(3, 9))
    parts = path.relative_to(root).with_suffix("").parts
    try:
        if len(parts) == 1:  # a program, beside the package of the same name
            run_path(str(path))
        else:
            import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in from_the_editor:
            raise
"""


class PluginError(Exception):
    """The plugin cannot be built or installed; the text says why and what to do."""


Place = KritaFolders | GimpFolder
"""Where an editor takes plugins from: `folder` is where the zip's folder goes, `files` where its other files go."""


@dataclass(frozen=True)
class Editor:
    """What is different from editor to editor."""

    name: str
    title: str
    package: str
    """The package's folder in the zip."""
    beside: Mapping[str, int]
    """Files that are not part of the package, at the same place in the zip as in its sources; their permissions."""
    brings: frozenset[str]
    """Modules that the editor adds to Python's own."""
    places: Callable[[], Sequence[Place]]
    """Those of this user."""
    without_place: Callable[[], list[str]]
    """A sentence on each that is on this machine and cannot have the plugin, or not yet."""
    none_found: str = ""
    """What to do where there is no place at all."""


KRITA = Editor(
    name="krita",
    title="Krita",
    package=NAME,
    beside={f"{NAME}.desktop": FILE, f"{NAME}.action": FILE},
    brings=frozenset({"PyQt5", "PyQt6", "krita"}),
    places=lambda: [KritaFolders.find()],
    without_place=sandboxed_kritas,
)
GIMP = Editor(
    name="gimp",
    title="GIMP",
    package=f"{NAME}/{NAME}",
    beside={f"{NAME}/{NAME}.py": PROGRAM},  # GIMP starts what has its folder's name, and can be run
    brings=frozenset({"gi"}),
    places=GimpFolder.find_all,
    without_place=gimps_without_folder,
    none_found="No folder of a GIMP 3 was found. Start GIMP once, or set GIMP3_DIRECTORY, and run this again.",
)
EDITORS = {editor.name: editor for editor in (KRITA, GIMP)}


def version(root: Path = ROOT) -> str:
    """The version that core and plugins share."""
    return str(runpy.run_path(str(root / "core" / NAME / "version.py"))["__version__"])


def zip_files(editor: Editor, root: Path = ROOT) -> dict[str, Path]:
    """The plugin's files by their names in the zip. Raises PluginError where both trees have the same name."""
    tree, core = root / f"{editor.name}_plugin", root / "core" / NAME
    beside = {name: tree / name for name in editor.beside}
    shipped = [path for path in _shipped(tree / NAME) if path not in beside.values()]
    own = {path.relative_to(tree / NAME).as_posix(): path for path in shipped}
    # errors.py and errors/ are one module too, and names that differ in case only are one file to Windows and macOS.
    taken = {_module(name): name for name in CARRIED}
    both = sorted(name for name in own if _module(name) in taken)
    if both:
        raise PluginError(
            f"{tree.name}/{NAME}/{both[0]} has the name of core/{NAME}/{taken[_module(both[0])]}, which the plugin "
            "carries; give one of them another name."
        )
    if "__init__.py" not in own:
        raise PluginError(f"{tree.name}/{NAME}/__init__.py is missing; without it the plugin is no package.")
    carried = {path.relative_to(core).as_posix(): path for name in CARRIED for path in _shipped(core / name)}
    package = {**own, **carried, "LICENSE": root / "LICENSE"}
    return {**beside, **{f"{editor.package}/{name}": path for name, path in package.items()}}


def _shipped(folder: Path) -> Iterator[Path]:
    """The files of a folder, or the one file that it is."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        inside = path.relative_to(folder).parts
        if path.is_dir() or any(part == "__pycache__" or part.startswith(".") for part in inside):
            continue
        if path.suffix not in SHIPPED:
            raise PluginError(
                f'"{path}" is no file of a plugin; remove it, or add its ending to SHIPPED in build_plugins.py.'
            )
        yield path


def _module(name: str) -> str:
    return PurePosixPath(name).parts[0].partition(".")[0].casefold()


def build(editor: Editor, out: Path, root: Path = ROOT) -> Path:
    """Make the zip in the folder `out` and check it; gives its path. Raises PluginError, and then leaves none there."""
    files = zip_files(editor, root)
    _check_imports(editor, files)
    # Krita's importer looks for the folders by their own entries.
    folders = {f"{parent}/" for name in files for parent in PurePosixPath(name).parents if parent.name}
    archive = out / f"{NAME}-{editor.name}-{version(root)}.zip"
    out.mkdir(parents=True, exist_ok=True)
    unchecked = archive.with_suffix(".unchecked")
    try:
        with zipfile.ZipFile(unchecked, "w") as file:
            for name in sorted([*files, *folders]):
                content = files[name].read_bytes() if name in files else b""
                file.writestr(_entry(name, editor.beside.get(name, FILE)), content)
        print(check(editor, unchecked))
        unchecked.replace(archive)
    finally:
        unchecked.unlink(missing_ok=True)
    print(f"Built {archive}: {len(files)} files, {archive.stat().st_size / 1024:.0f} KiB.")
    return archive


def _entry(name: str, permissions: int) -> zipfile.ZipInfo:
    """An entry that says nothing of the machine; stored, because what deflate makes depends on zlib's version."""
    entry = zipfile.ZipInfo(name, time.gmtime(_build_time())[:6])
    entry.compress_type = zipfile.ZIP_STORED
    entry.create_system = 3  # Unix, on Windows too: otherwise the permissions mean nothing
    entry.external_attr = 0o40755 << 16 | 0x10 if name.endswith("/") else (0o100000 | permissions) << 16
    return entry


def _build_time() -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH") or "0"
    if not given.isdecimal() or int(given) >= 2**32:
        raise PluginError(f'SOURCE_DATE_EPOCH is "{given}"; it has to be seconds since 1970, or not be set.')
    return max(int(given), FIRST_ZIP_DATE)


def _check_imports(editor: Editor, files: Mapping[str, Path]) -> None:
    start = PurePosixPath(editor.package).parent
    sources = {
        PurePosixPath(name).relative_to(start).as_posix(): path.read_text(encoding="utf8")
        for name, path in files.items()
        if path.suffix == ".py"
    }
    try:
        foreign = foreign_imports(sources, editor.brings)
    except SyntaxError as error:
        raise PluginError(f"{error.filename} is no Python, see line {error.lineno}: {error.msg}.") from error
    if foreign:
        told = "; ".join(foreign)
        raise PluginError(f"{editor.title} has only Python's own library and what the plugin brings: {told}.")


def foreign_imports(sources: Mapping[str, str], brought: frozenset[str]) -> list[str]:
    """Imports of what will not be there, of modules given by the path to import them from: "file imports module"."""
    modules = set()
    for name in sources:
        parts = PurePosixPath(name).with_suffix("").parts
        modules.add(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    standard = sys.stdlib_module_names - NEWER_THAN_3_9
    foreign = []
    for name, source in sources.items():
        folder, *inside = PurePosixPath(name).parts
        allowed = standard if set(inside[:1]) & set(CARRIED) else standard | brought
        for module in _imported(ast.parse(source, name), [folder, *inside][:-1]):
            top = module.partition(".")[0]
            if module not in modules if top == NAME else top not in allowed:
                foreign.append(f"{name} imports {module}")
    return sorted(set(foreign))


def _imported(tree: ast.Module, package: list[str]) -> Iterator[str]:
    """Absolute names of the modules that a module of that package imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            if module == NAME:  # its own names are another thing in an editor than in the core
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


def check(editor: Editor, archive: Path) -> str:
    """Import all of the zip where there are no other packages; gives a sentence. Raises PluginError.

    Of what is missing only that is forgiven which the editor brings.
    """
    python = old_python() or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        extract(archive, Path(folder))
        start = str(Path(folder, editor.package).parent)
        ran = subprocess.run(
            [python, "-I", "-S", "-B", "-W", "error", "-c", IMPORT_ALL, start, *sorted(editor.brings)],
            capture_output=True, text=True,
        )  # fmt: skip
    told = subprocess.run([python, "--version"], capture_output=True, text=True).stdout.strip()
    if ran.returncode:
        raise PluginError(f"The plugin cannot be imported by {told} ({python}):\n{ran.stderr.rstrip()}")
    checked = f"Checked: {told} ({python}) imports it without any other package."
    if told.startswith("Python 3.9."):
        return checked
    return f"{checked} Of Python 3.9, which is not here, only the grammar was checked."


def old_python() -> str | None:
    """A Python 3.9, the oldest that an editor brings; None where there is none that runs."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path("~/.pyenv").expanduser()) / "versions"
    candidates = [shutil.which("python3.9"), *map(str, sorted(versions.glob("3.9*/bin/python")))]
    for python in candidates:
        # pyenv puts a python3.9 on the PATH that only says that it is not chosen.
        if python and subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            return python
    return None


def extract(archive: Path, folder: Path) -> None:
    """Unpack the zip; what is a program can be run by whom the file's permissions let read it."""
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
        for entry in file.infolist():
            if not entry.is_dir() and entry.external_attr >> 16 & 0o100:
                path = folder / entry.filename
                path.chmod(path.stat().st_mode | (path.stat().st_mode & 0o444) >> 2)


def install(archive: Path, place: Place) -> None:
    """Put the zip's plugin into a place instead of an older one, and switch it on. Raises OSError."""
    for target in (place.folder, *place.files):
        target.parent.mkdir(parents=True, exist_ok=True)
    _clear_staging(place)
    # Of the same file system as the plugin's folder. GIMP does not look into it: it has no program of its own name.
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=place.folder.parent) as staging:
        extract(archive, Path(staging))
        put_in_place(Path(staging) / NAME, place.folder, Path(staging) / "old")
        for target in place.files:
            _write(target, (Path(staging) / target.name).read_bytes())
            print(f"Installed {target}.")
    _switch(place, on=True)
    print(f"Installed {place.folder}.")


def put_in_place(new: Path, target: Path, old: Path) -> None:
    """Rename `target` to `old` and `new` to `target`; where that fails, `target` is again what it was."""
    try:
        if os.path.lexists(target):
            target.rename(old)
        new.rename(target)
    except BaseException:
        if os.path.lexists(old) and not os.path.lexists(target):
            old.rename(target)
        raise


def uninstall(place: Place) -> None:
    """Take away what `install` put there, and switch it off. Raises OSError."""
    _clear_staging(place)
    for path in (*place.files, place.folder):
        if os.path.lexists(path):
            _remove(path)
            print(f"Removed {path}.")
        else:
            print(f"There is no {path}.")
    _switch(place, on=False)


def _clear_staging(place: Place) -> None:
    """What an install left that was killed."""
    for path in place.folder.parent.glob(f".{NAME}-*"):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _switch(place: Place, on: bool) -> None:
    for settings, content in place.changed_settings(on).items():
        path = settings.resolve()  # it may be a link into a folder of such files, and has to stay one
        if content != (path.read_bytes() if path.exists() else b""):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, content)
        print(f"Switched {'on' if on else 'off'} in {settings}.")


def _write(path: Path, content: bytes) -> None:
    """Replace a file: who reads it, or what interrupts this, sees the old one or the new one."""
    handle, name = tempfile.mkstemp(prefix=f".{NAME}-", dir=path.parent)
    new = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        new.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def point_to_core() -> None:
    """Write the pointer by which the plugin finds the core of this Python, if there is one. Raises PluginError."""
    try:
        from lazydiffusion.commands.serve import connect_editors
        from lazydiffusion.errors import CannotWrite
    except ImportError:
        print(
            f"LazyDiffusion itself is not installed in {sys.executable}, so the plugin was not told of a core. Install "
            "it and run `lazydiffusion connect`."
        )
        return
    try:
        connect_editors()
    except CannotWrite as error:
        raise PluginError(str(error)) from error


def install_everywhere(editor: Editor, archive: Path) -> None:
    """Install for all of this user's, and tell where that is not possible. Raises PluginError, OSError."""
    places = editor.places()
    for place in places:
        install(archive, place)
    if places:
        point_to_core()
    for sentence in editor.without_place():
        print(sentence)
    if not places:
        raise PluginError(editor.none_found)
    print(f"Restart {editor.title} to load it.")


def main(arguments: list[str] | None = None) -> int:
    """Build, and install or uninstall if that is asked for; gives the exit status."""
    parser = argparse.ArgumentParser(description="Build the editors' plugins.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR", help="where the zips go")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--install", choices=EDITORS, help="build this one and put it into this user's editor")
    what.add_argument("--uninstall", choices=EDITORS, help="remove it from this user's editor")
    options = parser.parse_args(arguments)
    try:
        if options.uninstall:
            editor = EDITORS[options.uninstall]
            for place in editor.places():
                uninstall(place)
            print(f"{editor.title} is without it. The core, its history and settings stay.")
        elif options.install:
            editor = EDITORS[options.install]
            install_everywhere(editor, build(editor, options.out))
        else:
            for editor in EDITORS.values():
                build(editor, options.out)
    except PluginError as error:
        told = str(error)
    except OSError as error:
        told = f'"{error.filename}": {error.strerror}. Mend that and run this again.'
    else:
        return 0
    print(f"build_plugins: {told}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
