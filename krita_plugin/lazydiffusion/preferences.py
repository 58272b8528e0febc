"""What the docker remembers from one day to the next: one small JSON file in the user's configuration folder."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from lazydiffusion.client.fields import LEAST_STRENGTH, MAX_VARIATIONS, FieldValues
from lazydiffusion.client.modes import Mode
from lazydiffusion.client.places import config_folder, write_private_file
from lazydiffusion.protocol import MAX_GUIDANCE, MAX_RADIUS, MAX_SEED, MAX_STEPS

LOG = logging.getLogger(__name__)
FILE = "krita.json"
LONGEST_TEXT = 100_000
"""Characters of a prompt that are kept. An edit may have fewer: what is too long is told then, and not lost."""


@dataclass
class Preferences(FieldValues):
    """What the docker's fields hold, and which of its parts are unfolded."""

    show_negative: bool = False
    show_settings: bool = False

    @classmethod
    def load(cls, path: Optional[Path] = None) -> Preferences:
        """What was saved; where there is no such file, or a field is not what it should be, the default."""
        found = cls()
        try:
            values = json.loads((path or default_path()).read_text(encoding="utf8"))
        except (OSError, ValueError, RecursionError):
            return found
        for field in dataclasses.fields(cls):
            default = getattr(found, field.name)
            value: Any = values.get(field.name) if isinstance(values, dict) else None
            whole = isinstance(default, float) and type(value) is int
            if (whole or type(value) is type(default)) and _allowed(field.name, value):
                setattr(found, field.name, float(value) if whole else value)
        return found

    def save(self, path: Optional[Path] = None) -> None:
        """Write the file; that it cannot be written is told in the log only: it must not stop an edit."""
        path = path or default_path()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private_file(path, json.dumps(dataclasses.asdict(self), indent=2), durably=False)
        except OSError as error:
            LOG.warning('The settings cannot be saved in "%s": %s', path, error)


def default_path() -> Path:
    """Where the file lies."""
    return config_folder() / FILE


_RANGES = {
    "variations": (1, MAX_VARIATIONS),
    "seed": (0, MAX_SEED),
    "steps": (0, MAX_STEPS),
    "guidance": (0, MAX_GUIDANCE),
    "strength": (LEAST_STRENGTH, 100),
    "grow": (0, MAX_RADIUS),
    "feather": (0, MAX_RADIUS),
}


def _allowed(name: str, value: object) -> bool:
    if name == "mode":
        return value in [mode.value for mode in Mode]
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT and not any("\ud800" <= char <= "\udfff" for char in value)
    if name in _RANGES and isinstance(value, (int, float)):
        low, high = _RANGES[name]
        return low <= value <= high
    return True
