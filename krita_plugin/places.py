"""Where this user's Krita looks for plugins, and how its settings switch one on."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAME = "lazydiffusion"


@dataclass(frozen=True)
class KritaFolders:
    """Where this user's Krita looks."""

    data: Path
    settings: Path
    """kritarc."""

    @property
    def folder(self) -> Path:
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

    @property
    def files(self) -> tuple[Path, ...]:
        """What it has beside its package."""
        return self.desktop, self.action

    def changed_settings(self, on: bool) -> dict[Path, bytes]:
        """The settings files that switch the plugin on or off, and what has to be in them."""
        return {self.settings: switched(_contents(self.settings), on)}

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
    ungrouped = re.split(rb"^\s*\[", _contents(settings), maxsplit=1, flags=re.MULTILINE)[0]
    found = re.search(rb"^\s*ResourceDirectory\s*=(.*)$", ungrouped, flags=re.MULTILINE)
    return _absolute(found[1].decode("utf8", "replace").strip().replace("\\\\", "\\")) if found else None


def _contents(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def sandboxed_kritas() -> list[str]:
    """A sentence on each that is on this machine and cannot reach the core."""
    if not (Path.home() / ".var/app/org.kde.krita").is_dir():
        return []
    return [
        "Krita from Flatpak is here too and was left alone: its sandbox can neither start the core nor reach its "
        "socket. Use Krita's AppImage or your system's package."
    ]


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
