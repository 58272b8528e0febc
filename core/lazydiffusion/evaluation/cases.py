"""Held-out scenes as edits: what every engine is given, and the finished pictures that it makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lazydiffusion import compose
from lazydiffusion.canvas import Canvas
from lazydiffusion.engines.base import Edit, Engine, Pixels, Report
from lazydiffusion.errors import BadInput
from lazydiffusion.models.extension import extend
from lazydiffusion.protocol import EditSettings
from lazydiffusion.training.scenes import SceneMaker, Shares
from lazydiffusion.training.sketches import colour_blobs, outlines
from lazydiffusion.training.sprites import SpriteBank
from lazydiffusion.training.vocabulary import Vocabulary

HOLES = (0.11, 0.19, 0.25)
"""Tokens that a scene's hole mostly fits, as a share of the window's: those of a training run, in turn."""
ONE_SET = Shares(same_set=1.0, removal=0.0, sketched=0.0, wide=0.0)
"""All objects of a scene are of one set, one of them is hidden, and all of the canvas is in the window."""
BATCH = 32
SKETCHES = {"colour blobs": colour_blobs, "outlines": outlines}
"""The kinds of sketch that a model is trained with (training.sketches)."""

Done = Callable[[int, int], None]
"""Called with (fills done, fills in all)."""


@dataclass(frozen=True)
class Cases:
    """N scenes whose hidden sprite no model was trained on. Pictures are in -1..1, of 256 levels."""

    real: Float[Tensor, "n 3 s s"]
    """The finished picture."""
    hole: Bool[Tensor, "n 1 s s"]
    captions: list[str]
    """What is hidden."""
    sets: Int64[Tensor, " n"]
    """The set of the scene's sprites."""
    sprites: Int64[Tensor, " n"]
    """The hidden sprite's row in the bank."""
    alpha: Float[Tensor, "n 1 s s"]
    """The hidden sprite's opacity, 0..1."""
    sketch: Float[Tensor, "n 4 s s"] | None = None
    """Colour in -1..1 and a drawn channel."""

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def extended(self) -> Float[Tensor, "n 3 s s"]:
        """The pictures without a model: what is around the hole, smoothly continued into it."""
        return torch.where(self.hole, extend(self.real, self.hole), self.real)

    def first(self, count: int) -> Cases:
        """The first cases alone."""
        sketch = None if self.sketch is None else self.sketch[:count]
        return Cases(
            self.real[:count], self.hole[:count], self.captions[:count], self.sets[:count], self.sprites[:count],
            self.alpha[:count], sketch,
        )  # fmt: skip

    def edit(self, number: int, seeds: int) -> Edit:
        """One case as an artist would send it, with as many variations as `seeds`. No two cases share a seed."""
        settings = EditSettings(prompt=self.captions[number], seed=number * seeds, variations=seeds)
        mask = self.hole[number, 0].float().numpy()
        sketch = None
        if self.sketch is not None:
            colour, drawn = _levels(self.sketch[number, :3]), self.sketch[number, 3:].permute(1, 2, 0)
            sketch = np.concatenate(
                [colour, np.where(drawn.numpy() > 0, np.uint8(255), np.uint8(0))], axis=-1
            )
        return Edit(Canvas.of(_levels(self.real[number])), mask, settings, sketch)


def make_cases(held_out: SpriteBank, count: int, window_tokens: int, seed: int = 0) -> Cases:
    """`count` cases at a canvas of the models' own window. The same bank and seed give the same cases.

    Raises BadInput for fewer than two, for which nothing can be estimated.
    """
    check_count(count)
    generator = torch.Generator().manual_seed(seed)
    maker = SceneMaker(held_out.to("cpu"), window_tokens, 1, generator, ONE_SET)
    real, holes, sprites, alphas = [], [], [], []
    for number in range(-(-count // BATCH)):
        share = HOLES[number % len(HOLES)]
        scenes = maker.make(BATCH, max(4, round(share * window_tokens**2)))
        real.append(_quantised(scenes.window))
        holes.append(scenes.hole)
        sprites.append(scenes.sprites)
        alphas.append(scenes.alpha)
    shuffled = torch.randperm(len(real) * BATCH, generator=generator)  # every size of hole among the first
    order = shuffled[:count]
    rows = torch.cat(sprites)[order]
    return Cases(
        real=torch.cat(real)[order],
        hole=torch.cat(holes)[order],
        captions=[held_out.captions[row][0] for row in rows.tolist()],
        sets=held_out.sets.cpu()[rows],
        sprites=rows,
        alpha=torch.cat(alphas)[order],
    )


def held_out_sprites(bank: SpriteBank, vocabulary: Vocabulary | None = None) -> SpriteBank:
    """The sprites that no model was trained on; of a vocabulary's names only, if there is one.

    Raises BadInput where none is left, or a name is no sprite's.
    """
    shown = bank if vocabulary is None else bank.of_vocabulary(vocabulary)
    found = shown.subset(shown.held_out())
    if not len(found):
        raise BadInput(
            f"None of these {len(shown)} sprites is held out, about one in 64 is: add names or sprites."
        )
    return found


def check_count(count: int) -> None:
    """Raise BadInput for fewer than two cases."""
    if count < 2:
        raise BadInput(f"{count} scenes are too few to estimate anything; give 2 or more.")


def with_sketch(cases: Cases, kind: str) -> Cases:
    """The same cases with a sketch of what is hidden, by a key of SKETCHES; nothing is drawn outside the hole."""
    drawn = SKETCHES[kind](cases.real, cases.alpha[:, 0])
    return replace(cases, sketch=drawn * cases.hole)


def complete(
    engine: Engine, cases: Cases, seeds: int = 1, done: Done | None = None
) -> tuple[Float[Tensor, "seeds n 3 s s"], list[float]]:
    """The canvases with an engine's fills pasted in, for each seed; and milliseconds of each edit's fills."""
    made: list[Sequence[Pixels]] = []
    milliseconds = []
    for number in range(len(cases)):
        edit, report = cases.edit(number, seeds), Report()
        pasted = [
            compose.paste(edit.canvas.pixels, fill.pixels, fill.box) for fill in engine.run(edit, report)
        ]
        made.append(pasted)
        milliseconds.append(sum(report.ms.values()) / seeds)
        if done is not None:
            done(len(made) * seeds, len(cases) * seeds)
    pictures = torch.from_numpy(np.stack([np.stack(pasted) for pasted in made])).transpose(0, 1)
    return pictures.permute(0, 1, 4, 2, 3).float() / 127.5 - 1, milliseconds


def _levels(picture: Float[Tensor, "3 h w"]) -> Pixels:
    return compose.to_bytes(picture.permute(1, 2, 0).numpy())


def _quantised(pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """As a canvas holds them: engines are given 8 bits a channel."""
    return ((pictures + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
