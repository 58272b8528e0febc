"""Which engine a model of the hub is for: asked once, kept by the hub's own cache, and in a sentence where it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.loopback_hub import REPO, Hub

from lazydiffusion.engines.names import engine_of
from lazydiffusion.errors import BadModel

pytestmark = pytest.mark.integration

CLOSED = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
"""A hub that nobody answers for."""


def fill(folder: Path, environment: dict[str, str], model: str = REPO) -> subprocess.CompletedProcess[str]:
    """As a shell starts it, with an empty cache of the hub."""
    Image.new("RGB", (64, 64)).save(folder / "canvas.png")
    Image.new("L", (64, 64), 255).save(folder / "mask.png")
    return subprocess.run(
        [
            sys.executable, "-m", "lazydiffusion", "fill", "canvas.png", "--mask", "mask.png", "--out", "out.png",
            "--model", model, "--engine", "lazy",
        ],
        cwd=folder, env={**os.environ, "HF_HOME": str(folder / "hub"), **environment},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_without_a_network_it_is_one_line_that_says_so(tmp_path: Path) -> None:
    done = fill(tmp_path, CLOSED)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("lazydiffusion: http://127.0.0.1:9 cannot be reached (")
    assert "look at the network" in line
    done = fill(tmp_path, {"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "lazydiffusion: HF_HUB_OFFLINE forbids to ask the hub: unset it to download a model."
    ]


def test_the_hub_is_asked_for_the_index_alone(klein_hub: Hub, tmp_path: Path) -> None:
    done = fill(tmp_path, klein_hub.environment)
    assert done.returncode == 2
    assert f"The model {REPO} is a Flux2Klein" in done.stderr
    assert "for the engine flux2-klein. Use --engine flux2-klein" in done.stderr
    assert klein_hub.fetched() == {"model_index.json"}
    klein_hub.error = (404, "EntryNotFound")
    done = fill(tmp_path, klein_hub.environment)
    assert done.returncode == 2
    assert f"{REPO} is no pipeline of diffusers: it has no model_index.json." in done.stderr


def test_what_the_cache_has_is_not_asked_for(tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "hub" / f"models--{REPO.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40)
    snapshot = cached / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text(json.dumps({"_class_name": "FluxFillPipeline"}))
    done = fill(tmp_path, CLOSED)
    assert done.returncode == 2
    assert f"The model {REPO} is a FluxFillPipeline, for the engine diffusers." in done.stderr


def test_a_folder_whose_index_is_no_json_is_told(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(BadModel, match="cannot be loaded: "):
        engine_of(tmp_path)
