"""What an editor's list of models shows, from what a core says of them."""

from __future__ import annotations

from typing import Any

import pytest

from lazydiffusion.client.model_choice import (
    TOLD,
    Download,
    ModelChoice,
    chosen_of,
    downloads,
    examples,
    model_choices,
    tip_of_list,
    with_chosen,
    words_of,
)

pytestmark = pytest.mark.unit


def model(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "state": "absent", "bytes": 12_000_000, "problem": "", **values}


KLEIN = {
    "name": "flux2-klein",
    "bytes": 15_960_000_000,
    "downloaded": 0,
    "licence": "Apache-2.0",
    "command": "lazydiffusion models pull flux2-klein",
    "needs": "an NVIDIA GPU with 8 GB or more",
    "state": "absent",
    "problem": "",
}
FACTS = (
    "flux2-klein is not downloaded yet: 16 GB, licence Apache-2.0. It needs an NVIDIA GPU with 8 GB or more."
)
RUNNING = (
    "flux2-klein is being downloaded (16 GB). When all of it is here, it can be chosen as the model. "
    "Edits go on meanwhile."
)


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
        f"{FACTS} The button below the list downloads it.",
    )
    assert downloads({"downloadable": [KLEIN]}) == [
        Download("flux2-klein", False, "Get flux2-klein…", FACTS, "Download it")
    ]


def test_one_that_is_partly_downloaded_says_how_much_there_is() -> None:
    info = {"downloadable": [{**KLEIN, "downloaded": 4_200_000_000}]}
    [it] = downloads(info)
    assert "16 GB, of which 4.2 GB are here already, licence Apache-2.0." in it.text
    assert it.answer == "Go on with the download"
    assert it.text in only(info).tip


@pytest.mark.parametrize(
    ("state", "downloaded", "progress"),
    [
        ("downloading", 0, "downloading, 0 %"),
        ("downloading", 5_400_000_000, "downloading, 33 %"),
        ("downloading", 15_960_000_001, "downloading, 100 %"),
        ("checking", 15_960_000_000, "checking…"),
    ],
)
def test_one_that_is_being_downloaded_says_how_far_it_is(state: str, downloaded: int, progress: str) -> None:
    info = {"downloadable": [{**KLEIN, "state": state, "downloaded": downloaded}]}
    assert only(info) == ModelChoice("flux2-klein", f"flux2-klein – {progress}", False, RUNNING)
    assert downloads(info) == [
        Download("flux2-klein", True, f"flux2-klein: {progress}", RUNNING, "Stop the download")
    ]


def test_who_has_no_gpu_is_told_before_the_download() -> None:
    slow = "Here the core works on the CPU, where an edit with it takes minutes."
    [it] = downloads({"downloadable": [KLEIN], "device": {"type": "cpu"}})
    assert it.text == f"{FACTS} {slow}"
    [it] = downloads({"downloadable": [KLEIN], "device": {"type": "cuda"}})
    assert it.text == FACTS
    assert downloads({"downloadable": [KLEIN], "device": None, "state": "loading"}) == []


def test_one_whose_download_failed_says_why_first() -> None:
    problem = "The hub refused with HTTP status 503: try again later; what is downloaded is kept."
    info = {"downloadable": [{**KLEIN, "state": "failed", "problem": problem}]}
    assert only(info).tip == problem
    [it] = downloads(info)
    assert (it.text, it.problem, it.running) == (f"{problem} {FACTS}", problem, False)


def test_a_core_of_an_older_version_downloads_nothing() -> None:
    older = {name: KLEIN[name] for name in ("name", "bytes", "downloaded", "licence", "command")}
    assert downloads({"downloadable": [older]}) == downloads({}) == []
    tip = only({"downloadable": [older]}).tip
    assert tip == (
        "flux2-klein is not downloaded yet: 16 GB, licence Apache-2.0. Run `lazydiffusion models pull flux2-klein` in "
        "a terminal."
    )


def test_one_with_a_problem_says_it_and_cannot_be_chosen() -> None:
    choice = only({"models": [model("large", bytes=2**34, problem="It is not whole.")]})
    assert choice == ModelChoice("large", "large – cannot be used", False, "It is not whole.")


def test_a_core_of_an_older_version_says_less() -> None:
    assert only({"models": [{"name": "clipart", "window_tokens": 16}]}) == ModelChoice("clipart", "clipart")
    assert model_choices({}) == []


def test_a_model_that_was_taught_a_list_of_things_tells_of_some() -> None:
    things = ["hot dog", *(f"thing{number:03}" for number in range(100))]
    info = {"models": [model("clipart", things=things, words=[*things, "other"])]}
    choice = only(info)
    assert choice.things == tuple(things)
    assert choice.tip.startswith(only({"models": [model("clipart")]}).tip)
    assert "It was taught to draw 101 things, among them thing002, " in choice.tip
    assert choice.tip.count("thing") == TOLD + 1
    assert choice.words == words_of(info, "clipart") == (*things, "other")
    assert chosen_of([choice], "clipart") == choice
    assert chosen_of([choice], "other") == ModelChoice("other", "other")
    assert words_of({}, "clipart") == ()


def test_examples_are_from_all_over_the_list() -> None:
    assert examples(("a", "b b", "c", "d", "e", "f", "g"), 2) == ("c", "f")
    assert examples(("a", "b"), 5) == ("a", "b")
    assert examples(("a a", "b b"), 1) == ("b b",)
    assert examples((), 3) == ()


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
