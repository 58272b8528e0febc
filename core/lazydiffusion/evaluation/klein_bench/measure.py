"""The runs: every case is counted, warmed up and taken apart; then all are timed in turns."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.bench.cases import AGAIN, USUAL_SHARE, WHOLE, Case, Edits, check_masks_and_steps
from lazydiffusion.evaluation.bench.measure import SEED, Advance, time_in_turns
from lazydiffusion.evaluation.bench.parts import next_edit, part_times, run_edit
from lazydiffusion.evaluation.bench.peaks import peak_memory
from lazydiffusion.evaluation.klein_bench.lineup import KleinLineup
from lazydiffusion.evaluation.klein_bench.parts import PARTS, Cost, count_edit, watched
from lazydiffusion.window import OVERVIEW_TOKENS


@dataclass
class Measured:
    """What is known of one case."""

    case: Case
    cost: Cost
    parts_ms: dict[str, float] = field(default_factory=dict)
    """Of one instrumented run; they add up to its own total."""
    peak_bytes: int | None = None
    """Of that run, beside the weights and what else was there before; None where the system does not tell."""
    samples_ms: list[float] = field(default_factory=list)
    """End to end, without any waiting for the device that users would not have."""


def make_cases(
    views: Sequence[str], masks: Sequence[float], canvases: Sequence[int], steps: Sequence[int], native: int
) -> list[Case]:
    """The first view at every mask, and again at the usual one, as are the others: seconds of a GPU are dear.

    diffusers' own pipeline denoises its whole window whatever the mask is. Raises BadInput for what cannot be run.
    """
    if list(canvases) != [native]:
        raise BadInput(f"FLUX.2-klein is timed on its window alone: leave --canvas away, it is {native} px.")
    check_masks_and_steps(masks, steps)
    usual = USUAL_SHARE if USUAL_SHARE in masks else sorted(masks)[len(masks) // 2]
    return [
        Case(view, share, native, number, sent)
        for number in steps
        for view in views
        for share, sent in (
            [*((share, WHOLE) for share in masks), (usual, AGAIN)] if view == views[0] else [(usual, WHOLE)]
        )
    ]


def runs_of(repeats: int) -> int:
    """Runs of each case: counted, warmed up, taken apart, timed."""
    return 3 + repeats


def measure(
    lineup: KleinLineup, cases: Sequence[Case], repeats: int, advance: Advance = lambda _: None
) -> list[Measured]:
    """Measure the cases, each `repeats` times, in turns."""
    edits = Edits(lineup.size.window_tokens, OVERVIEW_TOKENS)
    rng = random.Random(SEED)
    measured = []
    for case in cases:
        advance(f"count: {case.name}")
        engine = lineup.engines[case.engine]
        measured.append(Measured(case, count_edit(engine, next_edit(engine, edits, case))))
        advance(f"warm up: {case.name}")  # its CUDA graph as well, which counting goes without
        run_edit(engine, next_edit(engine, edits, case))
    for found in rng.sample(measured, len(measured)):
        advance(f"parts: {found.case.name}")
        engine = lineup.engines[found.case.engine]
        edit = next_edit(engine, edits, found.case)
        with peak_memory(engine.pipeline.device) as peak:
            found.parts_ms = part_times(engine, edit, PARTS, watched)
        found.peak_bytes = peak.bytes
    time_in_turns(measured, lineup.engines, edits, repeats, rng, advance)
    return measured
