"""The sweeps, whole, on a tiny model and tiny shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.checkpoint_files import tiny_pipeline

from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation import sweeps

pytestmark = pytest.mark.integration


def test_a_report_and_its_pictures_are_written(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "STEPS", (1, 2))
    monkeypatch.setattr(sweeps, "GUIDANCES", (1.0, 3.0))
    monkeypatch.setattr(sweeps, "REFERENCE_STEPS", 4)
    report = sweeps.sweep(tiny_pipeline(), tiny_shards, tmp_path / "out", scenes=8)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert report["seam_background_real"]["step"] >= 0  # half of the scenes hide nothing but background
    assert [row["steps"] for row in report["by_steps"]] == [1, 2]
    distances = [row["distance_to_100_steps"] for row in report["by_steps"]]
    assert distances[0] > distances[1] > 0  # more steps come nearer to many
    # Random weights make random borders.
    assert report["seam_fill"]["step"] > report["seam_real"]["step"] >= 0
    for name in ("steps.png", "guidance.png"):
        with Image.open(tmp_path / "out" / name) as sheet:
            assert np.asarray(sheet).std() > 0


def test_one_scene_is_too_few(tiny_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="2 scenes or more, not 1"):
        sweeps.sweep(tiny_pipeline(), tiny_shards, tmp_path / "out", scenes=1)
