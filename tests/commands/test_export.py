"""From a run's weights to a checkpoint that --model takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file
from tests.checkpoint_files import tiny_pipeline
from typer.testing import CliRunner

from lazydiffusion import checkpoints
from lazydiffusion.cli import app
from lazydiffusion.devices import choose_device
from lazydiffusion.engines.lazy import LazyEngine

pytestmark = pytest.mark.integration


def test_a_run_becomes_a_verified_checkpoint_in_bf16(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.context_encoder.save_pretrained(tmp_path / "ema" / "context_encoder")
    pipeline.decoder.save_pretrained(tmp_path / "ema" / "decoder")
    arguments = ["export", str(tmp_path / "ema"), str(tmp_path / "made"), "--steps", "9", "--guidance", "1.5"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    checkpoints.verify(tmp_path / "made", required=True)
    weights = load_file(tmp_path / "made" / "decoder" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    loaded = LazyEngine.load(str(tmp_path / "made"), choose_device("cpu")).pipeline
    assert (loaded.config.default_steps, loaded.config.default_guidance) == (9, 1.5)
    for config in (tmp_path / "made").rglob("*.json"):
        assert str(tmp_path) not in config.read_text(encoding="utf8"), (
            "where it was made is nobody's business"
        )
    expected = pipeline.decoder.to_out.weight
    assert torch.allclose(loaded.decoder.to_out.weight, expected, atol=0.01)


def test_a_checkpoint_is_sampled_and_guided_at_the_levels_that_it_was_trained_at(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.context_encoder.save_pretrained(tmp_path / "ema" / "context_encoder")
    pipeline.decoder.save_pretrained(tmp_path / "ema" / "decoder")
    result = CliRunner().invoke(app, ["export", str(tmp_path / "ema"), str(tmp_path / "plain")])
    assert result.exit_code == 0, result.output
    (tmp_path / "ema" / "vocabulary.json").write_text('{"cat": ["kitten"]}')
    FlowMatchEulerDiscreteScheduler(shift=4.0).save_pretrained(tmp_path / "ema" / "scheduler")
    result = CliRunner().invoke(app, ["export", str(tmp_path / "ema"), str(tmp_path / "shifted")])
    assert result.exit_code == 0, result.output

    assert checkpoints.things(tmp_path / "shifted") == ["cat"]
    assert checkpoints.things(tmp_path / "plain") == []
    plain, shifted = (
        LazyEngine.load(str(tmp_path / name), choose_device("cpu")).pipeline for name in ("plain", "shifted")
    )
    assert (plain.scheduler.config.shift, shifted.scheduler.config.shift) == (1, 4)
    assert (plain.config.guidance_low, plain.config.guidance_high) == (0.05, 0.9)
    assert shifted.config.guidance_high == pytest.approx(3.6 / 3.7)
    assert shifted.config.guidance_low == pytest.approx(0.2 / 1.15)
    for each in (plain, shifted):  # of twenty steps the same are guided
        each.scheduler.set_timesteps(20)
    guided = [
        [
            each.config.guidance_low <= t / 1000 <= each.config.guidance_high
            for t in each.scheduler.timesteps.tolist()
        ]
        for each in (plain, shifted)
    ]
    assert guided[0] == guided[1]
    assert 15 < sum(guided[0]) < 20


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--steps", "0", "The number of steps is 0; it must be between 1 and 200."),
        ("--steps", "-5", "The number of steps is -5; it must be between 1 and 200."),
        ("--guidance", "nan", "The guidance is nan; it must be between 0 and 20."),
        ("--guidance", "inf", "The guidance is inf; it must be between 0 and 20."),
    ],
)
def test_defaults_that_no_edit_could_have_are_refused(
    tmp_path: Path, option: str, value: str, message: str
) -> None:
    result = CliRunner().invoke(app, ["export", str(tmp_path), str(tmp_path / "made"), option, value])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "made").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.context_encoder.save_pretrained(tmp_path / "ema" / "context_encoder")
    pipeline.decoder.save_pretrained(tmp_path / "ema" / "decoder")
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "made"):
        result = CliRunner().invoke(app, ["export", str(tmp_path / "ema"), str(out)])
        assert result.exit_code == 2
        assert f"The folder {out} cannot be made" in result.stderr
        assert "Choose another OUT." in result.stderr
    assert (tmp_path / "file").read_bytes() == b""


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(tmp_path), str(tmp_path / "made")])
    assert result.exit_code == 2
    assert "holds no trained weights" in result.stderr
    assert not (tmp_path / "made").exists()
