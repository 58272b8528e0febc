"""The lazy engine: an edit goes in, fills come out, and the report says what it cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.checkpoint_files import tiny_checkpoint, tiny_pipeline
from tests.small_flux2_edits import calls_of

from lazydiffusion.canvas import Canvas
from lazydiffusion.devices import Choice, choose_device
from lazydiffusion.engines.base import Edit, Report, Step
from lazydiffusion.engines.lazy import LazyEngine
from lazydiffusion.errors import BadInput, BadModel, OutOfMemory
from lazydiffusion.pipelines.cuda_graphs import GraphedDecoder
from lazydiffusion.pipelines.lazy import LazyDiffusionPipeline
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import Box, overview_size, region_to_send

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def engine() -> LazyEngine:
    return LazyEngine(tiny_pipeline())


def square_edit(**changes: object) -> Edit:
    canvas = np.random.default_rng(0).integers(0, 256, (150, 220, 3), dtype=np.uint8)
    mask = np.zeros((150, 220), np.float32)
    mask[40:90, 60:130] = 1
    return Edit(Canvas.of(canvas), mask, EditSettings(**{"prompt": "a cat", "seed": 3, **changes}))


def test_fills_come_one_by_one_and_the_report_fills_up(engine: LazyEngine) -> None:
    report, steps = Report(), []
    fills = []
    for fill in engine.run(
        square_edit(variations=2), report, lambda step: steps.append((step.fill, step.step, step.steps))
    ):
        fills.append(fill)
        assert len(steps) == 3 * len(fills)  # the second is not begun before the first is handed over
    assert [fill.seed for fill in fills] == [3, 4]
    assert steps == [(0, 1, 3), (0, 2, 3), (0, 3, 3), (1, 1, 3), (1, 2, 3), (1, 3, 3)]
    assert fills[0].box.as_list() == [60, 40, 70, 50]
    assert set(report.ms) == {"plan", "encode", "denoise", "compose"}
    assert report.hidden_tokens > 0
    assert report.steps == 3


def test_another_edit_of_the_same_selection_needs_no_encoder(engine: LazyEngine) -> None:
    engine.forget()
    with calls_of(engine.pipeline.context_encoder) as calls:
        first, second = (
            next(engine.run(square_edit(prompt=words), Report())) for words in ("a cat", "a dog")
        )
        assert len(calls) == 1
        engine.forget()
        alone = next(engine.run(square_edit(prompt="a dog"), Report()))
        next(engine.run(square_edit(), Report(), frugal=True))  # memory is short: nothing of it is kept
        assert len(calls) == 3
    assert np.array_equal(second.pixels, alone.pixels)
    assert not np.array_equal(first.pixels, second.pixels)


def test_growing_and_feathering_shape_the_alpha(engine: LazyEngine) -> None:
    plain, grown, soft = (
        next(engine.run(square_edit(**change), Report())) for change in ({}, {"grow": 5}, {"feather": 8})
    )
    assert (plain.pixels[..., 3] == 255).all()
    assert grown.box.as_list() == [55, 35, 80, 60]
    assert soft.box == plain.box
    edge, middle = soft.pixels[0, 35, 3], soft.pixels[25, 35, 3]
    assert 0 < edge < 60
    assert middle == 255


def test_progress_may_stop_an_edit_and_the_next_one_works(engine: LazyEngine) -> None:
    class Cancelled(Exception):
        pass

    def stop(step: Step) -> None:
        if step.step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        next(engine.run(square_edit(), Report(), stop))
    assert next(engine.run(square_edit(), Report())).pixels[..., 3].all()


def test_a_region_and_an_overview_make_the_same_fill_as_the_whole_canvas(engine: LazyEngine) -> None:
    """Only the overview's colours differ a little, and so does the fill."""
    x, y = np.meshgrid(np.linspace(0, 200, 900), np.linspace(0, 200, 700))
    canvas = np.stack([x, y, 200 - x], axis=-1).astype(np.uint8)
    mask = np.zeros((700, 900), np.float32)
    mask[300:350, 400:460] = 1
    region = region_to_send((900, 700), Box(400, 300, 60, 50), grow=4, feather=6)
    small = np.asarray(Image.fromarray(canvas).resize(overview_size((900, 700))))
    part = Canvas((900, 700), region, canvas[region.slices()], small)
    sketch = np.zeros((700, 900, 4), np.uint8)
    sketch[310:330, 410:440] = (255, 0, 0, 255)
    asked = EditSettings("a cat", seed=3, grow=4, feather=6, blend=True, strength=0.7)
    for drawn in (None, sketch):
        whole = next(engine.run(Edit(Canvas.of(canvas), mask, asked, drawn), Report()))
        inside = None if drawn is None else drawn[region.slices()]
        fill = next(engine.run(Edit(part, mask[region.slices()], asked, inside), Report()))
        assert fill.box == whole.box
        assert np.array_equal(fill.pixels[..., 3], whole.pixels[..., 3])
        assert np.abs(fill.pixels.astype(int) - whole.pixels).mean() < 4


def test_a_preview_shows_what_the_fill_becomes(engine: LazyEngine) -> None:
    previews: list[np.ndarray] = []
    fill = next(engine.run(square_edit(), Report(), lambda step: previews.append(step.preview())))
    assert [preview.shape for preview in previews] == [(50, 70, 3)] * 3
    differences = [np.abs(preview.astype(int) - fill.pixels[..., :3]).mean() for preview in previews]
    assert differences[-1] < 1.5  # the last step's prediction is the fill
    assert differences[-1] < differences[0]


def test_a_frugal_run_makes_the_same_fill(engine: LazyEngine) -> None:
    plain, frugal = (next(engine.run(square_edit(), Report(), frugal=f)).pixels for f in (False, True))
    assert np.abs(plain.astype(int) - frugal).max() <= 1


@settings(max_examples=12)
@given(
    st.tuples(st.integers(16, 400), st.integers(16, 400)),
    st.tuples(st.floats(0, 0.99), st.floats(0, 0.99), st.floats(0.001, 1), st.floats(0.001, 1)),
)
def test_any_canvas_and_any_mask_are_filled_and_nothing_else_is(
    engine: LazyEngine, size: tuple[int, int], place: tuple[float, float, float, float]
) -> None:
    width, height = size
    x, y = int(place[0] * width), int(place[1] * height)
    w, h = max(1, int(place[2] * width)), max(1, int(place[3] * height))
    mask = np.zeros((height, width), np.float32)
    mask[y : y + h, x : x + w] = 1
    canvas = np.zeros((height, width, 3), np.uint8)
    fill = next(engine.run(Edit(Canvas.of(canvas), mask, EditSettings(steps=1)), Report()))
    assert np.array_equal(fill.pixels[..., 3] > 0, mask[fill.box.slices()] > 0)
    assert (mask > 0).sum() == (fill.pixels[..., 3] > 0).sum()


def test_blending_draws_the_fill_towards_the_canvas(engine: LazyEngine) -> None:
    canvas = np.full((150, 220, 3), (90, 160, 40), dtype=np.uint8)
    edit = Edit(Canvas.of(canvas), square_edit().mask, EditSettings("a cat", seed=3))
    plain = next(engine.run(edit, Report())).pixels
    blended = next(
        engine.run(Edit(Canvas.of(canvas), edit.mask, EditSettings("a cat", seed=3, blend=True)), Report())
    ).pixels

    def shift(fill: np.ndarray) -> float:
        return float(np.abs(fill[..., :3].mean(axis=(0, 1)) - canvas[0, 0]).mean())

    assert shift(blended) < 0.8 * shift(plain)


def test_a_saved_checkpoint_is_loaded_by_folder(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny")
    engine = LazyEngine.load(str(folder), choose_device("cpu"))
    assert engine.pipeline.decoder.dtype == torch.float32
    assert next(engine.run(square_edit(), Report())).pixels.shape == (50, 70, 4)


@pytest.mark.parametrize("harm", ["truncate", "garbage", "other class", "no config"])
def test_a_checkpoint_that_cannot_be_loaded_is_refused_in_a_sentence(tmp_path: Path, harm: str) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny")
    (folder / "hashes.json").unlink()
    weights = folder / "decoder" / "diffusion_pytorch_model.safetensors"
    if harm == "truncate":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif harm == "garbage":
        weights.write_bytes(b"\xff" * 5000)
    elif harm == "other class":
        index = folder / "model_index.json"
        index.write_text(index.read_text().replace("LazyDecoder", "NoSuchDecoder"))
    else:
        (folder / "decoder" / "config.json").unlink()
    with pytest.raises(BadModel, match="cannot be loaded"):
        LazyEngine.load(str(folder), choose_device("cpu"))


def test_a_model_that_memory_is_too_small_for_is_not_called_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 67108864 bytes."
        )

    folder = tiny_checkpoint(tmp_path)
    monkeypatch.setattr(LazyDiffusionPipeline, "from_pretrained", full)
    with pytest.raises(OutOfMemory, match="computer's memory is full"):
        LazyEngine.load(str(folder), choose_device("cpu"))


def test_in_float16_the_embedded_model_makes_what_it_makes_in_float32() -> None:
    """The precision of GPUs without bfloat16, which is further away."""
    asked = square_edit(prompt="red apple", steps=4)
    single, half, brain = (
        next(LazyEngine.load("clipart", Choice(torch.device("cpu"), dtype, "a test")).run(asked, Report()))
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    )
    off, further = (np.abs(it.pixels.astype(int) - single.pixels).mean() for it in (half, brain))
    assert off < 0.2  # of 255 levels
    assert off < further


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("GET was unable to find an engine to execute this computation"),  # of a convolution
        RuntimeError("FIND was unable to find an engine to execute this computation"),
    ],
    ids=["of torch", "of cuBLAS", "of cuDNN", "of cuDNN when it tries all"],
)
def test_a_full_gpu_is_told_with_what_to_lower(
    engine: LazyEngine, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    """No GPU here: the decoder raises what PyTorch raises there."""

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(engine.pipeline.decoder, "step", full)
    with pytest.raises(OutOfMemory, match="make the selection smaller"):
        next(engine.run(square_edit(), Report()))


def test_an_edit_that_memory_ended_leaves_nothing_behind_and_one_that_was_stopped_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = LazyEngine(tiny_pipeline())

    class Cancelled(Exception):
        pass

    def stop(step: Step) -> None:
        raise Cancelled

    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with calls_of(engine.pipeline.context_encoder) as calls:
        with pytest.raises(Cancelled):
            next(engine.run(square_edit(), Report(), stop))
        next(engine.run(square_edit(), Report()))
        assert len(calls) == 1
        with monkeypatch.context() as patch:
            patch.setattr(engine.pipeline.decoder, "step", full)
            with pytest.raises(OutOfMemory):
                next(engine.run(square_edit(), Report()))
        next(engine.run(square_edit(), Report()))
        assert len(calls) == 2


def test_a_frugal_run_lets_go_of_captured_graphs(engine: LazyEngine) -> None:
    """Their memory is in a pool of their own, which nothing else is given. None are captured here: one stands in."""
    held = GraphedDecoder(engine.pipeline.decoder)
    engine.pipeline._graphed = held
    next(engine.run(square_edit(), Report()))
    assert engine.pipeline._graphed is held
    next(engine.run(square_edit(), Report(), frugal=True))
    assert engine.pipeline._graphed is None


def test_cuda_that_is_not_there_is_told_why() -> None:
    if torch.cuda.is_available():
        assert choose_device("cuda").device.type == "cuda"
        return
    assert choose_device("auto").device.type == "cpu"
    with pytest.raises(BadInput, match="CUDA cannot be used"):
        choose_device("cuda")
    with pytest.raises(BadInput, match="must be auto, cuda or cpu"):
        choose_device("tpu")
