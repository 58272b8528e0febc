"""`lazydiffusion compare`, whole: an artist's folders of cases, tiny models, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.case_files import write_case
from tests.checkpoint_files import tiny_checkpoint
from tests.tiny_clip import tiny_clip
from tests.tiny_flux2 import tiny_flux2
from tests.tiny_sdxl import tiny_sdxl
from typer.testing import CliRunner, Result

from lazydiffusion.cli import app
from lazydiffusion.pipelines.regenerate import RegenerateCropPipeline

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.integration,
    # diffusers' own: its schedulers make NumPy arrays of torch's tensors in a way that NumPy 2 does not like.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux2(tmp_path_factory.mktemp("models") / "klein", is_distilled=True)


@pytest.fixture(scope="module")
def crop_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny-crop", RegenerateCropPipeline)


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Two: a boat with a sketch and a negative prompt, and a wall whose prompt is empty."""
    for name, prompt in (("boat", "a red boat"), ("wall", "")):
        folder = tmp_path / "cases" / name
        folder.mkdir(parents=True)
        noise = np.random.default_rng(len(prompt)).integers(0, 256, (160, 200, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "canvas.png")
        mask = Image.new("L", (200, 160))
        mask.paste(255, (60, 50, 110, 90))
        mask.save(folder / "mask.png")
        (folder / "prompt.txt").write_text(prompt)
    sketch = Image.new("RGBA", (200, 160))
    sketch.paste((250, 0, 0, 255), (70, 60, 100, 80))
    sketch.save(tmp_path / "cases/boat/sketch.png")
    (tmp_path / "cases/boat/negative.txt").write_text("people")
    return tmp_path / "cases"


def compare(cases: Path, out: Path, *models: object, **options: object) -> Result:
    named = [part for model in models for part in ("--model", str(model))]
    more = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    return CliRunner().invoke(
        app, ["compare", *named, "--cases", str(cases), "--out", str(out), "--device", "cpu", *more]
    )


def test_a_verdict_with_its_sheets_and_numbers(
    cases: Path, tiny_model: Path, crop_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = compare(cases, out, tiny_model, crop_model, seeds=2, steps=2)
    assert result.exit_code == 0, result.output
    results = json.loads((out / "results.json").read_text())
    assert [case["name"] for case in results["cases"]] == ["boat", "wall"]
    assert [case["sketch"] for case in results["cases"]] == [True, False]
    assert results["cases"][0]["negative_prompt"] == "people"
    assert [model["engine"] for model in results["models"]] == ["lazy", "regenerate-crop"]
    assert results["ended_early"] is None
    seeds = []
    for model in results["models"]:
        for played in model["cases"].values():
            assert played["steps"] == 2
            for fill in played["fills"]:
                assert fill["psnr_outside_db"] == "infinite"
                assert fill["seconds"] > 0
                assert fill["border_step"] > 0
                assert fill["text_image"] is None
            seeds.append([fill["seed"] for fill in played["fills"]])
    assert len(seeds) == 4
    assert all(found == seeds[0] for found in seeds)

    text = (out / "table.md").read_text()
    assert text == result.stdout
    assert "**Verdict** from 2 cases with 2 fills of each." in text
    assert "Outside the mask all 8 fills left every pixel as it was" in text
    assert f"`{tiny_model.name}`" in text
    for sheet in ("sheet.png", "sheets/boat.png", "sheets/wall.png"):
        with Image.open(out / sheet) as image:
            colours = np.asarray(image.convert("RGB"))
        assert colours.shape[0] > 200
        assert colours.shape[1] > 400
        assert len(np.unique(colours.reshape(-1, 3), axis=0)) > 500


def test_three_engines_and_their_views_are_compared(tiny_model: Path, klein: Path, tmp_path: Path) -> None:
    out, cases = tmp_path / "out", tmp_path / "cases"
    write_case(cases / "boat", "a boat")
    write_case(cases / "nothing", "", sketched=True)
    sdxl, clip = tiny_sdxl(tmp_path / "sdxl"), tiny_clip(tmp_path / "clip")
    models = [
        tiny_model, sdxl, f"{sdxl}@crop", *[f"{klein}{view}" for view in ("", "@refreshed", "@diffusers-crop")],
    ]  # fmt: skip
    result = compare(cases, out, *models, steps=2, clip=clip)
    assert result.exit_code == 0, result.output
    results = json.loads((out / "results.json").read_text(encoding="utf8"))
    assert [(it["name"], it["engine"], it["view"]) for it in results["models"]] == [
        (tiny_model.name, "lazy", None),
        ("sdxl", "diffusers", None),
        ("sdxl@crop", "diffusers", "crop"),
        ("klein", "flux2-klein", None),
        ("klein@refreshed", "flux2-klein", "refreshed"),
        ("klein@diffusers-crop", "flux2-klein", "diffusers-crop"),
    ]
    for model in results["models"]:
        boat, nothing = model["cases"]["boat"], model["cases"]["nothing"]
        assert all(fill["psnr_outside_db"] == "infinite" for fill in boat["fills"] + nothing["fills"])
        assert all(-1 <= fill["text_image"] <= 1 for fill in boat["fills"])
        assert all(fill["text_image"] is None for fill in nothing["fills"])  # there is no prompt to show
    windows = {it["name"]: it["cases"]["boat"]["window"] for it in results["models"]}
    assert windows["sdxl@crop"][2] < windows["sdxl"][2]
    assert windows["klein"] == windows["klein@refreshed"]
    assert "The prompt is shown best with" in result.stdout
    assert "by clip-clip" in result.stdout


def test_what_is_finished_is_kept_when_a_model_fails(
    cases: Path, tiny_model: Path, klein: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = compare(cases, out, tiny_model, klein, steps=1)
    assert result.exit_code == 2
    assert "klein, case boat: This model is distilled" in result.stderr
    assert "What was finished before is in" in result.stderr
    results = json.loads((out / "results.json").read_text(encoding="utf8"))
    assert [it["engine"] for it in results["models"]] == ["lazy"]
    assert "takes no negative prompt" in results["ended_early"]
    assert (out / "table.md").read_text(encoding="utf8").startswith("**The contest ended early:** klein")
    assert (out / "sheet.png").is_file()


def test_one_case_may_be_the_folder_itself(
    cases: Path, tiny_model: Path, crop_model: Path, tmp_path: Path
) -> None:
    result = compare(cases / "wall", tmp_path / "out", tiny_model, crop_model, seeds=1, steps=1)
    assert result.exit_code == 0, result.output
    assert list(json.loads((tmp_path / "out/results.json").read_text())["models"][0]["cases"]) == ["wall"]
    assert "1 case with 1 fill" in result.stdout


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda cases: (cases / "boat/prompt.txt").unlink(), "prompt.txt is missing: write into it what to paint"),
        (lambda cases: (cases / "boat/mask.png").unlink(), "has no mask: save it there, as mask.png."),
        (lambda cases: (cases / "boat/canvas.png").write_bytes(b"no picture"), "Case boat: "),
        (lambda cases: (cases / "boat/prompt.txt").write_bytes(b"\xff\xfe\xff"), "is no text in UTF-8"),
        (lambda cases: Image.new("L", (9, 9)).save(cases / "wall/mask.png"), "Case wall: "),
        (lambda cases: (cases / "boat/canvas.jpg").write_bytes(b""), "are both there: keep the one that is meant"),
    ],
)  # fmt: skip
def test_a_broken_case_is_told_before_any_model_is_loaded(
    cases: Path, tiny_model: Path, crop_model: Path, tmp_path: Path, damage: object, sentence: str
) -> None:
    damage(cases)  # type: ignore[operator]
    result = compare(cases, tmp_path / "out", tiny_model, crop_model)
    assert result.exit_code == 2, result.output
    assert sentence in result.output
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_compared_is_told(
    cases: Path, tiny_model: Path, crop_model: Path, klein: Path, tmp_path: Path
) -> None:
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    for result, sentence in (
        (compare(cases, out, tiny_model), "A comparison needs two models"),
        (compare(cases, out, tiny_model, tiny_model), "is given twice"),
        (compare(cases, out, tiny_model, f"{tiny_model}@crop"), "chooses its own view of the canvas"),
        (compare(cases, out, tiny_model, "nobody"), "There is no model 'nobody'"),
        (compare(cases, cases / "out", tiny_model, crop_model), "is among the cases"),
        (compare(cases, out, tiny_model, crop_model, seeds=0), "The number of seeds is 0"),
        (compare(empty, out, tiny_model, crop_model), "There are no cases in"),
        (compare(tmp_path / "nowhere", out, tiny_model, crop_model), "cannot be read"),
        (
            compare(cases, out, tiny_model, f"{klein}@bird"),
            "must be one of cached, refreshed, full, diffusers",
        ),
        (compare(cases, out, tiny_model, crop_model, steps=0), "The number of steps is 0"),
        (compare(cases, out, tiny_model, crop_model, clip=empty), "cannot be used as a CLIP"),
        (compare(cases, tiny_model / "model_index.json", tiny_model, crop_model), "cannot be made"),
    ):
        assert result.exit_code == 2, result.output
        assert sentence in result.output
    assert not out.exists()
