"""A comparison of engines on paper: results.json, table.md and a sheet of their fills."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lazydiffusion import compose, output_folder
from lazydiffusion.evaluation import comparison as names
from lazydiffusion.evaluation import markdown
from lazydiffusion.evaluation.cases import Cases
from lazydiffusion.evaluation.comparison import Comparison
from lazydiffusion.evaluation.intervals import Estimate

COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    (names.FID_CROP, "FID, crop ↓", lambda v: f"{v:.1f}"),
    (names.FID_WINDOW, "FID, window ↓", lambda v: f"{v:.1f}"),
    (names.KID_CROP, "KID, crop ↓", lambda v: f"{v:.3f}"),
    (names.TEXT, "text-image ↑", lambda v: f"{v:.3f}"),
    (names.STYLE_TOP, "style, top-1 ↑", lambda v: f"{100 * v:.0f} %"),
    (names.STYLE, "style, probability ↑", lambda v: f"{v:.2f}"),
    (names.SEAM, "border step ↓", lambda v: f"{v:.1f}"),
    (names.DIVERSITY, "diversity ↑", lambda v: f"{v:.3f}"),
)
FILES = RESULTS, TABLE, SHEET = "results.json", "table.md", "contact-sheet.png"
"""What is written."""
SHOWN = 10
"""Scenes on the sheet."""
GAP, HEAD, CAPTION = 6, 22, 18
HOLE_GREY = -0.35


def write(out: Path, comparison: Comparison, cases: Cases, about: Mapping[str, Any]) -> None:
    """Write results.json, table.md, contact-sheet.png. `about`: what was compared, and by which judges.

    Raises CannotWrite.
    """
    rows = [
        {
            "name": row.name,
            "milliseconds_per_fill": row.milliseconds,
            "figures": {name: asdict(estimate) for name, estimate in row.figures.items()},
        }
        for row in comparison.rows
    ]
    results = {
        **about,
        "scenes": len(cases),
        "rows": rows,
        "differences": _plain(comparison.differences),
        "sketches": _plain(comparison.sketches),
    }
    with output_folder.writing(out):
        (out / RESULTS).write_text(json.dumps(results, indent=2) + "\n", encoding="utf8")
        (out / TABLE).write_text(table(comparison, len(cases), about), encoding="utf8")
        contact_sheet(comparison, cases).save(out / SHEET)


def table(comparison: Comparison, scenes: int, about: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    shown = [column for column in COLUMNS if any(column[0] in row.figures for row in comparison.rows)]
    lines = [
        f"{scenes} scenes of sprites that were never trained on; in brackets 95 % intervals over the scenes.",
        *[f"{key}: {value}." for key, value in about.get("judges", {}).items()],
        "",
        *markdown.table(
            ["", *[title for _, title, _ in shown], "ms per fill"],
            [
                [
                    row.name,
                    *[_cell(row.figures.get(name), form) for name, _, form in shown],
                    "" if row.milliseconds is None else f"{row.milliseconds:.0f}",
                ]
                for row in comparison.rows
            ],
        ),
    ]
    first = comparison.rows[0].name
    if comparison.differences:
        told = [
            column for column in shown if any(column[0] in found for found in comparison.differences.values())
        ]
        lines += [
            "",
            f"{first} less the others, over the same scenes; an interval without 0 tells the two apart:",
            "",
            *markdown.table(
                ["", *[title for _, title, _ in told]],
                [
                    [name, *[_cell(found.get(figure), form, signed=True) for figure, _, form in told]]
                    for name, found in comparison.differences.items()
                ],
            ),
        ]
    if comparison.sketches:
        lines += [
            "",
            "Sketches: the colour error is the root mean square difference of blurred fill and colour blobs, in levels "
            "of 255; the edge recall the share of the drawn outline that has an edge of the fill beside it; the edge "
            "precision the share of the fill's edges that have a drawn line beside them.",
            "",
            *markdown.table(
                ["", "", "with a sketch", "without", "difference", "real picture"],
                [
                    [name, measure, *[_cell(found[key], _sketch_form(measure), signed=key == "difference")
                                      for key in ("with", "without", "difference", "real")]]
                    for name, measures in comparison.sketches.items()
                    for measure, found in measures.items()
                ],
            ),
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def contact_sheet(comparison: Comparison, cases: Cases) -> Image.Image:
    """A line for each of the first scenes, under its prompt: the hole, every engine's fill, the real picture."""
    count = min(SHOWN, len(cases))
    hole = torch.where(cases.hole, torch.full_like(cases.real, HOLE_GREY), cases.real)
    columns: list[tuple[str, Float[Tensor, "n 3 s s"]]] = [("canvas", hole)]
    columns += [(row.name, row.pictures[0]) for row in comparison.rows if row.name != names.NOTHING]
    side = cases.real.shape[-1]
    width = max(side, 150)  # room for a title
    height = side + CAPTION + GAP
    sheet = Image.new("RGB", (len(columns) * (width + GAP) + GAP, HEAD + count * height + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, (title, pictures) in enumerate(columns):
        x = GAP + column * (width + GAP)
        draw.text((x, 4), title, fill="black", font=font)
        for number in range(count):
            tile = compose.to_bytes(np.asarray(pictures[number].permute(1, 2, 0)))
            sheet.paste(Image.fromarray(tile), (x, HEAD + number * height + CAPTION))
    for number in range(count):
        draw.text((GAP, HEAD + number * height + 1), cases.captions[number], fill="#555555", font=font)
    return sheet


def _cell(estimate: Estimate | None, form: Callable[[float], str], signed: bool = False) -> str:
    if estimate is None:
        return "—"
    sign = "+" if signed and estimate.value > 0 else ""
    return f"{sign}{form(estimate.value)} ({form(estimate.low)} to {form(estimate.high)})"


def _sketch_form(measure: str) -> Callable[[float], str]:
    return (lambda v: f"{v:.1f}") if measure == "colour error" else (lambda v: f"{100 * v:.0f} %")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return asdict(value)
