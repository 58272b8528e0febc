"""The named sizes are what they say, and are built without memory where only their size matters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lazydiffusion.models.codecs import PixelCodec
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.latent_codec import LatentCodec
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.presets import EMBEDDED, PAPER, build

pytestmark = pytest.mark.unit


def size(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_embedded_model_fits_in_64_megabytes() -> None:
    networks = build(EMBEDDED, device="meta", dtype=torch.bfloat16)

    stored = [*networks.context_encoder.parameters(), *networks.decoder.parameters()]
    assert sum(parameter.numel() * parameter.element_size() for parameter in stored) <= 64e6
    assert 28e6 <= sum(parameter.numel() for parameter in stored) <= 32e6
    assert isinstance(networks.codec, PixelCodec)


def test_the_embedded_model_is_the_default() -> None:
    networks = build(EMBEDDED, device="meta")

    for network, default in (
        (networks.context_encoder, ContextEncoder),
        (networks.decoder, LazyDecoder),
        (networks.codec, PixelCodec),
    ):
        with torch.device("meta"):
            expected = default().config
        assert {k: v for k, v in network.config.items() if not k.startswith("_")} == {
            k: v for k, v in expected.items() if not k.startswith("_")
        }


def test_the_paper_model_has_the_published_size() -> None:
    networks = build(PAPER, device="meta")

    assert 0.58e9 <= size(networks.decoder) <= 0.64e9
    assert 28 * 1152**2 * 16 <= size(networks.decoder.blocks) <= 28 * 1152**2 * 16 * 1.01
    assert 0.15e9 <= size(networks.context_encoder) <= 0.25e9
    assert size(networks.codec) == 83_653_863  # Stable Diffusion's VAE


@pytest.mark.parametrize("preset", [EMBEDDED, PAPER], ids=["embedded", "paper"])
def test_the_networks_of_a_preset_fit_together(preset: object) -> None:
    networks = build(preset, device="meta")  # type: ignore[arg-type]
    side = networks.context_encoder.config.window_tokens * networks.codec.token_px
    over = networks.context_encoder.config.overview_tokens * 16
    hidden = 5

    with torch.device("meta"):
        context = networks.context_encoder(
            torch.zeros(1, 4, side, side),
            torch.zeros(1, 4, over, over),
            torch.zeros(1, (side // 16) ** 2, 2),
            torch.zeros(1, (over // 16) ** 2, 2),
            torch.zeros(1, hidden, dtype=torch.int64),
        )
        prediction = networks.decoder(
            torch.zeros(1, hidden, networks.codec.token_channels),
            torch.zeros(1),
            context,
            torch.zeros(1, 7, networks.decoder.config.text_channels),
            None,
            torch.zeros(1, hidden, 2),
        )

    assert prediction.shape == (1, hidden, networks.codec.token_channels)
    assert isinstance(networks.codec, LatentCodec) == (preset is PAPER)
