"""The sweeps, whole, on a tiny model and tiny shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests import tiny
from tests.checkpoint_files import tiny_pipeline
from typer.testing import CliRunner

from lazydiffusion.cli import app
from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation import sweeps
from lazydiffusion.training.shards import write_shards

pytestmark = pytest.mark.integration


def test_a_report_and_its_pictures_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards", tiny.shard_sprites())  # three of the twelve are held out
    monkeypatch.setattr(sweeps, "STEPS", (1, 2))
    monkeypatch.setattr(sweeps, "GUIDANCES", (1.0, 3.0))
    monkeypatch.setattr(sweeps, "REFERENCE_STEPS", 4)
    report = sweeps.sweep(tiny_pipeline(), tmp_path / "shards", tmp_path / "out", scenes=8)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert report["seam_background_real"]["step"] >= 0  # half of the scenes hide nothing but background
    assert [row["steps"] for row in report["by_steps"]] == [1, 2]
    distances = [row["distance_to_100_steps"] for row in report["by_steps"]]
    assert distances[0] > distances[1] > 0  # more steps come nearer to many
    assert (
        report["seam_fill"]["step"] > report["seam_real"]["step"] >= 0
    )  # random weights make random borders
    for name in ("steps.png", "guidance.png"):
        with Image.open(tmp_path / "out" / name) as sheet:
            assert np.asarray(sheet).std() > 0


def test_one_scene_is_too_few(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards", tiny.shard_sprites())
    with pytest.raises(BadInput, match="2 scenes or more, not 1"):
        sweeps.sweep(tiny_pipeline(), tmp_path / "shards", tmp_path / "out", scenes=1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--out", "file"], "The folder file cannot be made: File exists. Choose another --out."),
        (["--card", "file"], "The model card file has no place for figures"),
        (["--card", "nowhere.md"], "The model card nowhere.md cannot be read"),
        (["--scenes", "1"], "2 scenes or more, not 1"),
        (["--data", "nowhere"], "nowhere is not a folder of sprite shards"),
    ],
)
def test_what_is_wrong_is_told_before_the_work(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("no folder")
    Path("shards").mkdir()
    Path("shards/0.tar").write_text("no shard: whoever decodes it says so")
    given = ["--model", str(tiny_model), "--data", "shards", "--device", "cpu", "--out", "out", *options]
    result = CliRunner().invoke(app, ["sweep", *given])
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.output.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "shards"]
