"""Captions as word states: each sprite draws its own, encoded once and kept for the next run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tests import tiny

from lazydiffusion.models.prompt_encoder import PromptEncoder
from lazydiffusion.training.captions import LENGTH, CaptionBank, captions_of, encode_captions
from lazydiffusion.training.sprites import SpriteBank

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return PromptEncoder()


def sprites() -> SpriteBank:
    """Four sprites with a few captions each; one is longer than what is kept of it."""
    bank = tiny.bank(4)
    bank.captions = [
        ["cat", "cat, pet", "cat, animal"],
        ["hat, flat"],
        ["sun"],
        ["sea", "a very long name " * 10],
    ]
    bank.styles = ["flat", "ink", "ink", "flat"]
    return bank


def test_a_sprite_is_called_by_its_name_its_style_and_its_tags() -> None:
    assert captions_of(sprites(), each=3)[0] == ["cat", "cat, flat", "cat, pet"]
    assert captions_of(sprites(), each=9)[2] == ["sun", "sun, ink"]
    assert captions_of(sprites(), each=1)[3] == ["sea"]
    twice = dataclasses.replace(tiny.bank(1), captions=[["sun", "sun", "sun, flat"]], styles=["flat"])
    assert captions_of(twice, each=9) == [["sun", "sun, flat"]]


def test_each_sprite_draws_its_own_captions_and_all_of_them(encoder: PromptEncoder) -> None:
    bank = sprites()
    captions = encode_captions(bank, encoder, each=3)
    drawn = torch.arange(4).repeat_interleave(40)

    states, mask = captions.draw(drawn, torch.Generator().manual_seed(0))

    assert states.shape == (160, LENGTH, 384)
    assert states.dtype == torch.float32
    assert mask.dtype == torch.bool
    for sprite, texts in enumerate(captions_of(bank, 3)):
        seen = dict.fromkeys(texts, 0)
        for row in range(40 * sprite, 40 * sprite + 40):
            seen[which(encoder, texts, states[row], mask[row])] += 1
        assert all(count > 3 for count in seen.values()), seen


def which(encoder: PromptEncoder, texts: list[str], states: torch.Tensor, mask: torch.Tensor) -> str:
    """The text that these states belong to; they are kept in float16."""
    for text in texts:
        exact = encoder([text])[0][0, :LENGTH]
        if int(mask.sum()) == len(exact) and torch.allclose(states[mask], exact, atol=2e-3):
            return text
    raise AssertionError("the states of another caption")


def test_nothing_but_background_draws_the_empty_prompt(encoder: PromptEncoder) -> None:
    captions = encode_captions(sprites(), encoder, each=2)
    states, mask = captions.draw(torch.tensor([-1, 0, -1]))
    exact, _ = encoder([""])

    assert mask.sum(1).tolist()[::2] == [2, 2]
    assert torch.allclose(states[0, :2], exact[0], atol=2e-3)
    assert torch.equal(states[0], states[2])
    assert (states[~mask] == 0).all()


def test_the_same_generator_draws_the_same_captions(encoder: PromptEncoder) -> None:
    captions = encode_captions(sprites(), encoder)
    drawn = torch.zeros(20, dtype=torch.long)
    first, again = (captions.draw(drawn, torch.Generator().manual_seed(7))[0] for _ in range(2))

    assert torch.equal(first, again)


def test_a_caption_is_encoded_once_for_all_sprites_that_have_it(encoder: PromptEncoder) -> None:
    bank = tiny.bank(4)
    bank.captions = [["cat"], ["cat"], ["dog"], ["dog"]]
    bank.styles = ["flat"] * 4

    assert len(encode_captions(bank, encoder)) == 5  # "", cat, cat in style, dog, dog in style


def test_the_next_run_finds_them(encoder: PromptEncoder, tmp_path: Path) -> None:
    runs: list[int] = []
    counting = encoder.register_forward_pre_hook(lambda _, prompts: runs.append(len(prompts[0])))

    def encode(bank: SpriteBank) -> CaptionBank:
        return encode_captions(bank, encoder, cache=tmp_path / "cache")

    fresh = encode(sprites())
    assert runs == [len(fresh)]
    kept = encode(sprites())
    assert len(runs) == 1
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".safetensors"]
    drawn = torch.arange(4)
    for fresh_part, kept_part in zip(
        fresh.draw(drawn, torch.Generator().manual_seed(1)),
        kept.draw(drawn, torch.Generator().manual_seed(1)),
        strict=True,
    ):
        assert torch.equal(fresh_part, kept_part)

    other = sprites()
    other.captions[0] = ["dog"]
    encode(other)
    assert len(runs) == 2  # other captions are not taken from it

    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    encode(sprites())
    assert len(runs) == 3  # nor from a file that a power cut damaged
    counting.remove()


def test_batches_are_put_back_in_order(encoder: PromptEncoder) -> None:
    whole, parts = (encode_captions(sprites(), encoder, batch=batch) for batch in (256, 2))
    drawn = torch.arange(4).repeat(5)
    first, second = (bank.draw(drawn, torch.Generator().manual_seed(3)) for bank in (whole, parts))

    assert torch.allclose(first[0], second[0], atol=2e-3)
    assert torch.equal(first[1], second[1])
