"""What an editor's list of models shows, from what a core says of them."""

from __future__ import annotations

from typing import Any

import pytest

from lazydiffusion.client.model_choice import ModelChoice, model_choices, tip_of_list, with_chosen

pytestmark = pytest.mark.unit


def model(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "state": "absent", "bytes": 12_000_000, "problem": "", **values}


KLEIN = {
    "name": "flux2-klein",
    "bytes": 15_960_000_000,
    "downloaded": 0,
    "licence": "Apache-2.0",
    "command": "lazydiffusion models pull flux2-klein",
}


def only(info: dict[str, Any]) -> ModelChoice:
    [choice] = model_choices(info)
    return choice


def test_a_model_is_shown_by_name_and_a_large_one_with_its_size() -> None:
    info = {
        "models": [
            model("clipart"),
            model("middling", bytes=2_500_000_000),
            model("large", bytes=15_960_000_000),
        ]
    }
    choices = model_choices(info)
    assert [choice.text for choice in choices] == ["clipart", "middling (2.5 GB)", "large (16 GB)"]
    assert [choice.name for choice in choices] == ["clipart", "middling", "large"]
    assert all(choice.usable for choice in choices)


def test_the_tip_tells_whether_it_is_in_memory() -> None:
    said = [
        only({"models": [model("clipart", state=state)]}).tip for state in ("absent", "loading", "loaded")
    ]
    assert said == [
        "Ready. Its first edit takes longer: it is loaded then.",
        "It is being loaded.",
        "In memory: the next edit starts at once.",
    ]


def test_one_that_is_not_downloaded_says_how_to_have_it() -> None:
    assert only({"downloadable": [KLEIN]}) == ModelChoice(
        "flux2-klein",
        "flux2-klein – not downloaded, 16 GB",
        False,
        "Run `lazydiffusion models pull flux2-klein` in a terminal: 16 GB, licence Apache-2.0. "
        "Then it can be chosen here.",
    )


def test_one_that_is_partly_downloaded_says_how_much_there_is() -> None:
    tip = only({"downloadable": [{**KLEIN, "downloaded": 4_200_000_000}]}).tip
    assert "16 GB, of which 4.2 GB are here already, licence Apache-2.0." in tip


def test_one_with_a_problem_says_it_and_cannot_be_chosen() -> None:
    choice = only({"models": [model("large", bytes=2**34, problem="It is not whole.")]})
    assert choice == ModelChoice("large", "large – cannot be used", False, "It is not whole.")


def test_a_core_of_an_older_version_says_less() -> None:
    assert only({"models": [{"name": "clipart", "window_tokens": 16}]}) == ModelChoice("clipart", "clipart")
    assert model_choices({}) == []


def test_a_chosen_model_that_no_core_has_named_yet_comes_first() -> None:
    known = [ModelChoice("clipart", "clipart")]
    assert with_chosen(known, "clipart") == with_chosen(known, "") == known
    assert with_chosen(known, "mine") == [ModelChoice("mine", "mine"), *known]


def test_the_lists_own_tip_tells_of_the_chosen_model_and_of_those_that_cannot_be_chosen() -> None:
    choices = [
        ModelChoice("clipart", "clipart", True, "In memory."),
        ModelChoice("other", "other", True, "Ready."),
        ModelChoice("klein", "klein – not downloaded", False, "Pull it."),
    ]
    tip = tip_of_list("Which model paints", choices, "clipart")
    assert tip == "Which model paints\nclipart: In memory.\nklein: Pull it."
