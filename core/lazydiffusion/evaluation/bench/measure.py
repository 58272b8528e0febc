"""The runs: every case is counted, warmed up and taken apart, then all are timed in turns."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from lazydiffusion.engines.base import Edit
from lazydiffusion.engines.lazy import LazyEngine
from lazydiffusion.evaluation.bench.cases import Case, Edits
from lazydiffusion.evaluation.bench.counting import Cost, count_edit
from lazydiffusion.evaluation.bench.lineup import Lineup
from lazydiffusion.evaluation.bench.parts import Timed, next_edit, part_times, run_edit, watched
from lazydiffusion.evaluation.bench.peaks import peak_memory

PART_RUNS = 3
"""How often a case is taken apart at most."""
PEAK_STEPS = 4
"""Steps at most of the run that tells the peak memory on CUDA."""
SEED = 0
"""Of the order in which the cases take turns."""

Advance = Callable[[str], None]
"""Called before every run, with what it is."""


class TimedCase(Protocol):
    """A case, and where its times are kept."""

    case: Case
    samples_ms: list[float]


@dataclass
class Measured:
    """What is known of one case."""

    case: Case
    cost: Cost
    samples_ms: list[float] = field(default_factory=list)
    """End to end, without any waiting for the device that users would not have."""
    parts_ms: list[dict[str, float]] = field(default_factory=list)
    """One for each instrumented run; each adds up to that run's own total."""
    peak_bytes: int | None = None
    """Of one instrumented run, beside the weights and what else was there before."""


def runs_of(repeats: int) -> int:
    """Runs of each case: counted, warmed up, taken apart, timed."""
    return 2 + min(PART_RUNS, repeats) + repeats


def measure(
    lineup: Lineup, cases: Sequence[Case], repeats: int, advance: Advance = lambda _: None
) -> list[Measured]:
    """Measure the cases, each `repeats` times, in turns."""
    seen = next(iter(lineup.engines.values())).pipeline.context_encoder.config
    edits = Edits(seen.window_tokens, seen.overview_tokens)
    rng = random.Random(SEED)
    measured = []
    for case in cases:
        engine = lineup.engines[case.engine]
        advance(f"count: {case.name}")
        measured.append(Measured(case, count_edit(engine, next_edit(engine, edits, case))))
        advance(f"warm up: {case.name}")
        run_edit(engine, next_edit(engine, edits, case))
    for number in range(min(PART_RUNS, repeats)):
        for found in rng.sample(measured, len(measured)):
            engine = lineup.engines[found.case.engine]
            advance(f"parts: {found.case.name}")
            edit = next_edit(engine, edits, found.case)
            with peak_memory(engine.pipeline.device) as peak:
                found.parts_ms.append(part_times(engine, edit))
            if number == 0:
                on_cuda = engine.pipeline.device.type == "cuda"
                edit = next_edit(engine, edits, found.case)
                found.peak_bytes = peak_without_graphs(engine, edit) if on_cuda else peak.bytes
    time_in_turns(measured, lineup.engines, edits, repeats, rng, advance)
    return measured


def time_in_turns(
    measured: Sequence[TimedCase],
    engines: Mapping[str, Timed],
    edits: Edits,
    repeats: int,
    rng: random.Random,
    advance: Advance,
) -> None:
    """Time every case `repeats` times, in an order that is shuffled anew for every repeat.

    Interleaved like this, a machine that becomes slower for a while makes all cases slower and none by itself.
    """
    for _ in range(repeats):
        for found in rng.sample(measured, len(measured)):
            advance(f"time: {found.case.name}")
            engine = engines[found.case.engine]
            found.samples_ms.append(run_edit(engine, next_edit(engine, edits, found.case)))


def peak_without_graphs(engine: LazyEngine, edit: Edit) -> int | None:
    """Bytes that an edit needs whose steps are run as they are: what CUDA graphs hold does not count as allocated.

    Few steps will do: no step needs more than the ones before it, and among PEAK_STEPS are guided ones.
    """
    pipeline = engine.pipeline
    edit = replace(
        edit, settings=replace(edit.settings, steps=min(PEAK_STEPS, edit.settings.steps or PEAK_STEPS))
    )
    plain = watched(pipeline, lambda *_: nullcontext(), pipeline.decoder.step)
    with plain, peak_memory(pipeline.device) as peak:
        run_edit(engine, edit)
    return peak.bytes
