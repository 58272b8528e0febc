"""FLUX.2-klein on a CUDA device: as on the CPU, its cached steps as graphs, and its models wherever they fit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_flux2 import Flux2KVCache
from tests.small_flux2_edits import COLS, ISLANDS, SOME, WORDS, mask_of, picture, steps_of
from tests.tiny_flux2 import tiny_klein
from torch import Tensor

from lazydiffusion.canvas import Canvas
from lazydiffusion.engines.base import Edit, Report
from lazydiffusion.engines.flux2_klein import Flux2KleinEngine, Flux2KleinOptions
from lazydiffusion.engines.flux2_memory import WORKING_BYTES, Need, choose_placement, free_bytes
from lazydiffusion.pipelines.cuda_graphs import GraphedStep
from lazydiffusion.pipelines.flux2_denoising import PreparedKleinEdit
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline
from lazydiffusion.pipelines.flux2_placement import PLACEMENTS, STREAMED, TURNS, WHOLE
from lazydiffusion.pipelines.flux2_reference import REFERENCES, Laziness, Placed
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import Box

pytestmark = pytest.mark.integration


def make_klein(
    device: torch.device, dtype: torch.dtype = torch.float32, placement: str = WHOLE
) -> LazyFlux2KleinPipeline:
    klein = tiny_klein(is_distilled=False)
    for network in (klein.transformer, klein.vae, klein.text_encoder):
        torch.nn.Module.to(network, dtype=dtype)  # ModelMixin's own `to` warns
    klein.placement = placement
    klein.place(device)
    return klein


def prepared(
    klein: LazyFlux2KleinPipeline,
    *boxes: Box,
    flipped: bool = False,
    guidance: float = 2.5,
    reference: str = "cached",
) -> PreparedKleinEdit:
    pixels, mask = np.asarray(picture())[:, :: -1 if flipped else 1], mask_of(*boxes)
    canvas = Canvas.of(np.ascontiguousarray(pixels))
    return klein.prepare(
        canvas, mask, "a dog" if flipped else "a cat", plan=klein.plan(canvas, mask, window_tokens=COLS), steps=4,
        guidance=guidance, negative_prompt="people" if guidance > 1 else "", max_sequence_length=WORDS,
        laziness=Laziness(reference),
    )  # fmt: skip


@contextmanager
def eager(klein: LazyFlux2KleinPipeline) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(klein, "_cached_step", lambda: None)
        yield


def assert_near(found: Tensor, wanted: Tensor, share: float) -> None:
    """Equal up to a share of the largest value."""
    assert found.shape == wanted.shape
    assert (found.cpu().float() - wanted.cpu().float()).abs().max() <= share * wanted.abs().max()


@pytest.mark.usefixtures("exact_float32")
@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("boxes", [(SOME,), ISLANDS], ids=["one", "islands"])
def test_float32_is_the_cpus(device: torch.device, reference: str, boxes: tuple[Box, ...]) -> None:
    (steps, colours), (others, found) = (
        steps_of(klein, prepared(klein, *boxes, reference=reference))
        for klein in (make_klein(torch.device("cpu")), make_klein(device))
    )
    for wanted, step in zip(steps, others, strict=True):
        assert_near(step, wanted, 1e-3)
    assert np.abs(found.astype(int) - colours).max() <= 1


@pytest.mark.usefixtures("exact_float32")
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_replayed_steps_are_the_steps_whichever_edit_was_before(
    device: torch.device, guidance: float
) -> None:
    klein = make_klein(device)
    edits = [
        prepared(klein, *boxes, flipped=flipped, guidance=guidance)
        for boxes in ((SOME,), ISLANDS)
        for flipped in (False, True)
    ]
    made = []
    # The second time around, another edit's reference lies where graphs read it.
    for edit in edits + edits[::-1]:
        for seed in (3, 4):
            steps, colours = steps_of(klein, edit, seed)
            with eager(klein):
                wanted, expected = steps_of(klein, edit, seed)
            for step, other in zip(steps, wanted, strict=True):
                assert_near(step, other, 1e-5)
            assert np.abs(colours.astype(int) - expected).max() <= 1
            made.append(steps[-1])
    assert (made[0] - made[2]).abs().max() > 0.01  # the edits differ
    assert klein._graphed is not None
    assert len(klein._graphed._captured) == 2
    assert not klein._graphed.given_up


def test_in_bfloat16_a_replay_is_the_step(device: torch.device) -> None:
    klein = make_klein(device, torch.bfloat16)
    edit = prepared(klein, SOME)
    steps, _ = steps_of(klein, edit)
    with eager(klein):
        wanted, _ = steps_of(klein, edit)
    assert klein._graphed is not None
    assert klein._graphed._captured
    for step, other in zip(steps, wanted, strict=True):
        assert (step - other).abs().mean() <= 1e-2 * other.abs().mean()


def test_no_step_waits_for_the_device(device: torch.device) -> None:
    klein = make_klein(device, torch.bfloat16)
    edit = prepared(klein, SOME)
    steps_of(klein, edit)  # captures
    step, calls = klein._cached_step(), 0
    assert step is not None

    def watched(tokens: Placed, time: Tensor, text: Placed, cache: Flux2KVCache) -> Tensor:
        nonlocal calls
        calls += 1
        torch.cuda.set_sync_debug_mode("error")  # from the first step on
        return step(tokens, time, text, cache)

    def after(i: int, *_: Tensor) -> None:
        if i == edit.steps - 1:
            torch.cuda.set_sync_debug_mode("default")

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(klein, "_cached_step", lambda: watched)
            klein.fill(edit, torch.Generator().manual_seed(0), after)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert calls == 2 * edit.steps  # with and without the prompt


def test_moved_weights_are_captured_anew(device: torch.device) -> None:
    klein = make_klein(device)
    first, _ = steps_of(klein, prepared(klein, SOME))
    klein.to("cpu")
    assert klein._graphed is None
    taken = torch.full((2**24,), 7.0, device=device)  # what lies where the weights lay
    klein.to(device)
    again, _ = steps_of(klein, prepared(klein, SOME))
    assert_near(again[-1], first[-1], 1e-4)
    klein.transformer.to("cpu")  # behind the pipeline's back
    klein.transformer.to(device)
    again, _ = steps_of(klein, prepared(klein, SOME))
    assert_near(again[-1], first[-1], 1e-4)
    assert float(taken.mean()) == 7


def test_without_memory_for_a_graph_the_fill_is_made_without(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    klein = make_klein(device)
    edit = prepared(klein, SOME)
    with eager(klein):
        wanted, _ = steps_of(klein, edit)
    plain = GraphedStep._capture

    def capture(graphed: GraphedStep, *given: object) -> object:
        monkeypatch.setattr(klein.transformer, "forward", forward)
        try:
            return plain(graphed, *given)  # type: ignore[arg-type]
        finally:
            monkeypatch.setattr(klein.transformer, "forward", own)

    own = klein.transformer.forward

    def forward(*args: object, **kwargs: object) -> object:
        if torch.cuda.is_current_stream_capturing():
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return own(*args, **kwargs)

    monkeypatch.setattr(GraphedStep, "_capture", capture)
    found, _ = steps_of(klein, edit)
    assert_near(found[-1], wanted[-1], 1e-5)
    assert "Steps go on without CUDA graphs" in caplog.text
    assert klein._graphed is not None
    assert klein._graphed.given_up


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_wherever_the_models_lie_the_fill_is_the_same(device: torch.device, placement: str) -> None:
    usual, klein = make_klein(device), make_klein(device, placement=placement)
    for flipped in (False, True, False):
        wanted, _ = steps_of(usual, prepared(usual, *ISLANDS, flipped=flipped))
        found, _ = steps_of(klein, prepared(klein, *ISLANDS, flipped=flipped))
        assert_near(found[-1], wanted[-1], 1e-4)
    blocks = klein.transformer.transformer_blocks[1], klein.text_encoder.model.layers[3]
    where = [next(block.parameters()).device.type for block in blocks]
    assert where == {WHOLE: ["cuda", "cuda"], TURNS: ["cuda", "cpu"], STREAMED: ["cpu", "cpu"]}[placement]
    assert (klein._graphed is not None) == (placement == WHOLE)


@pytest.mark.usefixtures("exact_float32")
def test_words_made_beside_the_canvas_are_the_same(device: torch.device) -> None:
    klein = make_klein(device)
    for prompt in ("a dog", "a cat", "a dog in a boat"):
        klein._texts.clear()
        prepared(klein, SOME)  # leaves the device with work
        with klein._beside(device) as used:
            found = klein._words(prompt, WORDS)
            used(found.values, found.ids)
        copy = found.values.clone()  # on the usual stream
        klein._texts.clear()
        assert_near(copy, klein._words(prompt, WORDS).values, 1e-5)
    assert klein._beside.stream is not None


def test_the_report_adds_up_though_no_lap_waits(device: torch.device) -> None:
    engine = Flux2KleinEngine(
        make_klein(device, torch.bfloat16), Flux2KleinOptions(window_tokens=COLS, text_length=WORDS)
    )
    asked = Edit(
        Canvas.of(np.asarray(picture())), mask_of(SOME), EditSettings(prompt="a cat", steps=4, variations=2)
    )
    list(engine.run(asked, Report()))  # captures
    report, started = Report(), time.perf_counter()
    fills = list(engine.run(asked, report))
    total = 1000 * (time.perf_counter() - started)
    assert len(fills) == 2
    assert set(report.ms) == {"plan", "encode", "text", "reference", "denoise", "decode", "compose"}
    assert min(report.ms.values()) >= 0
    assert 0.5 * total < sum(report.ms.values()) < 1.1 * total


def test_what_is_free_is_asked_of_the_device(device: torch.device) -> None:
    free = free_bytes(device)
    assert free is not None
    assert 0 < free <= torch.cuda.get_device_properties(device).total_memory
    need = Need.of(tiny_klein())
    if free >= need.whole + WORKING_BYTES:
        assert choose_placement(need, free) == WHOLE
