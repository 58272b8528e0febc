"""What an artist can ask for: fill, add an object, remove (standard library only, valid Python 3.9)."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import EditSettings

ADD_STRENGTH = 0.9
"""An added object starts from this much noise: the rest is what lies under it, so that ground and light go on."""


class Mode(Enum):
    """What is to happen to the selection; the value is its name in settings files and in GIMP's procedures."""

    FILL = "fill"
    """Paint the selection anew; an empty prompt continues what is around."""
    ADD = "add"
    """Paint something onto what is there."""
    REMOVE = "remove"
    """Continue what is around; prompt and sketch do not matter."""

    @property
    def uses_prompt(self) -> bool:
        """Whether a prompt and a sketch change anything."""
        return self is not Mode.REMOVE


def settings_for(mode: Mode, settings: EditSettings) -> EditSettings:
    """The settings as the core is to be given them. Raises BadInput where the mode needs a prompt and there is none."""
    if mode is Mode.REMOVE:
        return replace(settings, prompt="", negative_prompt="", strength=1.0)
    prompt = settings.prompt.strip()
    if mode is Mode.ADD:
        if not prompt:
            raise BadInput("The prompt is empty. Say what to add, or choose Fill to continue what is around.")
        return replace(settings, prompt=prompt, strength=min(settings.strength, ADD_STRENGTH))
    return replace(settings, prompt=prompt)
