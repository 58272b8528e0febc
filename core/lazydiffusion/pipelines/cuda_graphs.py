"""CUDA graphs of decoder steps: one captured graph per shape, replayed with the edit's conditions copied in.

An eager step over few tokens is bound by kernel launches (measured at paper scale: 20 ms eager, 4 ms as a graph, for 41
tokens). Tokens come in few bucket sizes, texts in one length, so few graphs serve every edit.

All graphs share one pool of memory, as large as the largest needs: they run one after the other, and what one gives is
copied before the next one starts.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from lazydiffusion.models.lazy_decoder import Conditions, LazyDecoder

WARM_UP_RUNS = 3
KEPT_GRAPHS = 24


@dataclass
class _Captured:
    graph: torch.cuda.CUDAGraph
    tokens: Tensor
    timestep: Tensor
    conditions: Conditions
    output: Tensor
    filled_for: Conditions | None = None
    """The conditions whose values the graph's own hold now; kept alive, so identity is a safe test."""


class GraphedDecoder:
    """Stands in for `LazyDecoder.step` on a CUDA device, with the same arguments and result."""

    def __init__(self, decoder: LazyDecoder):
        self.decoder = decoder
        self._captured: OrderedDict[tuple[object, ...], _Captured] = OrderedDict()

    def __call__(self, tokens: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """One step. The result is a copy, so it stays valid after the next replay."""
        shape = (tuple(tokens.shape), tokens.dtype, _tensors(conditions)[-1].shape)
        captured = self._captured.get(shape)
        if captured is None:
            captured = self._captured[shape] = self._capture(tokens, timestep, conditions)
        self._captured.move_to_end(shape)
        while len(self._captured) > KEPT_GRAPHS:
            self._captured.popitem(last=False)
        if captured.filled_for is not conditions:
            for own, given in zip(_tensors(captured.conditions), _tensors(conditions), strict=True):
                own.copy_(given)
            captured.filled_for = conditions
        captured.tokens.copy_(tokens)
        captured.timestep.copy_(timestep)
        captured.graph.replay()
        return captured.output.clone()

    def _capture(self, tokens: Tensor, timestep: Tensor, conditions: Conditions) -> _Captured:
        own = _clone(conditions)
        tokens, timestep = tokens.clone(), timestep.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(
            stream
        ):  # lazily made handles and compiled blocks must exist before the capture
            for _ in range(WARM_UP_RUNS):
                self.decoder.step(tokens, timestep, own)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool = next((kept.graph.pool() for kept in self._captured.values()), None)
        # "thread_local": other threads, such as one that asks how much memory is free, must not break the capture.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            output = self.decoder.step(tokens, timestep, own)
        return _Captured(graph, tokens, timestep, own, output)


def _tensors(conditions: Conditions) -> list[Tensor]:
    rotary = [] if conditions.rotary is None else [*conditions.rotary]
    mask = [] if conditions.text_mask is None else [conditions.text_mask]
    text = [tensor for pair in conditions.text for tensor in pair]
    return [conditions.channelwise, *rotary, *mask, *text]


def _clone(conditions: Conditions) -> Conditions:
    return Conditions(
        channelwise=conditions.channelwise.clone(),
        rotary=None
        if conditions.rotary is None
        else (conditions.rotary[0].clone(), conditions.rotary[1].clone()),
        text=[(keys.clone(), values.clone()) for keys, values in conditions.text],
        text_mask=None if conditions.text_mask is None else conditions.text_mask.clone(),
    )
