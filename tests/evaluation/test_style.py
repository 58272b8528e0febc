"""A classifier of sets, trained in a moment on the tiny bank's discs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests import tiny
from tests.evaluation.test_sprite_features import MeanColour
from torch import nn

from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation import style
from lazydiffusion.evaluation.sprite_features import render
from lazydiffusion.evaluation.style import StyleClassifier
from lazydiffusion.training.sprites import SpriteBank

pytestmark = pytest.mark.unit


class DiscColour(MeanColour):
    """Features that fit the bank: the colour in a picture's middle, where the sprite is."""

    name = "disc colour"

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        middle = pictures.shape[-1] // 2
        return super().__call__(pictures[..., middle - 4 : middle + 4, middle - 4 : middle + 4])


def bank(count: int = 160) -> SpriteBank:
    """Red discs in one set and blue ones in the other; a quarter of them is held out."""
    discs = [
        torch.from_numpy(tiny.disc(64, colour)).permute(2, 0, 1) for colour in ((255, 0, 0), (0, 0, 255))
    ]
    sets = torch.arange(count) % 3 % 2
    return SpriteBank(
        pixels=torch.stack(discs)[sets],
        captions=[["disc"]] * count,
        sets=sets,
        set_names=["reds", "blues"],
        styles=["flat"] * count,
        keys=[f"{number * 16:016x}" for number in range(count)],
    )


@pytest.fixture(autouse=True)
def _enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many steps on a few sprites as on thousands."""
    monkeypatch.setattr(style, "EPOCHS", 300)


def test_it_tells_the_sets_that_it_was_trained_on(tmp_path: Path) -> None:
    sprites = bank()
    classifier = StyleClassifier.trained(DiscColour(), sprites, tmp_path)
    assert classifier.set_names == ["reds", "blues"]
    assert classifier.held_out_accuracy > 0.9
    pictures = render(sprites.pixels, torch.Generator().manual_seed(7))
    top, probability = classifier.consistency(pictures, sprites.sets)
    assert top.shape == probability.shape == (160,)
    assert top.float().mean() > 0.9
    assert ((probability > 0.5) == top).all()
    wrong, small = classifier.consistency(pictures, 1 - sprites.sets)
    assert torch.equal(wrong, ~top)
    assert torch.allclose(small, 1 - probability, atol=1e-5)


def test_features_that_say_nothing_of_the_set_are_worth_what_guessing_is() -> None:
    class Blind(MeanColour):
        name = "blind"

        def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.rand(len(pictures), 3, generator=torch.Generator().manual_seed(len(pictures)))

    sprites = bank()
    classifier = StyleClassifier.trained(Blind(), sprites)
    assert classifier.held_out_accuracy < 0.8  # two thirds are red


def test_it_is_trained_once_and_leaves_the_random_state_alone(tmp_path: Path) -> None:
    network = DiscColour()
    state = torch.random.get_rng_state()
    first = StyleClassifier.trained(network, bank(), tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(list(tmp_path.glob("style-*.safetensors"))) == 1
    shown = network.shown
    again = StyleClassifier.trained(network, bank(), tmp_path)
    assert network.shown == shown
    assert again.held_out_accuracy == first.held_out_accuracy
    pictures = render(bank().pixels, torch.Generator().manual_seed(8))
    both = [
        classifier.consistency(pictures, torch.zeros(160, dtype=torch.long))[1]
        for classifier in (first, again)
    ]
    assert torch.equal(*both)


def test_held_out_sprites_are_not_trained_on() -> None:
    sprites = bank()
    held_out = sprites.held_out()
    sprites.sets[held_out] = 1 - sprites.sets[held_out]  # labels that contradict all others
    assert StyleClassifier.trained(DiscColour(), sprites).held_out_accuracy < 0.1


def test_a_bank_of_one_kind_of_sprites_is_refused() -> None:
    sprites = bank()
    with pytest.raises(BadInput, match="Give it the whole bank"):
        StyleClassifier.trained(DiscColour(), sprites.subset(sprites.held_out()))


def test_any_head_will_do() -> None:
    head = nn.Linear(3, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]))
        head.bias.copy_(torch.tensor([4.0, 0.0]))
    red, black = torch.full((1, 3, 8, 8), -1.0), torch.full((1, 3, 8, 8), -1.0)
    red[:, 0] = 1
    top, probability = StyleClassifier(MeanColour(), head, ["dark", "red"], 1.0).consistency(
        torch.cat([red, black]), torch.tensor([1, 1])
    )
    assert top.tolist() == [True, False]
    assert probability.tolist() == pytest.approx([1 / (1 + 2.71828**-5), 1 / (1 + 2.71828**4)], rel=1e-3)
