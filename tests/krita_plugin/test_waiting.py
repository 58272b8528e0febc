"""Edits that are asked for while another one runs: read at once, run in turn, given up by a second Cancel."""

from __future__ import annotations

import pytest
from krita_plugin.lazydiffusion.session import MOST_WAITING
from PyQt6 import QtCore
from tests.krita_plugin.conftest import Bench
from tests.krita_plugin.fake_krita import Document, Selection

from lazydiffusion.client import State

pytestmark = pytest.mark.integration

BOXES = ([10, 20, 40, 30], [100, 60, 50, 40], [60, 30, 20, 20])


@pytest.fixture
def document(bench: Bench) -> Document:
    """With an edit of the first box that takes a while."""
    document = bench.open()
    bench.panel.settings.steps.setValue(200)
    ask(bench, document, 0, "a cat")
    bench.wait_until(lambda: bench.panel.session.share)
    return document


def ask(bench: Bench, document: Document, number: int, prompt: str) -> None:
    """Select a box, type, and press Shift+Enter; then wait until the canvas is read."""
    document.chosen = Selection.box(*BOXES[number])
    bench.panel.prompt.setPlainText(prompt)
    waiting = bench.panel.session.waiting
    idle = not bench.panel.session.busy
    bench.qtbot.keyClick(
        bench.panel.prompt, QtCore.Qt.Key.Key_Return, QtCore.Qt.KeyboardModifier.ShiftModifier
    )
    bench.wait_until(lambda: "Reading" not in bench.panel.session.text)
    bench.wait_until(lambda: idle or bench.panel.session.waiting > waiting or bench.notice)


def test_what_is_asked_for_meanwhile_comes_in_its_turn_with_its_own_selection(
    bench: Bench, document: Document
) -> None:
    panel = bench.panel
    panel.settings.steps.setValue(2)
    ask(bench, document, 1, "a dog")
    ask(bench, document, 2, "a bird")
    document.chosen = None  # what was selected at the click counts
    assert panel.session.waiting == 2
    assert panel.status.text().endswith("(2 more waiting)")
    assert panel.go.text() == "Cancel"
    bench.finish()
    made = panel.results.results
    assert [it.settings.prompt for it in made] == ["a cat", "a dog", "a bird"]
    assert [it.box.as_list() for it in made] == list(BOXES)
    assert len({it.fill.seed for it in made}) == 3
    assert panel.results.current is made[0], "what the artist looks at is not taken away"
    assert panel.go.text() == "Generate"
    assert "waiting" not in panel.status.text()
    assert bench.notice == ""


def test_cancel_ends_the_running_one_and_the_next_begins(bench: Bench, document: Document) -> None:
    panel = bench.panel
    ends: list[State] = []
    panel.session.ended.connect(ends.append)
    panel.settings.steps.setValue(2)
    ask(bench, document, 1, "a dog")
    panel.cancel()
    bench.finish()
    assert ends == [State.CANCELLED, State.DONE]
    [made] = panel.results.results
    assert made.settings.prompt == "a dog"
    assert panel.results.current is made


def test_a_second_cancel_gives_up_what_waits_too(bench: Bench, document: Document) -> None:
    panel = bench.panel
    ask(bench, document, 1, "a dog")
    panel.cancel()
    panel.cancel()
    assert panel.session.waiting == 0
    bench.finish()
    assert panel.results.results == []


def test_no_more_wait_than_there_is_room_for(bench: Bench, document: Document) -> None:
    panel = bench.panel
    for number in range(MOST_WAITING):
        ask(bench, document, 1, f"dog {number}")
    assert bench.notice == ""
    ask(bench, document, 1, "one dog too many")
    assert bench.notice == f"{MOST_WAITING} edits are waiting already. Let one end, or cancel it."
    assert panel.session.waiting == MOST_WAITING
    panel.cancel()
    panel.cancel()
    bench.finish()


def test_one_that_cannot_be_read_is_told_and_the_running_one_goes_on(
    bench: Bench, document: Document
) -> None:
    ask(bench, document, 1, "a dog")
    document.chosen = Selection.box(500, 500, 20, 20)
    bench.panel.generate()
    bench.wait_until(lambda: bench.notice)
    assert bench.notice.startswith("The selection lies outside of the canvas")
    assert bench.panel.session.waiting == 1
    bench.finish()
    assert [it.settings.prompt for it in bench.panel.results.results] == ["a cat", "a dog"]


def test_a_running_edit_that_fails_does_not_take_the_waiting_ones_with_it(own_bench: Bench) -> None:
    document = own_bench.open()
    own_bench.panel.settings.model.choose("sunflowers")
    ask(own_bench, document, 0, "a cat")  # refused, once the core has started
    own_bench.panel.settings.model.choose("tiny")
    ask(own_bench, document, 1, "a dog")
    own_bench.finish()
    assert [it.settings.prompt for it in own_bench.panel.results.results] == ["a dog"]


def test_nothing_waits_any_more_when_the_docker_goes(bench: Bench, document: Document) -> None:
    ask(bench, document, 1, "a dog")
    bench.panel.close_down()
    assert bench.panel.session.waiting == 0
    assert bench.panel.session.wait(20)
