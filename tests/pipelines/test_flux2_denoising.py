"""The steps of FLUX.2-klein over few tokens: equal to direct calls, with true positions, at a fraction of the cost."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from diffusers import Flux2Transformer2DModel
from hypothesis import given, settings
from tests.small_flux2_edits import (
    COLS,
    ISLANDS,
    ROWS,
    SOME,
    WORDS,
    assert_equal,
    calls_of,
    picture,
    prepared,
    steps_of,
)
from tests.tiny_flux2 import tiny_klein
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lazydiffusion.pipelines.flux2_denoising import noisy_tokens
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline
from lazydiffusion.pipelines.flux2_reference import Laziness, Placed, Velocity, allow_caching, read_reference
from lazydiffusion.window import Box

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]
META = torch.device("meta")


@pytest.fixture(scope="module")
def klein() -> LazyFlux2KleinPipeline:
    return tiny_klein()


def blank(count: int, channels: int) -> Placed:
    """Tokens without values, for counting."""
    return Placed(
        torch.empty(1, count, channels, device=META),
        torch.empty(1, count, 4, device=META, dtype=torch.long),
    )


def test_a_refreshed_reference_is_exact_for_the_step_that_it_is_of(klein: LazyFlux2KleinPipeline) -> None:
    edit = prepared(klein, SOME, laziness=Laziness("refreshed", refresh_every=2))
    velocity = Velocity(klein.transformer, edit.text, edit.reference, edit.laziness)
    count = edit.indices.shape[1]
    tokens = Placed(torch.randn(1, count, 16, generator=torch.manual_seed(1)), edit.ids)
    time = torch.tensor([0.7])
    with calls_of(klein.transformer) as calls, torch.no_grad():
        first, second = velocity(0, tokens, time), velocity(1, tokens, time)
        other_time = velocity(1, tokens, torch.tensor([0.4]))
        refreshed = velocity(2, tokens, torch.tensor([0.4]))
    assert [kwargs["hidden_states"].shape[1] for kwargs, _ in calls] == [
        count + ROWS * COLS, count, count, count + ROWS * COLS
    ]  # fmt: skip
    assert_equal(second, first)
    assert (other_time - refreshed).abs().max() > 1e-3  # the reference of another step is an approximation


def test_the_cache_knows_nothing_of_the_text(klein: LazyFlux2KleinPipeline) -> None:
    edit = prepared(klein, SOME)
    with torch.no_grad():
        words = Placed(torch.randn_like(edit.text.values), edit.text.ids)
        other = read_reference(klein.transformer, edit.reference, words)
    assert edit.window.cache is not None
    for mine, theirs in zip(edit.window.cache.single_block_caches, other.single_block_caches, strict=True):
        assert torch.equal(mine.k_ref, theirs.k_ref)
        assert torch.equal(mine.v_ref, theirs.v_ref)


@st.composite
def hidden_grids(draw: st.DrawFn) -> np.ndarray:
    rows, cols = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    bits = draw(st.lists(st.booleans(), min_size=rows * cols, max_size=rows * cols))
    bits[draw(st.integers(0, rows * cols - 1))] = True
    return np.array(bits).reshape(rows, cols)


@settings(max_examples=60)
@given(hidden_grids(), st.integers(0, 13))
def test_noisy_tokens_are_the_hidden_ones_their_ring_and_little_else(hidden: np.ndarray, ring: int) -> None:
    chosen = noisy_tokens(hidden, ring)
    rows, cols = np.nonzero(hidden)
    near = [
        r * hidden.shape[1] + c
        for r, c in np.ndindex(hidden.shape)
        if np.maximum(abs(rows - r), abs(cols - c)).min() <= ring
    ]
    assert list(chosen[: len(near)]) == near
    assert len(set(chosen)) == len(chosen) <= hidden.size
    assert len(chosen) <= max(8, 1.25 * len(near))


@settings(max_examples=8)
@given(st.lists(st.integers(0, ROWS * COLS - 1), min_size=1, max_size=9), st.integers(0, 2), st.randoms())
def test_position_ids_survive_any_gather(
    klein: LazyFlux2KleinPipeline, numbers: list[int], ring: int, random: Any
) -> None:
    boxes = [Box(number % COLS, number // COLS, 1, 1) for number in numbers]
    edit = prepared(klein, *boxes, laziness=Laziness(ring=ring))
    expected = [(0, int(n) // COLS, int(n) % COLS, 0) for n in edit.indices[0]]
    assert [tuple(place) for place in edit.ids[0].tolist()] == expected
    assert {int(n) for n in edit.indices[0, ~edit.visible[0, :, 0]]} == set(numbers)

    # The model knows a token's place by its ids alone: in any other order each makes the same of it.
    velocity = Velocity(klein.transformer, edit.text, edit.reference, edit.laziness, edit.window.cache)
    values = torch.randn(1, len(expected), 16, generator=torch.manual_seed(1))
    order = torch.tensor(random.sample(range(len(expected)), len(expected)))
    with torch.no_grad():
        plain = velocity(0, Placed(values, edit.ids), torch.tensor([0.6]))
        shuffled = velocity(0, Placed(values[:, order], edit.ids[:, order]), torch.tensor([0.6]))
    assert_equal(shuffled, plain[:, order])


def test_at_the_real_size_a_tenth_of_the_window_costs_a_tenth_of_a_step() -> None:
    """FLUX.2-klein-4B on 1024 x 1024 px, in counted operations: on the meta device, without its weights."""
    with META:
        transformer = Flux2Transformer2DModel(
            num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=3 * 2560,
            guidance_embeds=False,
        ).requires_grad_(False)  # fmt: skip
    allow_caching(transformer)
    text, reference, everything = (blank(*sizes) for sizes in ((512, 7680), (4096, 128), (4096, 128)))
    hidden = np.zeros((64, 64), bool)
    hidden[20:40, 20:40] = True
    noisy = blank(len(noisy_tokens(hidden, ring=1)), 128)

    def step(tokens: Placed, laziness: Laziness) -> int:
        velocity = Velocity(transformer, text, reference, laziness, cache)
        with FlopCounterMode(display=False) as counter:
            velocity(0, tokens, torch.empty(1, device=META))
        return int(counter.get_total_flops())

    with FlopCounterMode(display=False) as counter:
        cache = read_reference(transformer, reference, text)
    reading = counter.get_total_flops()
    usual, lazy = step(everything, Laziness("full")), step(noisy, Laziness("cached"))
    assert usual > 9 * lazy
    assert 4 * usual > 4.5 * (reading + 4 * lazy)  # all that the transformer does in four steps


def test_visible_neighbours_stay_what_they_are_unless_they_may_change(klein: LazyFlux2KleinPipeline) -> None:
    for renoise in (True, False):
        edit = prepared(klein, SOME, laziness=Laziness(renoise=renoise))
        with calls_of(klein.transformer) as calls:
            steps_of(klein, edit)
        own = edit.reference.values[:, edit.indices[0]]
        visible = edit.visible[0, :, 0]
        (first, _), (second, _) = calls[:2]
        noise = first["hidden_states"]  # at noise level 1
        level = second["timestep"]
        renoised = (1 - level) * own + level * noise
        off = (second["hidden_states"] - renoised)[:, visible].abs().max()
        assert (off < 1e-6) == renoise
        assert (second["hidden_states"] - renoised)[:, ~visible].abs().max() > 0.01


def test_each_step_tells_what_the_clean_tokens_will_be(klein: LazyFlux2KleinPipeline) -> None:
    told: list[tuple[Tensor, Tensor]] = []
    edit = prepared(klein, SOME, laziness=Laziness(renoise=False))
    klein.fill(edit, torch.manual_seed(7), lambda i, t, tokens, clean: told.append((tokens, clean)))
    assert_equal(told[-1][1], told[-1][0])
    for i in (1, 2, 3):  # a step goes straight towards them, as far as the noise level falls
        before, (after, clean) = told[i - 1][0], told[i]
        remains = klein.scheduler.sigmas[i + 1] / klein.scheduler.sigmas[i]
        torch.testing.assert_close(after - clean, remains * (before - clean), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("boxes", [(SOME,), ISLANDS], ids=["one", "islands"])
@pytest.mark.parametrize("laziness", [Laziness("cached"), Laziness("full", ring=0)], ids=["cached", "full"])
def test_each_step_is_a_direct_call_with_text_reference_and_noisy_tokens(
    klein: LazyFlux2KleinPipeline, boxes: tuple[Box, ...], laziness: Laziness
) -> None:
    edit = prepared(klein, *boxes, laziness=laziness)
    with calls_of(klein.transformer) as calls:
        steps, _ = steps_of(klein, edit)
    assert len(calls) == len(steps) == 4

    places = edit.indices[0]
    count, total = len(places), ROWS * COLS
    assert count < total
    rows_and_cols = [
        torch.tensor([(n // COLS, n % COLS) for n in numbers]) for numbers in (range(total), places)
    ]
    reference_ids, noisy_ids = (
        torch.cat([torch.full((len(them), 1), t), them, torch.zeros(len(them), 1, dtype=torch.long)], 1)
        for t, them in zip((10, 0), rows_and_cols, strict=True)
    )
    words, word_ids = klein.encode_prompt("a cat", max_sequence_length=WORDS)
    latents = klein._encode_vae_image(klein.image_processor.preprocess(picture()), None)
    reference = latents.flatten(2).transpose(1, 2)
    caching = {"kv_cache_mode": "extract", "num_ref_tokens": total} if laziness.reference == "cached" else {}
    for kwargs, (found, *_) in calls:
        noisy = kwargs["hidden_states"][:, -count:]
        with torch.no_grad():
            direct = klein.transformer(
                hidden_states=torch.cat([reference, noisy], 1), encoder_hidden_states=words,
                timestep=kwargs["timestep"], img_ids=torch.cat([reference_ids, noisy_ids]), txt_ids=word_ids,
                return_dict=False, **caching,
            )[0]  # fmt: skip
        assert_equal(found[:, -count:], direct[:, -count:])
