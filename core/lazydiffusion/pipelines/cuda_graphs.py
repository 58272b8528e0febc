"""CUDA graphs of denoising steps: one captured graph per shape, replayed with the edit's conditions copied in.

An eager step over few tokens is bound by kernel launches (measured at paper scale: 20 ms eager, 4 ms as a graph, for 41
tokens). Tokens come in few bucket sizes, texts in one length, so few graphs serve every edit.

All graphs of a model share one pool of memory, as large as the largest needs: they run one after the other, and what
one gives is copied before the next one starts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from lazydiffusion.models.lazy_decoder import Conditions, LazyDecoder

KEPT_GRAPHS = 24

C = TypeVar("C")
"""What stays the same over the steps of an edit."""


@dataclass
class _Captured(Generic[C]):
    graph: torch.cuda.CUDAGraph
    tokens: Tensor
    timestep: Tensor
    conditions: C
    output: Tensor
    filled_for: ReferenceType[C] | None = None
    """The conditions whose values the graph's own hold now, as long as they live: their memory is the edit's."""


class GraphedStep(ABC, Generic[C]):
    """Stands in for a step on a CUDA device, with the same arguments and result."""

    def __init__(self) -> None:
        self._captured: OrderedDict[tuple[object, ...], _Captured[C]] = OrderedDict()

    @abstractmethod
    def step(self, tokens: Tensor, timestep: Tensor, conditions: C) -> Tensor:
        """What is captured."""

    @abstractmethod
    def tensors(self, conditions: C) -> list[Tensor]:
        """The tensors of conditions that are copied into a graph's own; their shapes tell which graph it is."""

    @abstractmethod
    def own(self, conditions: C) -> C:
        """Conditions with copies of these tensors, for a new graph to read."""

    def __call__(self, tokens: Tensor, timestep: Tensor, conditions: C) -> Tensor:
        """One step. The result is a copy, so it stays valid after the next replay."""
        given = self.tensors(conditions)
        shape = (tuple(tokens.shape), tokens.dtype, *(tensor.shape for tensor in given))
        captured = self._captured.get(shape)
        if captured is None:
            captured = self._captured[shape] = self._capture(tokens, timestep, conditions)
        self._captured.move_to_end(shape)
        while len(self._captured) > KEPT_GRAPHS:
            self._captured.popitem(last=False)
        if captured.filled_for is None or captured.filled_for() is not conditions:
            for mine, theirs in zip(self.tensors(captured.conditions), given, strict=True):
                mine.copy_(theirs)
            captured.filled_for = ref(conditions)
        captured.tokens.copy_(tokens)
        captured.timestep.copy_(timestep)
        captured.graph.replay()
        return captured.output.clone()

    def forget(self) -> None:
        """Let all graphs go: what they read is not where it was."""
        self._captured.clear()

    def _capture(self, tokens: Tensor, timestep: Tensor, conditions: C) -> _Captured[C]:
        own = self.own(conditions)
        tokens, timestep = tokens.clone(), timestep.clone()
        stream, here = _captures(), torch.cuda.current_stream()
        stream.wait_stream(here)
        # What is made lazily, and compiled blocks, must exist before the capture.
        with torch.cuda.stream(stream):
            self.step(tokens, timestep, own)
        here.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool = next((kept.graph.pool() for kept in self._captured.values()), None)
        # "thread_local": other threads, such as one that asks how much memory is free, must not break the capture.
        capture = torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local")
        # torch itself stays on its stream when a capture fails at its end.
        with torch.cuda.stream(here), capture:
            output = self.step(tokens, timestep, own)
        return _Captured(graph, tokens, timestep, own, output)


@cache
def _captures() -> torch.cuda.Stream:
    """The stream of all captures and of the runs before them.

    One, because cuBLAS keeps a workspace for each stream that it has seen, 32 MiB on an H100. It is made in the run
    before: made in a capture, it would be a part of the graphs' pool.
    """
    return torch.cuda.Stream()


class GraphedDecoder(GraphedStep[Conditions]):
    """Graphs of `LazyDecoder.step`."""

    def __init__(self, decoder: LazyDecoder):
        super().__init__()
        self.decoder = decoder

    def step(self, tokens: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """The decoder's, as it is at the moment."""
        return self.decoder.step(tokens, timestep, conditions)

    def tensors(self, conditions: Conditions) -> list[Tensor]:
        """All of them."""
        rotary = [] if conditions.rotary is None else [*conditions.rotary]
        mask = [] if conditions.text_mask is None else [conditions.text_mask]
        text = [tensor for pair in conditions.text for tensor in pair]
        pooled = [] if conditions.pooled is None else [conditions.pooled]
        return [conditions.channelwise, *rotary, *mask, *pooled, *text]

    def own(self, conditions: Conditions) -> Conditions:
        """A copy."""
        return Conditions(
            channelwise=conditions.channelwise.clone(),
            rotary=None
            if conditions.rotary is None
            else (conditions.rotary[0].clone(), conditions.rotary[1].clone()),
            text=[(keys.clone(), values.clone()) for keys, values in conditions.text],
            text_mask=None if conditions.text_mask is None else conditions.text_mask.clone(),
            pooled=None if conditions.pooled is None else conditions.pooled.clone(),
        )
