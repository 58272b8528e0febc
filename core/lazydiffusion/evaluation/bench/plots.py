"""The figures of a run, as PNG and SVG, made of results.json alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lazydiffusion.engines.names import LAZY, REGENERATE_CROP, REGENERATE_IMAGE
from lazydiffusion.evaluation.bench.cases import REGION, USUAL_SHARE, WHOLE, hole_side
from lazydiffusion.evaluation.bench.parts import OTHER, PARTS
from lazydiffusion.evaluation.bench.report import Results
from lazydiffusion.evaluation.bench.summary import Row

# Okabe and Ito's colours, which all kinds of colour vision tell apart; markers differ as well.
COLOURS = {LAZY: "#0072B2", REGENERATE_IMAGE: "#D55E00", REGENERATE_CROP: "#009E73"}
MARKERS = {LAZY: "o", REGENERATE_IMAGE: "s", REGENERATE_CROP: "^"}
GREY = "#555555"
# Paul Tol's "muted", in an order in which neighbours differ in lightness too.
PART_COLOURS = dict(
    zip(
        PARTS,
        (
            "#332288", "#DDCC77", "#117733", "#CC6677", "#88CCEE", "#882255", "#44AA99", "#AA4499", "#999933",
            "#DDDDDD",
        ),
        strict=True,
    )
)  # fmt: skip
LABEL_SIZE = 9.5
"""Of the names beside lines, points."""
SETTLING = 40
"""Rounds in which labels that lie on each other move apart."""
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "svg.hashsalt": "lazydiffusion",
}


def draw_all(found: Results, folder: Path) -> list[Path]:
    """Write the figures that the results have enough cases for; gives their files."""
    drawings: dict[str, Callable[[Results], Figure | None]] = {
        "time-against-mask": time_against_mask,
        "time-against-canvas": time_against_canvas,
        "speed-up-against-steps": speed_up_against_steps,
        "parts": parts,
    }
    return write_figures(drawings, found, folder)


def write_figures(
    drawings: Mapping[str, Callable[[Results], Figure | None]], found: Results, folder: Path
) -> list[Path]:
    """Draw by name and write what comes of it, as PNG and SVG; gives the files."""
    written = []
    for name, draw in drawings.items():
        with matplotlib.rc_context(STYLE):
            figure = draw(found)
            if figure is None:
                continue
            for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
                path = folder / f"{name}{suffix}"
                figure.savefig(path, dpi=160, metadata=metadata)
                written.append(path)
    return written


def time_against_mask(found: Results) -> Figure | None:
    """All engines over the mask's share, and the lazy one over its tokens with the line that fits."""
    series = _by_engine(found, "share", lambda row: row["canvas"] == found["native_px"])
    if max((len(rows) for rows in series.values()), default=0) < 2:
        return None
    figure = titled_figure(found, f"Time against the mask's size, {found['usual_steps']} steps", (11, 4.6))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for engine, rows in series.items():
        _line(left, engine, [100 * row["share"] for row in rows], rows)
    left.set(xscale="log", yscale="log", xlabel="mask, % of the window", ylabel="time of an edit, ms")
    _plain_ticks(left.xaxis, sorted({100 * row["share"] for rows in series.values() for row in rows}))
    _readable_log(left)
    _label_ends(
        left, {engine: (rows[-1]["ms"]["median"], COLOURS[engine]) for engine, rows in series.items()}
    )

    line = found["time_against_tokens"]
    lazy = series.get(LAZY, [])
    right.errorbar(
        [row["tokens"] for row in lazy], [row["ms"]["median"] for row in lazy], _whiskers(lazy),
        color=COLOURS[LAZY], marker=MARKERS[LAZY], linestyle="", capsize=3, zorder=3,
    )  # fmt: skip
    right.set(xlabel="K, tokens that the decoder makes", ylabel="time of an edit, ms", title=LAZY)
    if line["fit"] is not None:
        slope, intercept = line["fit"]["slope"], line["fit"]["intercept"]
        end = line["points"][-1][0]
        right.plot([0, end], [intercept, intercept + slope * end], color=GREY, linewidth=1.2, zorder=2)
        right.text(
            0.04, 0.95, f"{intercept:.3g} ms + K × {slope:.3g} ms\nR² = {line['fit']['r2']:.4f}",
            transform=right.transAxes, va="top", color="#333333",
        )  # fmt: skip
    right.set_xlim(left=0)
    right.set_ylim(bottom=0)
    return figure


def time_against_canvas(found: Results) -> Figure | None:
    """The same selection on ever larger canvases."""
    series = {
        (engine, sent): rows
        for sent in (WHOLE, REGION)
        for engine, rows in _by_engine(
            found, "canvas", lambda row: row["share"] == USUAL_SHARE, sent=sent
        ).items()
    }
    if max((len(rows) for rows in series.values()), default=0) < 2:
        return None
    hole = hole_side(USUAL_SHARE, found["native_px"])
    title = f"Time against the canvas's size, the selection always {hole} x {hole} px"
    figure = titled_figure(found, f"{title}, {found['usual_steps']} steps", (8.6, 4.6))
    axes = figure.subplots()
    ends = {}
    for (engine, sent), rows in series.items():
        label = engine if sent == WHOLE else f"{engine},\nas editors send it"
        style = "-" if sent == WHOLE else (0, (4, 2))
        _line(axes, engine, [row["canvas"] for row in rows], rows, style, hollow=sent == REGION)
        ends[label] = rows[-1]["ms"]["median"], COLOURS[engine]
    axes.set(xscale="log", yscale="log", xlabel="side of the square canvas, px", ylabel="time of an edit, ms")
    _plain_ticks(axes.xaxis, sorted({row["canvas"] for rows in series.values() for row in rows}))
    _readable_log(axes)
    _label_ends(axes, ends)
    return figure


def speed_up_against_steps(found: Results) -> Figure | None:
    """How many times as long the baselines take."""
    chosen = [
        ratio
        for ratio in found["speed_ups"]
        if ratio["share"] == USUAL_SHARE and ratio["canvas"] == found["native_px"]
    ]
    series: dict[str, list[dict[str, Any]]] = {}
    for ratio in sorted(chosen, key=lambda ratio: ratio["steps"]):
        series.setdefault(ratio["baseline"], []).append(ratio)
    if max((len(ratios) for ratios in series.values()), default=0) < 2:
        return None
    figure = titled_figure(
        found, f"Speed-up of lazy, mask of {100 * USUAL_SHARE:g} % of the window", (7.6, 4.4)
    )
    axes = figure.subplots()
    ends = {}
    for baseline, ratios in series.items():
        steps, times = ([ratio[name] for ratio in ratios] for name in ("steps", "speed_up"))
        axes.plot(steps, times, color=COLOURS[baseline], marker=MARKERS[baseline])
        ends[f"against\n{baseline}"] = times[-1], COLOURS[baseline]
    steps, flops = (
        [ratio[name] for ratio in next(iter(series.values()))] for name in ("steps", "flop_ratio")
    )
    axes.plot(steps, flops, color=GREY, linewidth=1.2, linestyle=":")
    ends["ratio of FLOPs"] = flops[-1], GREY
    axes.axhline(1, color=GREY, linewidth=0.8)
    axes.set(xscale="log", xlabel="denoising steps", ylabel="time of the baseline / time of lazy")
    _plain_ticks(axes.xaxis, sorted({ratio["steps"] for ratio in chosen}))
    axes.set_ylim(bottom=0)
    _label_ends(axes, ends)
    return figure


def parts(found: Results) -> Figure | None:
    """Where an edit's time goes: in ms, and in shares of the edit."""
    steps, native = found["usual_steps"], found["native_px"]
    usual = [
        row
        for row in found["cases"]
        if (row["canvas"], row["steps"], row["sent"]) == (native, steps, WHOLE)
        and (row["engine"] == LAZY or row["share"] == USUAL_SHARE)
    ]
    rows = sorted(usual, key=lambda row: (list(COLOURS).index(row["engine"]), row["share"]))
    if not rows:
        return None
    figure = titled_figure(found, f"Parts of an edit, {steps} steps\n", (11, 2.3 + 0.42 * len(rows)))
    names = [f"{row['engine']}, {100 * row['share']:g} %" for row in rows]
    for axes, relative in zip(figure.subplots(1, 2, sharey=True), (False, True), strict=True):
        stacked_parts(axes, rows, names, PART_COLOURS, relative)
        axes.set_xlabel("% of the edit's time" if relative else "ms")
        axes.set_xlim(left=0, right=100 if relative else None)
    legend_above(figure, columnspacing=1.4)
    figure.axes[0].invert_yaxis()  # the axes share it
    return figure


def stacked_parts(
    axes: Axes, rows: Sequence[Row], names: Sequence[str], colours: Mapping[str, str], relative: bool = False
) -> list[float]:
    """A bar for each row, of the ms of its parts, or, `relative`, of their shares in %; gives the bars' ends."""
    places = range(len(rows))
    done = [0.0] * len(rows)
    for part, colour in colours.items():
        values = [max(0.0, row["parts_ms"][part]) for row in rows]
        if relative:
            totals = [sum(row["parts_ms"].values()) for row in rows]
            values = [100 * value / total for value, total in zip(values, totals, strict=True)]
        axes.barh(
            places, values, left=done, color=colour, label=part, height=0.72, edgecolor="white", linewidth=0.5,
            hatch="///" if part == OTHER else None,
        )  # fmt: skip
        done = [start + value for start, value in zip(done, values, strict=True)]
    axes.set_yticks(places, names)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    return done


def legend_above(figure: Figure, columnspacing: float) -> None:
    """What the first axes show, in one line under the title."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.004, 1 - 0.3 / figure.get_figheight()),
        ncols=len(labels), frameon=False, fontsize=9, columnspacing=columnspacing, handlelength=1.1,
        handletextpad=0.5,
    )  # fmt: skip


def titled_figure(found: Results, title: str, size: tuple[float, float]) -> Figure:
    """An empty figure that says what it shows, on which machine, and of what weights."""
    figure = Figure(figsize=size, layout="constrained")
    host = found["machine"]
    below = f"{found['config']} on {host['device']}, {host['dtype']}. {found['note']}".strip()
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=12)
    figure.supxlabel(below, x=0.01, ha="left", fontsize=8.5, color=GREY)
    return figure


def _by_engine(
    found: Results, axis: str, wanted: Callable[[Row], bool], sent: str = WHOLE
) -> dict[str, list[Row]]:
    """The rows of each engine at the usual steps, in the order of what is varied; engines without any are left out."""
    series = {
        engine: sorted(
            (
                row
                for row in found["cases"]
                if row["engine"] == engine
                and row["steps"] == found["usual_steps"]
                and row["sent"] == sent
                and wanted(row)
            ),
            key=lambda row: float(row[axis]),
        )
        for engine in COLOURS
    }
    return {engine: rows for engine, rows in series.items() if rows}


def _line(
    axes: Axes,
    engine: str,
    x: Sequence[float],
    rows: Sequence[Row],
    linestyle: Any = "-",
    hollow: bool = False,
) -> None:
    """Medians, with the quartiles as whiskers."""
    axes.errorbar(
        x, [row["ms"]["median"] for row in rows], _whiskers(rows), color=COLOURS[engine], marker=MARKERS[engine],
        capsize=3, linestyle=linestyle, markerfacecolor="white" if hollow else COLOURS[engine],
    )  # fmt: skip


def _whiskers(rows: Sequence[Row]) -> list[list[float]]:
    """From the median down to the first quartile, and up to the third."""
    return [
        [row["ms"]["median"] - row["ms"]["q1"] for row in rows],
        [row["ms"]["q3"] - row["ms"]["median"] for row in rows],
    ]


def _label_ends(axes: Axes, ends: dict[str, tuple[float, str]]) -> None:
    """Names beside the lines' right ends (label: y and colour), moved apart where they would lie on each other."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # only a layout that has been made tells where a value lies
    labels = sorted(ends, key=lambda label: ends[label][0])
    to_axes = axes.transData + axes.transAxes.inverted()
    places = [float(to_axes.transform((1, ends[label][0]))[1]) for label in labels]
    line = 1.25 * LABEL_SIZE / 72 * figure.dpi / axes.get_window_extent().height
    for _ in range(SETTLING):
        for i, (lower, upper) in enumerate(pairwise(labels)):
            apart = line * (lower.count("\n") + upper.count("\n") + 2) / 2
            missing = max(0.0, apart - (places[i + 1] - places[i]))
            places[i], places[i + 1] = places[i] - missing / 2, places[i + 1] + missing / 2
    for label, place in zip(labels, places, strict=True):
        axes.annotate(
            label, (1, place), (6, 0), xycoords="axes fraction", textcoords="offset points", va="center",
            color=ends[label][1], fontsize=LABEL_SIZE,
        )  # fmt: skip


def _plain_ticks(axis: Any, values: Sequence[float]) -> None:
    """Ticks at the measured values, as plain numbers."""
    axis.set_major_locator(ticker.FixedLocator(list(values)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def _readable_log(axes: Axes) -> None:
    """A logarithmic axis with numbers between the powers of ten, and room below and above."""
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.15, high * 1.15)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
