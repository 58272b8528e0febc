"""What graphs of FLUX.2-klein's cached steps read: each edit's own, and the reference from one place.

A stand-in for a CUDA graph runs here: tests/cuda/test_klein.py has the real ones.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from tests.small_flux2_edits import COLS, ISLANDS, SOME, WORDS, mask_of, picture, steps_of
from tests.tiny_flux2 import tiny_klein
from torch import Tensor

from lazydiffusion.canvas import Canvas
from lazydiffusion.pipelines import cuda_graphs, flux2_graphs
from lazydiffusion.pipelines.cuda_graphs import GraphedStep, _Captured
from lazydiffusion.pipelines.flux2_denoising import PreparedKleinEdit
from lazydiffusion.pipelines.flux2_graphs import GraphedVelocity, Seen
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline
from lazydiffusion.window import Box

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]


class Rerun:
    """Runs what it was captured with again, on the memory that it was captured with."""

    def __init__(self, graphed: GraphedVelocity, tokens: Tensor, timestep: Tensor, own: Seen):
        self.run = lambda: graphed.step(tokens, timestep, own)
        self.addresses = lambda: addresses(graphed._shared)
        self.output, self.captured = self.run().clone(), self.addresses()

    def replay(self) -> None:
        assert self.addresses() == self.captured
        self.output.copy_(self.run())


@pytest.fixture
def klein() -> LazyFlux2KleinPipeline:
    return tiny_klein(is_distilled=False)


@pytest.fixture
def graphed(klein: LazyFlux2KleinPipeline, monkeypatch: pytest.MonkeyPatch) -> GraphedVelocity:
    """Graphs that the pipeline's steps run as."""

    def capture(self: GraphedVelocity, tokens: Tensor, timestep: Tensor, seen: Seen) -> _Captured[Seen]:
        tokens, timestep, own = tokens.clone(), timestep.clone(), self.own(seen)
        graph: Any = Rerun(self, tokens, timestep, own)
        return _Captured(graph, tokens, timestep, own, graph.output)

    monkeypatch.setattr(GraphedStep, "_capture", capture)
    graphed = GraphedVelocity(klein.transformer)
    monkeypatch.setattr(klein, "_cached_step", lambda: graphed.velocity)
    return graphed


@contextmanager
def eager(klein: LazyFlux2KleinPipeline) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(klein, "_cached_step", lambda: None)
        yield


def prepared(
    klein: LazyFlux2KleinPipeline, *boxes: Box, flipped: bool = False, side: int = COLS, words: str = "a cat"
) -> PreparedKleinEdit:
    pixels, mask = np.asarray(picture())[:, :: -1 if flipped else 1], mask_of(*boxes)
    canvas = Canvas.of(np.ascontiguousarray(pixels))
    plan = klein.plan(canvas, mask, window_tokens=side)
    return klein.prepare(
        canvas,
        mask,
        words,
        plan=plan,
        steps=3,
        guidance=2.5,
        negative_prompt="people",
        max_sequence_length=WORDS,
    )


def addresses(cache: Any) -> list[int]:
    layers = [*cache.double_block_caches, *cache.single_block_caches]
    return [part.data_ptr() for layer in layers for part in layer.get()]


def assert_fills_are_those_without(klein: LazyFlux2KleinPipeline, edit: PreparedKleinEdit, seed: int) -> None:
    found, colours = steps_of(klein, edit, seed)
    with eager(klein):
        expected, others = steps_of(klein, edit, seed)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert np.array_equal(colours, others)


def test_fills_are_those_of_steps_without_graphs_whichever_edit_was_before(
    klein: LazyFlux2KleinPipeline, graphed: GraphedVelocity
) -> None:
    edits = [
        prepared(klein, *boxes, flipped=flipped, words=words)
        for boxes in ((SOME,), ISLANDS)
        for flipped, words in ((False, "a cat"), (True, "a dog"))
    ]
    # The second time around the reference of another lies in the shared place.
    for edit in edits + edits[::-1]:
        assert_fills_are_those_without(klein, edit, seed=3)
        assert_fills_are_those_without(klein, edit, seed=4)
    sizes = {edit.indices.shape[1] for edit in edits}
    assert len(graphed._captured) == len(sizes) == 2  # both texts and both edits share a graph
    assert not graphed.given_up


def test_the_reference_is_held_once(klein: LazyFlux2KleinPipeline, graphed: GraphedVelocity) -> None:
    first = prepared(klein, SOME)
    where = addresses(first.window.cache)
    steps_of(klein, first)
    assert addresses(graphed._shared) == addresses(first.window.cache) == where
    second = prepared(klein, SOME, flipped=True)
    assert not set(addresses(second.window.cache)) & set(where)
    steps_of(klein, second)
    assert addresses(second.window.cache) == where  # what it had of its own is given back
    assert not set(addresses(first.window.cache)) & set(where)  # the first still lives, and got a copy
    del first, second
    gc.collect()
    third = prepared(klein, SOME)
    steps_of(klein, third)
    assert addresses(third.window.cache) == where


def test_a_reference_of_another_size_has_graphs_of_its_own(
    klein: LazyFlux2KleinPipeline, graphed: GraphedVelocity
) -> None:
    large, small = prepared(klein, SOME), prepared(klein, SOME, side=4)
    assert large.plan.hidden.size > small.plan.hidden.size
    for edit in (large, small, large):
        assert_fills_are_those_without(klein, edit, seed=3)
        assert len(graphed._captured) == 1


def test_the_oldest_graphs_are_let_go(
    klein: LazyFlux2KleinPipeline, graphed: GraphedVelocity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "KEPT_GRAPHS", 1)
    for boxes in ((SOME,), ISLANDS, (SOME,)):
        assert_fills_are_those_without(klein, prepared(klein, *boxes), seed=3)
        assert len(graphed._captured) == 1


def test_large_steps_are_left_as_they_are(
    klein: LazyFlux2KleinPipeline, graphed: GraphedVelocity, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = prepared(klein, SOME)
    monkeypatch.setattr(flux2_graphs, "LARGEST_STEP", edit.indices.shape[1] - 1)
    assert_fills_are_those_without(klein, edit, seed=3)
    assert not graphed._captured
    assert graphed._shared is None


def test_without_memory_for_a_graph_steps_go_on_without_and_say_so(
    klein: LazyFlux2KleinPipeline,
    graphed: GraphedVelocity,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = prepared(klein, SOME)
    steps_of(klein, first)

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.\nGPU 0 has")

    monkeypatch.setattr(GraphedStep, "_capture", fail)
    second = prepared(klein, *ISLANDS, flipped=True)
    with caplog.at_level(logging.WARNING):
        for edit in (second, first):
            assert_fills_are_those_without(klein, edit, seed=3)
    assert [record.getMessage() for record in caplog.records] == [
        "Steps go on without CUDA graphs: one could not be captured "
        "(CUDA out of memory. Tried to allocate 20 MiB.)."
    ]
    assert not graphed._captured
    assert graphed._shared is None


def test_graphs_are_of_weights_where_they_lie(klein: LazyFlux2KleinPipeline) -> None:
    graphed = GraphedVelocity(klein.transformer)
    assert graphed.is_of(klein.transformer)
    assert not graphed.is_of(tiny_klein().transformer)
    weight = klein.transformer.proj_out.weight
    weight.data = weight.data.clone()
    assert not graphed.is_of(klein.transformer)


def test_there_are_none_on_a_cpu(klein: LazyFlux2KleinPipeline) -> None:
    assert klein._cached_step() is None
    klein._graphed = GraphedVelocity(klein.transformer)
    klein.to("cpu")
    assert klein._graphed is None
