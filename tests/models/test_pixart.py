"""A decoder that starts from PixArt computes what PixArt computes, where the two coincide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor

from lazydiffusion.errors import BadModel
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.patches import patchify, unpatchify
from lazydiffusion.models.pixart import decoder_from_pixart
from lazydiffusion.tokens import window_positions

pytestmark = pytest.mark.unit
CONTEXT_CHANNELS = 12


def tiny_pixart(**changes: Any) -> PixArtTransformer2DModel:
    """A PixArt of 2 layers; every parameter is random, those that training starts at zero as well."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "num_attention_heads": 2, "attention_head_dim": 12, "cross_attention_dim": 24, "num_layers": 2,
        "in_channels": 4, "out_channels": 8, "sample_size": 16, "patch_size": 2, "caption_channels": 16,
    }  # fmt: skip
    transformer = PixArtTransformer2DModel(**(settings | changes)).eval().requires_grad_(False)
    for parameter in transformer.parameters():
        parameter.normal_(std=0.2)
    return transformer  # type: ignore[no-any-return]


def example(side: int = 16) -> dict[str, Tensor]:
    """Two noisy latent images of side x side, their time steps and texts of different lengths."""
    generator = torch.Generator().manual_seed(1)
    return {
        "latents": torch.randn(2, 4, side, side, generator=generator),
        "timestep": torch.tensor([801, 37]),
        "text": torch.randn(2, 5, 16, generator=generator),
        "text_mask": torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
    }


def noise_by_pixart(
    transformer: PixArtTransformer2DModel, example: dict[str, Tensor], size: tuple[int, int] | None = None
) -> Tensor:
    conditions: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
    if size is not None:
        conditions["resolution"] = torch.tensor([[float(size[1]), float(size[0])]] * 2)
        conditions["aspect_ratio"] = torch.tensor([[size[1] / size[0]]] * 2)
    output = transformer(
        example["latents"],
        encoder_hidden_states=example["text"],
        timestep=example["timestep"],
        encoder_attention_mask=example["text_mask"],
        added_cond_kwargs=conditions,
    )
    noise: Tensor = output.sample[:, :4]
    return noise


def noise_by_decoder(
    decoder: LazyDecoder,
    example: dict[str, Tensor],
    context: Tensor | None = None,
    order: Tensor | None = None,
) -> Tensor:
    """The prediction for every token, or for those of `order`, as tokens."""
    rows, cols = (side // 2 for side in example["latents"].shape[-2:])
    order = torch.arange(rows * cols) if order is None else order
    positions = torch.from_numpy(window_positions(rows, cols))[order].expand(2, -1, -1)
    tokens = patchify(example["latents"], 2)[:, order]
    context = torch.zeros(2, len(order), CONTEXT_CHANNELS) if context is None else context
    output: Tensor = decoder(
        tokens, example["timestep"].float(), context, example["text"], example["text_mask"], positions
    )
    return output


@pytest.mark.parametrize("sample_size", [8, 16])
@pytest.mark.parametrize("interpolation_scale", [None, 2])
def test_given_all_tokens_it_predicts_pixarts_noise(
    sample_size: int, interpolation_scale: int | None
) -> None:
    transformer = tiny_pixart(sample_size=sample_size, interpolation_scale=interpolation_scale)
    inputs = example(sample_size)
    decoder = decoder_from_pixart(transformer, CONTEXT_CHANNELS)

    grid = (sample_size // 2, sample_size // 2)
    found = unpatchify(noise_by_decoder(decoder, inputs), grid, 2)

    expected = noise_by_pixart(transformer, inputs)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert decoder.config.prediction == "epsilon"


def test_the_size_that_pixart_is_told_becomes_part_of_the_weights() -> None:
    transformer = tiny_pixart(use_additional_conditions=True)
    inputs = example()

    native = noise_by_decoder(decoder_from_pixart(transformer, CONTEXT_CHANNELS), inputs)
    wide = noise_by_decoder(decoder_from_pixart(transformer, CONTEXT_CHANNELS, size=(256, 96)), inputs)

    expected = [patchify(noise_by_pixart(transformer, inputs, size), 2) for size in ((128, 128), (256, 96))]
    torch.testing.assert_close(native, expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(wide, expected[1], atol=1e-5, rtol=1e-5)
    assert (native - wide).abs().max() > 1e-2


def test_tokens_are_told_apart_by_their_positions_alone() -> None:
    decoder = decoder_from_pixart(tiny_pixart(), CONTEXT_CHANNELS)
    hidden = torch.tensor([3, 11, 12, 40, 63])
    shuffled = torch.tensor([2, 0, 4, 1, 3])

    straight = noise_by_decoder(decoder, example(), order=hidden)
    permuted = noise_by_decoder(decoder, example(), order=hidden[shuffled])

    torch.testing.assert_close(permuted, straight[:, shuffled], atol=1e-5, rtol=1e-5)


def test_a_subset_of_tokens_differs_from_the_whole_by_self_attention_only() -> None:
    """Without self-attention, a token's prediction does not depend on which others are hidden."""
    transformer = tiny_pixart()
    hidden = torch.tensor([3, 11, 12, 40, 63])

    decoder = decoder_from_pixart(transformer, CONTEXT_CHANNELS)
    few, all_tokens = noise_by_decoder(decoder, example(), order=hidden), noise_by_decoder(decoder, example())
    assert (few - all_tokens[:, hidden]).abs().max() > 1e-2

    for block in transformer.transformer_blocks:
        block.attn1.to_out[0].weight.zero_()
    decoder = decoder_from_pixart(transformer, CONTEXT_CHANNELS)
    few, all_tokens = noise_by_decoder(decoder, example(), order=hidden), noise_by_decoder(decoder, example())
    torch.testing.assert_close(few, all_tokens[:, hidden], atol=1e-5, rtol=1e-5)


def test_context_and_sketch_add_nothing_until_they_are_trained() -> None:
    decoder = decoder_from_pixart(tiny_pixart(), CONTEXT_CHANNELS)
    context = torch.randn(2, 64, CONTEXT_CHANNELS)

    assert torch.equal(noise_by_decoder(decoder, example(), context), noise_by_decoder(decoder, example()))
    assert not decoder.embed_context.weight.any()
    assert not decoder.embed_sketch(torch.randn(1, 1, 16 * 16 * 4)).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"caption_channels": None},
        {"activation_fn": "geglu"},
        {"attention_bias": False},
        {"norm_elementwise_affine": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_pixart_of_another_kind_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadModel, match=next(iter(changes))):
        decoder_from_pixart(tiny_pixart(**changes), CONTEXT_CHANNELS)
