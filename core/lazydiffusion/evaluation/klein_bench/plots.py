"""The figure of a run, as PNG and SVG, made of results.json alone."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from lazydiffusion.evaluation.bench.parts import OTHER
from lazydiffusion.evaluation.bench.plots import GREY, titled_figure, write_figures
from lazydiffusion.evaluation.bench.report import Results
from lazydiffusion.evaluation.klein_bench.parts import PARTS

# Paul Tol's "muted", in an order in which neighbours differ in lightness too.
COLOURS = dict(
    zip(
        PARTS,
        ("#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#CC6677", "#44AA99", "#999933", "#DDDDDD"),
        strict=True,
    )
)


def draw_all(found: Results, folder: Path) -> list[Path]:
    """Write the figure; gives its files."""
    return write_figures({"time-against-mask": time_against_mask}, found, folder)


def time_against_mask(found: Results) -> Figure:
    """Where every case's time goes, and beside it what the edit takes when nothing is waited for."""
    rows = found["cases"]
    many = len({row["steps"] for row in rows}) > 1
    figure = titled_figure(found, "Time against the mask's size, by parts\n", (11, 2.3 + 0.42 * len(rows)))
    axes = figure.subplots()
    places = range(len(rows))
    done = [0.0] * len(rows)
    for part in PARTS:
        values = [max(0.0, row["parts_ms"][part]) for row in rows]
        axes.barh(
            places, values, left=done, color=COLOURS[part], label=part, height=0.72, edgecolor="white",
            linewidth=0.5, hatch="///" if part == OTHER else None,
        )  # fmt: skip
        done = [start + value for start, value in zip(done, values, strict=True)]
    medians = [row["ms"]["median"] for row in rows]
    axes.plot(
        medians, places, linestyle="", marker="|", markersize=17, color="black", label="median, end to end"
    )
    for place, median, end in zip(places, medians, done, strict=True):
        label = f"{median:,.0f} ms" if median >= 100 else f"{median:.3g} ms"
        axes.annotate(
            label, (max(median, end), place), (6, 0), textcoords="offset points", va="center",
            color=GREY, fontsize=9,
        )  # fmt: skip
    names = [
        f"{row['view']}, {100 * row['share']:g} %" + (f", {row['steps']} steps" if many else "")
        for row in rows
    ]
    axes.set_yticks(places, names)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        f"time of an edit, ms, {'' if many else rows[0]['steps']} denoising steps".replace("  ", " ")
    )
    axes.set_xlim(left=0)
    axes.margins(x=0.1)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.004, 1 - 0.3 / figure.get_figheight()),
        ncols=len(labels), frameon=False, fontsize=9, columnspacing=1.2, handlelength=1.1, handletextpad=0.5,
    )  # fmt: skip
    axes.invert_yaxis()
    return figure
