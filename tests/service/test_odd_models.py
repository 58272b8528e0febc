"""Odd entries in the models folder: each is told of or left out, and no other model suffers for it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.service.core_process import CoreProcess, edit_request
from tests.service.powerless import POWERLESS

from lazydiffusion import checkpoints
from lazydiffusion.client.errors import EditFailed
from lazydiffusion.errors import BadModel
from lazydiffusion.service.shelf import Shelf

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes, and all of its names are text"),
]

PIPELINE = {"_class_name": "StableDiffusionInpaintPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of models."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setattr(checkpoints, "user_folder", lambda: folder)
    return folder


def model(folder: Path, index: str = json.dumps(PIPELINE), **weights: str) -> Path:
    """A model without weights; `weights`: the index of those of its unet."""
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text(index)
    (folder / "unet" / "config.json").write_text("{}")
    for name, text in weights.items():
        (folder / "unet" / f"{name}.safetensors.index.json").write_text(text)
    return folder


def told() -> dict[str, str]:
    """What a shelf says of each model that there is beside the installed one."""
    shown = {model.name: model.problem for model in Shelf("clipart", "cpu").models()}
    assert shown.pop("clipart") == ""
    return shown


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"model": '{"weight_map": {"a": ["b"]}}'}, "weights are missing in"),
        ({"model": '{"weight_map": {"a": {}}}'}, "weights are missing in"),
        ({"model": "[" * 100_000}, "weights are missing in"),
        ({"index": "[" * 100_000}, "does not say what pipeline this is"),
        (
            {"index": json.dumps({"_class_name": "A", "a\0b": ["diffusers", "VAE"]})},
            "names a file that there cannot be",
        ),
    ],
    ids=["lists", "objects", "deep", "a deep index", "no name"],
)
def test_a_damaged_index_is_told_and_hides_no_other(
    models: Path, files: dict[str, str], sentence: str
) -> None:
    model(models / "odd", **files)
    shown = told()
    assert list(shown) == ["odd"]
    assert sentence in shown["odd"]
    assert shown["odd"].endswith(".")


def test_deep_settings_of_a_part_hide_no_other(models: Path) -> None:
    folder = model(models / "odd")
    for part in ("vae", "unet", "context_encoder"):
        (folder / part).mkdir(exist_ok=True)
        (folder / part / "config.json").write_text("[" * 100_000)
    (folder / checkpoints.HASHES).write_text("[" * 100_000)
    assert "cannot be read as a list of hashes" in told()["odd"]


def test_weights_that_are_a_pipe_are_damaged_and_not_waited_for(models: Path) -> None:
    os.mkfifo(model(models / "odd") / "unet" / "model.safetensors")
    assert "is damaged or cut short" in told()["odd"]


def test_a_name_that_is_no_text_is_left_out(models: Path) -> None:
    model(Path(os.fsdecode(bytes(models) + b"/mod\xe8le")))
    model(models / "modèle")
    assert list(told()) == ["modèle"]


def test_a_sentence_about_a_file_whose_name_is_no_text_can_be_sent(models: Path) -> None:
    folder = model(models / "odd")
    Path(os.fsdecode(bytes(folder) + b"/mod\xe8le.bin")).touch()
    problem = told()["odd"]
    assert "mod?le.bin is a pickle" in problem
    assert problem.encode("utf8")


def test_what_nobody_thought_of_is_told_too(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(checkpoints, "look_over", fail)
    model(models / "odd")
    assert Shelf("clipart", "cpu").find("odd").problem == (
        f"The model in {models / 'odd'} cannot be used (ZeroDivisionError). Reinstall the model."
    )


def test_a_deep_index_is_a_bad_model_when_it_is_loaded(models: Path) -> None:
    model(models / "odd", index="[" * 100_000)
    with pytest.raises(BadModel, match=r"model_index.json cannot be read: it is damaged"):
        Shelf("clipart", "cpu").load("odd")


def test_a_core_with_all_of_these_answers_and_edits(new_process: Callable[..., CoreProcess]) -> None:
    process = new_process(program=("-c", POWERLESS, "-m", "lazydiffusion"))
    models = process.folder / "data" / "lazydiffusion" / "models"
    for name in ("lost+found", ".Trashes", "hers"):
        model(models / name)
        (models / name).chmod(0)
    model(models / "odd", model='{"weight_map": {"a": ["b"]}}')
    model(models / "deep", index="[" * 100_000)
    model(models / "half")
    (models / "half" / "unet").chmod(0)
    model(Path(os.fsdecode(bytes(models) + b"/mod\xe8le")))
    try:
        core = process.start()
        problems = {known["name"]: known["problem"] for known in core.info()["models"]}
        assert set(problems) == {"clipart", "hers", "odd", "deep", "half", "tiny"}
        assert problems["clipart"] == problems["tiny"] == ""
        index = models / "hers" / "model_index.json"
        assert problems["hers"] == (
            f"{index} cannot be read (Permission denied). Check its disk and its permissions."
        )
        assert problems["half"].endswith("Check its disk and its permissions.")
        assert len(core.submit(edit_request(model="clipart", steps=1)).wait()) == 1
        with pytest.raises(EditFailed, match="Permission denied") as failed:
            core.submit(edit_request(model="hers")).wait()
        assert failed.value.code == "bad-model"
        (models / "hers").chmod(0o700)
        assert [m["problem"] for m in core.info()["models"] if m["name"] == "hers"] == [
            f"The model is not whole: weights are missing in {models / 'hers' / 'unet'}. Reinstall the model."
        ]
        assert "Traceback" not in process.said()
    finally:
        for folder in [*models.iterdir(), models / "half" / "unet"]:
            folder.chmod(0o700)  # so that the test's folder can be removed
