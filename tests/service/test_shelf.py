"""Which models are in memory. Engines without a model stand in for real ones, and for a GPU that holds only a few."""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lazydiffusion import checkpoints
from lazydiffusion.devices import WEIGHTS, Choice
from lazydiffusion.engines.base import Edit, Fill, Progress, Report
from lazydiffusion.errors import BadInput, BadModel, OutOfMemory
from lazydiffusion.service import memory
from lazydiffusion.service.shelf import Shelf
from lazydiffusion.window import OVERVIEW_TOKENS, WINDOW_TOKENS

pytestmark = pytest.mark.unit


class StandIn:
    """An engine that holds nothing and makes nothing."""

    def run(
        self, edit: Edit, report: Report, progress: Progress | None = None, frugal: bool = False
    ) -> Iterator[Fill]:
        yield from ()


class Loader:
    """What Shelf takes as `load`. Of its engines only `room` may live at a time, as if they lay on a small GPU."""

    def __init__(self, room: int = 100):
        self.room = room
        self.asked: list[str] = []
        """The names of the folders."""
        self.living: weakref.WeakSet[StandIn] = weakref.WeakSet()

    def __call__(self, where: str, choice: Choice) -> StandIn:
        self.asked.append(Path(where).name)
        made = StandIn()
        self.living.add(made)  # even if it does not fit: real weights are loaded one after the other as well
        if len(self.living) > self.room:
            raise OutOfMemory("The GPU's memory is full.")
        return made


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of models, with a, b and c of 40 bytes each; the embedded one is there too."""
    folder = tmp_path / "models"
    for name in "abc":
        (folder / name).mkdir(parents=True)
        (folder / name / checkpoints.INDEX).write_text("{}".ljust(40))
    monkeypatch.setattr(checkpoints, "user_folder", lambda: folder)
    return folder


def shelf_with(load: Callable[[str, Choice], StandIn], *names: str, default: str = "a") -> Shelf:
    """A shelf that has loaded these, one after the other."""
    shelf = Shelf(default, "cpu", load)
    for name in names:
        shelf.get(name)
    return shelf


def loaded(shelf: Shelf) -> set[str]:
    return {model.name for model in shelf.models() if shelf.state(model.name) == "loaded"}


def test_a_model_is_loaded_when_first_asked_for_and_then_kept(models: Path) -> None:
    load, told = Loader(), []
    shelf = shelf_with(load)
    assert shelf.choice is None
    assert loaded(shelf) == set()
    engine = shelf.get("a", lambda: told.append("loading"))
    assert shelf.get("a", lambda: told.append("again")) is engine
    shelf.load("a")
    assert load.asked == ["a"]
    assert told == ["loading"]
    assert loaded(shelf) == {"a"}
    assert shelf.choice is not None
    assert shelf.choice.device.type == "cpu"


def test_while_it_is_loaded_its_state_says_so(models: Path) -> None:
    states = []

    def load(where: str, choice: Choice) -> StandIn:
        states.append([shelf.state(name) for name in "ab"])
        if len(states) == 1:
            raise BadModel("It is broken.")
        return StandIn()

    shelf = Shelf("a", "cpu", load)
    with pytest.raises(BadModel, match="broken"):
        shelf.get("a")
    assert shelf.state("a") == "absent"
    shelf.get("a")
    assert states == [["loading", "absent"]] * 2
    assert shelf.state("a") == "loaded"


def test_a_model_that_is_let_go_is_loaded_anew(models: Path) -> None:
    load = Loader()
    shelf = shelf_with(load, "a", "b")
    shelf.unload("a")
    shelf.unload("a")
    assert loaded(shelf) == {"b"}
    assert len(load.living) == 1
    shelf.get("a")
    assert load.asked == ["a", "b", "a"]


def test_what_was_idle_for_long_is_let_go(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, living = Loader(), []
    shelf = shelf_with(load, "a", "b", "c")
    monkeypatch.setattr(memory, "empty_cache", lambda choice: living.append(len(load.living)))
    shelf.unload_idle(3600)
    assert loaded(shelf) == {"a", "b", "c"}
    time.sleep(0.3)
    shelf.get("b")
    shelf.unload_idle(0.25)
    assert loaded(shelf) == {"b"}
    assert living == [2, 1]  # each was gone when its memory was given back
    shelf.unload_idle(0)
    assert len(load.living) == 0


def test_all_but_one_can_be_let_go(models: Path) -> None:
    load = Loader()
    shelf = shelf_with(load, "a", "b", "c")
    shelf.unload_others("b")
    assert loaded(shelf) == {"b"}
    assert len(load.living) == 1


def test_when_memory_is_short_the_others_go_and_loading_is_tried_again(models: Path) -> None:
    load = Loader(room=2)
    shelf = shelf_with(load, "a", "b")
    shelf.get("c")
    assert loaded(shelf) == {"c"}
    assert load.asked == ["a", "b", "c", "c"]


def test_nothing_of_the_first_try_is_in_the_way_of_the_second(models: Path) -> None:
    load = Loader(room=1)
    shelf = shelf_with(load, "a")
    shelf.get("b")
    assert loaded(shelf) == {"b"}


def test_a_model_that_is_too_large_alone_is_an_error_and_tried_as_seldom_as_possible(models: Path) -> None:
    load = Loader(room=0)
    shelf = Shelf("a", "cpu", load)
    with pytest.raises(OutOfMemory):
        shelf.get("a")
    assert load.asked == ["a"]
    load.room = 1
    shelf.get("a")
    load.room = 0
    with pytest.raises(OutOfMemory):
        shelf.get("b")
    assert load.asked == ["a", "a", "b", "b"]
    assert loaded(shelf) == set()
    assert shelf.state("b") == "absent"


def test_what_was_used_longest_ago_makes_room_and_no_more(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU of 100 bytes; loading a model of 40 wants 60 free."""
    load = Loader()
    monkeypatch.setattr(memory, "free_and_total", lambda choice: (100 - 40 * len(load.living), 100))
    shelf = shelf_with(load, "a")
    shelf.get("b")
    assert loaded(shelf) == {"a", "b"}
    shelf.get("a")  # now b was used longest ago
    shelf.get("c")
    assert loaded(shelf) == {"a", "c"}


def test_a_model_may_be_larger_than_all_that_is_free_and_is_tried_all_the_same(models: Path) -> None:
    with (models / "c" / "weights.safetensors").open("wb") as file:
        file.truncate(2**42)
    shelf = shelf_with(Loader(), "a", "b")
    shelf.get("c")
    assert loaded(shelf) == {"c"}


@pytest.mark.parametrize("form", ["absolute", "relative", "dots", "ending in /"])
def test_a_client_names_models_and_gives_no_paths(
    models: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    path = {"absolute": str(models / "b"), "relative": "./b", "dots": "../models/b", "ending in /": "b/"}[
        form
    ]
    load = Loader()
    shelf = shelf_with(load)
    with pytest.raises(BadModel) as refused:
        shelf.get(path)
    assert str(refused.value) == f"The core has no model {path!r}; it has clipart, a, b, c."
    assert load.asked == []


@pytest.mark.parametrize("name", ["", "A", "owner/name", "../a", "a\x00"])
def test_a_name_that_is_not_known_is_refused(models: Path, name: str) -> None:
    with pytest.raises(BadModel, match="it has clipart, a, b, c"):
        Shelf("a", "cpu", Loader()).find(name)


def test_the_cores_owner_may_give_a_path(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "elsewhere" / "mine"
    (own / "context_encoder").mkdir(parents=True)
    (own / "context_encoder" / "config.json").write_text(json.dumps({"window_tokens": 8}))
    (own / checkpoints.VOCABULARY).write_text('{"sun": ["star"], "cat": []}')
    monkeypatch.chdir(own.parent)
    for path in (str(own), "mine", "./mine/"):
        where: list[str] = []
        shelf = Shelf(path, "cpu", lambda path, choice, where=where: (where.append(path), StandIn())[1])
        assert shelf.default == "mine"
        shelf.get("mine")
        assert where == [str(own)]
        found = shelf.find("mine")
        assert (found.window_tokens, found.overview_tokens, found.bytes) == (8, OVERVIEW_TOKENS, 48)
        assert found.things == ("cat", "sun")
        assert found.words == ("cat", "star", "sun")
        with pytest.raises(BadModel):
            shelf.find(str(own))


def test_an_own_model_goes_before_an_installed_one_of_its_name(models: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "b").mkdir(parents=True)
    shelf = Shelf(str(tmp_path / "elsewhere" / "b"), "cpu", Loader())
    assert shelf.find("b").where == str(tmp_path / "elsewhere" / "b")
    assert [model.name for model in shelf.models()].count("b") == 1


def test_a_folder_that_happens_to_have_the_embedded_models_name_does_not_count(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / checkpoints.EMBEDDED).mkdir()
    monkeypatch.chdir(tmp_path)
    shelf = Shelf(checkpoints.EMBEDDED, "cpu", Loader())
    assert shelf.find(checkpoints.EMBEDDED).where == str(checkpoints.embedded_folder())


def test_the_default_may_be_a_hub_id(models: Path) -> None:
    shelf = Shelf("owner/name", "cpu", Loader())
    assert shelf.default == shelf.find("owner/name").where == "owner/name"


@pytest.mark.parametrize(
    "config",
    ["", "[]", "nonsense", '{"window_tokens": "x"}', '{"window_tokens": null}', '{"window_tokens": 1e9}'],
)
def test_a_damaged_model_hides_no_other(models: Path, config: str) -> None:
    (models / "b" / "context_encoder").mkdir()
    (models / "b" / "context_encoder" / "config.json").write_text(config)
    shelf = Shelf("a", "cpu", Loader())
    assert [model.name for model in shelf.models()] == ["clipart", "a", "b", "c"]
    assert shelf.find("b").window_tokens == WINDOW_TOKENS


def test_a_device_that_is_not_there_is_told_when_it_is_needed(models: Path) -> None:
    shelf = Shelf("a", "tpu", Loader())
    with pytest.raises(BadInput, match="'tpu'; it must be auto, cuda or cpu"):
        shelf.get("a")


def test_models_are_loaded_with_the_weights_that_the_core_was_started_with(models: Path) -> None:
    seen: list[str] = []

    def load(where: str, choice: Choice) -> StandIn:
        seen.append(choice.weights)
        return StandIn()

    for weights in WEIGHTS:
        Shelf("a", "cpu", load, weights=weights).get("a")
    assert seen == list(WEIGHTS)
    with pytest.raises(BadInput, match="'int4'; they must be full, int8 or fp8"):
        Shelf("a", "cpu", load, weights="int4").get("a")
