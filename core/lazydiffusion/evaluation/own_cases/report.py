"""A contest on paper: results.json, table.md, a sheet for each case, and one over all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lazydiffusion import output_folder
from lazydiffusion.evaluation.own_cases.contest import Contest, Entry, Judged
from lazydiffusion.evaluation.own_cases.sheets import case_sheet, overall_sheets
from lazydiffusion.evaluation.own_cases.verdict import table, verdict
from lazydiffusion.image_output import check_writable, write_canvas

RESULTS, TABLE = "results.json", "table.md"
SHEETS = "sheets"
"""Folder of the sheets of single cases."""


def prepare(out: Path, names: list[str]) -> None:
    """Make the folder, and see that the report of these cases can be written there. Raises CannotWrite."""
    output_folder.check(out, (RESULTS, TABLE))
    output_folder.check(out / SHEETS)
    (out / SHEETS).mkdir(parents=True, exist_ok=True)
    for path in (out / "sheet.png", *[_sheet_path(out, name) for name in names]):
        check_writable(path)


def write(
    out: Path, contest: Contest, conditions: str, about: Mapping[str, Any], failure: str | None = None
) -> str:
    """Write the report into a prepared folder; gives table.md's text.

    `conditions`: what was the same for all, in a sentence; `about`: the same, for programs; `failure`: why the contest
    ended before all models had finished. Raises CannotWrite.
    """
    text = table(contest, conditions, failure)
    results = {
        **about,
        "ended_early": failure,
        "verdict": verdict(contest),
        "cases": [
            {
                "name": given.case.name,
                "prompt": given.case.settings.prompt,
                "negative_prompt": given.case.settings.negative_prompt,
                "sketch": given.case.sketch is not None,
                "border_step_of_the_canvas": given.border_step,
            }
            for given in contest.given
        ],
        "models": [_entry(contest, entry) for entry in contest.entries],
    }
    with output_folder.writing(out):
        (out / RESULTS).write_text(
            json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf8"
        )
        (out / TABLE).write_text(text, encoding="utf8")
    for number, given in enumerate(contest.given):
        write_canvas(_sheet_path(out, given.case.name), case_sheet(contest, number))
    for page, sheet in enumerate(overall_sheets(contest)):
        write_canvas(out / ("sheet.png" if page == 0 else f"sheet-{page + 1}.png"), sheet)
    return text


def _sheet_path(out: Path, name: str) -> Path:
    return out / SHEETS / f"{name}.png"


def _entry(contest: Contest, entry: Entry) -> dict[str, Any]:
    contender = entry.contender
    return {
        "name": contender.name,
        "model": contender.model,
        "engine": contender.engine,
        "view": contender.view,
        "load_seconds": entry.load_seconds,
        "peak_cuda_bytes": entry.peak_bytes,
        "cases": {
            given.case.name: {
                "hidden_tokens": played.hidden_tokens,
                "steps": played.steps,
                "window": played.window.as_list(),
                "fills": [_fill(fill) for fill in played.fills],
            }
            for given, played in zip(contest.given, entry.played, strict=True)
        },
    }


def _fill(fill: Judged) -> dict[str, Any]:
    psnr = fill.psnr_outside
    return {
        "seed": fill.seed,
        "seconds": fill.seconds,
        "psnr_outside_db": "infinite" if psnr is not None and math.isinf(psnr) else psnr,
        "border_step": fill.border_step,
        "text_image": fill.text_image,
    }
