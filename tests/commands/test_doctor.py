"""`lazydiffusion doctor` and `models`: what they say of a sound installation, and of a harmed one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tiny_sdxl import tiny_sdxl
from typer.testing import CliRunner

from lazydiffusion import checkpoints
from lazydiffusion.cli import app
from lazydiffusion.client import places, start
from lazydiffusion.commands import doctor
from lazydiffusion.models import prompt_encoder

pytestmark = pytest.mark.integration


def findings() -> dict[str, dict[str, object]]:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    listed = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert result.exit_code == (0 if all(finding["good"] for finding in listed.values()) else 1)
    return listed


def test_a_sound_installation_has_nothing_bad() -> None:
    found = findings()
    assert [name for name, finding in found.items() if not finding["good"]] == []
    assert {"torch", "diffusers", "device", "model clipart", "text encoder", "disk"} <= set(found)
    assert "because" in str(found["device"]["detail"])


def test_it_says_what_the_editors_would_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(places.RUNTIME_VARIABLE, str(tmp_path / "run"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv(start.COMMAND_VARIABLE, raising=False)
    found = findings()
    assert "lazydiffusion connect" in str(found["editors"]["remedy"])
    assert str(found["core"]["detail"]).startswith("not running")
    start.remember_command(["/bin/sh", "lazydiffusion"])
    assert findings()["editors"]["detail"] == "start /bin/sh lazydiffusion"


def test_a_changed_checkpoint_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "clipart"
    shutil.copytree(checkpoints.embedded_folder(), copy)
    config = copy / "decoder" / "config.json"
    config.write_text(config.read_text() + " ")
    monkeypatch.setattr(checkpoints, "embedded_folder", lambda: copy)
    found = findings()["model clipart"]
    assert not found["good"]
    assert "altered or damaged" in str(found["detail"])


def harm_nothing(model: Path) -> None:
    pass


def remove_hashes(model: Path) -> None:
    (model / checkpoints.HASHES).unlink()


def remove_weights(model: Path) -> None:
    remove_hashes(model)
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()


def spoil_index(model: Path) -> None:
    remove_hashes(model)
    (model / checkpoints.INDEX).write_text("no JSON")


@pytest.mark.parametrize(
    ("harm", "good", "said"),
    [
        (harm_nothing, True, "hashes hold"),
        (remove_hashes, True, "no hashes listed"),
        (remove_weights, False, "weights are missing in"),
        (spoil_index, False, checkpoints.INDEX),
    ],
)
def test_a_users_model_is_looked_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None], good: bool, said: str
) -> None:
    own = tiny_sdxl(tmp_path / "own")
    checkpoints.write_hashes(own)
    harm(own)
    monkeypatch.setattr(checkpoints, "user_folder", lambda: tmp_path)
    found = findings()["model own"]
    assert found["good"] is good
    assert said in str(found["detail"])


@pytest.mark.parametrize("part", ["context_encoder", "decoder"])
def test_a_lazy_model_without_its_weights_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, part: str
) -> None:
    own = tmp_path / "own"
    shutil.copytree(tiny_model, own)
    (own / checkpoints.HASHES).unlink(missing_ok=True)
    monkeypatch.setattr(checkpoints, "user_folder", lambda: tmp_path)
    assert findings()["model own"]["good"] is True
    (own / part / "diffusion_pytorch_model.safetensors").unlink()
    found = findings()["model own"]
    assert found["good"] is False
    assert f"weights are missing in {own / part}" in str(found["detail"])


def test_a_changed_text_encoder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.setattr(prompt_encoder, "minilm_folder", lambda: tmp_path)
    assert not next(f for name, f in findings().items() if "text_encoder" in name or "text encoder" in name)[
        "good"
    ]


def test_too_old_a_package_is_found_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "0.1" if name == "pillow" else "999")
    found = {finding.name: finding for finding in doctor._packages()}
    assert not found["pillow"].good
    assert "pip install" in found["pillow"].remedy


def test_a_check_that_breaks_is_a_finding_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        raise OSError("no disk")

    monkeypatch.setattr(shutil, "disk_usage", broken)
    found = findings()
    assert not found["disk"]["good"]
    assert "no disk" in str(found["disk"]["detail"])
    assert found["torch"]["good"]


def test_models_lists_the_embedded_one_as_ready() -> None:
    result = CliRunner().invoke(app, ["models", "--json"])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["clipart"]["state"] == "ready"
    assert rows["clipart"]["embedded"]
    assert rows["clipart"]["bytes"] > 1e6


def test_a_models_name_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_sdxl(tmp_path / "sdxl [turbo]")
    monkeypatch.setattr(checkpoints, "user_folder", lambda: tmp_path)
    told = CliRunner().invoke(app, ["models"]).stdout
    assert "sdxl [turbo]" in told
    assert "..." not in told  # nothing is cut, on 80 columns either
    assert "…" not in told


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
    ids=["by itself", "a number given", "a policy given"],
)
def test_the_threads_of_each_command_spin_little(given: dict[str, str], spins: str) -> None:
    """As libgomp tells it, which torch's builds for Linux have, here of a command that soon ends after importing it."""
    own = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    done = subprocess.run(
        [sys.executable, "-m", "lazydiffusion", "serve", "--device", "none"],
        env={**environment, "OMP_DISPLAY_ENV": "verbose", **given}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
