"""The commands that the recipes, the README and docs/training.md tell are commands that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from tests import tiny

from lazydiffusion import geometry
from lazydiffusion.cli import app
from lazydiffusion.training import masks
from lazydiffusion.training.scenes import SceneMaker
from lazydiffusion.training.settings import find_settings, load_settings
from lazydiffusion.window import PATCH

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "core" / "lazydiffusion" / "training" / "configs").glob("*.toml"))
PAGES = [ROOT / "README.md", ROOT / "docs" / "training.md"]

pytestmark = pytest.mark.unit


def commands(page: Path) -> list[list[str]]:
    """What follows `lazydiffusion` in a recipe's comments, or in a page's indented lines, for training."""
    found = re.findall(r"^(?:#|    ) *lazydiffusion (.*)$", page.read_text(encoding="utf8"), re.MULTILINE)
    words = [shlex.split(line, comments=True) for line in found]
    return [line for line in words if line[0] in ("data", "train", "export", "evaluate")]


TOLD = [
    pytest.param(words, id=f"{page.stem}: {' '.join(words)}")
    for page in [*CONFIGS, *PAGES]
    for words in commands(page)
]


def parsed(words: list[str]) -> dict[str, object]:
    command = typer.main.get_command(app)
    context = None
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    context = command.make_context(command.name, list(words))
    return context.params


@pytest.mark.parametrize("words", TOLD)
def test_a_command_that_is_told_is_understood(words: list[str]) -> None:
    options = parsed(words)
    if words[0] == "train":
        load_settings(find_settings(str(options["config"])))


def test_what_a_training_begins_with_was_trained_by_a_recipe_of_the_same_networks() -> None:
    made = {load_settings(file).output.folder: load_settings(file) for file in CONFIGS}
    seen = 0
    for page in [*CONFIGS, *PAGES]:
        for words in commands(page):
            options = parsed(words)
            if words[0] == "train" and options["init_from"] is not None:
                wanted = load_settings(find_settings(str(options["config"])))
                earlier = made[str(Path(str(options["init_from"])).parent)]
                assert (wanted.encoder, wanted.decoder) == (earlier.encoder, earlier.decoder), words
                assert str(options["out"] or wanted.output.folder) != earlier.output.folder, words
                seen += 1
    assert seen >= 2


def test_the_largest_holes_of_the_recipe_are_as_large_as_an_edits() -> None:
    data = load_settings(find_settings("clipart")).data
    mask = np.ones((400, 400), np.float32)
    edit = geometry.plan((2048, 2048), np.pad(mask, ((600, 1048), (700, 948))))
    assert edit.hidden_count == 64
    made = SceneMaker(tiny.bank(), data.window_tokens, 1, torch.Generator().manual_seed(0)).make(
        128, max(data.buckets)
    )

    hidden = masks.in_cells(made.hole[:, 0], PATCH).any(dim=(2, 4)).sum(dim=(1, 2))
    usual = float(hidden.float().median())

    # The selection is a square, and the sprites are discs: 0.79 of their square.
    assert 0.6 * edit.hidden_count < usual <= edit.hidden_count <= max(data.buckets)


def test_baselines_are_paired_with_the_lazy_model_by_steps() -> None:
    told = [parsed(words) for words in commands(PAGES[0]) if words[0] == "train"]
    baselines = [options for options in told if options["engine"]]
    assert baselines
    for options in baselines:
        assert any(
            not other["engine"]
            and other["config"] == options["config"]
            and other["steps"] == options["steps"] is not None
            for other in told
        )
