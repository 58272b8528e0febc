"""A part of a VAE's work gives the same pixels and latents as the whole of it; a smaller halo would not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import given, settings
from tests.models.tiny_vae import tiny_vae
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from lazydiffusion.errors import BadModel
from lazydiffusion.models import lazy_vae
from lazydiffusion.models.latent_codec import STABLE_DIFFUSION_VAE
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit
VAE = tiny_vae()


def whole(image: Tensor) -> Box:
    return Box(0, 0, image.shape[-1], image.shape[-2])


@st.composite
def parts(draw: st.DrawFn) -> tuple[tuple[int, int], Box]:
    """The size of a latent grid, and a box in it."""
    width, height = draw(st.integers(1, 34)), draw(st.integers(1, 34))
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return (width, height), Box(x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))


def in_px(box: Box) -> Box:
    return Box(*(8 * side for side in box.as_list()))


@settings(max_examples=12)
@given(parts())
def test_a_part_decoded_with_the_wholes_statistics_equals_the_full_decode(
    part: tuple[tuple[int, int], Box],
) -> None:
    (width, height), box = part
    latents = torch.randn(1, 4, height, width, generator=torch.manual_seed(width))
    with torch.no_grad():
        with lazy_vae.recorded_norms() as statistics:
            full = VAE.decode(latents).sample
        with lazy_vae.recorded_norms() as of_the_middle:
            features = lazy_vae.decode_middle(VAE, latents)
        with lazy_vae.given_norms(statistics[len(of_the_middle) :]):
            found = lazy_vae.run_layers(lazy_vae.decoder_layers(VAE), features, in_px(box))

    torch.testing.assert_close(found, full[(..., *in_px(box).slices())], atol=1e-4, rtol=0)


def test_half_the_halo_is_not_enough() -> None:
    latents = torch.randn(1, 4, 30, 30, generator=torch.manual_seed(0))
    box = Box(80, 96, 64, 48)
    layers = lazy_vae.decoder_layers(VAE)
    halved = [replace(layer, before=layer.before // 2, after=layer.after // 2) for layer in layers]

    with torch.no_grad():
        features = lazy_vae.decode_middle(VAE, latents)
        with lazy_vae.recorded_norms() as statistics:
            full = lazy_vae.run_layers(layers, features, Box(0, 0, 240, 240))[(..., *box.slices())]
        with lazy_vae.given_norms(statistics):
            enough = lazy_vae.run_layers(layers, features, box)
        with lazy_vae.given_norms(statistics):
            too_little = lazy_vae.run_layers(halved, features, box)

    assert (enough - full).abs().max() < 1e-4
    assert (too_little - full).abs().max() > 1e-2


@settings(max_examples=8)
@given(parts())
def test_a_part_is_encoded_as_in_the_whole_but_for_attention(part: tuple[tuple[int, int], Box]) -> None:
    (width, height), box = part
    vae = tiny_vae(mid_block_add_attention=False)
    picture = torch.randn(1, 3, 8 * height, 8 * width, generator=torch.manual_seed(height))
    with torch.no_grad():
        with lazy_vae.recorded_norms() as statistics:
            full = vae.encode(picture).latent_dist.parameters
        with lazy_vae.given_norms(statistics):
            found = lazy_vae.run_layers(lazy_vae.encoder_layers(vae), picture, box)

    torch.testing.assert_close(found, full[(..., *box.slices())], atol=1e-4, rtol=0)


def test_the_whole_run_layer_by_layer_is_the_vae() -> None:
    picture = torch.randn(1, 3, 48, 80, generator=torch.manual_seed(3))
    with torch.no_grad():
        moments = lazy_vae.run_layers(lazy_vae.encoder_layers(VAE), picture, Box(0, 0, 10, 6))
        features = lazy_vae.decode_middle(VAE, moments[:, :4])
        decoded = lazy_vae.run_layers(lazy_vae.decoder_layers(VAE), features, whole(picture))

        assert torch.equal(moments, VAE.encode(picture).latent_dist.parameters)
        assert torch.equal(decoded, VAE.decode(moments[:, :4]).sample)


def test_a_tenth_of_the_picture_costs_a_fifth_of_a_full_decode() -> None:
    # Shapes only: Stable Diffusion's VAE at 1024 x 1024 px, without memory or time.
    with torch.device("meta"):
        vae = AutoencoderKL(**STABLE_DIFFUSION_VAE)
        latents, features = torch.empty(1, 4, 128, 128), torch.empty(1, 512, 128, 128)

    def flops(box: Box | None) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            if box is None:
                vae.decode(latents)
            else:
                lazy_vae.run_layers(lazy_vae.decoder_layers(vae), features, box)
        return int(counter.get_total_flops())

    full, all_local, tenth = flops(None), flops(Box(0, 0, 1024, 1024)), flops(Box(352, 352, 320, 320))
    middle = full - all_local  # runs on the whole grid, whatever the mask
    assert tenth <= 0.12 * full
    assert tenth + middle <= 0.21 * full


def test_recording_and_replacing_statistics_nest_and_leave_the_modules_alone() -> None:
    norm = nn.GroupNorm(2, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x, other = torch.randn(1, 4, 5, 5), torch.randn(1, 4, 9) * 3 + 1
    plain = norm(x)

    with lazy_vae.recorded_norms() as statistics:
        norm(other)
    with lazy_vae.given_norms(statistics * 2):
        outer = norm(x)
        with lazy_vae.recorded_norms() as own:
            norm(x)
        with lazy_vae.given_norms(own):
            inner = norm(x)

    ((mean, variance),) = statistics
    expected = (x.view(1, 2, -1) - mean[..., None]) / (variance[..., None] + norm.eps).sqrt()
    expected = expected.view_as(x) * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(outer, expected)
    torch.testing.assert_close(inner, plain)
    assert torch.equal(norm(x), plain)
    assert not norm._forward_hooks
    assert not norm._forward_pre_hooks


class Made(TorchDispatchMode):
    """Holds everything that is computed, so that no two things lie in the same place."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        parts = made if isinstance(made, (tuple, list)) else [made]
        self.tensors += [part for part in parts if isinstance(part, Tensor)]
        return made


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pictures", [1, 2])
def test_in_half_precision_given_statistics_take_the_memory_of_the_result_alone(
    dtype: torch.dtype, pictures: int
) -> None:
    """Features of half a window are 270 MB in the decoder's last layers; in float32, twice over, a small GPU's last."""
    x = (torch.randn(pictures, 8, 40, 40) * 3 + 1).to(dtype)[
        :, :, 3:37, 2:39
    ]  # a crop, as run_layers gives it
    weight, bias = torch.randn(8).to(dtype), torch.randn(8).to(dtype)
    mean, variance = torch.randn(pictures, 2), torch.rand(pictures, 2) + 0.5
    with lazy_vae.given_norms([(mean, variance)]), Made() as made:
        found = functional.group_norm(x, 2, weight, bias, 1e-6)
    groups = x.float().unflatten(1, (2, 4))
    shaped = [part[:, :, None, None, None] for part in (mean, variance)]
    expected = ((groups - shaped[0]) / (shaped[1] + 1e-6).sqrt()).flatten(1, 2)
    expected = expected * weight.float()[:, None, None] + bias.float()[:, None, None]
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-3)
    large = {
        part.untyped_storage().data_ptr(): part.dtype for part in made.tensors if part.numel() == x.numel()
    }
    large.pop(x.untyped_storage().data_ptr(), None)
    assert list(large.values()) == [dtype]


def test_statistics_of_other_layers_are_refused() -> None:
    x = torch.randn(1, 4, 5, 5)
    with lazy_vae.recorded_norms() as statistics:
        functional.group_norm(x, 2, torch.ones(4), torch.zeros(4))

    with (
        pytest.raises(ValueError, match="1 of 1 statistics were left over"),
        lazy_vae.given_norms(statistics),
    ):
        pass
    with pytest.raises(ValueError, match="More group normalisations"), lazy_vae.given_norms([]):
        functional.group_norm(x, 2, torch.ones(4), torch.zeros(4))


def test_a_vae_with_attention_among_its_local_blocks_is_refused() -> None:
    vae = AutoencoderKL(
        down_block_types=("AttnDownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(32,),
    )
    with pytest.raises(BadModel, match="AttnDownEncoderBlock2D"):
        lazy_vae.check_local(vae)
