"""Which folders are loaded, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lazydiffusion import checkpoints
from lazydiffusion.errors import BadModel


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


@pytest.mark.parametrize("text", ["[1, 2]", "not json"])
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
