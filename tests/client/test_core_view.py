"""What an editor knows of the core, and when it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.client.stand_in import StandIn

from lazydiffusion.client import core_view
from lazydiffusion.client.core_view import AGAIN_AFTER, CoreView
from lazydiffusion.client.errors import CoreFailedToStart
from lazydiffusion.client.model_choice import UNKNOWN_WINDOW_TOKENS

pytestmark = pytest.mark.integration


class Later:
    """A background whose work is done when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Callable[[Any], None], Callable[[Exception], None]]] = []

    def __call__(
        self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None]
    ) -> None:
        self.waiting.append((work, done, failed))

    def run(self) -> None:
        while self.waiting:
            work, done, failed = self.waiting.pop(0)
            try:
                result = work()
            except Exception as error:
                failed(error)
            else:
                done(result)


@pytest.fixture
def later() -> Later:
    return Later()


def test_a_running_core_is_told_in_words(core: StandIn, later: Later) -> None:
    told: list[str] = []
    view = CoreView(lambda: told.append(view.text), later, "gimp-1")
    assert view.text == "Not running. It starts with the first edit."
    assert view.window_tokens("clipart") == 16
    assert view.window_tokens("flux2-klein") == 64  # what is not known is not sent too small
    view.look()
    view.look()
    assert len(later.waiting) == 1, "one question at a time"
    later.run()
    assert view.info is not None
    assert told == [view.text]
    view.look()
    assert len(later.waiting) == 1


def test_one_that_is_not_installed_is_told_with_the_remedy(runtime: Path, later: Later) -> None:
    view = CoreView(lambda: None, later)
    view.look()
    later.run()
    assert view.info is None
    assert "lazydiffusion connect" in view.text


def test_a_start_that_failed_is_told_until_a_core_answers_and_not_tried_with_every_key(
    later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: Any) -> Any:
        raise CoreFailedToStart(
            "The core ended while it was starting (status 4). Run `lazydiffusion doctor`."
        )

    clock = [1000.0]
    monkeypatch.setattr(core_view.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(core_view, "connect", broken)
    monkeypatch.setattr(core_view, "look", lambda: None)
    view = CoreView(lambda: None, later)
    view.warm()
    later.run()
    for _ in range(5):
        view.warm()
        assert later.waiting == []
        view.look()
        later.run()
        assert "lazydiffusion doctor" in view.text
    clock[0] += AGAIN_AFTER
    view.warm()
    assert len(later.waiting) == 1
    later.run()
    monkeypatch.setattr(core_view, "look", lambda: {"state": "ready"})
    view.look()
    later.run()
    assert view.problem == ""
    monkeypatch.setattr(core_view, "look", lambda: None)
    view.look()
    later.run()
    assert view.problem == "", "that is over: it ended since"


def test_warming_says_that_it_starts_until_it_has(core: StandIn, later: Later) -> None:
    told: list[str] = []
    view = CoreView(lambda: told.append(view.text), later)
    view.warm()
    view.warm()
    assert told == ["Starting…"]
    assert len(later.waiting) == 1
    later.run()
    assert not view.starting
    view.warm()
    assert later.waiting == [], "it runs already"


def test_what_no_core_has_told_is_no_choice(later: Later) -> None:
    assert CoreView(lambda: None, later).choices == []


def test_models_and_their_windows(later: Later) -> None:
    view = CoreView(lambda: None, later)
    view.info = {"models": [{"name": "clipart", "window_tokens": 16}, {"name": "large", "window_tokens": 32}]}
    assert [choice.name for choice in view.choices] == ["clipart", "large"]
    assert view.window_tokens("large") == 32
    assert view.window_tokens("unknown") == UNKNOWN_WINDOW_TOKENS


KLEIN = {
    "name": "flux2-klein", "bytes": 16_000_000_000, "downloaded": 0, "licence": "Apache-2.0", "state": "absent",
    "problem": "",
}  # fmt: skip


def test_a_download_that_fails_before_anybody_looks_is_told(
    later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Core:
        """One that has failed by the time that its answer is here."""

        def __init__(self) -> None:
            self.asked: list[str] = []

        def download_model(self, name: str) -> None:
            self.asked.append(name)

        def info(self) -> dict[str, Any]:
            return {"downloadable": [{**KLEIN, "state": "failed", "problem": f"Refused {len(self.asked)}."}]}

    fails = Core()
    monkeypatch.setattr(core_view, "connect", lambda **_: fails)
    monkeypatch.setattr(core_view, "look", lambda: {"downloadable": [KLEIN]})
    news: list[tuple[str, bool]] = []
    view = CoreView(lambda: None, later, news=lambda *told: news.append(told))
    view.info = {"downloadable": [KLEIN]}
    for count in (1, 2):
        view.look()  # asked before the answer, and answered after it
        looked = later.waiting.pop()
        view.answer(view.downloads[0])
        later.run()
        later.waiting.append(looked)
        later.run()
        assert news == [(f"Refused {number}.", True) for number in range(1, count + 1)]
        assert view.downloads[0].problem == f"Refused {count}."


HERE = [("flux2-klein is here. It can be chosen as the model now.", False)]


def asked(core: StandIn) -> list[tuple[str, str]]:
    """Requests about models."""
    return [(method, path) for method, path, _ in core.seen if "/models/" in path]


def test_a_download_is_started_and_stopped_by_its_answer(core: StandIn, later: Later) -> None:
    core.answers = {"/v1/models/flux2-klein/download": {}}
    news: list[tuple[str, bool]] = []
    view = CoreView(lambda: None, later, "krita-1", lambda *told: news.append(told))
    for state, request in (("absent", "POST"), ("downloading", "DELETE"), ("failed", "POST")):
        view.info = {"downloadable": [{**KLEIN, "state": state}]}
        [download] = view.downloads
        core.seen.clear()
        view.answer(download)
        later.run()
        assert asked(core) == [(request, "/v1/models/flux2-klein/download")]
        assert core.seen[-1][:2] == ("GET", "/v1/info"), "it asks at once what came of it"
    assert news == []


def test_a_download_that_cannot_be_started_is_told(core: StandIn, later: Later) -> None:
    news: list[tuple[str, bool]] = []
    view = CoreView(lambda: None, later, "krita-1", lambda *told: news.append(told))
    view.info = {"downloadable": [KLEIN]}
    view.answer(view.downloads[0])
    later.run()
    assert news == [("There is no /v1/models/flux2-klein/download.", True)]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("downloading", {"models": [{"name": "flux2-klein"}]}, HERE),
        ("checking", {"models": [{"name": "flux2-klein"}]}, HERE),
        ("downloading", {"downloadable": [{**KLEIN, "state": "failed", "problem": "No room."}]}, [("No room.", True)]),
        ("downloading", {"downloadable": [{**KLEIN, "state": "checking"}]}, []),
        ("downloading", {"downloadable": [KLEIN]}, []),  # the artist stopped it
        ("downloading", None, []),  # the core has ended
        ("absent", {"models": [{"name": "flux2-klein"}]}, []),  # pulled in a terminal
        ("failed", {"downloadable": [{**KLEIN, "state": "failed", "problem": "No room."}]}, []),  # told before
    ],
)  # fmt: skip
def test_the_end_of_a_download_is_news(
    later: Later, before: str, after: dict[str, Any] | None, told: list[tuple[str, bool]]
) -> None:
    news: list[tuple[str, bool]] = []
    view = CoreView(lambda: None, later, news=lambda *it: news.append(it))
    view._set({"downloadable": [{**KLEIN, "state": before}]}, "")
    view._set(after, "")
    assert news == told
