"""How editors list what the core keeps."""

from __future__ import annotations

import pytest

from lazydiffusion.client import HistoryEntry, HistoryFill
from lazydiffusion.client.kept import Kept
from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import MAX_SEED, EditSettings
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit


def kept(prompt: str, seed: int = 5, number: int = 1) -> Kept:
    fill = (
        HistoryFill(number, seed + number, Box(1, 2, 3, 4))
        if seed < MAX_SEED
        else HistoryFill(number, seed + 1, Box(0, 0, 1, 1))
    )
    settings = EditSettings(prompt=prompt, seed=seed, variations=3, feather=2)
    return Kept(HistoryEntry("e1", 86400.0, settings, (10, 10), "krita-1", (fill,), "done"), fill)


def test_a_caption_has_prompt_seed_and_time_on_two_lines() -> None:
    first, second = kept("a red\n apple ").caption.split("\n")
    assert first == "a red apple"
    assert second.startswith("seed 6 · ")
    assert kept("").caption.startswith("(no prompt)\n")


def test_its_settings_would_make_this_fill_again() -> None:
    again = kept("x").settings_again()
    assert (again.seed, again.variations, again.feather) == (6, 1, 2)


def test_a_seed_past_the_largest_cannot_be_asked_for() -> None:
    with pytest.raises(BadInput):
        kept("x", MAX_SEED).settings_again()
