"""The fields that the editors share: what they allow, and that an earlier edit can be done again."""

from __future__ import annotations

import dataclasses

import pytest

from lazydiffusion.client.fields import LARGEST_THROW, FieldValues, fields, prompt_hint, thrown_seed
from lazydiffusion.client.modes import ADD_STRENGTH, Mode, settings_for
from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import MAX_SEED, EditSettings

pytestmark = pytest.mark.unit


def test_each_numbers_range_is_what_an_edit_takes() -> None:
    for name, field in fields().items():
        if field.high and name not in ("variations", "strength"):
            values = FieldValues(**{name: field.high})
            assert getattr(values.edit_settings(), name) == field.high
            with pytest.raises(BadInput):
                FieldValues(**{name: field.high + 1}).edit_settings()
        if field.high and name != "strength":
            assert getattr(FieldValues(), name) in (field.low, 0)


def test_strength_is_per_cent_and_all_of_it_unless_told_otherwise() -> None:
    assert FieldValues().edit_settings().strength == 1
    assert FieldValues(strength=35).edit_settings().strength == 0.35
    with pytest.raises(BadInput):
        FieldValues(strength=fields()["strength"].high + 1).edit_settings()
    assert FieldValues(strength=fields()["strength"].low).edit_settings().strength > 0


def test_every_field_that_is_shown_is_described_in_a_sentence() -> None:
    held = {it.name for it in dataclasses.fields(FieldValues)}
    for name, field in fields().items():
        assert name in held | {"sketch"}
        assert field.label
        assert field.tip[0].isupper()
    assert len({prompt_hint(mode) for mode in Mode}) == len(Mode)


def test_an_empty_prompt_names_some_of_what_the_model_was_taught() -> None:
    things = ("cat", "hat", "sun", "fire engine")
    hints = {mode: prompt_hint(mode, things) for mode in Mode}
    assert hints[Mode.FILL] == "What to paint: cat, hat, sun… Empty: what is around goes on"
    assert hints[Mode.ADD] == "What to add: cat, hat, sun…"
    assert hints[Mode.REMOVE] == prompt_hint(Mode.REMOVE)


def test_zero_steps_and_guidance_leave_the_choice_to_the_model() -> None:
    automatic = FieldValues(steps=0, guidance=0.0).edit_settings()
    assert (automatic.steps, automatic.guidance) == (None, None)
    chosen = FieldValues(steps=12, guidance=2.5).edit_settings()
    assert (chosen.steps, chosen.guidance) == (12, 2.5)


@pytest.mark.parametrize("strength", [100, 90, 40])
@pytest.mark.parametrize("prompt", ["a boat", ""])
@pytest.mark.parametrize("mode", Mode)
def test_an_edit_can_be_done_again(mode: Mode, prompt: str, strength: int) -> None:
    if mode is Mode.ADD and not prompt:
        return  # such an edit cannot be
    values = FieldValues(
        mode=mode.value, strength=strength, prompt=prompt, negative_prompt="people", variations=2, seed=MAX_SEED - 1,
        steps=30, guidance=4.0, grow=2, feather=6, model="other",
    )  # fmt: skip
    asked = settings_for(mode, values.edit_settings())
    again = FieldValues(mode=mode.value)
    again.take(asked)
    assert again.seed_locked
    assert settings_for(again.edit_mode, again.edit_settings()) == asked


def test_the_mode_follows_from_the_settings_of_another_editor() -> None:
    values = FieldValues(mode=Mode.REMOVE.value)
    values.take(EditSettings(prompt="a boat"))
    assert values.edit_mode is Mode.FILL
    values.take(EditSettings(prompt="a boat", strength=ADD_STRENGTH))
    assert values.edit_mode is Mode.ADD
    values.take(EditSettings(prompt=""))
    assert values.edit_mode is Mode.FILL


def test_the_dice_throw_what_every_editor_can_hold() -> None:
    seeds = {thrown_seed() for _ in range(50)}
    assert len(seeds) == 50
    assert all(0 <= seed <= LARGEST_THROW for seed in seeds)
