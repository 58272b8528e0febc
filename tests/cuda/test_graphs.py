"""A decoder step replayed as a CUDA graph is the step itself, for every shape and with every edit's own conditions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.cuda.tiny_edits import KINDS, fill, make_pipeline, prepare, stepping_with
from torch import Tensor

from lazydiffusion.models.lazy_decoder import Conditions
from lazydiffusion.pipelines import cuda_graphs
from lazydiffusion.pipelines.cuda_graphs import GraphedDecoder
from lazydiffusion.pipelines.lazy import LazyDiffusionPipeline

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=KINDS)
def pipeline(request: pytest.FixtureRequest, device: torch.device) -> LazyDiffusionPipeline:
    return make_pipeline(request.param, device, torch.bfloat16)


def assert_near(found: Tensor, wanted: Tensor) -> None:
    """Equal, but for a few values rounded otherwise."""
    assert found.shape == wanted.shape
    assert wanted.abs().mean() > 1e-3
    assert (found.float() - wanted.float()).abs().mean() <= 1e-3 * wanted.float().abs().mean()


@torch.no_grad()
def test_a_replay_is_the_step_for_any_bucket_and_any_conditions(pipeline: LazyDiffusionPipeline) -> None:
    graphed = GraphedDecoder(pipeline.decoder)
    edits = [prepare(pipeline, hole, words) for hole in ("small", "large") for words in ("a cat", "a dog")]
    assert len({edit.reading.context.shape for edit in edits}) == 2
    generator = torch.Generator().manual_seed(0)
    for edit in edits * 2:  # the second time around everything is captured, and filled for another edit
        assert edit.unconditional is not None
        for conditions in (edit.conditional, edit.conditional.stacked(edit.unconditional)):
            size = len(conditions.channelwise), *edit.reading.encoded.tokens.shape[1:]
            tokens = torch.randn(size, generator=generator).to(conditions.channelwise)
            time = torch.full((size[0],), 1000 * float(torch.rand(1, generator=generator)))
            time = time.to(tokens.device)
            replayed = graphed(tokens, time, conditions)
            assert_near(replayed, pipeline.decoder.step(tokens, time, conditions))
            again = graphed(tokens.flip(1), time, conditions)
            assert not torch.equal(again, replayed)  # the second replay has not changed the first result
            assert_near(replayed, pipeline.decoder.step(tokens, time, conditions))
    assert len(graphed._captured) == 4


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_fills_are_those_of_eager_steps(pipeline: LazyDiffusionPipeline, guidance: float) -> None:
    for hole in ("small", "large"):
        for words in ("a cat", "a dog"):
            edit = prepare(pipeline, hole, words, guidance)
            graphed = [fill(pipeline, edit, seed) for seed in range(3)]
            with stepping_with(pipeline, pipeline.decoder.step):
                eager = [fill(pipeline, edit, seed) for seed in range(3)]
            for one, other in zip(graphed, eager, strict=True):
                assert np.abs(one - other).mean() < 0.5  # of 255 levels
            assert np.abs(graphed[0] - graphed[1]).mean() > 2


def test_the_oldest_graphs_are_let_go(
    pipeline: LazyDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their memory is shared with those that are kept, whose results stay what they were."""
    monkeypatch.setattr(cuda_graphs, "KEPT_GRAPHS", 1)
    pipeline._graphed = None
    small, large = prepare(pipeline, "small"), prepare(pipeline, "large")
    first = fill(pipeline, small)
    fill(pipeline, large)
    assert pipeline._graphed is not None
    assert len(pipeline._graphed._captured) == 1
    assert np.array_equal(fill(pipeline, small), first)


@torch.no_grad()
def test_further_graphs_need_no_further_workspaces(
    pipeline: LazyDiffusionPipeline, device: torch.device
) -> None:
    """cuBLAS keeps one for each stream that it is used on: 8 to 32 MiB, and torch gives out 32 streams in turn.

    All batches are captured twice: which is the first that needs a workspace at all depends on the card.
    """
    edit = prepare(pipeline, "large")
    for _ in range(2):
        graphed, conditions, held = GraphedDecoder(pipeline.decoder), edit.conditional, []
        for batch in range(1, 6):
            tokens = torch.zeros(batch, *edit.reading.encoded.tokens.shape[1:], device=device)
            graphed(tokens.to(torch.bfloat16), torch.zeros(batch, device=device), conditions)
            held.append(torch.cuda.memory_allocated(device))
            conditions = conditions.stacked(edit.conditional)
        assert len(graphed._captured) == 5
    assert held[-1] - held[0] < 4 * 2**20


def test_after_a_capture_that_fails_at_its_end_edits_go_on_where_they_were(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline("pixels", device, torch.bfloat16)
    end = torch.cuda.CUDAGraph.capture_end

    def fail(graph: torch.cuda.CUDAGraph) -> None:
        end(graph)
        raise RuntimeError("CUDA error: out of memory")  # as cudaGraphInstantiate would

    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda.CUDAGraph, "capture_end", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            fill(pipeline, prepare(pipeline))
    assert torch.cuda.current_stream(device) == torch.cuda.default_stream(device)
    edit = prepare(pipeline)
    graphed = fill(pipeline, edit)
    with stepping_with(pipeline, pipeline.decoder.step):
        assert np.abs(graphed - fill(pipeline, edit)).mean() < 0.5  # of 255 levels


def test_moved_weights_are_captured_anew(device: torch.device) -> None:
    pipeline = make_pipeline("pixels", device, torch.bfloat16)
    first = fill(pipeline, prepare(pipeline))
    pipeline.to("cpu")
    taken = torch.full((2**24,), 7.0, device=device)  # what lies where the weights lay
    pipeline.to(device)
    assert np.abs(fill(pipeline, prepare(pipeline)) - first).mean() < 0.5
    assert float(taken.mean()) == 7


def test_no_step_waits_for_the_device(pipeline: LazyDiffusionPipeline, device: torch.device) -> None:
    edit = prepare(pipeline)
    fill(pipeline, edit)  # captures
    step, steps = pipeline._step(), 0

    def watched(tokens: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        nonlocal steps
        steps += 1
        if device.type == "cuda":  # from the first step on
            torch.cuda.set_sync_debug_mode("error")
        output: Tensor = step(tokens, timestep, conditions)
        return output

    def after(i: int, *_: Tensor) -> None:
        if i == edit.steps - 1 and device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")

    try:
        with stepping_with(pipeline, watched):
            pipeline.fill(edit, torch.Generator().manual_seed(0), after)
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert steps == edit.steps
