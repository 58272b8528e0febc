"""FLUX.2-klein run lazily is the same model: equal, step by step, to diffusers' own pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinInpaintPipeline, Flux2KleinKVPipeline
from PIL import Image
from tests.small_flux2_edits import (
    COLS,
    EVERYTHING,
    ROWS,
    SOME,
    WORDS,
    assert_equal,
    calls_of,
    mask_of,
    picture,
    prepared,
    steps_of,
)
from tests.tiny_flux2 import tiny_klein
from torch import Tensor

from lazydiffusion import compose
from lazydiffusion.errors import BadInput
from lazydiffusion.pipelines.flux2_denoising import denoise, noisy_tokens
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline
from lazydiffusion.pipelines.flux2_placement import TURNS
from lazydiffusion.pipelines.flux2_reference import Laziness
from lazydiffusion.window import PATCH

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]

MODES = [Laziness("cached"), Laziness("full"), Laziness("refreshed", refresh_every=3)]


@pytest.fixture(scope="module")
def klein() -> LazyFlux2KleinPipeline:
    return tiny_klein()


def steps_of_diffusers(kind: Any, klein: LazyFlux2KleinPipeline, **arguments: Any) -> tuple[list, np.ndarray]:
    """The same of a pipeline of diffusers with the same parts."""
    settings = {} if kind is Flux2KleinKVPipeline else {"is_distilled": klein.config.is_distilled}
    parts = {name: part for name, part in klein.components.items() if name != "is_distilled"}
    pipeline = kind(**parts, **settings)
    pipeline.set_progress_bar_config(disable=True)
    steps: list[Tensor] = []

    def keep(pipeline: Any, i: int, t: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        steps.append(values["latents"])
        return {}

    made = pipeline(
        prompt="a cat", image=picture(), num_inference_steps=4, generator=torch.manual_seed(7),
        max_sequence_length=WORDS, callback_on_step_end=keep, output_type="np", **arguments,
    )  # fmt: skip
    return steps, np.rint(made.images[0] * 255)


def test_with_everything_hidden_and_a_full_reference_it_is_diffusers_inpainting(
    klein: LazyFlux2KleinPipeline,
) -> None:
    for strength, count in ((1.0, 4), (0.5, 2)):
        edit = prepared(klein, EVERYTHING, laziness=Laziness("full"), strength=strength)
        steps, colours = steps_of(klein, edit)
        expected, pixels = steps_of_diffusers(
            Flux2KleinInpaintPipeline, klein, strength=strength, guidance_scale=1.0,
            mask_image=Image.fromarray(np.full((ROWS * PATCH, COLS * PATCH), 255, np.uint8)),
        )  # fmt: skip
        assert len(steps) == len(expected) == edit.steps == count
        for found, wanted in zip(steps, expected, strict=True):
            assert_equal(found, wanted)
        assert np.abs(colours - pixels).max() <= 1


def test_guidance_is_that_of_diffusers() -> None:
    klein = tiny_klein(is_distilled=False)
    steps, _ = steps_of(klein, prepared(klein, EVERYTHING, laziness=Laziness("full"), guidance=3.0))
    expected, _ = steps_of_diffusers(
        Flux2KleinInpaintPipeline, klein, strength=1.0, guidance_scale=3.0,
        mask_image=Image.fromarray(np.full((ROWS * PATCH, COLS * PATCH), 255, np.uint8)),
    )  # fmt: skip
    unguided, _ = steps_of(klein, prepared(klein, EVERYTHING, laziness=Laziness("full"), guidance=1.0))
    for found, wanted in zip(steps, expected, strict=True):
        assert_equal(found, wanted, amplified=5)  # 3 of the prompted output, 2 of the other
    assert (steps[0] - unguided[0]).abs().max() > 0.01


def test_with_a_ring_over_the_whole_window_it_is_diffusers_inpainting_of_the_mask(
    klein: LazyFlux2KleinPipeline,
) -> None:
    edit = prepared(klein, SOME, laziness=Laziness("full", ring=COLS), strength=0.75)
    steps, _ = steps_of(klein, edit)
    expected, _ = steps_of_diffusers(
        Flux2KleinInpaintPipeline, klein, strength=0.75, guidance_scale=1.0,
        mask_image=Image.fromarray((mask_of(SOME) * 255).astype(np.uint8)),
    )  # fmt: skip
    hidden = ~edit.visible[0, :, 0]
    assert hidden.sum() == SOME.w * SOME.h
    assert torch.equal(edit.indices[0], torch.arange(ROWS * COLS))
    for found, wanted in zip(steps, expected, strict=True):
        assert_equal(found[:, hidden], wanted[:, hidden])
    timesteps = klein._timesteps(edit.plan, edit.asked_steps, edit.strength)
    noise = klein._noise(edit, torch.manual_seed(7))
    assert_equal(denoise(klein.transformer, klein.scheduler, timesteps, edit, noise), expected[-1])


def test_with_everything_hidden_and_a_cached_reference_it_is_diffusers_kv_pipeline(
    klein: LazyFlux2KleinPipeline,
) -> None:
    steps, colours = steps_of(klein, prepared(klein, EVERYTHING))
    expected, pixels = steps_of_diffusers(Flux2KleinKVPipeline, klein)
    for found, wanted in zip(steps, expected, strict=True):
        assert_equal(found, wanted)
    assert np.abs(colours - pixels).max() <= 1


@pytest.mark.parametrize("laziness", MODES, ids=[mode.reference for mode in MODES])
def test_everything_but_the_steps_runs_once(laziness: Laziness) -> None:
    klein, total = tiny_klein(), ROWS * COLS
    with (
        calls_of(klein.transformer) as passes, calls_of(klein.text_encoder.model) as texts,
        calls_of(klein.vae.encoder) as encodes, calls_of(klein.vae.decoder.mid_block) as decodes,
    ):  # fmt: skip
        edit = prepared(klein, SOME, laziness=laziness, steps=5)
        reading = [kwargs for kwargs, _ in passes]
        passes.clear()
        for seed in range(3):
            steps_of(klein, edit, seed)
    assert len(texts) == 1
    # The window, and the overview whose decode tells the normalisations' statistics: both once.
    of_window = 2 * ROWS, 2 * COLS
    assert [tuple(result.shape[-2:]) for _, result in encodes] == [of_window, (ROWS, COLS)]
    assert [tuple(result.shape[-2:]) for _, result in decodes] == [of_window, (ROWS, COLS)][::-1] + [
        of_window
    ] * 2
    once = laziness.reference == "cached"
    assert [kwargs["num_ref_tokens"] for kwargs in reading] == [total] * once
    assert [kwargs["hidden_states"].shape[1] for kwargs in reading] == [total] * once
    assert [kwargs["encoder_hidden_states"].shape[1] for kwargs in reading] == [1] * once
    count = edit.indices.shape[1]
    assert count == len(noisy_tokens(edit.plan.hidden, 1)) < total
    with_reference = {"cached": [], "full": [0, 1, 2, 3, 4], "refreshed": [0, 3]}[laziness.reference]
    lengths = [count + total if step in with_reference else count for step in range(5)]
    assert [kwargs["hidden_states"].shape[1] for kwargs, _ in passes] == lengths * 3
    assert {kwargs["encoder_hidden_states"].shape[1] for kwargs, _ in passes} == {WORDS}


def test_models_that_do_not_fit_together_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    klein, moves = tiny_klein(), list[tuple[str, str]]()
    for name in ("transformer", "text_encoder"):
        part = getattr(klein, name)
        monkeypatch.setattr(
            part, "to", lambda device, name=name, to=part.to: moves.append((name, str(device))) or to(device)
        )
    monkeypatch.setattr(LazyFlux2KleinPipeline, "device", "cpu:0")  # stands for the GPU
    klein.placement = TURNS
    prepared(klein, SOME)
    assert moves == [
        ("transformer", "cpu"), ("text_encoder", "cpu:0"), ("text_encoder", "cpu"), ("transformer", "cpu:0")
    ]  # fmt: skip
    prepared(klein, SOME)  # the same prompt: its words are still known
    assert moves[4:] == moves[2:4]


def test_where_turns_are_taken_for_lack_of_memory_the_vae_has_more_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    klein, events = tiny_klein(), list[str]()
    move, encode = klein.text_encoder.to, klein._encode_vae_image
    monkeypatch.setattr(
        klein.text_encoder, "to", lambda device: events.append(f"text to {device}") or move(device)
    )
    monkeypatch.setattr(
        klein, "_encode_vae_image", lambda *given, **named: events.append("VAE") or encode(*given, **named)
    )
    klein.take_turns()
    klein.take_turns()
    prepared(klein, SOME)
    assert events[:2] == ["text to cpu", "VAE"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_it_makes_the_same_but_for_rounding(
    klein: LazyFlux2KleinPipeline, dtype: torch.dtype
) -> None:
    half = tiny_klein()
    for part in (half.transformer, half.vae, half.text_encoder):
        part.to(dtype)
    for laziness in MODES:
        steps, _ = steps_of(half, prepared(half, SOME, laziness=laziness))
        expected, _ = steps_of(klein, prepared(klein, SOME, laziness=laziness))
        assert steps[-1].dtype == torch.float32
        off = (steps[-1] - expected[-1]).abs().mean() / expected[-1].abs().mean()
        assert 0 < off < 0.1


def test_a_sketch_is_seen_inside_the_mask_alone(klein: LazyFlux2KleinPipeline) -> None:
    drawn = np.zeros((ROWS * PATCH, COLS * PATCH, 4), np.uint8)
    drawn[:] = (250, 10, 10, 255)
    edit = prepared(klein, SOME, sketch=drawn)
    expected = np.where(mask_of(SOME)[..., None] > 0, drawn[..., :3], np.asarray(picture()))
    shown = compose.to_bytes(edit.window.picture[0].permute(1, 2, 0).numpy())
    assert np.array_equal(shown, expected)


def test_it_is_called_like_a_pipeline_of_diffusers(klein: LazyFlux2KleinPipeline) -> None:
    image, mask = picture().resize((64, 48)), np.zeros((48, 64), np.uint8)
    mask[20:30, 20:40] = 255
    mask[22, 22] = 128
    seen: list[int] = []

    def on_step(pipeline: Any, i: int, t: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(values["latents"].shape[1])
        return {}

    made = klein(
        "a cat", image, Image.fromarray(mask), num_inference_steps=2, num_images_per_prompt=2,
        generator=torch.manual_seed(0), output_type="np", callback_on_step_end=on_step, max_sequence_length=WORDS,
    )  # fmt: skip
    assert made.box == (20, 20, 20, 10)
    assert len(seen) == 4
    assert made.images.shape == (2, 48, 64, 3)
    assert np.array_equal(made.images[0][mask == 0], np.asarray(image)[mask == 0])
    assert np.abs(made.fills[0][..., :3].astype(int) - made.fills[1][..., :3]).max() > 0
    with pytest.raises(BadInput, match="There is no mask"):
        klein("a cat", image)
    with pytest.raises(BadInput, match='output type is "latent"'):
        klein("a cat", image, Image.fromarray(mask), output_type="latent")
    with pytest.raises(BadInput, match="The number of images per prompt is 0"):
        klein("a cat", image, Image.fromarray(mask), num_images_per_prompt=0)


def test_what_cannot_be_is_told(klein: LazyFlux2KleinPipeline) -> None:
    for arguments, sentence in (
        ({"strength": 0.0}, "The strength is 0"),
        ({"steps": 0}, "The number of steps is 0; it must be a whole number, 1 or more."),
        ({"steps": -3}, "The number of steps is -3"),
        ({"guidance": float("nan")}, "The guidance is nan; it must be a number, 0 or more."),
        ({"guidance": 4.0}, "is distilled"),
        ({"negative_prompt": "people"}, "is distilled"),
        ({"sketch": np.zeros((4, 5, 4), np.uint8)}, "The sketch is 5 x 4 px but the canvas is 112 x 64"),
    ):
        with pytest.raises(BadInput, match=sentence):
            prepared(klein, SOME, **arguments)
    for settings_, sentence in (
        ({"reference": "never"}, 'The reference is "never"; it must be one of cached, refreshed, full'),
        ({"refresh_every": 0}, "every 0 steps"),
        ({"ring": -1}, "ring of -1 tokens"),
    ):
        with pytest.raises(BadInput, match=sentence):
            Laziness(**settings_)
