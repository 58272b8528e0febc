"""What fixed edits cost, in operations and calls: compared with a committed file, so that no change costs unnoticed.

    python -m lazydiffusion.evaluation.costs --write tests/evaluation/costs.json

writes that file anew, after a change that is meant to cost what it costs.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from lazydiffusion.devices import choose_device
from lazydiffusion.engines.names import LAZY
from lazydiffusion.evaluation.bench.cases import AGAIN, REGION, Case, Edits
from lazydiffusion.evaluation.bench.counting import count_edit
from lazydiffusion.evaluation.bench.lineup import BASELINES, random_lineup
from lazydiffusion.evaluation.bench.parts import next_edit
from lazydiffusion.models.presets import EMBEDDED, Preset

HOW_TO_REGENERATE = "python -m lazydiffusion.evaluation.costs --write tests/evaluation/costs.json"
STEPS = 4
FIXED = [
    Case(LAZY, 0.01, 256, STEPS),
    Case(LAZY, 0.1, 256, STEPS),
    Case(LAZY, 1.0, 256, STEPS),
    *(Case(engine, 0.1, 256, STEPS) for engine in BASELINES),
    *(Case(engine, 0.1, 2048, STEPS, REGION) for engine in (LAZY, *BASELINES)),
    *(Case(engine, 0.1, 256, STEPS, AGAIN) for engine in (LAZY, *BASELINES)),
]
"""The edits: masks in shares of the embedded model's window, 256 x 256 px."""

Costs = dict[str, dict[str, Any]]
"""By the case's name: {"lazy, 1 %, 256 px, 4 steps": {"hidden_tokens": ..., "flops": {...}, ...}}: counting.Cost."""


def count_costs(preset: Preset = EMBEDDED) -> Costs:
    """Count the fixed edits with every engine at a preset's size, on the CPU; random weights count the same."""
    engines = random_lineup(preset, (LAZY, *BASELINES), choose_device("cpu")).engines
    edits = Edits(preset.context_encoder["window_tokens"], preset.context_encoder["overview_tokens"])
    return {
        case.name: asdict(count_edit(engine, next_edit(engine, edits, case)))
        for case in FIXED
        for engine in [engines[case.engine]]
    }


def differences(committed: Mapping[str, Any], counted: Mapping[str, Any], path: str = "") -> list[str]:
    """Every number that is not the same, a line each: where it is, what it was, what it is now."""
    lines = []
    for name in dict.fromkeys([*committed, *counted]):
        here = f"{path}: {name}" if path else name
        old, new = committed.get(name), counted.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, here)
        elif old != new:
            lines.append(f"{here}: {_shown(old)} -> {_shown(new)}")
    return lines


def _shown(value: object) -> str:
    return "nothing" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def main(
    write: Annotated[Path, typer.Option(metavar="FILE", help="Where the costs are written, as JSON.")],
) -> None:
    """Count the fixed edits and write what they cost."""
    write.write_text(json.dumps(count_costs(), indent=2) + "\n", encoding="utf8")
    typer.echo(f"Wrote {write}.")


if __name__ == "__main__":
    typer.run(main)
