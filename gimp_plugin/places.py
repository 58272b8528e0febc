"""Where this user's GIMPs look for plug-ins: each version in a folder of its own, which it makes at its first start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NAME = "lazydiffusion"
PROGRAM = re.compile(r"gimp(-console)?(-3[.\d]*)?(\.exe)?")
PATIENCE = 10
"""Seconds that a program has to tell its version."""


@dataclass(frozen=True)
class GimpFolder:
    """Where one of this user's GIMPs looks."""

    settings: Path
    """For instance ~/.config/GIMP/3.2."""

    @property
    def folder(self) -> Path:
        """The plug-in's own."""
        return self.settings / "plug-ins" / NAME

    @property
    def files(self) -> tuple[Path, ...]:
        """All that the plug-in needs is in its folder."""
        return ()

    def changed_settings(self, on: bool) -> dict[Path, bytes]:
        """GIMP starts what it finds: there are no settings to change."""
        return {}

    @classmethod
    def find_all(
        cls, platform: str = sys.platform, environ: Mapping[str, str] = os.environ
    ) -> list[GimpFolder]:
        """Of every GIMP 3 that has been started, or the one that GIMP3_DIRECTORY names."""
        chosen = _chosen_folder(environ)
        return [cls(folder) for folder in ([chosen] if chosen else _started(platform, environ).values())]


def gimps_without_folder() -> list[str]:
    """A sentence on each that is on this machine and cannot have the plug-in, or not yet."""
    told = [
        f"GIMP {version} has never been started, so it has no folder for plug-ins yet. Start it once, then run this "
        "again."
        for version in never_started()
    ]
    for folder, packaging in ((".var/app/org.gimp.GIMP", "Flatpak"), ("snap/gimp", "Snap")):
        if (Path.home() / folder).is_dir():
            told.append(
                f"GIMP from {packaging} is here too and cannot use the plug-in: its sandbox can neither start the core "
                "nor reach its socket. Use GIMP's AppImage or your system's package."
            )
    return told


def never_started(platform: str = sys.platform, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Versions of the GIMPs 3 on the PATH that have no folder yet, such as "3.2".

    The folder must not be made for them: a GIMP that finds it does not take over the settings of an older one any more,
    and has no folders for brushes and the like.
    """
    if _chosen_folder(environ):
        return []
    started = _started(platform, environ)
    told = map(_minor_version, _programs(environ.get("PATH", "")))
    minors = sorted({minor for minor in told if minor is not None})
    # An odd one is on the way to the next even one, and uses that one's folder.
    return [f"3.{minor}" for minor in minors if minor not in started and minor + minor % 2 not in started]


def _chosen_folder(environ: Mapping[str, str]) -> Path | None:
    chosen = environ.get("GIMP3_DIRECTORY")
    return Path.home() / chosen if chosen else None  # as GIMP reads it, which may be relative to the home


def _started(platform: str, environ: Mapping[str, str]) -> dict[int, Path]:
    """The folders of GIMP 3.0, 3.2 and so on, by their minor version."""
    home = Path.home()
    if platform == "win32":
        settings = Path(environ.get("APPDATA") or home / "AppData/Roaming")
    elif platform == "darwin":
        settings = home / "Library/Application Support"
    else:
        given = Path(environ.get("XDG_CONFIG_HOME", ""))
        settings = given if given.is_absolute() else home / ".config"
    folders = [path for path in (settings / "GIMP").glob("3.*") if path.is_dir()]
    return {int(path.name[2:]): path for path in sorted(folders) if path.name[2:].isdecimal()}


def _programs(path: str) -> Iterator[Path]:
    """The GIMPs on the PATH, each one once: it may have several names there."""
    known = set()
    for folder in filter(None, path.split(os.pathsep)):
        for program in sorted(Path(folder).glob("gimp*")):
            real = program.resolve()
            # What the Snap puts there is a link to snap itself.
            if PROGRAM.fullmatch(program.name) and real not in known and real.name != "snap":
                known.add(real)
                yield program


def _minor_version(program: Path) -> int | None:
    """The 2 of GIMP 3.2.6; None for a GIMP 2, and for what does not tell."""
    try:
        told = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(rb"(?<![\d.])3\.(\d+)", told.stdout)  # the words around it are the user's language's
    return int(found[1]) if found else None
