"""The procedures in a real GIMP as menus and scripts run them: whose words and whose values they use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.hosts.gimp.conftest import StartGimp
from tests.hosts.gimp.dialog import BOX, fresh, newest_edit, set_numbers
from tests.hosts.gimp.painter import FILL, REMOVE, Painter, picture, with_plugin
from tests.hosts.installing import MODEL

pytestmark = [pytest.mark.integration, pytest.mark.slow]

AGAIN, HISTORY = "plug-in-lazydiffusion-fill-again", "plug-in-lazydiffusion-history"
RUN = "return run(name, image, run_mode=getattr(Gimp.RunMode, mode), **given)"
NOTHING = "Nothing is selected. Select what is to be "
INDEXED = "The image is indexed: with its palette the fill's colours would be lost. Convert it by Image > Mode > RGB"


@pytest.fixture
def painter(scripted_painter: Painter) -> Painter:
    return scripted_painter


def run(painter: Painter, name: str, mode: str, **given: object) -> dict[str, Any]:
    """A procedure in a run mode."""
    found: dict[str, Any] = painter.ask(RUN, name=name, mode=mode, given=given)
    return found


@pytest.mark.parametrize(
    ("name", "mode", "told"),
    [
        (FILL, "NONINTERACTIVE", "filled, or set whole-canvas."),
        (REMOVE, "NONINTERACTIVE", "filled, or set whole-canvas."),
        (REMOVE, "INTERACTIVE", "removed, then try again."),
        (REMOVE, "WITH_LAST_VALS", "removed, then try again."),
        (FILL, "WITH_LAST_VALS", "filled, then try again."),
        (AGAIN, "INTERACTIVE", "filled, then try again."),
    ],
)
def test_only_a_script_is_told_of_arguments(painter: Painter, name: str, mode: str, told: str) -> None:
    painter.create(picture())
    assert run(painter, name, mode) == {"status": "EXECUTION_ERROR", "error": NOTHING + told, "layers": []}


def test_of_an_indexed_image_too(painter: Painter) -> None:
    painter.create(picture(), indexed=True)
    painter.select(*BOX)
    assert run(painter, FILL, "NONINTERACTIVE")["error"] == INDEXED + " first, or set convert-indexed."
    assert run(painter, AGAIN, "INTERACTIVE")["error"] == INDEXED + ", then try again."


def test_a_dialog_without_a_screen_is_refused_in_a_sentence(painter: Painter) -> None:
    """GTK would end the process, and GIMP say that it crashed and may have done harm."""
    told = (
        "A dialog was asked for, but there is no screen. In a script, set run-mode to NONINTERACTIVE and give the "
        "arguments."
    )
    refused = {"status": "EXECUTION_ERROR", "error": told, "layers": []}
    painter.create(picture())
    for name in (FILL, HISTORY):
        assert run(painter, name, "INTERACTIVE") == refused
    painter.delete()
    painter.create(picture(), indexed=True)
    painter.select(*BOX)
    assert run(painter, REMOVE, "INTERACTIVE") == refused, "its question is a dialog too"
    assert painter.layers == ["Background"]


def test_a_scripts_strength_reaches_the_core(painter: Painter) -> None:
    painter.create(picture())
    painter.select(*BOX)
    painter.run_well(prompt="x", seed=7, strength=40)
    assert newest_edit(painter)["settings"]["strength"] == 0.4
    some = painter.last_fills()[0]
    painter.run_well(prompt="x", seed=7)
    assert newest_edit(painter)["settings"]["strength"] == 1
    assert (some != painter.last_fills()[0]).any()


def settings_of_a_removal(painter: Painter, mode: str, **given: object) -> list[Any]:
    """Its model, steps, grow and feather."""
    found = run(painter, REMOVE, mode, **given)
    assert found["status"] == "SUCCESS", found["error"]
    settings = newest_edit(painter)["settings"]
    return [settings[name] for name in ("model", "steps", "grow", "feather")]


def test_removing_remembers_the_dialog_of_an_earlier_day(start_gimp: StartGimp, tiny_model: Path) -> None:
    shown = Painter(start_gimp(install=with_plugin(tiny_model)))
    shown.create(picture(), show=True)
    plugin = fresh(shown.open_dialog())
    set_numbers(plugin, steps=12, grow=3, feather=2)
    plugin.key("Escape")
    plugin.wait_until_ended()
    shown.delete()
    shown.gimp.quit()

    home = shown.gimp.home
    later = Painter(start_gimp(install=with_plugin(tiny_model), home=home, gui=False))
    later.create(picture())
    later.select(*BOX)
    given = {"model": MODEL, "steps": 9, "feather": 1}
    assert settings_of_a_removal(later, "NONINTERACTIVE", **given) == [MODEL, 9, 0, 1], "a script says it all"
    assert settings_of_a_removal(later, "INTERACTIVE") == [MODEL, 12, 3, 2]
    assert settings_of_a_removal(later, "WITH_LAST_VALS") == [MODEL, 12, 3, 2], "GIMP's Repeat"
    note = "Gimp.attach_parasite(Gimp.Parasite.new('lazydiffusion-fields', 0, data.encode()))"
    later.ask(note, data='{"model": "tiny", "steps": "many", "grow": 4, "mode": "add"}')
    assert settings_of_a_removal(later, "INTERACTIVE") == [MODEL, 12, 4, 2], "what does not fit is left out"
    later.ask(note, data="nonsense")
    assert settings_of_a_removal(later, "INTERACTIVE") == [MODEL, 12, 4, 2]
    later.ask(note, data='{"model": "long-gone"}')
    assert "long-gone" in run(later, REMOVE, "INTERACTIVE")["error"]
    later.delete()
