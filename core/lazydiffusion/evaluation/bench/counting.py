"""The operations and calls of an edit, counted while it runs: exact, and the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lazydiffusion.engines.base import Edit, Report
from lazydiffusion.engines.lazy import LazyEngine
from lazydiffusion.evaluation.bench.parts import OTHER, STEPS, run_edit, watched
from lazydiffusion.models.lazy_decoder import Conditions


@dataclass
class Cost:
    """What one edit does. FLOPs count 2 for a multiply-add; what is not a matrix product or convolution counts 0."""

    hidden_tokens: int
    """Tokens of the engine's window that the mask touches."""
    tokens: int
    """K: those that the decoder makes, rounded up to a bucket."""
    flops: dict[str, int]
    """By part; parts without any are left out."""
    calls: dict[str, int]
    """By part."""
    decoder_steps: dict[str, int]
    """How often the decoder runs on how much: {"2 x 40": 7} is 7 times 40 tokens for both sides of guidance."""

    @property
    def total_flops(self) -> int:
        """Of all parts."""
        return sum(self.flops.values())


def count_edit(engine: LazyEngine, edit: Edit) -> Cost:
    """Run an edit and count. The fill is not a picture: steps of the same shape are run once and counted as often.

    Attention is computed by plain matrix products meanwhile: the counter does not know a CPU's fused attention.
    Steps are run as they are, without CUDA graphs, whose operations it does not see either.
    """
    pipeline = engine.pipeline
    counter = FlopCounterMode(display=False)
    flops: dict[str, int] = {}
    calls: dict[str, int] = {}
    shapes: dict[tuple[int, int], int] = {}
    known: dict[tuple[int, int], tuple[int, Tensor]] = {}

    @contextmanager
    def count(part: str, args: tuple[Any, ...]) -> Iterator[None]:
        before = counter.get_total_flops()
        yield
        flops[part] = flops.get(part, 0) + counter.get_total_flops() - before
        calls[part] = calls.get(part, 0) + 1

    def step(tokens: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        shape = tokens.shape[0], tokens.shape[1]
        shapes[shape] = shapes.get(shape, 0) + 1
        if shape in known:
            flops[STEPS] += known[shape][0]
            return known[shape][1]
        before = counter.get_total_flops()
        output: Tensor = pipeline.decoder.step(tokens, timestep, conditions)
        known[shape] = counter.get_total_flops() - before, output
        return output

    report = Report()
    as_they_are = torch.compiler.set_stance("force_eager")  # nor those of compiled blocks
    with as_they_are, sdpa_kernel(SDPBackend.MATH), counter, watched(pipeline, count, step):
        run_edit(engine, edit, report)
    skipped = sum((times - 1) * known[shape][0] for shape, times in shapes.items())
    flops[OTHER] = counter.get_total_flops() + skipped - sum(flops.values())
    return Cost(
        hidden_tokens=report.hidden_tokens,
        tokens=max(count for _, count in shapes),
        flops={part: number for part, number in flops.items() if number},
        calls=calls,
        decoder_steps={f"{batch} x {count}": times for (batch, count), times in shapes.items()},
    )
