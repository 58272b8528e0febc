"""What an edit is, in every process: its settings and their limits (standard library only, valid Python 3.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from lazydiffusion.errors import BadInput

MIN_SIDE = 16
"""Shortest side of a canvas, px."""
MAX_SIDE = 16384
"""Longest side of a canvas, px."""
MAX_PROMPT = 1000
"""Longest prompt, characters."""
MAX_STEPS = 200
MAX_VARIATIONS = 16
MAX_GUIDANCE = 20.0
MAX_SEED = 2**63 - 1
MAX_RADIUS = 1024
"""Largest feather and growth of a mask, px."""


@dataclass(frozen=True)
class EditSettings:
    """Everything an edit needs beside its pictures. Checked when made: a value out of range raises BadInput."""

    prompt: str = ""
    """What to paint. Empty: continue what is around the mask."""
    negative_prompt: str = ""
    """What to keep away from. Empty: guidance is measured against the model's learned 'no prompt'."""
    seed: int = 0
    """Fill k of an edit uses seed + k. 0 .. 2**63 - 1."""
    steps: Optional[int] = None
    """Denoising steps, 1 .. 200; None takes the model's own default."""
    guidance: Optional[float] = None
    """Classifier-free guidance scale, 0 .. 20 (1 is off); None takes the model's own default."""
    strength: float = 1.0
    """Above 0, to 1. Below 1 the fill starts from the sketch, or from what the canvas shows under the mask."""
    variations: int = 1
    """How many fills, 1 .. 16."""
    feather: int = 0
    """Width in px of the soft border, inside the mask."""
    grow: int = 0
    """By how many px the mask is grown first."""
    blend: bool = False
    """Shift the fill's colours so that they meet the canvas smoothly (Poisson blending; needs the extra `blend`)."""
    model: str = "clipart"
    """A model's name, a folder, or a hub id."""

    def __post_init__(self) -> None:
        for name, text in (("prompt", self.prompt), ("negative prompt", self.negative_prompt)):
            if len(text) > MAX_PROMPT:
                raise BadInput(
                    "The %s has %d characters; shorten it to %d at most." % (name, len(text), MAX_PROMPT)
                )
        _within("The number of steps", self.steps, 1, MAX_STEPS)
        _within("The guidance", self.guidance, 0, MAX_GUIDANCE)
        _within("The seed", self.seed, 0, MAX_SEED)
        _within("The number of variations", self.variations, 1, MAX_VARIATIONS)
        _within("The feather", self.feather, 0, MAX_RADIUS, " px")
        _within("The growth of the mask", self.grow, 0, MAX_RADIUS, " px")
        if not 0 < self.strength <= 1:
            raise BadInput("The strength is %g; it must be above 0 and at most 1." % self.strength)


def _within(name: str, value: Optional[float], low: float, high: float, unit: str = "") -> None:
    if value is not None and not low <= value <= high:  # also refuses NaN
        shown = tuple("%d" % v if isinstance(v, int) else "%g" % v for v in (value, low, high))
        raise BadInput(
            "%s is %s%s; it must be between %s and %s." % (name, shown[0], unit, shown[1], shown[2])
        )
