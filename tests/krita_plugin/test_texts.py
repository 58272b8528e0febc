"""Every text that an artist can see goes through the one translate function."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from krita_plugin.lazydiffusion import docker
from krita_plugin.lazydiffusion.settings_form import SketchBox
from PyQt6 import QtWidgets
from tests.krita_plugin.conftest import Bench

from lazydiffusion.client import words
from lazydiffusion.client.words import tr, translate_with

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def translated() -> Iterator[None]:
    """A language in which every text has quotation marks."""
    before = words._translate
    translate_with(lambda text: f"«{text}»")
    yield
    translate_with(before)


def texts(widget: QtWidgets.QWidget) -> list[str]:
    """What a widget says; not what an artist or a model's maker wrote into it."""
    said = [widget.toolTip(), widget.statusTip(), widget.whatsThis(), widget.accessibleName()]
    said += [widget.accessibleDescription()]
    if isinstance(widget, QtWidgets.QLabel | QtWidgets.QAbstractButton):
        said.append(widget.text())
    if isinstance(widget, QtWidgets.QLineEdit | QtWidgets.QPlainTextEdit):
        said.append(widget.placeholderText())
    if isinstance(widget, QtWidgets.QAbstractSpinBox):
        said.append(widget.specialValueText())
    if isinstance(widget, QtWidgets.QSpinBox | QtWidgets.QDoubleSpinBox):
        said += [widget.prefix(), widget.suffix()]
    if isinstance(widget, QtWidgets.QProgressBar) and widget.isTextVisible():
        said.append(widget.format())
    if isinstance(widget, SketchBox):
        said.append(widget.itemText(0))
    return [text for text in said if text]


def untranslated(panel: QtWidgets.QWidget) -> list[str]:
    """What of it is not translated."""
    return [
        f"{widget.objectName() or type(widget).__name__}: {text}"
        for widget in (panel, *panel.findChildren(QtWidgets.QWidget))
        for text in texts(widget)
        if "«" not in text
    ]


def test_every_text_of_a_new_panel_is_translated(bench: Bench) -> None:
    panel = bench.panel
    said = [text for widget in panel.findChildren(QtWidgets.QWidget) for text in texts(widget)]
    assert len(said) > 40
    assert untranslated(panel) == []


def test_what_the_modes_say_is_translated(bench: Bench) -> None:
    for mode in bench.panel.modes.buttons():
        mode.click()
        assert untranslated(bench.panel) == []


def test_what_an_edit_and_its_results_say_is_translated(bench: Bench) -> None:
    panel = bench.panel
    panel.generate()
    assert bench.notice == "«No picture is open. Open one, and select what is to be filled.»"
    bench.open(selected=False)
    panel.generate()
    assert untranslated(panel) == []
    heard: set[str] = set()
    panel.session.changed.connect(lambda: heard.update([panel.status.text(), *untranslated(panel)]))
    panel.generate(everything=True)
    bench.finish()
    assert all("«" in text for text in heard if text), heard
    assert untranslated(panel) == []
    assert "«" in panel.results.item(0).toolTip()
    panel.history_fold.open = True
    bench.wait_until(lambda: panel.history.list.count())
    assert "«" in panel.history.list.item(0).text()
    assert untranslated(panel) == []


def test_the_dockers_title_and_actions_are_translated() -> None:
    assert all("«" in text for text in docker.action_texts().values())
    assert tr("LazyDiffusion") == "«LazyDiffusion»"
