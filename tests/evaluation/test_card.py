"""A model card's figures come from the report, and nothing else of the card changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lazydiffusion.checkpoints import embedded_folder
from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.card import BEGIN, END, figures, write_figures

pytestmark = pytest.mark.unit

SEAM = {"step": 6.409, "shift": 2.878}
REPORT = {
    "scenes": 24,
    "held_out_sprites": 251,
    "default_steps": 8,
    "default_guidance": 1.5,
    "seam_real": {"step": 1.517, "shift": 1.362},
    "seam_fill": SEAM,
    "seam_background_real": SEAM,
    "seam_background_fill": SEAM,
    "by_steps": [
        {
            "steps": 4,
            "distance_to_100_steps": 21.52,
            "distance_to_truth": 71.12,
            "seam": SEAM,
            "seconds_per_fill": 0.1242,
        }
    ],
    "by_guidance": [{"guidance": 1.5, "distance_to_truth": 71.54, "seam": SEAM}],
}


def test_the_tables_hold_the_reports_figures() -> None:
    text = figures(REPORT)
    assert "| all scenes | 1.5 (1.4) | 6.4 (2.9) |" in text
    assert "| 4 | 21.5 | 71.1 | 6.4 (2.9) | 0.12 |" in text
    assert "| 1.5 | 71.5 | 6.4 (2.9) |" in text
    assert "On 24 scenes of 251 sprites" in text


def test_only_what_is_between_the_marks_changes(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"# A model\n\n{BEGIN}\nold figures\n{END}\n\nLimits.\n")
    write_figures(card, REPORT)
    text = card.read_text()
    assert "old figures" not in text
    assert text.startswith(f"# A model\n\n{BEGIN}\nOn 24 scenes")
    assert text.endswith(f"{END}\n\nLimits.\n")
    write_figures(card, REPORT)
    assert card.read_text() == text


def test_a_card_without_marks_is_left_alone(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# A model\n")
    with pytest.raises(BadInput, match="has no place for figures"):
        write_figures(card, REPORT)
    assert card.read_text() == "# A model\n"


def test_the_embedded_models_card_shows_the_committed_report() -> None:
    root = Path(__file__).resolve().parents[2]
    report = json.loads((root / "docs" / "evaluation" / "report.json").read_text())
    assert figures(report) in (embedded_folder() / "README.md").read_text(encoding="utf8")
