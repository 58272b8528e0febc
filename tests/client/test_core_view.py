"""What an editor knows of the core, and when it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.client.stand_in import StandIn

from lazydiffusion.client.core_view import CoreView

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
    assert view.window_tokens("clipart", 16) == 16
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
    assert view.window_tokens("large", 16) == 32
    assert view.window_tokens("unknown", 16) == 16
