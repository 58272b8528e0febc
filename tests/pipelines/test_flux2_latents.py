"""The hidden tokens' pixels are those of a full decode."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
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

from lazydiffusion import compose, geometry
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
    window = torch.randn(edit.surroundings.latents.shape, generator=torch.manual_seed(2))
    raw = flux2_latents.raw_latents(klein.vae, window)
    with torch.no_grad():
        with lazy_vae.recorded_norms() as statistics:
            full = klein.vae.decode(raw).sample
        with lazy_vae.recorded_norms() as of_the_middle:
            lazy_vae.decode_middle(klein.vae, raw)
        edit.surroundings.statistics = statistics[len(of_the_middle) :]
        with calls_of(klein.vae.decoder.up_blocks[-1].resnets[-1]) as calls:
            found = flux2_latents.decode(klein.vae, window, edit.surroundings)
    hidden = torch.from_numpy(mask_of(*ISLANDS) > 0)
    assert (full[..., hidden].abs() < 1).float().mean() > 0.2  # clamping hides little of it
    assert_equal(found[..., hidden], full[..., hidden].clamp(-1, 1))
    assert torch.equal(found[..., ~hidden], edit.surroundings.picture[..., ~hidden].clamp(-1, 1))
    assert len(calls) == len(ISLANDS)
    assert sum(result[0, 0].numel() for _, result in calls) < hidden.numel() / 2


@settings(max_examples=30)
@given(
    st.tuples(st.integers(17, 200), st.integers(17, 200)),
    st.tuples(st.floats(0, 0.99), st.floats(0, 0.99), st.floats(0.01, 1), st.floats(0.01, 1)),
    st.integers(0, 2**32 - 1),
)
def test_the_fill_box_is_cut_out_as_it_is_of_pixels_in_the_computers_memory(
    size: tuple[int, int], place: tuple[float, float, float, float], seed: int
) -> None:
    width, height = size
    x, y = int(place[0] * width), int(place[1] * height)
    mask = np.zeros((height, width), np.float32)
    mask[y : y + max(1, int(place[2] * height)), x : x + max(1, int(place[3] * width))] = 1
    plan = geometry.plan(size, mask, window_tokens=6)
    window = 3 * torch.rand(1, 3, *plan.working_size[::-1], generator=torch.manual_seed(seed)) - 1.5
    found = flux2_latents.fill_colours(window, plan)
    expected = compose.from_window(window[0].permute(1, 2, 0).numpy(), plan)
    assert found.shape == (plan.fill_box.h, plan.fill_box.w, 3)
    assert np.array_equal(found, expected)


def test_where_most_is_hidden_all_is_decoded_and_nothing_estimated(klein: LazyFlux2KleinPipeline) -> None:
    edit = prepared(klein, Box(0, 0, COLS, ROWS // 2))
    window = torch.randn(edit.surroundings.latents.shape, generator=torch.manual_seed(2))
    with torch.no_grad():
        found = flux2_latents.decode(klein.vae, window, edit.surroundings)
        full = klein.vae.decode(flux2_latents.raw_latents(klein.vae, window)).sample.clamp(-1, 1)
    middle = ROWS * PATCH // 2
    assert torch.equal(found[..., :middle, :], full[..., :middle, :])
    assert torch.equal(found[..., middle:, :], edit.surroundings.picture[..., middle:, :])
    assert edit.surroundings.statistics is None
