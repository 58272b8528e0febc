"""results.json, which holds everything, and table.md, which is made of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffusers
import torch

from lazydiffusion import __version__
from lazydiffusion.devices import Choice
from lazydiffusion.evaluation.bench.cases import AGAIN, REGION, Sweeps
from lazydiffusion.evaluation.bench.lineup import PAPER_CONFIG, Lineup, weight_bytes
from lazydiffusion.evaluation.bench.measure import Measured
from lazydiffusion.evaluation.bench.parts import PARTS, STEPS
from lazydiffusion.evaluation.bench.peaks import Rates
from lazydiffusion.evaluation.bench.summary import (
    Row,
    canvas_growth,
    speed_ups,
    spread,
    targets,
    time_against_tokens,
)

Results = Mapping[str, Any]
"""What results.json holds."""


def machine(choice: Choice) -> dict[str, Any]:
    """What ran the edits, and how busy it was already."""
    return {
        "device": choice.name if choice.device.type == "cuda" else processor(),
        "kind": choice.device.type,
        "dtype": str(choice.dtype).removeprefix("torch."),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "diffusers": diffusers.__version__,
        "lazydiffusion": __version__,
    }


def processor() -> str:
    """The CPU's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def results(
    config: str,
    command: str,
    choice: Choice,
    lineup: Lineup,
    sweeps: Sweeps,
    measured: Sequence[Measured],
    rates: Rates,
    host: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that a run found, ready for JSON. `host`: machine(), as it was when the run began."""
    weights = {name: weight_bytes(engine.pipeline.decoder) for name, engine in lineup.engines.items()}
    rows = [_row(found, rates, weights[found.case.engine]) for found in measured]
    line = time_against_tokens(rows, sweeps.native, sweeps.usual_steps)
    judged = config == PAPER_CONFIG and choice.device.type == "cuda"
    return {
        "config": config,
        "note": lineup.note,
        "stand_ins": lineup.stand_ins,
        "compiled": lineup.compiled,
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dict(host),
        "rates": asdict(rates),
        "native_px": sweeps.native,
        "usual_steps": sweeps.usual_steps,
        "engines": {
            name: {
                "random_weights": name in lineup.random,
                "guidance": engine.pipeline.config.default_guidance,
                "guided_between": [engine.pipeline.config.guidance_low, engine.pipeline.config.guidance_high],
                "weight_bytes": {
                    part: weight_bytes(module)
                    for part, module in engine.pipeline.components.items()
                    if isinstance(module, torch.nn.Module)
                },
            }
            for name, engine in lineup.engines.items()
        },
        "cases": rows,
        "time_against_tokens": line,
        "speed_ups": speed_ups(rows),
        "canvas_growth": canvas_growth(rows, sweeps.usual_steps),
        "targets": [asdict(target) for target in targets(rows, sweeps.native, line["fit"])] if judged else [],
    }


def _row(found: Measured, rates: Rates, decoder_bytes: int) -> dict[str, Any]:
    ms = spread(found.samples_ms)
    middle = middle_run(found.parts_ms)
    seconds_a_step = middle[STEPS] / 1000 / found.cost.calls[STEPS]
    flops_a_step = found.cost.flops[STEPS] / found.cost.calls[STEPS]
    return {
        **asdict(found.case),
        "hidden_tokens": found.cost.hidden_tokens,
        "tokens": found.cost.tokens,
        "ms": asdict(ms),
        "samples_ms": found.samples_ms,
        "parts_ms": middle,
        "ms_a_step": 1000 * seconds_a_step,
        "peak_bytes": found.peak_bytes,
        "total_flops": found.cost.total_flops,
        "flops": found.cost.flops,
        "calls": found.cost.calls,
        "decoder_steps": found.cost.decoder_steps,
        "share_of_product_rate": found.cost.total_flops / (ms.median / 1000) / rates.flops,
        "step_share_of_product_rate": flops_a_step / seconds_a_step / rates.flops,
        "step_share_of_copy_rate": decoder_bytes / seconds_a_step / rates.bytes,
    }


def middle_run(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """The parts of the run whose sum is the (lower) median of all."""
    return sorted(runs, key=lambda parts: sum(parts.values()))[(len(runs) - 1) // 2]


def table(found: Results) -> str:
    """The results in Markdown."""
    return "\n".join([*_head(found), *_times(found), *_parts(found), *_comparisons(found), ""])


def target_lines(found: Results) -> list[str]:
    """The targets, one sentence each."""
    return [
        f"{'met' if target['met'] else 'MISSED' if target['measured'] is not None else 'not measured'}: "
        f"{target['name']}: "
        + (f"{target['measured']:.3g}, " if target["measured"] is not None else "")
        + f"wanted {target['wanted']}"
        for target in found["targets"]
    ]


def _head(found: Results) -> Iterator[str]:
    host = found["machine"]
    yield f"# Cost of an edit: `{found['config']}` on {host['device']}"
    yield ""
    for sentence in filter(None, [found["note"], *found["stand_ins"]]):
        yield f"**{sentence}**"
        yield ""
    if found.get("compiled"):
        yield "**The transformers' blocks are compiled (torch.compile).**"
        yield ""
    yield (
        f"{found['date']}, torch {host['torch']}, {host['dtype']}, {host['cores']} cores ({host['cpu']}), "
        f"{host['threads']} used by torch, load {host['load_average']} at the start. {ceilings(found)} "
        f"The window is {found['native_px']} px wide; masks are centred squares, in shares of it."
    )
    yield ""
    yield f"    {found['command']}"


def _times(found: Results) -> Iterator[str]:
    yield from (
        "",
        "## Time, memory, operations",
        "",
        "Time is end to end, from canvas and mask to the fill. K is how many tokens the decoder makes. Memory is what "
        "an edit takes at most beside the weights. The last two columns are FLOP/s relative to the matrix product. "
        "As sent: as editors send a canvas, a region in full and an overview; again: after an edit of the same "
        "selection with other words, of which what the encoders read is kept.",
        "",
        "| engine | mask | canvas | steps | K | median ms | quartiles | fastest | memory MB | GFLOP | edit | step |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    )
    for row in found["cases"]:
        yield (
            f"| {row['engine']} | {percent(row['share'])} | {_canvas(row)} | {row['steps']} | {row['tokens']} | "
            f"{time_and_memory(row)} | {row['total_flops'] / 1e9:.4g} | {percent(row['share_of_product_rate'])} | "
            f"{percent(row['step_share_of_product_rate'])} |"
        )


def _parts(found: Results) -> Iterator[str]:
    yield from (
        "",
        "## Parts, ms",
        "",
        "In runs of their own, in which the device is waited for around every part: their sum is more than the time "
        f"above. {'; '.join(f'{part}: {what}' for part, what in PARTS.items())}.",
        "",
        f"| engine | mask | canvas | steps | {' | '.join(PARTS)} | a step |",
        f"|---|---:|---:|---:|{'---:|' * (len(PARTS) + 1)}",
    )
    for row in found["cases"]:
        parts = " | ".join(f"{row['parts_ms'][part]:.3g}" for part in PARTS)
        yield (
            f"| {row['engine']} | {percent(row['share'])} | {_canvas(row)} | {row['steps']} | {parts} | "
            f"{row['ms_a_step']:.3g} |"
        )


def _comparisons(found: Results) -> Iterator[str]:
    line = found["time_against_tokens"]
    if found["speed_ups"]:
        yield from (
            "",
            "## Speed-up of lazy",
            "",
            "| against | mask | canvas | steps | time | FLOPs |",
            "|---|---:|---:|---:|---:|---:|",
        )
        for ratio in found["speed_ups"]:
            yield (
                f"| {ratio['baseline']} | {percent(ratio['share'])} | {ratio['canvas']} px | {ratio['steps']} | "
                f"**{ratio['speed_up']:.3g} x** | {ratio['flop_ratio']:.3g} x |"
            )
    if line["fit"] is not None:
        fit = line["fit"]
        yield from (
            "",
            "## Time against K",
            "",
            f"lazy, {line['steps']} steps: {fit['intercept']:.4g} ms + {fit['slope']:.4g} ms for each token, "
            f"R² = {fit['r2']:.4f} over {fit['points']} of {len(line['points'])} points (floor: {line['floor']}).",
        )
    if found["canvas_growth"]:
        yield from ("", "## Canvas, the selection the same", "")
        for growth in found["canvas_growth"]:
            sent = ", as editors send it" if growth["sent"] == REGION else ""
            yield f"- {growth['engine']}{sent}: {growth['from']} to {growth['to']} px: {growth['ratio']:.3g} x the time"
    yield from target_section(found)


def ceilings(found: Results) -> str:
    """What the device reaches at most, as a sentence."""
    rates = found["rates"]
    return (
        f"Measured ceilings: {rates['flops'] / 1e12:.3g} TFLOP/s in a matrix product, {rates['bytes'] / 1e9:.3g} GB/s "
        "in a copy."
    )


def time_and_memory(row: Row) -> str:
    """A case's columns: median, quartiles and fastest of its times in ms, and its peak memory in MB."""
    ms = row["ms"]
    peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}"
    return f"**{ms['median']:.4g}** | {ms['q1']:.4g} – {ms['q3']:.4g} | {ms['min']:.4g} | {peak}"


def target_section(found: Results) -> Iterator[str]:
    """The last part of a table, where there are targets."""
    if found["targets"]:
        yield from ("", "## Targets", "")
        yield from (f"- {line}" for line in target_lines(found))


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.3g} %"


def _canvas(row: Row) -> str:
    return f"{row['canvas']} px" + {REGION: ", as sent", AGAIN: ", again"}.get(row["sent"], "")
