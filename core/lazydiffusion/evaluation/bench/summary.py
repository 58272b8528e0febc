"""From samples to what they say: medians and spread, time against tokens, speed-ups, and the targets."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lazydiffusion.engines.names import LAZY, REGENERATE_IMAGE
from lazydiffusion.evaluation.bench.cases import REGION, USUAL_SHARE, USUAL_STEPS, WHOLE

FLOOR_MARGIN = 1.1
"""A point lies above the launch floor when it takes more than this times what the fewest tokens take."""
FEWEST_POINTS = 3
"""A line through fewer says nothing."""

Row = Mapping[str, Any]
"""One case of results.json."""


@dataclass(frozen=True)
class Spread:
    """Of all samples of a case, in their unit."""

    median: float
    q1: float
    q3: float
    min: float


@dataclass(frozen=True)
class Fit:
    """y = intercept + slope * x by least squares."""

    slope: float
    intercept: float
    r2: float
    """Share of y's variance that the line explains."""
    points: int


@dataclass(frozen=True)
class Target:
    """What a run has to show, and what it showed."""

    name: str
    wanted: str
    measured: float | None
    """None where the cases that it needs were left out."""
    met: bool


def spread(samples: Sequence[float]) -> Spread:
    """Median, quartiles (of a sample that includes its extremes) and minimum of one or more samples."""
    if len(samples) == 1:
        return Spread(*([samples[0]] * 4))
    q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, q1, q3, min(samples))


def linear_fit(points: Sequence[tuple[float, float]]) -> Fit | None:
    """The line through (x, y) points; None for fewer than FEWEST_POINTS different x."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if len(set(xs)) < FEWEST_POINTS:
        return None
    slope, intercept = statistics.linear_regression(xs, ys)
    mean = statistics.fmean(ys)
    total = sum((y - mean) ** 2 for y in ys)
    left = sum((y - intercept - slope * x) ** 2 for x, y in points)
    return Fit(slope, intercept, 1 - left / total if total else 1.0, len(points))


def above_floor(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that take clearly longer than that with the smallest x, whose time is the floor."""
    floor = min(points)[1] if points else 0.0
    return [point for point in points if point[1] > FLOOR_MARGIN * floor]


def find(
    rows: Sequence[Row], engine: str, share: float, canvas: int, steps: int, sent: str = WHOLE
) -> Row | None:
    """The case, or None where it was not measured."""
    wanted = (engine, share, canvas, steps, sent)
    return next((row for row in rows if _key(row) == wanted), None)


def time_against_tokens(rows: Sequence[Row], native: int, steps: int) -> dict[str, Any]:
    """The lazy engine's medians over K on the native window, and the line through those above the launch floor."""
    points = sorted(
        (row["tokens"], row["ms"]["median"])
        for row in rows
        if _key(row) == (LAZY, row["share"], native, steps, WHOLE)
    )
    used = above_floor(points)
    fit = linear_fit(used)
    return {
        "steps": steps,
        "points": [list(point) for point in points],
        "floor_ms": points[0][1] if points else None,
        "floor": f"the time of the fewest tokens; points above {FLOOR_MARGIN:g} times it are fitted",
        "fit": None if fit is None else asdict(fit),
    }


def speed_ups(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How many times as long, and as many FLOPs, every baseline takes for the same edit."""
    found = []
    for row in rows:
        lazy = find(rows, LAZY, *_key(row)[1:])
        if row["engine"] != LAZY and lazy is not None:
            found.append(
                {name: row[name] for name in ("share", "canvas", "steps")}
                | {
                    "baseline": row["engine"],
                    "speed_up": row["ms"]["median"] / lazy["ms"]["median"],
                    "flop_ratio": row["total_flops"] / lazy["total_flops"],
                }
            )
    return found


def canvas_growth(rows: Sequence[Row], steps: int) -> list[dict[str, Any]]:
    """Each engine's time on the largest canvas relative to that on the smallest, with the same selection in px."""
    found = []
    for engine, sent in dict.fromkeys((row["engine"], row["sent"]) for row in rows):
        swept = sorted(
            (row["canvas"], row["ms"]["median"])
            for row in rows
            if _key(row) == (engine, USUAL_SHARE, row["canvas"], steps, sent)
        )
        if len(swept) > 1:
            (small, short), (large, long) = swept[0], swept[-1]
            found.append({"engine": engine, "sent": sent, "from": small, "to": large, "ratio": long / short})
    return found


def targets(rows: Sequence[Row], native: int, fit: Mapping[str, Any] | None) -> list[Target]:
    """What the paper's size has to show on a data centre's GPU, against RegenerateImage in the same run."""

    def speed_up(share: float) -> float | None:
        pair = [find(rows, engine, share, native, USUAL_STEPS) for engine in (REGENERATE_IMAGE, LAZY)]
        if pair[0] is None or pair[1] is None:
            return None
        return float(pair[0]["ms"]["median"] / pair[1]["ms"]["median"])

    def growth(sent: str) -> float | None:
        ends = [find(rows, LAZY, USUAL_SHARE, side, USUAL_STEPS, sent) for side in (1024, 8192)]
        if ends[0] is None or ends[1] is None:
            return None
        return float(ends[1]["ms"]["median"] / ends[0]["ms"]["median"])

    steps = f"{USUAL_STEPS} steps"
    return [
        at_least(f"speed-up over {REGENERATE_IMAGE}, mask of 10 %, {steps}", speed_up(0.1), 10, " x"),
        at_least(f"speed-up over {REGENERATE_IMAGE}, mask of 1 %, {steps}", speed_up(0.01), 25, " x"),
        at_least("time linear in K above the launch floor, R²", fit["r2"] if fit else None, 0.98),
        _at_most("canvas 8192 px / 1024 px, as editors send it", growth(REGION), 1.2, " x"),
        _at_most("canvas 8192 px / 1024 px, given whole", growth(WHOLE), 1.2, " x"),
    ]


def at_least(name: str, measured: float | None, bound: float, unit: str = "") -> Target:
    """A target that is met from `bound` on; never where nothing was measured."""
    return Target(name, f"at least {bound:g}{unit}", measured, measured is not None and measured >= bound)


def _at_most(name: str, measured: float | None, bound: float, unit: str = "") -> Target:
    return Target(name, f"at most {bound:g}{unit}", measured, measured is not None and measured <= bound)


def _key(row: Row) -> tuple[str, float, int, int, str]:
    return row["engine"], row["share"], row["canvas"], row["steps"], row["sent"]
