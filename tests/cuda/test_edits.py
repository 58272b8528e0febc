"""Whole edits on a CUDA device: as on the CPU, the same again for the same seed, and back in order after no memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tests.cuda.tiny_edits import KINDS, canvas, fill, make_pipeline, mask, prepare, stepping_with
from torch import Tensor

from lazydiffusion.engines.base import Edit, Fill, Report
from lazydiffusion.engines.lazy import LazyEngine
from lazydiffusion.errors import OutOfMemory
from lazydiffusion.models.lazy_decoder import Conditions
from lazydiffusion.pipelines.lazy import LazyDiffusionPipeline
from lazydiffusion.protocol import EditSettings

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, device: torch.device) -> LazyEngine:
    return LazyEngine(make_pipeline(request.param, device, torch.bfloat16))


def run(engine: LazyEngine, report: Report | None = None, **settings: object) -> list[Fill]:
    edit = Edit(canvas(), mask("large"), EditSettings(**{"prompt": "a cat", "seed": 4, **settings}))
    return list(engine.run(edit, report or Report()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.usefixtures("exact_float32")
def test_float32_is_the_cpus(device: torch.device, kind: str, guidance: float) -> None:
    ends: list[tuple[Tensor, np.ndarray]] = []
    for place in (torch.device("cpu"), device):
        pipeline = make_pipeline(kind, place, torch.float32)
        edit = prepare(pipeline, guidance=guidance)
        velocity = pipeline.decoder.step(
            edit.reading.encoded.tokens.float(), torch.full((1,), 500.0, device=place), edit.conditional
        )
        ends.append((velocity.detach().cpu(), fill(pipeline, edit)))
    (wanted, colours), (found, others) = ends
    assert (found - wanted).abs().max() <= 1e-3 * wanted.abs().max()
    assert np.abs(others - colours).mean() < 0.1  # of 255 levels
    assert np.abs(others - colours).max() <= 2


def test_the_encoders_run_once_and_the_decoder_sees_the_hidden_tokens_only(engine: LazyEngine) -> None:
    pipeline, calls, sizes = engine.pipeline, Counter[str](), Counter[tuple[int, int]]()
    pipeline.prompt_encoder._cache.clear()
    hooks = [
        pipeline.context_encoder.register_forward_hook(lambda *_: calls.update(["context"])),
        pipeline.prompt_encoder.encoder.register_forward_hook(lambda *_: calls.update(["words"])),
    ]
    step = pipeline._step()

    def counted(tokens: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        sizes[tokens.shape[0], tokens.shape[1]] += 1
        output: Tensor = step(tokens, timestep, conditions)
        return output

    with stepping_with(pipeline, counted):
        report = Report()
        run(engine, report, variations=3, steps=4)
    for hook in hooks:
        hook.remove()
    count = len(pipeline.plan(canvas(), mask("large")).indices)
    assert calls == {"context": 1, "words": 1}
    assert count < 256
    assert sizes == {(1, count): 3 * 2, (2, count): 3 * 2}  # the first and the last step are not guided
    assert set(report.ms) == {"plan", "encode", "denoise", "compose"}


def test_the_same_seed_gives_the_same_pixels_however_many_are_made(engine: LazyEngine) -> None:
    several = run(engine, variations=3)
    again = run(engine, variations=3)
    alone = run(engine, seed=5)
    assert [one.seed for one in several] == [4, 5, 6]
    for one, other in zip(several, again, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
    assert np.array_equal(several[1].pixels, alone[0].pixels)
    assert not np.array_equal(several[0].pixels, several[1].pixels)


@pytest.mark.parametrize("asked", ["of torch", "of CUDA"])
def test_without_memory_an_edit_says_so_and_the_next_one_works(
    engine: LazyEngine, device: torch.device, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    wanted = run(engine)

    def impossible(*_: object) -> None:
        if asked == "of CUDA":  # a graph that is instantiated, say
            raise RuntimeError("CUDA error: out of memory")
        torch.empty(2**50, dtype=torch.uint8, device=device)

    with monkeypatch.context() as patch:
        patch.setattr(engine.pipeline.codec, "encode", impossible)
        engine.forget()  # what it read of this canvas, or it would not read it again
        with pytest.raises(OutOfMemory, match="GPU's memory is full"):
            run(engine)
    assert np.array_equal(run(engine)[0].pixels, wanted[0].pixels)


def test_without_memory_for_a_graph_an_edit_says_so_and_goes_on_frugally(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline: LazyDiffusionPipeline = make_pipeline("pixels", device, torch.bfloat16)
    engine = LazyEngine(pipeline)
    plain = pipeline.decoder.step

    def step(*args: object) -> Tensor:
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise torch.OutOfMemoryError("CUDA out of memory.")
        output: Tensor = plain(*args)  # type: ignore[arg-type]
        return output

    edit = Edit(canvas(), mask("small"), EditSettings(prompt="a cat", seed=4))
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.decoder, "step", step)
        if device.type == "cuda":
            with pytest.raises(OutOfMemory, match="GPU's memory is full"):
                list(engine.run(edit, Report()))
        frugal = list(engine.run(edit, Report(), frugal=True))
    graphed = list(engine.run(edit, Report()))
    difference = graphed[0].pixels.astype(int) - frugal[0].pixels
    assert np.abs(difference).mean() < 1  # of 255 levels: guidance in two passes rounds otherwise


def test_nothing_waits_for_the_device_while_it_reads_or_decodes(
    engine: LazyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But the text encoder, on a stream of its own, and the last copy of an edit."""
    pipeline, codec = engine.pipeline, engine.pipeline.codec
    run(engine)  # captures
    engine.forget()
    pipeline.prompt_encoder._cache.clear()
    context, own_beside, decode, calls = pipeline.context_encoder.forward, pipeline._beside, codec.decode, []

    def reading(*given: Tensor) -> Tensor:
        calls.append("read")
        torch.cuda.set_sync_debug_mode("error")  # from here to the end of `prepare`
        return context(*given)

    @contextmanager
    def beside(device: torch.device | None) -> Iterator[object]:
        torch.cuda.set_sync_debug_mode("default")
        with own_beside(device) as used:
            yield used
        torch.cuda.set_sync_debug_mode("error")

    def decoding(*given: object) -> Tensor:
        calls.append("decode")
        torch.cuda.set_sync_debug_mode("error")
        decoded: Tensor = decode(*given)
        torch.cuda.set_sync_debug_mode("default")
        return decoded

    monkeypatch.setattr(pipeline.context_encoder, "forward", reading)
    monkeypatch.setattr(pipeline, "_beside", beside)
    monkeypatch.setattr(codec, "decode", decoding)
    try:
        edit = pipeline.prepare(canvas(), mask("large"), "a cat")
        torch.cuda.set_sync_debug_mode("default")
        for seed in (0, 1):  # the second decode has its statistics
            pipeline.fill(edit, torch.Generator().manual_seed(seed))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert calls == ["read", "decode", "decode"]


def test_words_made_beside_the_canvas_are_the_same(engine: LazyEngine) -> None:
    pipeline = engine.pipeline
    for prompt in ("a dog", "a cat", "a dog in a boat"):
        pipeline.prompt_encoder._cache.clear()
        pipeline.prepare(canvas(), mask("large"), "")  # leaves the device with work
        with pipeline._beside(pipeline.device) as used:
            found = pipeline._words(prompt, 32)
            used(*found)
        copies = [part.clone() for part in found]  # on the usual stream
        pipeline.prompt_encoder._cache.clear()
        for copy, wanted in zip(copies, pipeline._words(prompt, 32), strict=True):
            assert torch.equal(copy, wanted)
    assert pipeline._beside.stream is not None
