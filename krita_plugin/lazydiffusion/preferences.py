"""What the docker remembers from one day to the next: one small JSON file in the user's configuration folder."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from lazydiffusion.client.modes import Mode
from lazydiffusion.client.places import config_folder, write_private_file
from lazydiffusion.protocol import (
    MAX_GUIDANCE,
    MAX_RADIUS,
    MAX_SEED,
    MAX_STEPS,
    EditSettings,
)

LOG = logging.getLogger(__name__)
FILE = "krita.json"
LONGEST_TEXT = 100_000
"""Characters of a prompt that are kept. An edit may have fewer: what is too long is told then, and not lost."""
MAX_VARIATIONS = 8
"""As many as the docker shows beside each other; the core would make more."""


@dataclass
class Preferences:
    """The docker's fields."""

    mode: str = Mode.FILL.value
    prompt: str = ""
    negative_prompt: str = ""
    variations: int = 1
    seed: int = 0
    seed_locked: bool = False
    """Whether Generate keeps the seed; otherwise it throws the dice first."""
    steps: int = 0
    """0: the model's own default."""
    guidance: float = 0.0
    """0: the model's own default."""
    grow: int = 0
    feather: int = 0
    model: str = EditSettings.model
    show_negative: bool = False
    show_settings: bool = False

    @property
    def edit_mode(self) -> Mode:
        """The mode as an object."""
        return Mode(self.mode)

    def edit_settings(self) -> EditSettings:
        """What the core is asked for. Raises BadInput for a prompt that is too long."""
        return EditSettings(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            steps=self.steps or None,
            guidance=self.guidance or None,
            variations=self.variations,
            feather=self.feather,
            grow=self.grow,
            model=self.model,
        )

    def take(self, settings: EditSettings) -> None:
        """The fields of an earlier edit: 'Use settings again'. The seed is locked, or it would not be used."""
        self.prompt, self.negative_prompt = settings.prompt, settings.negative_prompt
        self.seed, self.seed_locked = settings.seed, True
        self.steps, self.guidance = settings.steps or 0, settings.guidance or 0.0
        self.variations = min(settings.variations, MAX_VARIATIONS)
        self.grow, self.feather, self.model = settings.grow, settings.feather, settings.model
        if settings.strength < 1:
            self.mode = Mode.ADD.value
        elif self.mode == Mode.ADD.value or settings.prompt:
            self.mode = Mode.FILL.value

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
            write_private_file(path, json.dumps(dataclasses.asdict(self), indent=2))
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
