"""What the modes make of an artist's settings."""

from __future__ import annotations

import pytest

from lazydiffusion.client.modes import ADD_STRENGTH, Mode, settings_for
from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import EditSettings

pytestmark = pytest.mark.unit

GIVEN = EditSettings(prompt="  a red apple ", negative_prompt="leaves", seed=7, steps=12, feather=3)


def test_fill_keeps_everything_but_spaces_around_the_prompt() -> None:
    assert settings_for(Mode.FILL, GIVEN) == EditSettings(
        prompt="a red apple", negative_prompt="leaves", seed=7, steps=12, feather=3
    )


def test_add_begins_with_what_is_there() -> None:
    made = settings_for(Mode.ADD, GIVEN)
    assert (made.prompt, made.strength) == ("a red apple", ADD_STRENGTH)
    assert settings_for(Mode.ADD, EditSettings(prompt="a boat", strength=0.5)).strength == 0.5


@pytest.mark.parametrize("prompt", ["", "  \n "])
def test_add_needs_to_know_what(prompt: str) -> None:
    with pytest.raises(BadInput, match="Say what to add, or choose Fill"):
        settings_for(Mode.ADD, EditSettings(prompt=prompt))


def test_remove_asks_for_nothing() -> None:
    made = settings_for(Mode.REMOVE, GIVEN)
    assert (made.prompt, made.negative_prompt, made.strength) == ("", "", 1.0)
    assert (made.seed, made.steps, made.feather) == (7, 12, 3)


def test_only_remove_has_no_use_for_a_prompt() -> None:
    assert [mode for mode in Mode if not mode.uses_prompt] == [Mode.REMOVE]
