"""Builds the editors' plugins: `python build_plugins.py [--install krita | --uninstall krita]`, Python 3.11 or newer.

dist/lazydiffusion-krita-VERSION.zip holds one package, `lazydiffusion`, merged of two trees:
krita_plugin/lazydiffusion, whose files import each other relatively, and what is CARRIED of core/lazydiffusion,
imported absolutely. The same sources give the same bytes wherever they are built.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent
NAME = "lazydiffusion"
CARRIED = ("errors.py", "events.py", "protocol.py", "version.py", "window.py", "client")
"""What of core/lazydiffusion every plugin brings along: standard library only, valid Python 3.9."""
SHIPPED = {".py", ".html", ".svg", ".png"}
FROM_THE_EDITOR = {"PyQt5", "PyQt6", "krita"}
NEWER_THAN_3_9 = {"annotationlib", "compression", "tomllib"}
FIRST_ZIP_DATE = 315532800
"""1980-01-01, in seconds since 1970: a zip cannot say earlier ones."""

IMPORT_ALL = """
import ast, sys
from importlib import import_module
from pathlib import Path

root, from_the_editor = Path(sys.argv[1]), sys.argv[2:]
sys.path.insert(0, str(root))
for path in sorted(root.rglob("*.py")):
    ast.parse(path.read_bytes(), str(path.relative_to(root)), feature_version=(3, 9))
    parts = path.relative_to(root).with_suffix("").parts
    try:
        import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in from_the_editor:
            raise
"""


class PluginError(Exception):
    """The plugin cannot be built or installed; the text says why and what to do."""


def version(root: Path = ROOT) -> str:
    """The version that core and plugins share."""
    return str(runpy.run_path(str(root / "core" / NAME / "version.py"))["__version__"])


def package_files(root: Path = ROOT) -> dict[str, Path]:
    """The package's files by their path in it. Raises PluginError where both trees have the same name."""
    plugin, core = root / "krita_plugin" / NAME, root / "core" / NAME
    own = {path.relative_to(plugin).as_posix(): path for path in _shipped(plugin)}
    # errors.py and errors/ are one module too, and names that differ in case only are one file to Windows and macOS.
    taken = {_module(name): name for name in CARRIED}
    both = sorted(name for name in own if _module(name) in taken)
    if both:
        raise PluginError(
            f"krita_plugin/{NAME}/{both[0]} has the name of core/{NAME}/{taken[_module(both[0])]}, which the plugin "
            "carries; give one of them another name."
        )
    if "__init__.py" not in own:
        raise PluginError(f"krita_plugin/{NAME}/__init__.py is missing; Krita takes no plugin without it.")
    carried = [path for name in CARRIED for path in _shipped(core / name)]
    return {
        **own,
        **{path.relative_to(core).as_posix(): path for path in carried},
        "LICENSE": root / "LICENSE",
    }


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


def build(out: Path, root: Path = ROOT) -> Path:
    """Make the zip in the folder `out` and check it; gives its path. Raises PluginError, and then leaves none there."""
    files = package_files(root)
    _check_imports(files)
    entries = {f"{NAME}/{name}": path.read_bytes() for name, path in files.items()}
    for name in (f"{NAME}.desktop", f"{NAME}.action"):
        entries[name] = (root / "krita_plugin" / name).read_bytes()
    # Krita's importer looks for the folders by their own entries.
    folders = {f"{parent}/" for name in entries for parent in PurePosixPath(name).parents if parent.name}
    archive = out / f"{NAME}-krita-{version(root)}.zip"
    out.mkdir(parents=True, exist_ok=True)
    unchecked = archive.with_suffix(".unchecked")
    try:
        with zipfile.ZipFile(unchecked, "w") as file:
            for name in sorted([*entries, *folders]):
                file.writestr(_entry(name), entries.get(name, b""))
        print(check(unchecked))
        unchecked.replace(archive)
    finally:
        unchecked.unlink(missing_ok=True)
    print(f"Built {archive}: {len(entries)} files, {archive.stat().st_size / 1024:.0f} KiB.")
    return archive


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry that says nothing of the machine; stored, because what deflate makes depends on zlib's version."""
    entry = zipfile.ZipInfo(name, time.gmtime(_build_time())[:6])
    entry.compress_type = zipfile.ZIP_STORED
    entry.create_system = 3  # Unix, on Windows too: otherwise the permissions mean nothing
    entry.external_attr = 0o40755 << 16 | 0x10 if name.endswith("/") else 0o100644 << 16
    return entry


def _build_time() -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH") or "0"
    if not given.isdecimal() or int(given) >= 2**32:
        raise PluginError(f'SOURCE_DATE_EPOCH is "{given}"; it has to be seconds since 1970, or not be set.')
    return max(int(given), FIRST_ZIP_DATE)


def _check_imports(files: Mapping[str, Path]) -> None:
    sources = {name: path.read_text(encoding="utf8") for name, path in files.items() if path.suffix == ".py"}
    try:
        foreign = foreign_imports(sources)
    except SyntaxError as error:
        raise PluginError(f"{error.filename} is no Python, see line {error.lineno}: {error.msg}.") from error
    if foreign:
        raise PluginError(
            "An editor has only Python's own library and what the plugin brings: %s." % "; ".join(foreign)
        )


def foreign_imports(sources: Mapping[str, str]) -> list[str]:
    """Imports of what will not be there, of modules given by their path in the package: "file imports module"."""
    modules = {NAME}
    for name in sources:
        parts = PurePosixPath(name).with_suffix("").parts
        modules.add(".".join([NAME, *parts[: -1 if parts[-1] == "__init__" else None]]))
    standard = sys.stdlib_module_names - NEWER_THAN_3_9
    foreign = []
    for name, source in sources.items():
        carried = PurePosixPath(name).parts[0] in CARRIED
        package = [NAME, *PurePosixPath(name).parts[:-1]]
        for module in _imported(ast.parse(source, name), package):
            top = module.partition(".")[0]
            there = (
                module in modules
                if top == NAME
                else top in standard or (top in FROM_THE_EDITOR and not carried)
            )
            if not there:
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
            if module == NAME:  # its own names are another thing in Krita than in the core
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


def check(archive: Path) -> str:
    """Import all of the zip where there are no other packages; gives a sentence. Raises PluginError.

    Of what is missing only Qt and Krita are forgiven, which the editor brings.
    """
    python = old_python() or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
        ran = subprocess.run(
            [python, "-I", "-S", "-B", "-W", "error", "-c", IMPORT_ALL, folder, *sorted(FROM_THE_EDITOR)],
            capture_output=True, text=True,
        )  # fmt: skip
    told = subprocess.run([python, "--version"], capture_output=True, text=True).stdout.strip()
    if ran.returncode:
        raise PluginError(f"The plugin cannot be imported by {told} ({python}):\n{ran.stderr.rstrip()}")
    hint = (
        ""
        if told.startswith("Python 3.9.")
        else " Of Python 3.9, which is not here, only the grammar was checked."
    )
    return f"Checked: {told} ({python}) imports it without any other package.{hint}"


def old_python() -> str | None:
    """A Python 3.9, the oldest that an editor brings; None where there is none that runs."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path("~/.pyenv").expanduser()) / "versions"
    candidates = [
        shutil.which("python3.9"),
        *(str(path) for path in sorted(versions.glob("3.9*/bin/python"))),
    ]
    for python in candidates:
        # pyenv puts a python3.9 on the PATH that only says that it is not chosen.
        if python and subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            return python
    return None


@dataclass(frozen=True)
class KritaFolders:
    """Where this user's Krita looks."""

    data: Path
    settings: Path
    """kritarc."""

    @property
    def package(self) -> Path:
        """The plugin's package."""
        return self.data / "pykrita" / NAME

    @property
    def desktop(self) -> Path:
        """The file that tells Krita of the plugin."""
        return self.data / "pykrita" / f"{NAME}.desktop"

    @property
    def action(self) -> Path:
        """The plugin's actions, with their shortcuts."""
        return self.data / "actions" / f"{NAME}.action"

    @classmethod
    def find(cls, platform: str = sys.platform, environ: Mapping[str, str] = os.environ) -> KritaFolders:
        """The usual folders, or the resource folder that the user has chosen in Krita's settings."""
        home = Path.home()
        if platform == "win32":
            data = Path(environ.get("APPDATA") or home / "AppData/Roaming") / "krita"
            settings = Path(environ.get("LOCALAPPDATA") or home / "AppData/Local") / "kritarc"
        elif platform == "darwin":
            data, settings = home / "Library/Application Support/krita", home / "Library/Preferences/kritarc"
        else:
            data = _absolute(environ.get("XDG_DATA_HOME")) or home / ".local/share"
            data, settings = (
                data / "krita",
                (_absolute(environ.get("XDG_CONFIG_HOME")) or home / ".config") / "kritarc",
            )
        return cls(_chosen_folder(settings) or data, settings)


def _absolute(path: str | None) -> Path | None:
    return Path(path) if path and Path(path).is_absolute() else None


def _chosen_folder(settings: Path) -> Path | None:
    ungrouped = re.split(
        rb"^\s*\[", settings.read_bytes() if settings.exists() else b"", maxsplit=1, flags=re.MULTILINE
    )[0]
    found = re.search(rb"^\s*ResourceDirectory\s*=(.*)$", ungrouped, flags=re.MULTILINE)
    return _absolute(found[1].decode("utf8", "replace").strip().replace("\\\\", "\\")) if found else None


def switched(settings: bytes, on: bool) -> bytes:
    """The contents of kritarc with the plugin switched on or off; every other byte stays as it is."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+", settings)
    newline = b"\r\n" if lines and lines[0].endswith(b"\r\n") else b"\n"
    value, entry = (b"true" if on else b"false"), b"enable_" + NAME.encode()
    in_group, header, found = False, None, False
    for number, line in enumerate(lines):
        if line.lstrip().startswith(b"["):
            in_group = line.strip() == b"[python]"
            header = number if in_group else header
        elif in_group and line.partition(b"=")[0].strip() == entry and b"=" in line:
            found = True
            before, _, after = line.partition(b"=")
            if after.strip() != value:
                lines[number] = before + b"=" + value + after[len(after.rstrip()) :]
    if on and not found:
        if header is None:
            header = len(lines)
            lines.append((newline if lines else b"") + b"[python]" + newline)
        for number in (header - 1, header):  # the file's last line may have no end
            if number >= 0 and not lines[number].endswith(b"\n"):
                lines[number] += newline
        lines.insert(header + 1, entry + b"=" + value + newline)
    return b"".join(lines)


def install(archive: Path, krita: KritaFolders) -> None:
    """Put the zip's plugin into Krita in place of an older one, and switch it on. Raises OSError."""
    krita.package.parent.mkdir(parents=True, exist_ok=True)
    krita.action.parent.mkdir(parents=True, exist_ok=True)
    _clear_staging(krita)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=krita.package.parent) as folder:
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
        put_in_place(Path(folder) / NAME, krita.package, Path(folder) / "old")
        for target in (krita.desktop, krita.action):
            _write(target, (Path(folder) / target.name).read_bytes())
            print(f"Installed {target}.")
    _switch(krita, on=True)
    print(f"Installed {krita.package}.")


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


def uninstall(krita: KritaFolders) -> None:
    """Take away what `install` put there, and switch it off. Raises OSError."""
    _clear_staging(krita)
    for path in (krita.desktop, krita.action, krita.package):
        if os.path.lexists(path):
            _remove(path)
            print(f"Removed {path}.")
        else:
            print(f"There is no {path}.")
    _switch(krita, on=False)


def _clear_staging(krita: KritaFolders) -> None:
    """What an install left that was killed."""
    for path in krita.package.parent.glob(f".{NAME}-*"):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _switch(krita: KritaFolders, on: bool) -> None:
    path = krita.settings.resolve()  # it may be a link into a folder of such files, and has to stay one
    before = path.read_bytes() if path.exists() else b""
    after = switched(before, on)
    if after != before:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, after)
    print(f"Switched {'on' if on else 'off'} in {krita.settings}.")


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


def main(arguments: list[str] | None = None) -> int:
    """Build, and install or uninstall if that is asked for; gives the exit status."""
    parser = argparse.ArgumentParser(description="Build the editors' plugins.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR", help="where the zip goes")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--install", choices=["krita"], help="also put it into this user's editor")
    what.add_argument("--uninstall", choices=["krita"], help="remove it from this user's editor")
    options = parser.parse_args(arguments)
    try:
        if options.uninstall:
            uninstall(KritaFolders.find())
            print("The core stays installed, and so do its history and settings.")
            return 0
        archive = build(options.out)
        if options.install:
            install(archive, KritaFolders.find())
            point_to_core()
            if (Path.home() / ".var/app/org.kde.krita").is_dir():
                print(
                    "Krita from Flatpak is here too and was left alone: its sandbox can neither start the core nor "
                    "reach its socket. Use Krita's AppImage or your system's package."
                )
            print("Restart Krita to load it.")
    except PluginError as error:
        print(f"build_plugins: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f'build_plugins: "{error.filename}": {error.strerror}. Mend that and run this again.',
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
