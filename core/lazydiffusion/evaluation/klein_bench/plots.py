"""The figure of a run, as PNG and SVG, made of results.json alone."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from lazydiffusion.evaluation.bench.plots import (
    GREY,
    legend_above,
    stacked_parts,
    titled_figure,
    write_figures,
)
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
    names = [
        f"{row['view']}, {100 * row['share']:g} %" + (f", {row['steps']} steps" if many else "")
        for row in rows
    ]
    ends, places = stacked_parts(axes, rows, names, COLOURS), range(len(rows))
    medians = [row["ms"]["median"] for row in rows]
    axes.plot(
        medians, places, linestyle="", marker="|", markersize=17, color="black", label="median, end to end"
    )
    for place, median, end in zip(places, medians, ends, strict=True):
        label = f"{median:,.0f} ms" if median >= 100 else f"{median:.3g} ms"
        axes.annotate(
            label, (max(median, end), place), (6, 0), textcoords="offset points", va="center",
            color=GREY, fontsize=9,
        )  # fmt: skip
    axes.set_xlabel(
        f"time of an edit, ms, {'' if many else rows[0]['steps']} denoising steps".replace("  ", " ")
    )
    axes.set_xlim(left=0)
    axes.margins(x=0.1)
    legend_above(figure, columnspacing=1.2)
    axes.invert_yaxis()
    return figure
