"""Other people's inpainting pipelines as an engine: what they are shown, what is kept, what they cannot do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinInpaintPipeline
from tests.tiny_flux2 import tiny_flux2
from tests.tiny_sdxl import SIDE, tiny_sdxl

from lazydiffusion.canvas import Canvas
from lazydiffusion.devices import choose_device
from lazydiffusion.engines import inpainting
from lazydiffusion.engines.base import Edit, Fill, Report, Step
from lazydiffusion.engines.choose import load_engine
from lazydiffusion.engines.flux2_klein import Flux2KleinEngine
from lazydiffusion.engines.inpainting import InpaintEngine
from lazydiffusion.engines.names import DIFFUSERS, FLUX2_KLEIN, VIEWS
from lazydiffusion.errors import BadInput, BadModel
from lazydiffusion.pipelines.flux2_klein import BASE_GUIDANCE, BASE_STEPS, DISTILLED_STEPS
from lazydiffusion.pipelines.flux2_reference import REFERENCES
from lazydiffusion.protocol import EditSettings
from lazydiffusion.service.shelf import Shelf
from lazydiffusion.window import PATCH, Box, overview_size, region_to_send

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.integration,
    # diffusers' own: its schedulers make NumPy arrays of torch's tensors in a way that NumPy 2 does not like.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

CPU = choose_device("cpu")
HOLE = Box(60, 50, 24, 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl(tmp_path_factory.mktemp("models") / "tiny-sdxl")


@pytest.fixture(scope="module")
def engine(folder: Path) -> InpaintEngine:
    found = load_engine(str(folder), CPU)
    assert isinstance(found, InpaintEngine)
    return found


def edit(width: int = 160, height: int = 120, **settings: object) -> Edit:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], -1).astype(np.uint8)
    mask = np.zeros((height, width), np.float32)
    mask[HOLE.slices()] = 1
    values = {"prompt": "a boat", "steps": 3, "seed": 5, **settings}
    return Edit(Canvas.of(pixels), mask, EditSettings(**values))  # type: ignore[arg-type]


def fills(engine: InpaintEngine, asked: Edit, report: Report | None = None) -> list[Fill]:
    return list(engine.run(asked, report or Report()))


def test_a_preview_that_is_no_number_shows_what_was_there(
    engine: InpaintEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SDXL's VAE overflows in float16, which GPUs without bfloat16 compute in; its pipelines know, for their fills."""
    decode = engine.pipeline.vae.decode
    previews: list[np.ndarray] = []

    def overflow(*given: object, **named: object) -> tuple[torch.Tensor]:
        return (decode(*given, **named)[0] * torch.nan,)

    def look(step: Step) -> None:
        if step.step < step.steps:
            monkeypatch.setattr(engine.pipeline.vae, "decode", overflow)
            previews.append(step.preview())
            monkeypatch.setattr(engine.pipeline.vae, "decode", decode)

    asked = edit()
    list(engine.run(asked, Report(), look))
    shown = asked.canvas.pixels[HOLE.slices()].astype(int)
    assert len(previews) == 2
    for preview in previews:
        assert np.abs(preview - shown).mean() < 2  # of 255 levels: it was at the window's scale


def test_it_makes_fills_of_the_mask_alone(engine: InpaintEngine) -> None:
    report = Report()
    steps: list[Step] = []
    made = list(engine.run(edit(variations=2), report, steps.append))
    assert [(fill.box, fill.seed) for fill in made] == [(HOLE, 5), (HOLE, 6)]
    assert all((fill.pixels[..., 3] == 255).all() for fill in made)
    assert np.abs(made[0].pixels.astype(int) - made[1].pixels).max() > 0
    assert [(step.fill, step.step, step.steps) for step in steps] == [
        (f, s, 3) for f in (0, 1) for s in (1, 2, 3)
    ]
    assert report.window is not None
    assert report.window.w <= SIDE / report.scale
    assert {"plan", "denoise", "compose"} <= set(report.ms)
    preview = steps[1].preview()
    assert preview.shape == (HOLE.h, HOLE.w, 3)


def test_a_seed_gives_the_same_fill_however_many_are_made(engine: InpaintEngine) -> None:
    alone = fills(engine, edit(seed=6))[0]
    beside = fills(engine, edit(seed=5, variations=2))[1]
    assert np.array_equal(alone.pixels, beside.pixels)


def test_what_lies_outside_of_its_window_is_no_matter(engine: InpaintEngine) -> None:
    plain = edit()
    [fill] = fills(engine, plain)
    for (y, x), same in (((0, 0), True), ((HOLE.y - 4, HOLE.x), False)):
        changed = plain.canvas.pixels.copy()
        changed[y : y + 4, x : x + 4] = 255 - changed[y : y + 4, x : x + 4]
        other = fills(engine, replace(plain, canvas=Canvas.of(changed)))[0]
        assert np.array_equal(other.pixels, fill.pixels) == same, (y, x)


def test_a_region_is_as_good_as_the_whole_canvas(engine: InpaintEngine) -> None:
    whole = edit(400, 300)
    side = engine.window_tokens
    assert side == SIDE // PATCH
    region = region_to_send((400, 300), HOLE, side=side)
    assert region != Box(0, 0, 400, 300)
    small = overview_size((400, 300))
    overview = whole.canvas.pixels[:: 300 // small[1] or 1, :: 400 // small[0] or 1][: small[1], : small[0]]
    part = Canvas((400, 300), region, whole.canvas.pixels[region.slices()].copy(), overview.copy())
    asked = Edit(part, whole.mask[region.slices()].copy(), whole.settings)
    assert np.array_equal(fills(engine, asked)[0].pixels, fills(engine, whole)[0].pixels)


def test_below_full_strength_it_starts_from_what_is_there(engine: InpaintEngine) -> None:
    report = Report()
    bright = edit(strength=0.3, steps=10)
    fills(engine, bright, report)
    assert report.steps == 3
    darker = replace(bright, canvas=Canvas.of(bright.canvas.pixels // 4))
    other = fills(engine, darker)[0].pixels.astype(int)
    assert np.abs(fills(engine, bright)[0].pixels - other).max() > 0


def test_a_sketch_is_what_it_starts_from(engine: InpaintEngine) -> None:
    plain = edit(steps=10)
    sketch = np.zeros((120, 160, 4), np.uint8)
    sketch[HOLE.slices()] = (250, 10, 10, 255)
    report = Report()
    sketched = fills(engine, replace(plain, sketch=sketch), report)[0]
    assert report.steps == 8
    assert np.abs(sketched.pixels.astype(int) - fills(engine, plain)[0].pixels).max() > 0


def test_a_base_model_and_one_trained_for_inpainting_work(tmp_path: Path) -> None:
    trained = load_engine(str(tiny_sdxl(tmp_path / "nine", channels=9)), CPU)
    assert isinstance(trained, InpaintEngine)
    assert fills(trained, edit())[0].box == HOLE


def test_what_a_pipeline_cannot_do_is_told(engine: InpaintEngine) -> None:
    parameters = {
        name: it for name, it in engine.parameters.items() if name not in ("negative_prompt", "strength")
    }
    limited = InpaintEngine(engine.pipeline)
    limited.parameters = parameters  # type: ignore[assignment]
    with pytest.raises(BadInput, match="takes no negative prompt"):
        fills(limited, edit(negative_prompt="people"))
    with pytest.raises(BadInput, match="always starts from noise"):
        fills(limited, edit(strength=0.5))


def test_the_engine_follows_from_the_model(folder: Path, tiny_model: Path) -> None:
    with pytest.raises(BadModel, match=r"StableDiffusionXLInpaintPipeline.*Use --engine diffusers"):
        load_engine(str(folder), CPU, "lazy")
    with pytest.raises(BadModel, match=r"LazyDiffusionPipeline.*Use --engine lazy"):
        load_engine(str(tiny_model), CPU, "diffusers")
    with pytest.raises(BadInput, match="no engine 'magic'"):
        load_engine(str(folder), CPU, "magic")


def test_what_is_no_inpainting_pipeline_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    with pytest.raises(BadModel, match="cannot be used for inpainting"):
        load_engine(str(tmp_path), CPU)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(BadModel, match="does not say what pipeline it is"):
        load_engine(str(tmp_path), CPU)
    (tmp_path / "weights.ckpt").touch()
    with pytest.raises(BadModel, match="is a pickle"):
        load_engine(str(tmp_path), CPU)


def test_it_is_shown_the_mask_alone_or_all_of_the_canvas(folder: Path) -> None:
    asked = edit(400, 300)
    windows = {}
    for view in ("crop", "window", "canvas"):
        report = Report()
        found = load_engine(str(folder), CPU, view=view)
        made = fills(found, asked, report)  # type: ignore[arg-type]
        assert [fill.box for fill in made] == [HOLE]
        assert report.window is not None
        windows[view] = report.window
    assert windows["canvas"].contains(Box(0, 0, 400, 300))
    assert windows["crop"].w < windows["window"].w < windows["canvas"].w


def test_a_view_that_there_is_not_is_told(folder: Path, tiny_model: Path) -> None:
    with pytest.raises(BadInput, match="no view 'bird'; it must be one of window, crop, canvas"):
        load_engine(str(folder), CPU, view="bird")
    with pytest.raises(BadInput, match="lazy chooses its own view of the canvas: leave --view crop away"):
        load_engine(str(tiny_model), CPU, view="crop")


def test_the_core_tells_editors_how_much_such_a_model_sees(folder: Path) -> None:
    [model] = [it for it in Shelf(str(folder), "cpu").models() if it.name == folder.name]
    assert model.window_tokens == SIDE // PATCH


def test_flux2_klein_may_be_run_by_its_own_inpainting_pipeline(tmp_path: Path) -> None:
    folder = tiny_flux2(tmp_path / "klein", is_distilled=True)
    found = load_engine(str(folder), CPU, view="diffusers")
    assert isinstance(found, InpaintEngine)
    assert type(found.pipeline) is Flux2KleinInpaintPipeline
    report, lazy = Report(), Report()
    [fill] = fills(found, edit(steps=None), report)
    assert fill.box == HOLE
    assert report.steps == DISTILLED_STEPS  # and not the 50 of the pipeline itself
    list(load_engine(str(folder), CPU).run(edit(steps=None), lazy))
    assert (report.window, report.hidden_tokens) == (lazy.window, lazy.hidden_tokens)
    crop = Report()
    list(load_engine(str(folder), CPU, view="diffusers-crop").run(edit(400, 300, steps=1), crop))
    assert crop.window is not None
    assert HOLE.w < crop.window.w < 400


def test_a_base_klein_has_its_own_steps_and_guidance(tmp_path: Path) -> None:
    found = load_engine(str(tiny_flux2(tmp_path / "base", is_distilled=False)), CPU, view="diffusers")
    assert isinstance(found, InpaintEngine)
    assert found.defaults == {"num_inference_steps": BASE_STEPS, "guidance_scale": BASE_GUIDANCE}
    [fill] = fills(found, edit(steps=2, guidance=2.0))
    assert fill.box == HOLE


def test_the_views_of_an_engine_are_those_that_it_knows(tmp_path: Path) -> None:
    assert set(VIEWS[DIFFUSERS]) == set(inpainting.VIEWS)
    own = [view for view in VIEWS[FLUX2_KLEIN] if not view.startswith(DIFFUSERS)]
    assert set(own) == set(REFERENCES)
    folder = tiny_flux2(tmp_path / "klein", is_distilled=True)
    for view in own:
        found = load_engine(str(folder), CPU, view=view)
        assert isinstance(found, Flux2KleinEngine)
        assert found.options.laziness.reference == view
    with pytest.raises(
        BadInput, match="no view 'crop'; it must be one of cached, refreshed, full, diffusers"
    ):
        load_engine(str(folder), CPU, view="crop")


def test_a_klein_that_is_not_whole_is_refused_whoever_runs_it(tmp_path: Path) -> None:
    folder = tiny_flux2(tmp_path / "klein", is_distilled=True)
    (folder / "tokenizer" / "chat_template.jinja").unlink()
    with pytest.raises(BadModel, match="its tokenizer lacks its words or its chat template"):
        load_engine(str(folder), CPU, view="diffusers")


@pytest.mark.parametrize(("steps", "strength", "counted"), [(2, 0.3, 2), (None, 0.01, 50)])
def test_a_strength_that_leaves_no_step_is_told(
    engine: InpaintEngine, steps: int | None, strength: float, counted: int
) -> None:
    """Also where the number of steps is the pipeline's own."""
    with pytest.raises(
        BadInput, match=f"Of {counted} steps, a strength of {strength:g} leaves none to take: ask for more"
    ):
        fills(engine, edit(steps=steps, strength=strength))


def test_a_sketch_is_seen_as_far_as_the_mask_is_grown(engine: InpaintEngine) -> None:
    asked = edit(steps=4, grow=12)
    blank = np.zeros((120, 160, 4), np.uint8)
    ring, beyond = blank.copy(), blank.copy()
    ring[HOLE.y : HOLE.bottom, HOLE.right + 2 : HOLE.right + 10] = (255, 0, 0, 255)
    beyond[HOLE.y : HOLE.bottom, HOLE.right + 13 : HOLE.right + 20] = (255, 0, 0, 255)
    made = [fills(engine, replace(asked, sketch=sketch))[0].pixels for sketch in (blank, ring, beyond)]
    assert not np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])
