"""What the transformers are built of: rotary positions, attention with kept keys, feed-forward, and the two blocks."""

from __future__ import annotations

import math
import warnings
from unittest.mock import Mock

import pytest
import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny import perturbed
from torch import Tensor
from torch.nn import functional

from lazydiffusion.models.layers import (
    Attention,
    DecoderBlock,
    EncoderBlock,
    Family,
    FeedForward,
    attend,
    make_norm,
    masked_out,
    modulations,
    rotary_2d,
    rotate,
    sincos_2d,
)
from lazydiffusion.models.patches import gather

pytestmark = pytest.mark.unit
FAMILIES: list[Family] = ["modern", "pixart"]
CHANNELS, HEADS = 32, 2


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grid(rows: int, cols: int) -> Tensor:
    """(1, rows * cols, 2): positions (y, x) in tokens."""
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(cols) + 0.5, indexing="ij")
    return torch.stack([y, x], dim=-1).reshape(1, -1, 2)


def test_rotation_keeps_every_length_and_does_nothing_at_the_centre() -> None:
    x = random(1, HEADS, 6, 16)
    turned = rotate(x, rotary_2d(grid(2, 3), 16))

    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert torch.equal(rotate(x, rotary_2d(torch.zeros(1, 6, 2), 16)), x)


@given(st.floats(-100, 100), st.floats(-100, 100))
@settings(max_examples=20)
def test_rotated_products_depend_on_distances_alone(dy: float, dx: float) -> None:
    queries, keys, positions = random(1, 1, 6, 16), random(1, 1, 6, 16, seed=2), grid(2, 3)
    here, there = rotary_2d(positions, 16), rotary_2d(positions + torch.tensor([dy, dx]), 16)

    products = rotate(queries, here) @ rotate(keys, here).mT
    moved = rotate(queries, there) @ rotate(keys, there).mT

    assert torch.allclose(moved, products, atol=1e-3)


def test_both_axes_turn_each_its_own_half_of_the_pairs() -> None:
    along_y, along_x = (
        rotary_2d(torch.tensor([[position]]), 16)[0].flatten() for position in ((3.0, 0.0), (0.0, 3.0))
    )

    assert (along_y[:4] != 1).all()
    assert (along_y[4:] == 1).all()
    assert (along_x[:4] == 1).all()
    assert along_x[4] == pytest.approx(math.cos(3))  # the fastest frequency: one radian per token
    assert along_x[7] == pytest.approx(math.cos(3 * 100 ** (-3 / 4)))


def test_positions_that_are_added_are_those_of_diffusers() -> None:
    ours = sincos_2d(grid(3, 5).double() - 0.5, 24)
    theirs = get_2d_sincos_pos_embed(24, (3, 5), base_size=3, output_type="pt")
    # diffusers scales a grid to base_size along each axis: its rows are 0, 1, 2 and its columns 0, 3 / 5, ...
    scaled = sincos_2d((grid(3, 5).double() - 0.5) * torch.tensor([1, 3 / 5]), 24)

    assert ours.shape == (1, 15, 24)
    assert torch.allclose(scaled[0], theirs.double(), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_normalisation_of_each_family(family: Family) -> None:
    x = random(2, 3, CHANNELS) * 7 + 3
    plain, learned = make_norm(CHANNELS, family, affine=False), make_norm(CHANNELS, family, affine=True)

    assert list(plain.parameters()) == []
    assert len(list(learned.parameters())) == (1 if family == "modern" else 2)
    assert torch.equal(plain(x), learned(x))
    assert torch.allclose(plain(x).square().mean(-1), torch.ones(2, 3), atol=1e-4)
    if family == "pixart":
        assert torch.allclose(plain(x).mean(-1), torch.zeros(2, 3), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_key_that_is_masked_does_not_count(family: Family) -> None:
    attention = perturbed(Attention(CHANNELS, HEADS, family)).requires_grad_(False)
    x, source = random(2, 4, CHANNELS), random(2, 5, CHANNELS)
    mask = torch.tensor([True, True, True, False, False]).expand(2, 1, 1, -1)

    masked = attention(x, attention.keys_values(source), mask=mask)

    assert torch.allclose(masked, attention(x, attention.keys_values(source[:, :3])), atol=1e-5)
    assert not torch.allclose(masked, attention(x, attention.keys_values(source)), atol=1e-2)


def test_the_families_feed_forward_layers_have_about_as_many_weights() -> None:
    sizes = [
        sum(p.numel() for p in FeedForward(448, family).parameters() if p.ndim == 2) for family in FAMILIES
    ]

    assert sizes[0] == pytest.approx(sizes[1], rel=0.03)


def test_asking_for_some_tokens_only_gives_what_all_would_give() -> None:
    block = perturbed(EncoderBlock(CHANNELS, HEADS)).requires_grad_(False)
    x = random(2, 12, CHANNELS)
    rotary = rotary_2d(grid(3, 4).repeat(2, 1, 1) * torch.tensor([1.0, 1.3]), CHANNELS // HEADS)
    kept = torch.tensor([[3, 0, 7], [11, 5, 6]])

    assert torch.allclose(block(x, rotary, kept), gather(block(x, rotary), kept), atol=1e-5)


def test_rotation_is_a_product_of_complex_numbers() -> None:
    x, (cos, sin) = random(1, HEADS, 6, 16), rotary_2d(grid(2, 3) * 7, 16)
    turned = torch.complex(*x.chunk(2, dim=-1)) * torch.complex(cos, sin)
    assert torch.allclose(rotate(x, (cos, sin)), torch.cat([turned.real, turned.imag], dim=-1), atol=1e-6)


def test_what_is_masked_out_is_what_attention_makes_of_the_mask() -> None:
    queries, words = random(2, HEADS, 5, 16), random(2, HEADS, 7, 16, seed=2)
    mask = torch.arange(7).expand(2, 1, 1, 7) < torch.tensor([3, 7])[:, None, None, None]
    for dtype in (torch.float32, torch.bfloat16):
        given = queries.to(dtype), words.to(dtype), words.to(dtype)
        found = functional.scaled_dot_product_attention(*given, attn_mask=masked_out(mask, dtype))
        assert torch.equal(found, functional.scaled_dot_product_attention(*given, attn_mask=mask))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_decoder_block_is_adaln_written_out(family: Family, dtype: torch.dtype) -> None:
    blocks = [perturbed(DecoderBlock(CHANNELS, HEADS, family)).requires_grad_(False) for _ in range(2)]
    shared, x, words = random(2, 6, CHANNELS), random(2, 5, CHANNELS), random(2, 3, CHANNELS)
    rotary = rotary_2d(grid(1, 5).repeat(2, 1, 1), CHANNELS // HEADS) if family == "modern" else None
    for number, block in enumerate(blocks):
        text = block.text_attention.keys_values(words)
        parts = (shared + block.modulation_offset)[:, :, None]
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = parts.unbind(1)
        normed = block.norm_attention(x) * (1 + scale_a) + shift_a
        after = x + gate_a * block.attention(normed, block.attention.keys_values(normed, rotary), rotary)
        after = after + block.text_attention(block.norm_text(after), text)
        normed = block.norm_feed_forward(after) * (1 + scale_f) + shift_f
        wanted = after + gate_f * block.feed_forward(normed)

        own = modulations(shared.to(dtype), [it.to(dtype) for it in blocks], dtype)[number]
        found = block(x.to(dtype), own, rotary, tuple(part.to(dtype) for part in text), None)
        assert found.dtype == dtype
        error = (found - wanted).abs().mean() / wanted.abs().mean()
        assert error < (1e-6 if dtype == torch.float32 else 0.02)
        for it in blocks:
            it.to(torch.float32)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_block_without_gates_and_text_changes_nothing(family: Family) -> None:
    """adaLN-zero: with a modulation of zero and a text output of zero the residual paths are closed."""
    block = DecoderBlock(CHANNELS, HEADS, family).requires_grad_(False)
    block.text_attention.to_out.weight.zero_()
    if block.text_attention.to_out.bias is not None:
        block.text_attention.to_out.bias.zero_()
    x, words = random(2, 5, CHANNELS), random(2, 3, CHANNELS)
    rotary = rotary_2d(grid(1, 5).repeat(2, 1, 1), CHANNELS // HEADS) if family == "modern" else None

    out = block(x, torch.zeros(2, 6, CHANNELS), rotary, block.text_attention.keys_values(words), None)

    assert torch.equal(out, x)


@pytest.mark.parametrize("masked", [True, False])
def test_attention_where_a_cpu_trains_is_torchs(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 3, 5, 8, generator=generator)
    keys, values = torch.randn(2, 2, 3, 7, 8, generator=generator)
    mask = masked_out(torch.arange(7) < torch.tensor([[[[4]]], [[[7]]]]), torch.float32) if masked else None
    calls = Mock(wraps=functional.scaled_dot_product_attention)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", calls)
    expected = attend(queries, keys, values, mask)
    assert calls.call_count == 1
    trained = [part.clone().requires_grad_() for part in (queries, keys, values)]
    answer = attend(*trained, mask)
    assert calls.call_count == 1
    assert torch.allclose(answer, expected, atol=1e-6)

    as_torch = [part.clone().requires_grad_() for part in (queries, keys, values)]
    answer.square().sum().backward()
    calls(*as_torch, mask).square().sum().backward()
    for part, other in zip(trained, as_torch, strict=True):
        assert torch.allclose(part.grad, other.grad, atol=1e-5)


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_is_torchs_in_the_precision_of_what_it_is_given(affine: bool) -> None:
    """Under autocast, whose matrix products are bfloat16, its weight is not; torch then warns and fuses nothing."""
    norm = make_norm(8, "modern", affine=affine)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    weight = norm.weight if affine else None
    assert torch.equal(norm(x), torch.nn.functional.rms_norm(x, (8,), weight, 1e-6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        half = norm(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), norm(x), atol=0.05)
