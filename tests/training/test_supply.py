"""The scenes of several steps, made together and given out one step after the other."""

from __future__ import annotations

import pytest
import torch
from tests import tiny
from torch import Tensor

from lazydiffusion.models.prompt_encoder import PromptEncoder
from lazydiffusion.training.captions import CaptionBank, encode_captions
from lazydiffusion.training.scenes import SceneMaker, Scenes
from lazydiffusion.training.sprites import SpriteBank
from lazydiffusion.training.supply import Supply

pytestmark = pytest.mark.unit
BATCH = 4


@pytest.fixture(scope="module")
def bank() -> SpriteBank:
    return tiny.bank()


@pytest.fixture(scope="module")
def captions(bank: SpriteBank) -> CaptionBank:
    return encode_captions(bank, PromptEncoder(), 2)


def supply(bank: SpriteBank, captions: CaptionBank, at_once: int, state: Tensor | None = None) -> Supply:
    generator = torch.Generator().manual_seed(7)
    if state is not None:
        generator.set_state(state)
    return Supply(SceneMaker(bank, 4, 2, generator), captions, lambda step: 6 + step, BATCH, at_once)


def equal(one: tuple[Scenes, Tensor, Tensor], other: tuple[Scenes, Tensor, Tensor]) -> bool:
    parts = [(*vars(scenes).values(), *text) for scenes, *text in (one, other)]
    return all(torch.equal(*pair) for pair in zip(*parts, strict=True))


def test_steps_that_are_made_together_share_what_one_making_gives(
    bank: SpriteBank, captions: CaptionBank
) -> None:
    some = supply(bank, captions, at_once=3)
    taken = [some.take(step) for step in range(4)]
    generator = torch.Generator().manual_seed(7)
    scenes = SceneMaker(bank, 4, 2, generator).make(3 * BATCH, 6)
    text, mask = captions.draw(scenes.sprites, generator)
    for step in range(3):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        assert equal(taken[step], (scenes.part(rows), text[rows], mask[rows]))
    assert [scenes.indices.shape for scenes, *_ in taken] == [(BATCH, 6)] * 3 + [(BATCH, 9)]
    assert not equal(taken[0], taken[1])


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_run_that_is_stopped_at_any_step_goes_on_with_the_same_scenes(
    bank: SpriteBank, captions: CaptionBank, at_once: int, stop: int
) -> None:
    whole = supply(bank, captions, at_once)
    expected = [whole.take(step) for step in range(7)]
    first = supply(bank, captions, at_once)
    for step in range(stop):
        first.take(step)
    second = supply(bank, captions, at_once, first.state())
    assert all(equal(second.take(step), expected[step]) for step in range(stop, 7))
    assert torch.equal(second.state(), whole.state())
