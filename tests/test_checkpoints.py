"""Which folders are loaded, and which are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.service.powerless import POWERLESS

from lazydiffusion import checkpoints
from lazydiffusion.errors import BadModel
from lazydiffusion.window import WINDOW_TOKENS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the layout of a checkpoint, and hashes that hold."""
    folder = tmp_path / "mine"
    (folder / "decoder").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "decoder" / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    checkpoints.write_hashes(folder)
    return folder


def test_an_untouched_folder_is_located_by_its_path(folder: Path) -> None:
    assert checkpoints.locate(str(folder)) == folder


@pytest.mark.parametrize("required", [True, False])
def test_one_changed_byte_is_refused(folder: Path, required: bool) -> None:
    (folder / "decoder" / "diffusion_pytorch_model.safetensors").write_bytes(b"Weights")
    with pytest.raises(BadModel, match="was altered or damaged"):
        checkpoints.verify(folder, required=required)


@pytest.mark.parametrize("name", ["decoder/model.bin", "a.pkl", "decoder/deep/x.PT", "old.ckpt"])
def test_a_pickle_anywhere_inside_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")
    with pytest.raises(BadModel, match="is a pickle"):
        checkpoints.locate(str(folder))


def test_a_missing_weight_is_refused(folder: Path) -> None:
    (folder / "decoder" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadModel, match="cannot be read"):
        checkpoints.verify(folder)


def test_an_unlisted_weight_is_refused(folder: Path) -> None:
    (folder / "decoder" / "extra.safetensors").write_bytes(b"x")
    with pytest.raises(BadModel, match="is not listed"):
        checkpoints.verify(folder)


def test_without_hashes_a_folder_is_the_users_own_affair_but_not_the_embedded_one(folder: Path) -> None:
    (folder / checkpoints.HASHES).unlink()
    checkpoints.verify(folder)
    with pytest.raises(BadModel, match="nothing vouches"):
        checkpoints.verify(folder, required=True)


@pytest.mark.parametrize("text", ["[1, 2]", "not json", "[" * 100_000])
def test_a_broken_list_of_hashes_is_refused(folder: Path, text: str) -> None:
    (folder / checkpoints.HASHES).write_text(text)
    with pytest.raises(BadModel, match="cannot be read as a list"):
        checkpoints.verify(folder)


def test_the_users_folder_is_searched_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "user_folder", lambda: folder.parent)
    assert checkpoints.locate("mine") == folder
    assert "mine" in [checkpoint.name for checkpoint in checkpoints.available()]


def test_a_name_that_nothing_has_lists_what_there_is() -> None:
    with pytest.raises(BadModel, match=r"no model 'nothing'.*clipart"):
        checkpoints.locate("nothing")


def test_a_hub_id_is_left_to_the_hub() -> None:
    assert checkpoints.locate("someone/some-model") == "someone/some-model"


def test_the_embedded_checkpoint_holds_its_hashes_and_its_limit() -> None:
    folder = checkpoints.embedded_folder()
    checkpoints.verify(folder, required=True)
    listed = json.loads((folder / checkpoints.HASHES).read_text())
    weights = [folder / name for name in listed if name.endswith(".safetensors")]
    assert sum(path.stat().st_size for path in weights) <= 64e6


def test_a_known_model_that_is_not_here_says_how_to_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "user_folder", lambda: tmp_path)
    with pytest.raises(
        BadModel, match=r"flux2-klein is not downloaded. Get it .* `lazydiffusion models pull"
    ):
        checkpoints.locate("flux2-klein")


@pytest.mark.parametrize("text", ["", "[]", "not json", "[" * 100_000])
def test_a_damaged_index_is_refused(folder: Path, text: str) -> None:
    (folder / checkpoints.INDEX).write_text(text)
    with pytest.raises(BadModel, match=r"model_index.json cannot be read: it is damaged"):
        checkpoints.locate(str(folder))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_what_may_not_be_read_is_listed_and_refused_with_what_to_do(folder: Path) -> None:
    models = folder.parent / "data" / "lazydiffusion" / "models"
    for name in ("hers", "lost+found"):
        (models / name).mkdir(parents=True)
        (models / name).chmod(0)
    command = [sys.executable, "-c", POWERLESS, "-m", "lazydiffusion", "models", "--json"]
    environment = {**os.environ, "XDG_DATA_HOME": str(folder.parent / "data")}
    listed = subprocess.run(command, env=environment, capture_output=True, text=True)
    for name in ("hers", "lost+found"):
        (models / name).chmod(0o700)
    assert listed.returncode == 0, listed.stderr
    states = {row["name"]: row["state"] for row in json.loads(listed.stdout)}
    assert set(states) == {"clipart", "hers", "flux2-klein"}
    assert states["clipart"] == "ready"
    assert states["hers"] == (
        f"{models / 'hers' / checkpoints.INDEX} cannot be read (Permission denied). Check its disk and its "
        "permissions."
    )


def test_a_folder_of_models_that_is_none_hides_no_installed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").write_text("")
    monkeypatch.setattr(checkpoints, "user_folder", lambda: tmp_path / "models")
    assert [checkpoint.name for checkpoint in checkpoints.available()] == ["clipart"]


@pytest.mark.parametrize(
    ("configs", "window"),
    [
        ({"context_encoder": {"window_tokens": 24}, "vae": {"block_out_channels": [8] * 4}}, 24),
        ({"vae": {"block_out_channels": [8] * 4}, "unet": {"sample_size": 64}}, 32),  # 512 px
        ({"vae": {"block_out_channels": [8] * 4}, "transformer": {"sample_size": 96}}, 48),
        ({"vae": {"block_out_channels": [8] * 3}, "unet": {"sample_size": 64}}, 16),
        ({"vae": {"block_out_channels": [8] * 4}, "unet": {"sample_size": 200}}, 64),  # no window is larger
        ({"vae": {"block_out_channels": [8] * 4}}, 64),
        ({}, WINDOW_TOKENS),
    ],
)
def test_a_window_is_as_large_as_the_model_was_trained_at(
    tmp_path: Path, configs: dict[str, object], window: int
) -> None:
    for part, config in configs.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    assert checkpoints.window_tokens(tmp_path) == window
    assert checkpoints.window_tokens("owner/name") == WINDOW_TOKENS


def test_what_a_model_was_taught_is_a_list_of_names(tmp_path: Path) -> None:
    assert checkpoints.things(tmp_path) == []
    file = tmp_path / checkpoints.VOCABULARY
    for odd in ("", "[1]", "{", '"cat"'):
        file.write_text(odd)
        assert checkpoints.things(tmp_path) == []
    file.write_text('{"sun": [], "cat": ["kitten"]}')
    assert checkpoints.things(tmp_path) == ["cat", "sun"]
    assert checkpoints.words(tmp_path) == ["cat", "kitten", "sun"]
    file.write_text('{"sun": 3, "cat": [4]}')
    assert checkpoints.words(tmp_path) == ["4", "cat", "sun"]


def test_a_network_without_channels_has_the_usual_window(tmp_path: Path) -> None:
    for part, text in (("vae", '{"block_out_channels": []}'), ("unet", '{"sample_size": 65}')):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(text)
    assert checkpoints.window_tokens(tmp_path) == WINDOW_TOKENS
