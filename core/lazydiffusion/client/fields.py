"""The fields that every editor shows for an edit: what they are called, what they mean, and what they hold.

Standard library only, valid Python 3.9.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Union

from lazydiffusion.client.model_choice import examples
from lazydiffusion.client.modes import ADD_STRENGTH, Mode
from lazydiffusion.client.words import tr
from lazydiffusion.protocol import MAX_GUIDANCE, MAX_RADIUS, MAX_SEED, MAX_STEPS, EditSettings

MAX_VARIATIONS = 8
"""As many as an editor shows beside each other; the core would make more."""
LEAST_STRENGTH = 5
"""Per cent; less would change nothing that can be seen."""
LARGEST_THROW = 2**31 - 1
"""The largest seed that the dice throw: short enough to be read and typed, and a whole number to every editor."""

Number = Union[int, float]


@dataclass(frozen=True)
class Field:
    """One field as the artist sees it."""

    label: str
    tip: str
    """What it means, in a sentence."""
    low: Number = 0
    high: Number = 0
    unit: str = ""


def fields() -> dict[str, Field]:
    """By the name of what they hold in FieldValues, and "sketch"; in the order in which they are shown."""
    return {
        "variations": Field(
            tr("Variations"), tr("How many fills to make, each with the next seed"), 1, MAX_VARIATIONS
        ),
        "seed": Field(tr("Seed"), tr("The same seed and settings give the same fill"), 0, MAX_SEED),
        "steps": Field(
            tr("Quality"),
            tr("More steps take longer; automatic is what the model was made for"),
            0,
            MAX_STEPS,
            tr("steps"),
        ),
        "guidance": Field(tr("Guidance"), tr("How closely to follow the prompt"), 0.0, MAX_GUIDANCE),
        "strength": Field(
            tr("Strength"),
            tr("How much of what is there, or of the sketch, is painted anew; less keeps more of it"),
            LEAST_STRENGTH,
            100,
            tr("%"),
        ),
        "grow": Field(
            tr("Grow"), tr("Make the selection larger by this much first"), 0, MAX_RADIUS, tr("px")
        ),
        "feather": Field(
            tr("Feather"), tr("Soften the border, inside the selection"), 0, MAX_RADIUS, tr("px")
        ),
        "sketch": Field(tr("Sketch"), tr("A layer with rough colours or lines to follow")),
        "model": Field(tr("Model"), tr("Which model paints")),
    }


def prompt_hint(mode: Mode, things: tuple[str, ...] = ()) -> str:
    """What an empty prompt says. `things`: names of what the model was taught, if they are a list."""
    if things and mode.uses_prompt:
        some = ", ".join(examples(things, 3))
        hint = tr("What to paint: %s… Empty: what is around goes on")
        return (tr("What to add: %s…") if mode is Mode.ADD else hint) % some
    return {
        Mode.FILL: tr("What to paint. Empty: what is around goes on"),
        Mode.ADD: tr("What to add to the selection"),
        Mode.REMOVE: tr("Remove needs no prompt: what is around goes on"),
    }[mode]


def thrown_seed() -> int:
    """A new seed, as the dice throw it."""
    return random.randint(0, LARGEST_THROW)


@dataclass
class FieldValues:
    """What the fields hold."""

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
    strength: int = 100
    """Per cent; the mode has its say as well (modes.settings_for)."""
    grow: int = 0
    feather: int = 0
    model: str = EditSettings.model

    @property
    def edit_mode(self) -> Mode:
        """The mode as an object."""
        return Mode(self.mode)

    def edit_settings(self) -> EditSettings:
        """What the core is asked for, before the mode has its say. Raises BadInput for a prompt that is too long."""
        return EditSettings(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            steps=self.steps or None,
            guidance=self.guidance or None,
            strength=self.strength / 100,
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
        self.strength = max(LEAST_STRENGTH, round(100 * settings.strength))
        if settings.strength == ADD_STRENGTH and settings.prompt:
            self.mode, self.strength = Mode.ADD.value, 100
        elif self.mode == Mode.ADD.value or settings.prompt:
            self.mode = Mode.FILL.value
