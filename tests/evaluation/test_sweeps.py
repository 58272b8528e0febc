"""The sweeps, whole, on a tiny model and tiny shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from tests.checkpoint_files import tiny_pipeline
from torch import Tensor

from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation import sweeps
from lazydiffusion.pipelines.sampling import Guidance

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


def test_a_model_is_sampled_as_its_checkpoint_says(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the scheduler's shift, and guided where it is: else the card would tell of another model."""
    monkeypatch.setattr(sweeps, "STEPS", (2,))
    monkeypatch.setattr(sweeps, "GUIDANCES", (3.0,))
    monkeypatch.setattr(sweeps, "REFERENCE_STEPS", 2)
    seen: list[tuple[float, float, float]] = []
    fill = sweeps.fill_scenes

    def remember(*args: Any, guidance: Guidance, scheduler: Any, **options: Any) -> Tensor:
        seen.append((scheduler.config.shift, guidance.low, guidance.high))
        return fill(*args, guidance=guidance, scheduler=scheduler, **options)

    monkeypatch.setattr(sweeps, "fill_scenes", remember)
    pipeline = tiny_pipeline()
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=4.0)
    pipeline.register_to_config(guidance_low=0.2, guidance_high=0.97)
    sweeps.sweep(pipeline, tiny_shards, tmp_path, scenes=4)
    assert set(seen) == {(4.0, 0.2, 0.97)}


def test_one_scene_is_too_few(tiny_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="2 scenes or more, not 1"):
        sweeps.sweep(tiny_pipeline(), tiny_shards, tmp_path / "out", scenes=1)
