"""`lazydiffusion evaluate`, whole, on tiny models and shards; and what it and `sweep` tell before they begin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.checkpoint_files import tiny_checkpoint
from typer.testing import CliRunner, Result

from lazydiffusion.cli import app
from lazydiffusion.pipelines.regenerate import RegenerateCropPipeline

pytestmark = pytest.mark.integration


def run(command: str, *options: object) -> Result:
    return CliRunner().invoke(app, [command, *map(str, options), "--device", "cpu"])


def test_models_are_compared_by_their_engines(tiny_model: Path, tiny_shards: Path, tmp_path: Path) -> None:
    crop = tiny_checkpoint(tmp_path / "crop", RegenerateCropPipeline)
    out = tmp_path / "out"
    result = run(
        "evaluate", "--model", tiny_model, "--model", crop, "--data", tiny_shards, "--out", out, "--n", 4,
        "--sketched", 2, "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    results = json.loads((out / "results.json").read_text())
    assert [row["name"] for row in results["rows"]][:2] == ["lazy", "regenerate-crop"]
    assert results["models"]["regenerate-crop"] == {"model": str(crop), "engine": "regenerate-crop"}
    assert results["judges"]["Features"] == "efficientnet-lite0"
    assert set(results["sketches"]) == {"lazy", "regenerate-crop"}
    assert results["held_out_sprites"] == 3
    assert (out / "table.md").read_text() == result.stdout
    assert any((tmp_path / "cache").glob("style-*.safetensors"))


def test_scenes_may_be_of_a_vocabularys_things_alone(
    tiny_model: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    words = tmp_path / "words.toml"
    for command, options, report in (
        ("evaluate", ("--n", 4), "results.json"), ("sweep", ("--scenes", 4), "report.json")
    ):  # fmt: skip
        asked = (
            command, "--model", tiny_model, "--data", tiny_shards, "--out", tmp_path / command,
            "--vocabulary", words, *options,
        )  # fmt: skip
        words.write_text('"thing 4" = []\n"thing 5" = ["ball"]\n')
        result = run(*asked)
        assert result.exit_code == 0, result.output
        assert json.loads((tmp_path / command / report).read_text())["held_out_sprites"] == 1
        words.write_text('"thing 5" = []\n')
        result = run(*asked)
        assert result.exit_code == 2
        assert "None of these 1 sprites is held out" in " ".join(result.output.split())


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
    tiny_model: Path, tiny_shards: Path, tmp_path: Path, options: list[str], sentence: str
) -> None:
    if "--model" not in options:
        options = ["--model", str(tiny_model), *options]
    result = run("evaluate", "--data", tiny_shards, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2, result.output
    assert sentence in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "options", "sentence"),
    [
        ("evaluate", ["--features", "eyes"], "There are no features 'eyes'"),
        ("evaluate", ["--clip", "nobody"], "There is no CLIP in nobody"),
        ("evaluate", ["--out", "file"], "The folder file cannot be made: File exists. Choose another --out."),
        ("evaluate", ["--out", "file/out"], "The folder file/out cannot be made: Not a directory. Choose another"),
        ("evaluate", ["--cache", "file"], "The folder file cannot be made: File exists. Choose another --cache."),
        ("sweep", ["--out", "file"], "The folder file cannot be made: File exists. Choose another --out."),
        ("sweep", ["--card", "file"], "The model card file has no place for figures"),
        ("sweep", ["--card", "nowhere.md"], "The model card nowhere.md cannot be read"),
        ("sweep", ["--scenes", "1"], "2 scenes or more, not 1"),
        ("sweep", ["--vocabulary", "words"], "The vocabulary words cannot be read"),
        ("evaluate", ["--vocabulary", "words"], "The vocabulary words cannot be read"),
        ("sweep", ["--data", "nowhere"], "nowhere is not a folder of sprite shards"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_a_sprite_is_decoded(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("no folder")
    Path("shards").mkdir()
    Path("shards/0.tar").write_text("no shard: whoever decodes it says so")
    result = run(command, "--model", tiny_model, "--data", "shards", "--out", "out", *options)
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.output.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "shards"]


def test_too_few_scenes_are_told_before_the_data_are_looked_for(tiny_model: Path, tmp_path: Path) -> None:
    result = run("evaluate", "--model", tiny_model, "--data", tmp_path, "--out", tmp_path / "out", "--n", 1)
    assert result.exit_code == 2
    assert "1 scenes are too few to estimate anything" in result.output
