"""What is timed: sweeps over the mask's size, the canvas's size and the steps, and the edits that they are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt
from PIL import Image

from lazydiffusion.canvas import Canvas
from lazydiffusion.engines.base import Edit
from lazydiffusion.engines.names import LAZY, REGENERATE_CROP, REGENERATE_IMAGE
from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import MAX_SIDE, MAX_STEPS, EditSettings
from lazydiffusion.window import PATCH, Box, overview_size, region_to_send

COMPARED = (LAZY, REGENERATE_IMAGE, REGENERATE_CROP)
"""The engines that share a decoder size, a codec, a text encoder and a way of sampling."""
WHOLE, REGION, AGAIN = "whole", "region", "again"
"""How an engine is given the canvas: all its pixels; as editors send it (a region in full, and an overview); or all its
pixels after an edit of the same selection with other words, of which it keeps what it has read."""
USUAL_SHARE = 0.1
"""The mask's share of the native window where something else is varied."""
USUAL_STEPS = 20
"""Steps where something else is varied, if they are among those asked for."""


@dataclass(frozen=True)
class Case:
    """One kind of edit with one engine."""

    engine: str
    share: float
    """The mask's share of the native window, 0..1; its px stay the same on every canvas."""
    canvas: int
    """Side of the square canvas, px."""
    steps: int
    sent: str = WHOLE

    @property
    def name(self) -> str:
        """What a progress bar says."""
        sent = {WHOLE: "", REGION: ", as sent", AGAIN: ", again"}[self.sent]
        return f"{self.engine}, {100 * self.share:g} %, {self.canvas} px{sent}, {self.steps} steps"


@dataclass(frozen=True)
class Sweeps:
    """What is varied, one thing at a time. Checked when made: raises BadInput for what cannot be run."""

    native: int
    """Side in px of the smallest square canvas that is the model's window: the native window."""
    masks: Sequence[float]
    """Shares of the native window; the canvas is the window."""
    canvases: Sequence[int]
    """Sides in px, with a mask of USUAL_SHARE of the native window; may be empty."""
    steps: Sequence[int]
    """With the same mask on the window alone."""
    engines: Sequence[str] = COMPARED

    def __post_init__(self) -> None:
        check_masks_and_steps(self.masks, self.steps)
        check_names(self.engines)
        for side in self.canvases:
            if not self.native <= side <= MAX_SIDE:
                raise BadInput(
                    f"A canvas of {side} px cannot be timed: it must be at least as wide as this model's window, "
                    f"{self.native} px, and {MAX_SIDE} px at most."
                )

    @property
    def usual_steps(self) -> int:
        """The steps of the sweeps over mask and canvas: USUAL_STEPS, or the middle of those asked for."""
        if USUAL_STEPS in self.steps:
            return USUAL_STEPS
        return sorted(self.steps)[len(self.steps) // 2]

    def cases(self) -> list[Case]:
        """Every case once. The lazy engine's canvases are also given as editors send them, and the window again."""
        found = []
        for engine in self.engines:
            found += [Case(engine, share, self.native, self.usual_steps) for share in self.masks]
            found += [Case(engine, USUAL_SHARE, side, self.usual_steps) for side in self.canvases]
            found += [Case(engine, USUAL_SHARE, self.native, number) for number in self.steps]
            if engine == LAZY:
                found += [Case(LAZY, USUAL_SHARE, side, self.usual_steps, REGION) for side in self.canvases]
                found.append(Case(LAZY, USUAL_SHARE, self.native, self.usual_steps, AGAIN))
        return list(dict.fromkeys(found))


def check_masks_and_steps(masks: Sequence[float], steps: Sequence[int]) -> None:
    """Raise BadInput where there are none, or one that cannot be timed."""
    if not (masks and steps):
        raise BadInput("Nothing to time: name at least one mask and one number of steps.")
    for share in masks:
        if not 0 < share <= 1:
            raise BadInput(f"A mask of {share:g} of the window cannot be made; use shares above 0, up to 1.")
    for number in steps:
        if not 1 <= number <= MAX_STEPS:
            raise BadInput(f"{number} steps cannot be timed; use 1 to {MAX_STEPS}.")


def check_names(engines: Sequence[str]) -> None:
    """Raise BadInput where there is no engine, or one that is not among those compared."""
    if not engines:
        raise BadInput(f"Nothing to time: name at least one of {', '.join(COMPARED)}.")
    for name in engines:
        if name not in COMPARED:
            raise BadInput(f"The engine {name!r} is not compared; take some of {', '.join(COMPARED)}.")


class Edits:
    """Makes the edits: a centred square hole in a picture of plain gradients, whose content costs nothing."""

    def __init__(self, window_tokens: int, overview_tokens: int):
        self.window_tokens, self.overview_tokens = window_tokens, overview_tokens
        self._pictures: dict[tuple[float, int, bool], tuple[Canvas, npt.NDArray[np.float32]]] = {}
        self._numbers = count()

    def make(self, case: Case) -> Edit:
        """The case's edit. Its prompt is a new one of the same length: what is remembered of prompts is no help."""
        key = case.share, case.canvas, case.sent == REGION
        if key not in self._pictures:
            self._pictures[key] = self._picture(case)
        canvas, mask = self._pictures[key]
        prompt = f"a red apple {' '.join(f'{next(self._numbers):06d}')}"
        return Edit(canvas, mask, EditSettings(prompt=prompt, steps=case.steps))

    def _picture(self, case: Case) -> tuple[Canvas, npt.NDArray[np.float32]]:
        side = case.canvas
        length = hole_side(case.share, self.window_tokens * PATCH)
        hole = Box((side - length) // 2, (side - length) // 2, length, length)
        x = np.arange(side)
        pixels = np.empty((side, side, 3), np.uint8)
        pixels[..., 0], pixels[..., 1] = x * 255 // side, (x * 255 // side)[:, None]
        pixels[..., 2] = (x % 256)[:, None]
        mask = np.zeros((side, side), np.float32)
        mask[hole.slices()] = 1
        if case.sent != REGION:
            return Canvas.of(pixels), mask
        region = region_to_send((side, side), hole, side=self.window_tokens)
        size = overview_size((side, side), self.overview_tokens)
        overview = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
        part = region.slices()
        return Canvas((side, side), region, pixels[part].copy(), overview), mask[part].copy()


def hole_side(share: float, native: int) -> int:
    """Side in px of the square mask that covers a share of the native window."""
    return max(1, round(native * math.sqrt(share)))
