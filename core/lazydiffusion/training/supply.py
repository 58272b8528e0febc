"""The scenes of one step after another, with their captions, made for several steps at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lazydiffusion.training.captions import CaptionBank
from lazydiffusion.training.scenes import SceneMaker, Scenes


class Supply:
    """What each step is trained on.

    To make scenes is several hundred small operations, however many scenes they are: launching them takes the host of a
    fast GPU longer than they take the GPU. Made for `at_once` steps together they are launched once for all of these,
    for the memory of so many batches.
    """

    def __init__(
        self,
        maker: SceneMaker,
        captions: CaptionBank,
        bucket: Callable[[int], int],
        batch: int,
        at_once: int = 1,
    ):
        """`bucket`: the number of tokens of a step's scenes. The random numbers are all the maker's generator's."""
        self.maker, self.captions, self.bucket = maker, captions, bucket
        self.batch, self.at_once = batch, at_once
        self._made: tuple[int, Scenes, Tensor, Tensor] | None = None
        self._before: Tensor | None = None

    @property
    def generator(self) -> torch.Generator:
        """Of the scenes and their captions."""
        assert self.maker.generator is not None
        return self.maker.generator

    def first_of(self, step: int) -> int:
        """The first of the steps that are made together with this one."""
        return step - step % self.at_once

    def take(self, step: int) -> tuple[Scenes, Tensor, Tensor]:
        """A step's scenes, and their captions' states and mask. Steps are taken one after the other."""
        first = self.first_of(step)
        if self._made is None or self._made[0] != first:
            self._before = self.generator.get_state()
            scenes = self.maker.make(self.batch * self.at_once, self.bucket(first))
            self._made = first, scenes, *self.captions.draw(scenes.sprites, self.generator)
        _, scenes, text, mask = self._made
        part = slice((step - first) * self.batch, (step - first + 1) * self.batch)
        if step - first == self.at_once - 1:
            self._made = self._before = None  # all is given out
        return scenes.part(part), text[part], mask[part]

    def state(self) -> Tensor:
        """The generator's state from which a resumed run makes what is to come, the rest of what is made included."""
        return self.generator.get_state() if self._before is None else self._before
