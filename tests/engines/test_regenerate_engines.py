"""A baseline's checkpoint runs as an engine: the model says which, and a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.checkpoint_files import tiny_checkpoint
from typer.testing import CliRunner

from lazydiffusion.canvas import Canvas
from lazydiffusion.cli import app
from lazydiffusion.devices import choose_device
from lazydiffusion.engines.base import Edit, Report, Step
from lazydiffusion.engines.choose import load_engine
from lazydiffusion.engines.lazy import LazyEngine
from lazydiffusion.engines.names import REGENERATE_CROP, REGENERATE_IMAGE
from lazydiffusion.errors import BadModel
from lazydiffusion.pipelines.regenerate import RegenerateCropPipeline, RegenerateImagePipeline
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import Box

pytestmark = pytest.mark.integration
CPU = choose_device("cpu")
KINDS = {REGENERATE_IMAGE: RegenerateImagePipeline, REGENERATE_CROP: RegenerateCropPipeline}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint for each of the two engines."""
    return {name: tiny_checkpoint(tmp_path_factory.mktemp(name) / name, kind) for name, kind in KINDS.items()}


@pytest.mark.parametrize("name", list(KINDS))
def test_a_saved_baseline_is_loaded_as_what_it_is(models: dict[str, Path], name: str) -> None:
    engine = load_engine(str(models[name]), CPU)
    assert isinstance(engine, LazyEngine)
    assert type(engine.pipeline) is KINDS[name]
    canvas = np.full((256, 256, 3), 90, np.uint8)
    mask = np.zeros((256, 256), np.float32)
    mask[100:150, 80:140] = 1
    report, previews = Report(), []

    def look(step: Step) -> None:
        previews.append(step.preview().shape)

    (fill,) = engine.run(Edit(Canvas.of(canvas), mask, EditSettings(prompt="a cat", seed=1)), report, look)
    assert fill.box == Box(80, 100, 60, 50)
    assert report.hidden_tokens < 256
    assert previews == [(50, 60, 3)] * 3


def test_the_window_of_a_crop_is_tight(models: dict[str, Path]) -> None:
    canvas = Canvas.of(np.full((1000, 1500, 3), 90, np.uint8))
    mask = np.zeros((1000, 1500), np.float32)
    mask[400:600, 700:900] = 1
    sides = {}
    for name, folder in models.items():
        report = Report()
        next(load_engine(str(folder), CPU).run(Edit(canvas, mask, EditSettings(seed=1)), report))
        assert report.window is not None
        sides[name] = report.window.w
    assert sides[REGENERATE_IMAGE] >= 400  # at most half of a side is hidden
    assert 200 < sides[REGENERATE_CROP] <= 200 / 0.8 + 16


@pytest.mark.parametrize("name", list(KINDS))
def test_the_command_line_takes_it_by_name(models: dict[str, Path], name: str, tmp_path: Path) -> None:
    Image.new("RGB", (256, 256), "teal").save(tmp_path / "canvas.png")
    mask = Image.new("L", (256, 256))
    mask.paste(255, (100, 100, 140, 140))
    mask.save(tmp_path / "mask.png")
    out = tmp_path / "out.png"
    arguments = [
        "fill",
        str(tmp_path / "canvas.png"),
        "--mask",
        str(tmp_path / "mask.png"),
        "--out",
        str(out),
    ]
    chosen = ["--engine", name, "--model", str(models[name]), "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, *chosen])
    assert result.exit_code == 0, result.output
    with Image.open(out) as image:
        colours = np.asarray(image)
    assert (colours[:100] == (0, 128, 128)).all()
    assert (colours[100:140, 100:140] != (0, 128, 128)).any()


def test_a_model_for_another_engine_is_told(models: dict[str, Path], tiny_model: Path) -> None:
    with pytest.raises(BadModel, match=r"for the engine regenerate-crop\. Use --engine regenerate-crop"):
        load_engine(str(models[REGENERATE_CROP]), CPU, "lazy")
    with pytest.raises(BadModel, match="LazyDiffusionPipeline, for the engine lazy"):
        load_engine(str(tiny_model), CPU, REGENERATE_IMAGE)
