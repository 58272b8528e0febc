"""The figures of a model card, written from a report of `lazydiffusion sweep`: none is typed by hand."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

from lazydiffusion.errors import BadInput, CannotWrite
from lazydiffusion.evaluation import markdown

BEGIN, END = "<!-- figures: lazydiffusion sweep --card -->", "<!-- end of figures -->"
"""What stands around the figures in a card."""


def check_card(card: Path) -> None:
    """Raise BadInput for a card without marks, CannotWrite for one that is write-protected."""
    _around_figures(card)
    if not os.access(card, os.W_OK):
        raise CannotWrite(f"The model card {card} cannot be written: it is write-protected.")


def write_figures(card: Path, report: dict[str, Any]) -> None:
    """Replace what is between the card's marks. Raises BadInput for a card without them, CannotWrite."""
    before, after = _around_figures(card)
    try:
        card.write_text(f"{before}{BEGIN}\n{figures(report)}\n{END}{after}", encoding="utf8")
    except OSError as error:
        raise CannotWrite(f"The model card {card} cannot be written: {error.strerror}.") from error


def _around_figures(card: Path) -> tuple[str, str]:
    """The card's text before and after the marks."""
    try:
        text = card.read_text(encoding="utf8")
    except OSError as error:
        raise BadInput(f"The model card {card} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"The model card {card} is no text in UTF-8: give a README.md.") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInput(
            f"The model card {card} has no place for figures: add the lines {BEGIN!r} and {END!r} to it."
        )
    return before, after


def figures(report: dict[str, Any]) -> str:
    """The report as Markdown tables."""
    lines = [
        textwrap.fill(
            f"On {report['scenes']} scenes of {report['held_out_sprites']} sprites that were never trained on, in "
            "levels of 255. A step is the mean absolute colour difference of neighbours across the mask's border; "
            "in brackets the colour shift, the root mean square of the mean signed difference.",
            width=120,
        ),
        "",
        *markdown.table(
            ("border", "real picture", "fill"),
            [
                ("all scenes", _seam(report["seam_real"]), _seam(report["seam_fill"])),
                (
                    "only background hidden, empty prompt",
                    _seam(report["seam_background_real"]),
                    _seam(report["seam_background_fill"]),
                ),
            ],
        ),
        "",
        f"Steps, at guidance {report['default_guidance']:g}:",
        "",
        *markdown.table(
            (
                "steps",
                "distance to 100 steps",
                "distance to the real picture",
                "border step (shift)",
                "s per fill",
            ),
            [
                (
                    f"{row['steps']}",
                    f"{row['distance_to_100_steps']:.1f}",
                    f"{row['distance_to_truth']:.1f}",
                    _seam(row["seam"]),
                    f"{row['seconds_per_fill']:.2f}",
                )
                for row in report["by_steps"]
            ],
        ),
        "",
        f"Guidance, at {report['default_steps']} steps:",
        "",
        *markdown.table(
            ("guidance", "distance to the real picture", "border step (shift)"),
            [
                (f"{row['guidance']:g}", f"{row['distance_to_truth']:.1f}", _seam(row["seam"]))
                for row in report["by_guidance"]
            ],
        ),
    ]
    return "\n".join(lines)


def _seam(values: dict[str, float]) -> str:
    return f"{values['step']:.1f} ({values['shift']:.1f})"
