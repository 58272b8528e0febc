"""LazyDiffusionPipeline, called as a script would call an inpaint pipeline of diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchHeunDiscreteScheduler
from PIL import Image
from tests.checkpoint_files import tiny_pipeline

from lazydiffusion.canvas import Canvas
from lazydiffusion.checkpoints import embedded_folder
from lazydiffusion.errors import BadInput
from lazydiffusion.pipelines.lazy import LazyDiffusionPipeline

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def pipeline() -> LazyDiffusionPipeline:
    return tiny_pipeline()


@pytest.fixture
def canvas() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (200, 320, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.fixture
def mask() -> Image.Image:
    mask = Image.new("L", (320, 200))
    mask.paste(255, (90, 60, 170, 130))
    return mask


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_kept_pixels_are_bit_exact_and_hidden_ones_are_new(
    pipeline: LazyDiffusionPipeline, canvas: Image.Image, mask: Image.Image
) -> None:
    out = pipeline("a cat", image=canvas, mask_image=mask, generator=seeded(0)).images[0]
    kept = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(out)[kept], np.asarray(canvas)[kept])
    assert (np.asarray(out)[~kept] != np.asarray(canvas)[~kept]).mean() > 0.9


def test_the_fill_does_not_know_what_was_under_the_mask(
    pipeline: LazyDiffusionPipeline, canvas: Image.Image
) -> None:
    hole = (91, 61, 171, 132)  # px of the overview, 2.5 wide, are partly hidden on all four sides
    mask, other = Image.new("L", canvas.size), canvas.copy()
    mask.paste(255, hole)
    other.paste((255, 0, 0), hole)
    first, second = (
        pipeline("a cat", image=image, mask_image=mask, generator=seeded(0), output_type="np").images
        for image in (canvas, other)
    )
    assert np.array_equal(first, second)


def test_the_same_seed_gives_the_same_pixels_however_many_are_made(
    pipeline: LazyDiffusionPipeline, canvas: Image.Image, mask: Image.Image
) -> None:
    alone = pipeline("a cat", image=canvas, mask_image=mask, generator=seeded(5)).fills[0]
    several = pipeline(
        "a cat", image=canvas, mask_image=mask, num_images_per_prompt=3,
        generator=[seeded(4), seeded(5), seeded(6)],
    ).fills  # fmt: skip
    assert np.array_equal(alone, several[1])
    assert not np.array_equal(several[0], several[1])


def test_a_saved_pipeline_loads_and_gives_the_same_fill(
    pipeline: LazyDiffusionPipeline, canvas: Image.Image, mask: Image.Image, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path)
    loaded = LazyDiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.config.default_steps == pipeline.config.default_steps
    assert not list(tmp_path.rglob("*.bin"))
    first, second = (
        p("a cat", image=canvas, mask_image=mask, generator=seeded(1)).fills[0] for p in (pipeline, loaded)
    )
    assert np.array_equal(first, second)


@pytest.mark.parametrize("prompt", ["a cat", ["a cat", "a dog"]])
def test_the_encoder_runs_once_per_edit_and_the_text_encoder_once_per_prompt(
    pipeline: LazyDiffusionPipeline,
    canvas: Image.Image,
    mask: Image.Image,
    prompt: str | list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = {"context": 0, "words": 0}
    pipeline.prompt_encoder._cache.clear()

    def count(name: str) -> object:
        def hook(*_: object) -> None:
            calls[name] += 1

        return hook

    hooks = [
        pipeline.context_encoder.register_forward_hook(count("context")),
        pipeline.prompt_encoder.encoder.register_forward_hook(count("words")),
    ]
    pipeline(prompt, image=canvas, mask_image=mask, num_images_per_prompt=3, num_inference_steps=4)
    pipeline(prompt, image=canvas, mask_image=mask)  # a second edit with the same words
    for hook in hooks:
        hook.remove()
    assert calls == {"context": 2, "words": len([prompt] if isinstance(prompt, str) else prompt)}


def test_words_guidance_negative_prompt_and_sketch_each_change_the_fill(
    pipeline: LazyDiffusionPipeline, canvas: Image.Image, mask: Image.Image
) -> None:
    sketch = Image.new("RGBA", canvas.size)
    sketch.paste((255, 0, 0, 255), (100, 70, 130, 100))
    variants = [
        {},
        {"prompt": "a dog"},
        {"guidance_scale": 1.0},
        {"negative_prompt": "blue"},
        {"sketch_image": sketch},
        {"num_inference_steps": 5},
    ]
    fills = [
        pipeline(
            **{"prompt": "a cat", "image": canvas, "mask_image": mask, "generator": seeded(0), **variant}
        ).fills[0]
        for variant in variants
    ]
    for i, first in enumerate(fills):
        for second in fills[i + 1 :]:
            assert not np.array_equal(first, second)


def test_no_step_walks_through_the_models_weights(
    pipeline: LazyDiffusionPipeline, canvas: Image.Image, mask: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for its precision or device, a model looks at every one of its weights: that takes as long as a step."""
    walks: list[str] = []
    for name in ("named_parameters", "parameters", "named_modules"):
        walk = getattr(torch.nn.Module, name)

        def counted(*args: object, walk: Any = walk, name: str = name, **kwargs: object) -> object:
            walks.append(name)
            return walk(*args, **kwargs)

        monkeypatch.setattr(torch.nn.Module, name, counted)
    edit = [
        pipeline.prepare(Canvas.of(np.asarray(canvas)), np.asarray(mask) / 255, "a cat", steps=steps)
        for steps in (2, 9)
    ]
    counts = []
    for prepared in edit:
        walks.clear()
        pipeline.fill(prepared, seeded(0))
        counts.append(len(walks))
    assert counts[0] == counts[1]


def test_no_more_tokens_are_made_at_once_than_the_decoder_was_trained_on(canvas: Image.Image) -> None:
    """More of them gave a pattern; a large selection is made at a smaller scale instead, and is whole."""
    pipeline, everything = tiny_pipeline(), np.ones((200, 320), np.float32)
    shown = Canvas.of(np.asarray(canvas))
    free = pipeline.plan(shown, everything)
    pipeline.decoder.register_to_config(trained_tokens=6)
    planned = pipeline.plan(shown, everything)
    assert planned.hidden_count <= 6 < free.hidden_count
    mask = Image.new("L", canvas.size, 255)
    assert pipeline("a cat", image=canvas, mask_image=mask, generator=seeded(0)).images[0].size == canvas.size


def test_a_low_strength_stays_near_the_canvas(mask: Image.Image) -> None:
    """With the embedded model: random weights know no picture that they could stay near to."""
    pipeline = LazyDiffusionPipeline.from_pretrained(
        embedded_folder(), dtype=torch.float32, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    canvas = Image.new("RGB", (320, 200), (200, 40, 40))
    canvas.paste((40, 200, 40), (110, 80, 150, 110))
    hidden = np.asarray(mask) > 0

    def distance(strength: float) -> float:
        out = pipeline(
            "", image=canvas, mask_image=mask, strength=strength, num_inference_steps=20, generator=seeded(0)
        )
        return float(np.abs(np.asarray(out.images[0]).astype(int) - np.asarray(canvas))[hidden].mean())

    assert distance(0.05) < 0.7 * distance(1.0)


def test_a_soft_mask_blends(pipeline: LazyDiffusionPipeline, canvas: Image.Image) -> None:
    mask = np.zeros((200, 320), np.float32)
    mask[60:130, 90:170] = 0.5
    output = pipeline("a cat", image=canvas, mask_image=mask, generator=seeded(0))
    x, y, w, h = output.box
    assert (x, y, w, h) == (90, 60, 80, 70)
    assert set(np.unique(output.fills[0][..., 3])) == {128}
    half = (np.asarray(canvas)[60:130, 90:170].astype(int) + output.fills[0][..., :3]) / 2
    assert np.abs(np.asarray(output.images[0])[60:130, 90:170] - half).max() <= 1


def test_the_callback_sees_every_step_may_change_the_tokens_and_may_stop(
    pipeline: LazyDiffusionPipeline, canvas: Image.Image, mask: Image.Image
) -> None:
    seen: list[int] = []

    def watch(pipe: object, step: int, timestep: torch.Tensor, values: dict[str, torch.Tensor]) -> dict:
        seen.append(step)
        return {"tokens": torch.zeros_like(values["tokens"])} if step == 3 else {}

    flat = pipeline(
        "a cat", image=canvas, mask_image=mask, num_inference_steps=4, callback_on_step_end=watch
    ).fills[0]
    assert seen == [0, 1, 2, 3]
    assert flat[..., :3].std() < 40  # tokens of zeros are the smooth extension of a noisy canvas: nearly grey

    class Stop(Exception):
        pass

    def stop(*_: object) -> dict:
        raise Stop

    with pytest.raises(Stop):
        pipeline("a cat", image=canvas, mask_image=mask, callback_on_step_end=stop)


def test_another_flow_matching_scheduler_does_the_stepping(canvas: Image.Image, mask: Image.Image) -> None:
    pipeline = tiny_pipeline()
    euler = pipeline(
        "a cat", image=canvas, mask_image=mask, num_inference_steps=6, generator=seeded(0)
    ).fills[0]
    pipeline.scheduler = FlowMatchHeunDiscreteScheduler()
    heun = pipeline("a cat", image=canvas, mask_image=mask, num_inference_steps=6, generator=seeded(0)).fills[
        0
    ]
    assert heun.shape == euler.shape
    assert not np.array_equal(heun, euler)


@pytest.mark.parametrize("strength", [1.0, 0.75, 0.5, 0.01])
def test_a_step_of_two_evaluations_is_one_step(
    canvas: Image.Image, mask: Image.Image, strength: float
) -> None:
    """Heun's scheduler lists its time steps twice; strength and progress mean steps."""
    pipeline = tiny_pipeline()
    pipeline.scheduler = FlowMatchHeunDiscreteScheduler()
    numbers: list[int] = []
    evaluated: list[float] = []
    real = pipeline.decoder.step

    def listening(tokens: torch.Tensor, time: torch.Tensor, conditions: Any) -> torch.Tensor:
        evaluated.append(float(time[0]))
        return real(tokens, time, conditions)

    pipeline.decoder.step = listening
    pixels = Canvas.of(np.asarray(canvas))
    edit = pipeline.prepare(
        pixels, np.asarray(mask, np.float32) / 255, "a cat", steps=4, strength=strength, guidance=1.0
    )

    def follow(number: int, *_: torch.Tensor) -> None:
        numbers.append(number)

    pipeline.fill(edit, seeded(0), follow)
    steps = max(1, round(4 * strength))
    assert edit.steps - edit.first_step == steps
    assert numbers == list(range(steps))
    levels = [1000.0, 667.0, 334.0, 1.0]
    assert evaluated[0] == pytest.approx(levels[4 - steps])
    assert len(evaluated) == 2 * steps - 1


def test_offloading_that_cannot_work_is_not_promised(pipeline: LazyDiffusionPipeline) -> None:
    """diffusers' hooks move a model when its forward is called, and nobody calls the decoder's."""
    with pytest.raises(ValueError, match="model_cpu_offload_seq"):
        pipeline.enable_model_cpu_offload()


def test_a_place_has_the_same_noise_under_any_mask(pipeline: LazyDiffusionPipeline) -> None:
    canvas = np.full((256, 256, 3), 128, np.uint8)
    noises = []
    for width in (64, 128):
        mask = np.zeros((256, 256), np.float32)
        mask[:64, :width] = 1
        plan = pipeline.plan(Canvas.of(canvas), mask)
        indices = torch.from_numpy(plan.indices)[None]
        noises.append(
            dict(zip(plan.indices.tolist(), pipeline._noise(plan, indices, seeded(0))[0], strict=True))
        )
    shared = set(noises[0]) & set(noises[1])
    assert len(shared) >= 16
    assert all(torch.equal(noises[0][index], noises[1][index]) for index in shared)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": None}, "no image"),
        ({"mask_image": None}, "no mask"),
        ({"mask_image": Image.new("L", (320, 200))}, "mask is empty"),
        ({"mask_image": Image.new("L", (100, 100), 255)}, "100 x 100"),
        ({"strength": 0.0}, "strength"),
        ({"output_type": "jpeg"}, "output type"),
        ({"sketch_image": Image.new("RGBA", (10, 10))}, "10 x 10"),
        ({"num_images_per_prompt": 2, "generator": [seeded(0)]}, "1 generators"),
    ],
)
def test_bad_arguments_are_told_in_a_sentence(
    pipeline: LazyDiffusionPipeline, canvas: Image.Image, mask: Image.Image, arguments: dict, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        pipeline(**{"prompt": "", "image": canvas, "mask_image": mask, **arguments})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_inference_steps": 0}, "The number of steps is 0; it must be a whole number, 1 or more."),
        ({"num_inference_steps": -3}, "The number of steps is -3"),
        ({"num_inference_steps": 2.5}, "The number of steps is 2.5"),
        ({"guidance_scale": float("nan")}, "The guidance is nan; it must be a number, 0 or more."),
        ({"guidance_scale": float("inf")}, "The guidance is inf"),
        ({"guidance_scale": -1.0}, "The guidance is -1.0"),
        ({"guidance_scale": "2"}, "The guidance is 2; it must be a number"),
        ({"num_images_per_prompt": 0}, "The number of images per prompt is 0"),
        ({"num_images_per_prompt": 1.5}, "The number of images per prompt is 1.5"),
    ],
    ids=lambda value: "-".join(map(str, *value.items())) if isinstance(value, dict) else "",
)
def test_numbers_out_of_range_are_told_and_make_nothing(
    pipeline: LazyDiffusionPipeline, canvas: Image.Image, mask: Image.Image, arguments: dict, words: str
) -> None:
    def never(*_: object) -> dict[str, object]:
        raise AssertionError("a step was taken")

    with pytest.raises(BadInput, match=words):
        pipeline("", image=canvas, mask_image=mask, callback_on_step_end=never, **arguments)


def test_a_number_that_is_not_given_is_the_models_own(
    pipeline: LazyDiffusionPipeline, canvas: Image.Image, mask: Image.Image
) -> None:
    own = {"num_inference_steps": np.int64(pipeline.config.default_steps), "guidance_scale": np.float32(2.5)}
    assert pipeline.config.default_guidance == 2.5
    given = {"num_inference_steps": None, "guidance_scale": None}
    first, second = (
        pipeline("a cat", image=canvas, mask_image=mask, generator=seeded(0), **numbers).fills[0]
        for numbers in (own, given)
    )
    assert np.array_equal(first, second)
