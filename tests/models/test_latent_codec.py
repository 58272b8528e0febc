"""Pixels to latents and back, lazily: what is decoded equals the full decode, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from diffusers import DiffusionPipeline
from hypothesis import given, settings
from tests.models.tiny_vae import tiny_vae
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lazydiffusion.errors import BadModel
from lazydiffusion.models import lazy_vae
from lazydiffusion.models.extension import extend
from lazydiffusion.models.latent_codec import LatentCodec, islands
from lazydiffusion.models.patches import gather, patchify, unpatchify
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit
VAE = tiny_vae(scaling_factor=0.5, shift_factor=0.1)
PX = 16
"""Side of a token."""


class OneCodec(DiffusionPipeline):
    """A pipeline of nothing but a codec."""

    def __init__(self, codec: LatentCodec) -> None:
        super().__init__()
        self.register_modules(codec=codec)


def a_window(rows: int, cols: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, rows * PX, cols * PX, generator=torch.manual_seed(seed)) * 2 - 1


def a_hole(marked: Tensor) -> Tensor:
    """The pixels of the marked tokens."""
    return marked.repeat_interleave(PX, 0).repeat_interleave(PX, 1)[None, None]


def a_mask(rows: int, cols: int, *tokens: int) -> Tensor:
    mask = torch.zeros(rows * cols, dtype=torch.bool)
    mask[list(tokens)] = True
    return mask.view(rows, cols)


def indices(mask: Tensor) -> Tensor:
    return mask.flatten().nonzero()[:, 0][None]


def full_decode(encoded_latents: Tensor) -> Tensor:
    with torch.no_grad():
        decoded: Tensor = VAE.decode(encoded_latents / 0.5 + 0.1).sample.clamp(-1, 1)
    return decoded


masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda size: st.lists(st.integers(0, size[0] * size[1] - 1), min_size=1, max_size=12).map(
        lambda tokens: a_mask(*size, *tokens)
    )
)


@settings(max_examples=10)
@given(mask=masks)
def test_with_the_windows_statistics_the_lazy_decode_is_the_full_one(mask: Tensor) -> None:
    codec = LatentCodec.from_vae(VAE, whole_window=True)
    window, hole = a_window(*mask.shape), a_hole(mask)

    encoded = codec.encode(window, hole, indices(mask))
    decoded = codec.decode(encoded.tokens, encoded)

    expected = full_decode(encoded.surroundings.latents)
    torch.testing.assert_close(
        decoded[hole.expand_as(window)], expected[hole.expand_as(window)], atol=1e-4, rtol=0
    )
    assert torch.equal(decoded[~hole.expand_as(window)], window[~hole.expand_as(window)])
    with torch.no_grad():
        latents = (VAE.encode(extend(window, hole)).latent_dist.mode() - 0.1) * 0.5
    torch.testing.assert_close(encoded.tokens, gather(patchify(latents, 2), indices(mask)))


def test_a_mask_of_the_whole_window_is_decoded_without_estimates() -> None:
    codec = LatentCodec.from_vae(VAE)
    mask = torch.ones(3, 5, dtype=torch.bool)
    encoded = codec.encode(a_window(3, 5), a_hole(mask), indices(mask))
    tokens = torch.randn(1, 15, codec.token_channels)

    decoded = codec.decode(tokens, encoded)

    torch.testing.assert_close(decoded, full_decode(unpatchify(tokens, (3, 5), 2)), atol=1e-5, rtol=0)
    assert encoded.surroundings.statistics is None


def test_the_estimated_statistics_are_all_that_differs_from_the_full_decode() -> None:
    codec = LatentCodec.from_vae(VAE)
    mask = a_mask(12, 12, 40, 41, 52, 53, 130)
    window, hole = a_window(12, 12), a_hole(mask)
    encoded = codec.encode(window, hole, indices(mask))

    decoded = codec.decode(encoded.tokens, encoded)

    latents, statistics = encoded.surroundings.latents, encoded.surroundings.statistics
    with torch.no_grad():
        features = lazy_vae.decode_middle(VAE, latents / 0.5 + 0.1)
        with lazy_vae.given_norms(statistics):
            everywhere = lazy_vae.run_layers(
                lazy_vae.decoder_layers(VAE), features, Box(0, 0, 192, 192)
            ).clamp(-1, 1)
    inside = hole.expand_as(window)
    torch.testing.assert_close(decoded[inside], everywhere[inside], atol=1e-4, rtol=0)
    assert (decoded - full_decode(latents))[inside].abs().max() > 1e-3

    codec.decode(encoded.tokens + 1, encoded)
    assert encoded.surroundings.statistics is statistics  # of the edit, not of a variation


def test_what_the_hole_shows_does_not_matter() -> None:
    codec = LatentCodec.from_vae(VAE)
    mask = a_mask(6, 6, 14, 15, 20, 21)
    window, hole = a_window(6, 6), a_hole(mask)
    others = torch.where(hole, a_window(6, 6, seed=1), window)
    around = torch.tensor([[14, 15, 20, 21, 8, 13]])

    assert torch.equal(codec.encode(window, hole, around).tokens, codec.encode(others, hole, around).tokens)


def test_a_latent_is_known_where_all_its_pixels_are_visible() -> None:
    codec = LatentCodec.from_vae(VAE)
    hole = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    hole[..., 7, 8] = True  # in the first token, upper right latent

    encoded = codec.encode(a_window(2, 2), hole, torch.tensor([[0, 3]]))

    assert (~encoded.keep[0, 0]).tolist() == [False] * 4 + [True] * 4 + [False] * 8
    assert encoded.keep[0, 1].all()
    assert encoded.surroundings.hidden.flatten().tolist() == [True, False, False, False]


def test_a_variation_does_not_depend_on_those_beside_it() -> None:
    codec = LatentCodec.from_vae(VAE)
    mask = a_mask(5, 5, 6, 7, 12)
    encoded = codec.encode(a_window(5, 5), a_hole(mask), indices(mask))
    tokens = torch.randn(3, 3, codec.token_channels)

    together = codec.decode(tokens, encoded)

    alone = torch.cat([codec.decode(tokens[i : i + 1], encoded) for i in range(3)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("whole_window", [False, True])
def test_another_picture_can_be_the_start(whole_window: bool) -> None:
    codec = LatentCodec.from_vae(VAE, whole_window=whole_window)
    mask = a_mask(6, 6, 7, 8, 13)
    nothing = torch.zeros(1, 1, 96, 96, dtype=torch.bool)
    picture = a_window(6, 6, seed=2)
    encoded = codec.encode(a_window(6, 6), a_hole(mask), indices(mask))

    start = codec.encode_picture(picture, encoded)

    torch.testing.assert_close(start, codec.encode(picture, nothing, indices(mask)).tokens)


def test_memory_that_ends_amid_the_statistics_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of a window outlives the edit: the next one must be able to decode with it."""
    codec = LatentCodec.from_vae(VAE)
    mask = a_mask(6, 6, 7, 8, 13)
    encoded = codec.encode(a_window(6, 6), a_hole(mask), indices(mask))
    tokens = torch.randn(1, 3, codec.token_channels, generator=torch.manual_seed(1))
    real, norms = torch.nn.functional.group_norm, 0

    def full(*arguments: Any, **named: Any) -> Tensor:
        nonlocal norms
        norms += 1
        if norms == 20:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "group_norm", full)
        with pytest.raises(torch.cuda.OutOfMemoryError):
            codec.decode(tokens, encoded)

    assert encoded.surroundings.statistics is None
    again = codec.decode(tokens, encoded)
    fresh = codec.encode(a_window(6, 6), a_hole(mask), indices(mask))
    assert torch.equal(again, codec.decode(tokens, fresh))


def test_a_small_mask_costs_little_wherever_it_lies() -> None:
    codec = LatentCodec.from_vae(VAE)
    window = a_window(24, 24)
    mask = a_mask(24, 24, *(row * 24 + col for row in range(9, 16) for col in range(8, 16)))  # a tenth
    corners = a_mask(24, 24, 0, 23, 24 * 23, 24 * 24 - 1)

    def flops(mask: Tensor) -> int:
        encoded = codec.encode(window, a_hole(mask), indices(mask))
        codec.decode(encoded.tokens, encoded)  # records the statistics, which all variations share
        with FlopCounterMode(display=False) as counter:
            codec.decode(encoded.tokens, encoded)
        return int(counter.get_total_flops())

    everything, tenth = flops(torch.ones(24, 24, dtype=torch.bool)), flops(mask)
    # Halo and middle included, which weigh more here than at 1024 px (test_lazy_vae).
    assert tenth < 0.35 * everything
    assert flops(corners) < tenth


@given(mask=masks, reach=st.integers(0, 3))
def test_islands_hold_every_marked_token_and_start_and_end_with_one(mask: Tensor, reach: int) -> None:
    boxes = islands(mask, reach)

    covered = torch.zeros_like(mask)
    for box in boxes:
        part = mask[box.slices()]
        assert all(edge.any() for edge in (part[0], part[-1], part[:, 0], part[:, -1]))
        covered[box.slices()] = True
    assert covered[mask].all()


def test_islands_that_are_near_are_one() -> None:
    mask = a_mask(9, 9, 0, 3, 80)

    assert [box.as_list() for box in islands(mask, 0)] == [[0, 0, 1, 1], [3, 0, 1, 1], [8, 8, 1, 1]]
    assert [box.as_list() for box in islands(mask, 1)] == [[0, 0, 4, 1], [8, 8, 1, 1]]
    assert islands(torch.zeros(2, 2, dtype=torch.bool)) == []


def test_a_pipeline_saves_and_loads_it_with_the_vaes_weights(tmp_path: Path) -> None:
    codec = LatentCodec.from_vae(VAE)
    mask = a_mask(4, 4, 5, 6)
    window, hole = a_window(4, 4), a_hole(mask)
    OneCodec(codec).save_pretrained(tmp_path)
    assert {path.suffix for path in (tmp_path / "codec").iterdir()} == {".json", ".safetensors"}

    loaded = OneCodec.from_pretrained(tmp_path).codec

    assert isinstance(loaded, LatentCodec)
    encoded, again = codec.encode(window, hole, indices(mask)), loaded.encode(window, hole, indices(mask))
    assert torch.equal(encoded.tokens, again.tokens)
    assert torch.equal(codec.decode(encoded.tokens, encoded), loaded.decode(again.tokens, again))


def test_a_window_that_is_no_whole_number_of_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="24 x 32 px"):
        LatentCodec.from_vae(VAE).encode(
            torch.zeros(1, 3, 32, 24), torch.ones(1, 1, 32, 24, dtype=torch.bool), torch.tensor([[0]])
        )


def test_a_vae_with_a_scale_per_channel_is_refused() -> None:
    with pytest.raises(BadModel, match="each latent channel"):
        LatentCodec.from_vae(tiny_vae(latents_mean=[0.0] * 4, latents_std=[1.0] * 4))
