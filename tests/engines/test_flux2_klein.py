"""FLUX.2-klein as an engine: what it fills, what it keeps, what it reports, and which folders it refuses."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    Flux2KleinInpaintPipeline,
    Flux2KleinKVPipeline,
    Flux2KleinPipeline,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.small_flux2_edits import calls_of
from tests.tiny_flux2 import tiny_flux2, tiny_klein, tiny_parts
from tests.tiny_sdxl import tiny_sdxl

from lazydiffusion import checkpoints, compose
from lazydiffusion.canvas import Canvas
from lazydiffusion.devices import choose_device
from lazydiffusion.engines.base import Edit, Fill, Report, Step
from lazydiffusion.engines.flux2_klein import (
    Flux2KleinEngine,
    Flux2KleinOptions,
    load_pipeline,
)
from lazydiffusion.errors import BadInput, BadModel, OutOfMemory
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline
from lazydiffusion.pipelines.flux2_placement import PLACEMENTS, STREAMED, TURNS, WHOLE
from lazydiffusion.pipelines.flux2_reference import Laziness
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import Box, overview_size, region_to_send

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]

CPU = choose_device("cpu")
SIDE = 6
OPTIONS = Flux2KleinOptions(window_tokens=SIDE, text_length=24)
HOLE = Box(60, 50, 24, 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux2(tmp_path_factory.mktemp("models") / "tiny-klein", is_distilled=True)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Flux2KleinEngine:
    return Flux2KleinEngine.load(folder, CPU, OPTIONS)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A folder that a test may damage."""
    return shutil.copytree(folder, tmp_path / "copy")


def edit(width: int = 160, height: int = 120, hole: Box = HOLE, **settings: Any) -> Edit:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], -1).astype(np.uint8)
    mask = np.zeros((height, width), np.float32)
    mask[hole.slices()] = 1
    return Edit(Canvas.of(pixels), mask, EditSettings(**{"prompt": "a boat", "seed": 5, **settings}))


def fills(engine: Flux2KleinEngine, asked: Edit, report: Report | None = None, **how: Any) -> list[Fill]:
    return list(engine.run(asked, report or Report(), **how))


def test_fills_come_one_by_one_and_the_report_fills_up(engine: Flux2KleinEngine) -> None:
    report, steps = Report(), list[Step]()
    made = []
    for fill in engine.run(edit(variations=2), report, steps.append):
        made.append(fill)
        assert len(steps) == 4 * len(made)  # the second is not begun before the first is handed over
    assert [(fill.box, fill.seed) for fill in made] == [(HOLE, 5), (HOLE, 6)]
    assert all((fill.pixels[..., 3] == 255).all() for fill in made)
    assert np.abs(made[0].pixels.astype(int) - made[1].pixels).max() > 0
    assert [(step.fill, step.step, step.steps) for step in steps] == [
        (f, s, 4) for f in (0, 1) for s in (1, 2, 3, 4)
    ]
    assert report.window is not None
    assert report.window.w * report.scale <= 16 * SIDE
    assert 0 < report.hidden_tokens < SIDE**2
    assert report.steps == 4
    assert set(report.ms) == {
        "plan", "encode", "text", "reference", "denoise", "decode", "compose"
    }  # fmt: skip


def test_another_edit_of_the_same_window_reads_it_no_more(engine: Flux2KleinEngine) -> None:
    engine.forget()
    with calls_of(engine.pipeline.vae.encoder) as encodes:
        first, second = (fills(engine, edit(prompt=words))[0] for words in ("a boat", "a buoy"))
        once = len(encodes)  # the window, and the overview that the decode asks for
        assert once == 2
        engine.forget()
        alone = fills(engine, edit(prompt="a buoy"))[0]
        assert len(encodes) == 2 * once
    assert np.array_equal(second.pixels, alone.pixels)
    assert not np.array_equal(first.pixels, second.pixels)


def test_previews_are_of_the_fills_box(engine: Flux2KleinEngine) -> None:
    previews: list[np.ndarray] = []
    fills(engine, edit(), progress=lambda step: previews.append(step.preview()))
    assert [preview.shape for preview in previews] == [(HOLE.h, HOLE.w, 3)] * 4
    assert np.abs(previews[0].astype(int) - previews[-1]).max() > 0


def test_a_seed_gives_the_same_fill_however_many_are_made(engine: Flux2KleinEngine) -> None:
    alone = fills(engine, edit(seed=6))[0]
    beside = fills(engine, edit(seed=5, variations=2))[1]
    assert np.array_equal(alone.pixels, beside.pixels)
    assert not np.array_equal(alone.pixels, fills(engine, edit(seed=6, prompt="a red cat"))[0].pixels)


@settings(max_examples=15)
@given(
    st.tuples(st.integers(16, 300), st.integers(16, 300)),
    st.tuples(st.floats(0, 0.99), st.floats(0, 0.99), st.floats(0.001, 1), st.floats(0.001, 1)),
    st.integers(0, 2**32 - 1),
)
def test_any_canvas_and_any_mask_are_filled_and_nothing_else_is(
    engine: Flux2KleinEngine, size: tuple[int, int], place: tuple[float, float, float, float], seed: int
) -> None:
    width, height = size
    x, y = int(place[0] * width), int(place[1] * height)
    asked = edit(
        width, height, Box(x, y, max(1, int(place[2] * width)), max(1, int(place[3] * height))), steps=1
    )
    generator = np.random.default_rng(seed)
    asked.mask[generator.integers(height), generator.integers(width)] = 0.5  # often an island of its own
    [fill] = fills(engine, asked)
    assert np.array_equal(fill.pixels[..., 3] > 0, asked.mask[fill.box.slices()] > 0)
    assert (asked.mask > 0).sum() == (fill.pixels[..., 3] > 0).sum()
    pasted = compose.paste(asked.canvas.pixels, fill.pixels, fill.box)
    assert np.array_equal(pasted[asked.mask == 0], asked.canvas.pixels[asked.mask == 0])


def test_the_whole_canvas_is_scaled_into_the_window_and_that_is_said(engine: Flux2KleinEngine) -> None:
    report = Report()
    [fill] = fills(engine, edit(hole=Box(0, 0, 160, 120)), report)
    assert fill.box == Box(0, 0, 160, 120)
    assert report.scale < 1
    assert report.hidden_tokens <= SIDE**2
    assert fill.pixels[..., :3].std() > 5


def test_growing_and_feathering_shape_the_alpha(engine: Flux2KleinEngine) -> None:
    grown, soft = (fills(engine, edit(**change))[0] for change in ({"grow": 5}, {"feather": 6}))
    assert grown.box == HOLE.enlarged(5)
    assert soft.box == HOLE
    assert 0 < soft.pixels[0, 12, 3] < 60 < soft.pixels[8, 12, 3]


def test_a_region_is_as_good_as_the_whole_canvas(engine: Flux2KleinEngine) -> None:
    whole = edit(400, 300)
    region = region_to_send((400, 300), HOLE, side=engine.window_tokens)
    assert region != Box(0, 0, 400, 300)
    columns, rows = overview_size((400, 300))
    overview = whole.canvas.pixels[:: 300 // rows, :: 400 // columns][:rows, :columns]
    part = Canvas((400, 300), region, whole.canvas.pixels[region.slices()].copy(), overview.copy())
    asked = Edit(part, whole.mask[region.slices()].copy(), whole.settings)
    assert np.array_equal(fills(engine, asked)[0].pixels, fills(engine, whole)[0].pixels)


def test_a_sketch_is_seen_and_below_full_strength_started_from(engine: Flux2KleinEngine) -> None:
    sketch = np.zeros((120, 160, 4), np.uint8)
    sketch[HOLE.slices()] = (250, 10, 10, 255)
    plain = edit()
    [unsketched], [sketched] = fills(engine, plain), fills(engine, replace(plain, sketch=sketch))
    assert np.abs(sketched.pixels.astype(int) - unsketched.pixels).max() > 0
    report = Report()
    fills(engine, replace(edit(strength=0.5), sketch=sketch), report)
    assert report.steps == 2


def test_a_frugal_run_makes_the_same_fill_and_lets_the_models_take_turns() -> None:
    engine = Flux2KleinEngine(tiny_klein(), OPTIONS)
    [plain], [frugal] = fills(engine, edit()), fills(engine, edit(), frugal=True)
    assert np.array_equal(plain.pixels, frugal.pixels)
    assert engine.pipeline.placement == TURNS


@pytest.mark.parametrize("placement", [TURNS, STREAMED])
def test_wherever_the_models_lie_the_fill_is_the_same(
    engine: Flux2KleinEngine, folder: Path, placement: str
) -> None:
    elsewhere = Flux2KleinEngine.load(folder, CPU, replace(OPTIONS, placement=placement))
    for asked in (edit(), edit(hole=Box(20, 20, 50, 60), prompt="a dog")):
        [found], [usual] = fills(elsewhere, asked, frugal=True), fills(engine, asked)
        assert np.array_equal(found.pixels, usual.pixels)
    assert elsewhere.pipeline.placement == placement


@pytest.mark.parametrize(
    "laziness",
    [Laziness("full"), Laziness("refreshed"), Laziness(ring=0, renoise=False), Laziness(ring=3)],
    ids=["full", "refreshed", "hidden-only", "wide-ring"],
)
def test_every_variant_fills(engine: Flux2KleinEngine, laziness: Laziness) -> None:
    other = Flux2KleinEngine(engine.pipeline, replace(OPTIONS, laziness=laziness))
    [found], [usual] = fills(other, edit()), fills(engine, edit())
    assert found.box == HOLE
    assert np.abs(found.pixels.astype(int) - usual.pixels).max() > 0


def test_a_base_model_has_guidance_and_a_distilled_one_says_that_it_has_none(
    engine: Flux2KleinEngine,
) -> None:
    base = Flux2KleinEngine(tiny_klein(is_distilled=False), OPTIONS)
    asked = [edit(steps=2), edit(steps=2, guidance=1), edit(steps=2, negative_prompt="people")]
    made = [fills(base, it)[0].pixels for it in asked]
    assert len({it.tobytes() for it in made}) == 3
    with pytest.raises(BadInput, match="is distilled: it has no guidance and takes no negative prompt"):
        fills(engine, edit(guidance=4))
    assert fills(engine, edit(guidance=1))


def test_progress_may_stop_an_edit_and_the_next_one_works(engine: Flux2KleinEngine) -> None:
    class Cancelled(Exception):
        pass

    def stop(step: Step) -> None:
        if step.step == 2:
            raise Cancelled

    [before] = fills(engine, edit())
    with pytest.raises(Cancelled):
        fills(engine, edit(), progress=stop)
    assert np.array_equal(fills(engine, edit())[0].pixels, before.pixels)


@pytest.mark.parametrize("kind", [Flux2KleinInpaintPipeline, Flux2KleinKVPipeline])
def test_whatever_the_pipeline_is_called_the_model_is_the_same(
    engine: Flux2KleinEngine, kind: Any, tmp_path: Path
) -> None:
    settings_ = {} if kind is Flux2KleinKVPipeline else {"is_distilled": True}
    other = Flux2KleinEngine.load(tiny_flux2(tmp_path / "other", kind, **settings_), CPU, OPTIONS)
    assert np.array_equal(fills(other, edit())[0].pixels, fills(engine, edit())[0].pixels)


def test_it_is_loaded_for_a_window_of_1024_px(folder: Path) -> None:
    assert Flux2KleinEngine.load(folder, CPU).window_tokens == 1024 // 16


def test_a_pickle_is_refused(copy: Path) -> None:
    weights = next((copy / "transformer").glob("*.safetensors"))
    torch.save(load_file(weights), copy / "transformer" / "diffusion_pytorch_model.bin")
    weights.unlink()
    with pytest.raises(BadModel, match="is a pickle"):
        checkpoints.locate(str(copy))
    with pytest.raises(BadModel, match="cannot be loaded as a FLUX"):  # nor where nobody looked before
        load_pipeline(copy, CPU)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "scheduler"])
def test_a_partial_folder_is_refused(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    with pytest.raises(BadModel, match="cannot be loaded as a FLUX"):
        load_pipeline(copy, CPU)


@pytest.mark.parametrize("file", ["tokenizer.json", "chat_template.jinja"])
def test_a_tokenizer_that_would_read_nothing_is_refused(copy: Path, file: str) -> None:
    (copy / "tokenizer" / file).unlink()
    with pytest.raises(BadModel, match="its tokenizer lacks its words or its chat template"):
        load_pipeline(copy, CPU)


def test_weights_that_were_cut_off_are_refused(copy: Path) -> None:
    weights = next((copy / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadModel, match="cannot be loaded as a FLUX"):
        load_pipeline(copy, CPU)


def test_a_full_memory_is_no_fault_of_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrapped(error: Exception) -> Exception:
        outer = OSError("Unable to load weights from checkpoint file")
        outer.__cause__ = error
        return outer

    gpu = torch.OutOfMemoryError("CUDA out of memory.")
    linux = RuntimeError(
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"
    )
    windows = RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes.")
    mapped = OSError(errno.ENOMEM, "Cannot allocate memory")
    for error in (gpu, linux, windows, mapped, MemoryError(), wrapped(linux), wrapped(gpu)):

        def full(*_: object, error: Exception = error, **how: object) -> None:
            raise error

        monkeypatch.setattr(LazyFlux2KleinPipeline, "from_pretrained", full)
        with pytest.raises(OutOfMemory, match="memory is full"):
            Flux2KleinEngine.load(folder, CPU, OPTIONS)


def test_a_model_of_another_architecture_is_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="cannot be loaded as a FLUX"):
        load_pipeline(tiny_sdxl(tmp_path / "sdxl"), CPU)

    index = json.loads((copy / "model_index.json").read_text())
    shutil.rmtree(copy / "vae")
    AutoencoderKL(block_out_channels=(32,)).save_pretrained(copy / "vae")
    index["vae"] = ["diffusers", "AutoencoderKL"]
    (copy / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(BadModel, match="its vae is a AutoencoderKL, not a AutoencoderKLFlux2"):
        load_pipeline(copy, CPU)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"joint_attention_dim": 30}, "words have 30 where"), ({"in_channels": 12}, "tokens have 12 where")],
    ids=["words", "tokens"],
)
def test_parts_that_do_not_fit_each_other_are_refused(
    tmp_path: Path, changes: dict[str, int], sentence: str
) -> None:
    Flux2KleinPipeline(**tiny_parts(**changes), is_distilled=True).save_pretrained(tmp_path / "odd")
    with pytest.raises(BadModel, match=sentence):
        load_pipeline(tmp_path / "odd", CPU)


@pytest.mark.gpu
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_it_runs_on_a_gpu_in_bfloat16(folder: Path, placement: str) -> None:
    engine = Flux2KleinEngine.load(folder, choose_device("cuda"), replace(OPTIONS, placement=placement))
    for laziness in (Laziness(), Laziness("refreshed"), Laziness("full")):
        engine.options = replace(engine.options, laziness=laziness)
        report = Report()
        made = fills(engine, edit(variations=2), report)
        assert [fill.box for fill in made] == [HOLE, HOLE]
        assert made[0].pixels[..., :3].std() > 5
    pipeline = engine.pipeline
    assert pipeline.transformer.dtype == torch.bfloat16
    away = [placement == STREAMED, placement != WHOLE]
    for model, elsewhere in zip((pipeline.transformer, pipeline.text_encoder), away, strict=True):
        weights = model.state_dict()[next(name for name in model.state_dict() if ".0." in name)]
        assert (weights.device.type == "cpu") == elsewhere
    assert pipeline.device.type == "cuda"


def test_an_edit_that_memory_ended_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Flux2KleinEngine.load(folder, CPU, OPTIONS)

    def full(*_: Any, **__: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with calls_of(engine.pipeline.vae.encoder) as calls:
        fills(engine, edit())
        read = len(calls)
        fills(engine, edit(prompt="a ship"))
        assert len(calls) == read
        with monkeypatch.context() as patch:
            patch.setattr(engine.pipeline, "fill", full)
            with pytest.raises(OutOfMemory):
                fills(engine, edit())
        fills(engine, edit())
        assert len(calls) == 2 * read
