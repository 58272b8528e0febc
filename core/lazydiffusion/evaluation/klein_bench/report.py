"""results.json of this bench, which holds everything, and table.md, which is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from lazydiffusion.devices import Choice
from lazydiffusion.engines.names import DIFFUSERS
from lazydiffusion.evaluation.bench.cases import AGAIN, USUAL_SHARE
from lazydiffusion.evaluation.bench.parts import STEPS
from lazydiffusion.evaluation.bench.peaks import Rates
from lazydiffusion.evaluation.bench.report import (
    Results,
    ceilings,
    percent,
    target_section,
    time_and_memory,
)
from lazydiffusion.evaluation.bench.summary import Row, Target, at_least, spread
from lazydiffusion.evaluation.klein_bench.lineup import NOTE, SHOWN, STAND_INS, KleinLineup
from lazydiffusion.evaluation.klein_bench.measure import Measured
from lazydiffusion.evaluation.klein_bench.parts import PARTS
from lazydiffusion.evaluation.klein_bench.sizes import CONFIGS, KLEIN_4B
from lazydiffusion.pipelines.flux2_klein import DISTILLED_STEPS
from lazydiffusion.pipelines.flux2_reference import CACHED

END_TO_END, LOOP = 3, 6
"""How many times as fast as diffusers' own pipeline, with a mask of the usual share."""
MASKS_APART = (
    "The first view is timed at every mask, the others at one, and the first again after an edit with other words, of "
    "which what it read of the canvas is kept; diffusers' own pipeline denoises its whole window, "
    "whatever the mask is, so that its time stands for all of them."
)


def results(
    config: str,
    command: str,
    choice: Choice,
    lineup: KleinLineup,
    measured: Sequence[Measured],
    rates: Rates,
    host: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that a run found, ready for JSON. `host`: machine(), as it was when the run began.

    The targets are those of the published size on a GPU.
    """
    rows = [_row(found, rates) for found in measured]
    judged = CONFIGS.get(config) is KLEIN_4B and choice.device.type == "cuda"
    return {
        "config": config,
        "note": NOTE,
        "stand_ins": list(STAND_INS),
        "masks": MASKS_APART,
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dict(host),
        "rates": asdict(rates),
        "native_px": lineup.size.native,
        "weight_bytes": lineup.weight_bytes,
        "cases": rows,
        "speed_ups": speed_ups(rows),
        "targets": [asdict(target) for target in targets(speed_ups(rows))] if judged else [],
    }


def _row(found: Measured, rates: Rates) -> dict[str, Any]:
    case, ms = found.case, spread(found.samples_ms)
    return {
        "view": f"{case.engine}, again" if case.sent == AGAIN else case.engine,
        "share": case.share,
        "canvas": case.canvas,
        "steps": case.steps,
        "hidden_tokens": found.cost.hidden_tokens,
        "step_tokens": found.cost.step_tokens,
        "ms": asdict(ms),
        "samples_ms": found.samples_ms,
        "parts_ms": found.parts_ms,
        "peak_bytes": found.peak_bytes,
        "flops": found.cost.flops,
        "total_flops": found.cost.total_flops,
        "share_of_product_rate": found.cost.total_flops / (ms.median / 1000) / rates.flops,
        "loop_share_of_product_rate": found.cost.flops[STEPS] / (found.parts_ms[STEPS] / 1000) / rates.flops,
    }


def speed_ups(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How many times as long diffusers' own pipeline takes as each of our views: the whole edit, and its loop."""
    found = []
    for row in rows:
        for baseline in rows:
            if row["view"] in SHOWN or baseline["view"] not in SHOWN or row["steps"] != baseline["steps"]:
                continue
            found.append(
                {name: row[name] for name in ("view", "share", "steps")}
                | {
                    "baseline": baseline["view"],
                    "end_to_end": baseline["ms"]["median"] / row["ms"]["median"],
                    "loop": baseline["parts_ms"][STEPS] / row["parts_ms"][STEPS],
                    "flop_ratio": baseline["total_flops"] / row["total_flops"],
                }
            )
    return found


def targets(ratios: Sequence[Mapping[str, Any]]) -> list[Target]:
    """What the usual view has to show against each of diffusers' own, in the same run."""
    found = []
    for baseline in SHOWN:
        wanted = (CACHED, USUAL_SHARE, DISTILLED_STEPS, baseline)
        ratio: Mapping[str, Any] = next(
            (
                ratio
                for ratio in ratios
                if tuple(ratio[name] for name in ("view", "share", "steps", "baseline")) == wanted
            ),
            {},
        )
        where = f"{CACHED} over {baseline}, mask of {percent(USUAL_SHARE)}, {DISTILLED_STEPS} steps"
        found += [
            at_least(f"end to end, {where}", ratio.get("end_to_end"), END_TO_END, " x"),
            at_least(f"denoising loop, {where}", ratio.get("loop"), LOOP, " x"),
        ]
    return found


def table(found: Results) -> str:
    """The results in Markdown."""
    return "\n".join([*_head(found), *_times(found), *_parts(found), *_comparisons(found), ""])


def _head(found: Results) -> Iterator[str]:
    host = found["machine"]
    yield f"# Cost of an edit with random weights: `{found['config']}` on {host['device']}"
    yield ""
    for sentence in (found["note"], *found["stand_ins"]):
        yield f"**{sentence}**"
        yield ""
    weights = ", ".join(f"{name} {size / 1e9:.3g} GB" for name, size in found["weight_bytes"].items())
    yield (
        f"{found['date']}, torch {host['torch']}, diffusers {host['diffusers']}, {host['dtype']}, {host['cores']} "
        f"cores ({host['cpu']}), load {host['load_average']} at the start. {ceilings(found)} "
        f"Weights: {weights}. The canvas is {found['native_px']} px wide and high and all of it is the "
        f"window; masks are centred squares, in shares of it. {found['masks']}"
    )
    yield ""
    yield f"    {found['command']}"


def _times(found: Results) -> Iterator[str]:
    yield from (
        "",
        "## Time, memory, operations",
        "",
        "Time is end to end, from canvas and mask to the fill. Tokens are those that pass through the transformer in "
        "each step: text, reference where it takes part, and noisy ones. Memory is what an edit takes at most beside "
        "the weights. The last two columns are FLOP/s relative to the matrix product.",
        "",
        "| view | mask | steps | tokens | median ms | quartiles | fastest | memory MB | TFLOP | edit | loop |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    )
    for row in found["cases"]:
        yield (
            f"| {row['view']} | {percent(row['share'])} | {row['steps']} | {_in_steps(row['step_tokens'])} | "
            f"{time_and_memory(row)} | {row['total_flops'] / 1e12:.4g} | {percent(row['share_of_product_rate'])} | "
            f"{percent(row['loop_share_of_product_rate'])} |"
        )


def _parts(found: Results) -> Iterator[str]:
    yield from (
        "",
        "## Parts, ms",
        "",
        "Of one run more, in which the device is waited for around every part. "
        f"{'; '.join(f'{part}: {what}' for part, what in PARTS.items())}.",
        "",
        f"| view | mask | steps | {' | '.join(f'{part} ms' for part in PARTS)} | sum |",
        f"|---|---:|---:|{'---:|' * (len(PARTS) + 1)}",
    )
    for row in found["cases"]:
        times = row["parts_ms"]
        parts = " | ".join(f"{times[part]:.3g}" for part in PARTS)
        yield (
            f"| {row['view']} | {percent(row['share'])} | {row['steps']} | {parts} | {sum(times.values()):.4g} |"
        )


def _comparisons(found: Results) -> Iterator[str]:
    if found["speed_ups"]:
        yield from (
            "",
            f"## Speed-up over {DIFFUSERS}' own Flux2KleinInpaintPipeline",
            "",
            "| view | mask | steps | against | end to end | denoising loop | FLOPs |",
            "|---|---:|---:|---|---:|---:|---:|",
        )
        for ratio in found["speed_ups"]:
            yield (
                f"| {ratio['view']} | {percent(ratio['share'])} | {ratio['steps']} | {ratio['baseline']} | "
                f"**{ratio['end_to_end']:.3g} x** | **{ratio['loop']:.3g} x** | {ratio['flop_ratio']:.3g} x |"
            )
    yield from target_section(found)


def _in_steps(tokens: Sequence[int]) -> str:
    """How many tokens in how many steps in a row: "4 x 1017"."""
    return ", ".join(f"{len(list(same))} x {count}" for count, same in groupby(tokens))
