"""What the core tells of models: the engine of each, what is wrong with one, and what could be downloaded."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.loopback_hub import KLEIN, WEIGHTS
from tests.service.core_process import CoreProcess, edit_request
from tests.tiny_flux2 import tiny_flux2

from lazydiffusion import checkpoints
from lazydiffusion.client.errors import EditRejected
from lazydiffusion.errors import BadModel
from lazydiffusion.known_models import KNOWN
from lazydiffusion.service.shelf import Model, Shelf

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny FLUX.2-klein as diffusers saves one."""
    return tiny_flux2(tmp_path_factory.mktemp("whole") / KLEIN)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of models; it is not there."""
    folder = tmp_path / "models"
    monkeypatch.setattr(checkpoints, "user_folder", lambda: folder)
    return folder


def told(name: str = KLEIN) -> Model:
    """What a shelf says of a model."""
    [model] = [model for model in Shelf("clipart", "cpu").models() if model.name == name]
    return model


def put(whole: Path, models: Path) -> Path:
    """Have a model of one's own in the user's folder."""
    return Path(shutil.copytree(whole, models / KLEIN))


def test_the_engine_is_what_the_index_says(whole: Path, models: Path) -> None:
    put(whole, models)
    assert (told().engine, told().problem) == ("flux2-klein", "")
    assert (told("clipart").engine, told("clipart").problem) == ("lazy", "")


def test_what_is_known_and_not_here_can_be_downloaded(whole: Path, models: Path) -> None:
    shelf = Shelf("clipart", "cpu")
    [found] = shelf.downloadable()
    assert (found.model, found.downloaded) == (KNOWN[KLEIN], 0)
    assert found.model.command == "lazydiffusion models pull flux2-klein"
    commit = models / f"{KLEIN}.partial" / ("a" * 40) / "transformer"
    commit.mkdir(parents=True)
    (commit / "weights.safetensors.unfinished").write_bytes(bytes(700))
    assert [it.downloaded for it in shelf.downloadable()] == [700]
    assert [model.name for model in shelf.models()] == ["clipart"], "what is not whole is no model"
    put(whole, models)
    assert shelf.downloadable() == []


def test_what_is_replaced_does_not_count_as_downloaded(models: Path) -> None:
    replaced = models / f"{KLEIN}.partial" / checkpoints.REPLACED
    replaced.mkdir(parents=True)
    (replaced / "weights.safetensors").write_bytes(bytes(700))
    assert [it.downloaded for it in Shelf("clipart", "cpu").downloadable()] == [0]


def test_one_that_is_not_downloaded_is_refused_with_what_to_do(models: Path) -> None:
    with pytest.raises(BadModel) as refused:
        Shelf("clipart", "cpu").find(KLEIN)
    assert str(refused.value) == (
        "The model flux2-klein is not downloaded. Get it in the settings of Krita's or GIMP's panel, or by "
        "`lazydiffusion models pull flux2-klein` in a terminal; or choose another: clipart."
    )
    with pytest.raises(BadModel, match="is not downloaded"):
        Shelf(KLEIN, "cpu").find(KLEIN)
    assert [it.model.name for it in Shelf(KLEIN, "cpu").downloadable()] == [KLEIN]


def test_a_default_that_is_no_hub_id_and_not_here_has_a_problem(models: Path) -> None:
    [_, mine] = Shelf("mine", "cpu").models()
    assert (mine.name, mine.problem) == ("mine", "There is no model 'mine'.")
    [_, hub_id] = Shelf("owner/name", "cpu").models()
    assert (hub_id.engine, hub_id.problem) == ("", ""), "asked of no hub"


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def shard(folder: Path, missing: bool) -> None:
    """As large weights come: in files that an index lists."""
    part = folder / "text_encoder"
    [file] = part.glob("*.safetensors")
    file.rename(part / "model-00001-of-00002.safetensors")
    if not missing:
        shutil.copy(part / "model-00001-of-00002.safetensors", part / "model-00002-of-00002.safetensors")
    (part / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "model_index.json").write_text("{"), "does not say what pipeline this is"),
        (lambda folder: (folder / "model_index.json").write_text("[]"), "does not say what pipeline this is"),
        (lambda folder: shutil.rmtree(folder / "vae"), "has no vae"),
        (lambda folder: (folder / WEIGHTS).unlink(), "weights are missing in"),
        (lambda folder: cut(folder / WEIGHTS), "is damaged or cut short"),
        (lambda folder: (folder / WEIGHTS).write_text("version https://git-lfs.github.com"), "is damaged or cut short"),
        (lambda folder: (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2) + b"[]"), "is damaged or cut short"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b""), "is damaged or cut short"),
        (lambda folder: (folder / "vae" / "old.bin").touch(), "is a pickle"),
        (lambda folder: shard(folder, missing=True), "weights are missing in"),
        (
            lambda folder: (checkpoints.write_hashes(folder), (folder / "vae/config.json").unlink()),
            "config.json is missing",
        ),
    ],
    ids=[
        "no JSON", "no index", "no part", "no weights", "cut short", "a pointer", "no header", "empty", "a pickle",
        "half of the shards", "a listed file",
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_model_is_told_without_reading_its_weights(
    whole: Path, models: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    folder = put(whole, models)
    assert told().problem == ""
    damage(folder)
    assert sentence in told().problem
    assert told().problem.endswith(".")
    shutil.rmtree(folder)
    put(whole, models)
    assert told().problem == "", "it is told anew when the files change"


def test_weights_in_several_files_are_whole(whole: Path, models: Path) -> None:
    shard(put(whole, models), missing=False)
    assert told().problem == ""


def test_as_long_as_no_file_changes_none_is_opened(
    whole: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(whole, models)
    assert told().problem == ""
    monkeypatch.setattr(checkpoints, "look_over", lambda folder: pytest.fail("it was looked over again"))
    assert told().problem == ""


def test_a_core_tells_of_them_and_refuses_what_is_not_here(
    tiny_model: Path, tmp_path: Path, whole: Path
) -> None:
    process = CoreProcess(tmp_path / "core", tiny_model)
    models = tmp_path / "core" / "data" / "lazydiffusion" / "models"
    try:
        core = process.start()
        info = core.info()
        assert [(it["name"], it["engine"], it["problem"]) for it in info["models"]] == [
            ("clipart", "lazy", ""), ("tiny", "lazy", ""),
        ]  # fmt: skip
        assert info["downloadable"] == [
            {
                "name": KLEIN, "bytes": KNOWN[KLEIN].bytes, "downloaded": 0, "licence": "Apache-2.0",
                "needs": "an NVIDIA GPU with 8 GB or more", "command": "lazydiffusion models pull flux2-klein",
                "state": "absent", "problem": "",
            }
        ]  # fmt: skip
        with pytest.raises(EditRejected, match="The model flux2-klein is not downloaded"):
            core.submit(edit_request(model=KLEIN))

        folder = put(whole, models)
        (folder / WEIGHTS).unlink()
        info = core.info()
        [klein] = [it for it in info["models"] if it["name"] == KLEIN]
        assert (klein["engine"], klein["state"]) == ("flux2-klein", "absent")
        assert klein["problem"].startswith("The model is not whole: weights are missing in")
        assert info["downloadable"] == []
    finally:
        process.kill()
