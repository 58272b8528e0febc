"""What an edit is: its settings, their defaults, and the limits that are checked when they are made."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazydiffusion import errors, protocol
from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import EditRequest, EditSettings, ImageData, settings_of
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit

LIMITS = {
    "steps": (1, 200),
    "guidance": (0, 20),
    "seed": (0, 2**63 - 1),
    "variations": (1, 16),
    "feather": (0, 1024),
    "grow": (0, 1024),
}


def test_an_edit_needs_no_settings() -> None:
    settings = EditSettings()

    assert settings.prompt == ""
    assert settings.steps is None  # the model knows best
    assert settings.guidance is None
    assert settings.strength == 1
    assert settings.variations == 1
    assert EditSettings(**dataclasses.asdict(settings)) == settings


@pytest.mark.parametrize("name", LIMITS)
def test_a_setting_may_be_at_its_limits(name: str) -> None:
    for value in LIMITS[name]:
        changed: dict[str, Any] = {name: value}
        assert getattr(EditSettings(**changed), name) == value


@pytest.mark.parametrize("name", LIMITS)
@given(excess=st.integers(1, 10**20))
def test_a_setting_out_of_range_is_refused_with_its_value_and_limits(name: str, excess: int) -> None:
    low, high = LIMITS[name]
    for value in (low - excess, high + excess):
        changed: dict[str, Any] = {name: value}
        with pytest.raises(BadInput) as refusal:
            EditSettings(**changed)
        message = str(refusal.value)
        assert f" {value}" in message
        assert f"between {low} and {high}." in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "The number of steps is 0; it must be between 1 and 200."),
        ({"guidance": 20.5}, "The guidance is 20.5; it must be between 0 and 20."),
        ({"guidance": float("nan")}, "The guidance is nan; it must be between 0 and 20."),
        ({"grow": 1025}, "The growth of the mask is 1025 px; it must be between 0 and 1024."),
        ({"feather": -1}, "The feather is -1 px; it must be between 0 and 1024."),
        ({"strength": 0}, "The strength is 0; it must be above 0 and at most 1."),
        ({"strength": 1.5}, "The strength is 1.5; it must be above 0 and at most 1."),
        ({"strength": float("nan")}, "The strength is nan; it must be above 0 and at most 1."),
        ({"prompt": "x" * 1001}, "The prompt has 1001 characters; shorten it to 1000 at most."),
        (
            {"negative_prompt": "x" * 2000},
            "The negative prompt has 2000 characters; shorten it to 1000 at most.",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as refusal:
        EditSettings(**settings)
    assert str(refusal.value) == message


def test_a_prompt_may_be_as_long_as_the_limit() -> None:
    assert len(EditSettings(prompt="x" * protocol.MAX_PROMPT).prompt) == 1000


def test_settings_are_a_value() -> None:
    settings = EditSettings(prompt="a hat", seed=4)

    assert settings == EditSettings(prompt="a hat", seed=4)
    assert hash(settings) == hash(EditSettings(prompt="a hat", seed=4))
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 5  # type: ignore[misc]


@pytest.mark.parametrize("module", [errors, protocol])
def test_an_editors_old_python_can_read_it(module: Any) -> None:
    ast.parse(Path(module.__file__).read_text(encoding="utf8"), feature_version=(3, 9))


def test_the_protocol_needs_nothing_but_the_standard_library() -> None:
    """An editor's own Python has no numpy and no torch."""
    script = "import sys, lazydiffusion.protocol; print([m for m in ('numpy', 'torch', 'PIL') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def grey(width: int, height: int) -> ImageData:
    return ImageData("grey8", (width, height), bytes(width * height))


def rgb(width: int, height: int) -> ImageData:
    return ImageData("rgb8", (width, height), bytes(3 * width * height))


def test_a_request_says_all_but_its_pixels_in_json() -> None:
    request = EditRequest(
        EditSettings("a hat", seed=4), (400, 300), rgb(64, 48), grey(64, 48),
        region=Box(10, 20, 64, 48), overview=rgb(32, 24), client="krita-1",
    )  # fmt: skip
    header = json.loads(json.dumps(request.header()))
    assert header["protocol"] == protocol.PROTOCOL
    assert header["region"] == [10, 20, 64, 48]
    assert header["images"] == {
        "canvas": {"format": "rgb8", "size": [64, 48]},
        "mask": {"format": "grey8", "size": [64, 48]},
        "overview": {"format": "rgb8", "size": [32, 24]},
    }
    assert settings_of(header["settings"]) == request.settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"canvas_size": (8, 300)}, "each side must be between 16 and 16384 px"),
        ({"region": Box(390, 20, 64, 48)}, "does not lie on the canvas of 400 x 300 px"),
        (
            {"mask": grey(64, 47)},
            "The mask is 64 x 47 px, but the part of the canvas that is sent is 64 x 48 px",
        ),
        ({"sketch": rgb(1, 1)}, "The sketch is 1 x 1 px"),
        ({"overview": None}, "send an overview"),
        ({"client": "x" * 65}, "65 characters"),
    ],
)
def test_pictures_that_do_not_fit_each_other_are_refused(changes: dict[str, Any], words: str) -> None:
    given_: dict[str, Any] = {
        "settings": EditSettings(), "canvas_size": (400, 300), "canvas": rgb(64, 48), "mask": grey(64, 48),
        "region": Box(10, 20, 64, 48), "overview": rgb(32, 24),
    }  # fmt: skip
    with pytest.raises(BadInput, match=re.escape(words)):
        EditRequest(**{**given_, **changes})


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (("jpeg", (4, 4), b""), 'The pixel format "jpeg" is not known'),
        (("rgb8", (0, 4), b""), "each side must be between 1 and 16384 px"),
        (("rgb8", (4, 4), b"123"), "are 48 bytes, but 3 were given"),
    ],
)
def test_pixels_that_are_not_what_they_say_are_refused(image: tuple[Any, ...], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        ImageData(*image)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(EditSettings)])
def test_every_setting_has_a_type_that_a_client_must_keep_to(name: str) -> None:
    """Also those that are added later."""
    default = getattr(EditSettings(), name)
    assert getattr(settings_of({name: default}), name) == default
    with pytest.raises(BadInput, match=f'The setting "{name}" is '):
        settings_of({name: ["no", "setting"]})


def test_settings_that_a_newer_plugin_has_are_left_out() -> None:
    assert settings_of({"prompt": "a hat", "tempo": 3}) == EditSettings("a hat")


def test_half_a_character_is_refused() -> None:
    with pytest.raises(BadInput, match="holds a broken character"):
        EditSettings(prompt="a \ud800 hat")
