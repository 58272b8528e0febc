"""The hidden tokens' pixels are those of a full decode."""

from __future__ import annotations

import pytest
import torch
from tests.small_flux2_edits import (
    COLS,
    ISLANDS,
    ROWS,
    assert_equal,
    calls_of,
    mask_of,
    prepared,
)
from tests.tiny_flux2 import tiny_klein

from lazydiffusion.models import lazy_vae
from lazydiffusion.pipelines import flux2_latents
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline
from lazydiffusion.window import PATCH, Box

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def klein() -> LazyFlux2KleinPipeline:
    return tiny_klein()


def test_a_part_is_decoded_as_in_a_full_decode_with_the_same_statistics(
    klein: LazyFlux2KleinPipeline,
) -> None:
    edit = prepared(klein, *ISLANDS)
    window = torch.randn(edit.window.latents.shape, generator=torch.manual_seed(2))
    raw = flux2_latents.raw_latents(klein.vae, window)
    with torch.no_grad():
        with lazy_vae.recorded_norms() as statistics:
            full = klein.vae.decode(raw).sample
        with lazy_vae.recorded_norms() as of_the_middle:
            lazy_vae.decode_middle(klein.vae, raw)
        edit.window.statistics = statistics[len(of_the_middle) :]
        with calls_of(klein.vae.decoder.up_blocks[-1].resnets[-1]) as calls:
            found = flux2_latents.decode(klein.vae, window, edit.window, edit.hidden)
    hidden = torch.from_numpy(mask_of(*ISLANDS) > 0)
    assert (full[..., hidden].abs() < 1).float().mean() > 0.2  # clamping hides little of it
    assert_equal(found[..., hidden], full[..., hidden].clamp(-1, 1))
    assert torch.equal(found[..., ~hidden], edit.window.picture[..., ~hidden].clamp(-1, 1))
    assert len(calls) == len(ISLANDS)
    assert sum(result[0, 0].numel() for _, result in calls) < hidden.numel() / 2


def test_where_most_is_hidden_all_is_decoded_and_nothing_estimated(klein: LazyFlux2KleinPipeline) -> None:
    edit = prepared(klein, Box(0, 0, COLS, ROWS // 2))
    window = torch.randn(edit.window.latents.shape, generator=torch.manual_seed(2))
    with torch.no_grad():
        found = flux2_latents.decode(klein.vae, window, edit.window, edit.hidden)
        full = klein.vae.decode(flux2_latents.raw_latents(klein.vae, window)).sample.clamp(-1, 1)
    middle = ROWS * PATCH // 2
    assert torch.equal(found[..., :middle, :], full[..., :middle, :])
    assert torch.equal(found[..., middle:, :], edit.window.picture[..., middle:, :])
    assert edit.window.statistics is None
