"""The docker's fields: what each asks of the core, and what cannot be put into them."""

from __future__ import annotations

import pytest
from PyQt6 import QtCore, QtGui, QtWidgets
from pytestqt.qtbot import QtBot
from tests.krita_plugin.conftest import Bench
from tests.service.core_process import MODEL

from lazydiffusion import checkpoints
from lazydiffusion.client import connect
from lazydiffusion.client.model_choice import ModelChoice
from lazydiffusion.client.modes import ADD_STRENGTH
from lazydiffusion.protocol import MAX_SEED, EditSettings

pytestmark = pytest.mark.integration

LEFT = QtCore.Qt.MouseButton.LeftButton


def asked() -> EditSettings:
    """What the core was asked for last, as it remembers it."""
    return connect(start=False).history(1)[0].settings


def choose_mode(bench: Bench, name: str) -> None:
    button = bench.panel.findChild(QtWidgets.QPushButton, f"lazyMode{name}")
    assert button is not None
    bench.qtbot.mouseClick(button, LEFT)


def dice(bench: Bench) -> QtWidgets.QToolButton:
    found = bench.panel.settings.findChild(QtWidgets.QToolButton, "lazySeedDice")
    assert found is not None
    return found


def type_seed(bench: Bench, text: str) -> str:
    """Type it into the emptied field; what the field holds then."""
    seed = bench.panel.settings.seed
    seed.clear()
    bench.qtbot.keyClicks(seed, text)
    bench.qtbot.keyClick(seed, QtCore.Qt.Key.Key_Return)
    return seed.text()


def test_every_field_reaches_the_core(bench: Bench, qtbot: QtBot) -> None:
    bench.open()
    panel, fields = bench.panel, bench.panel.settings
    panel.settings_fold.open = panel.negative_fold.open = True
    qtbot.keyClicks(panel.prompt, "a red apple")
    qtbot.keyClicks(panel.negative, "people")
    for field, text in (
        (fields.variations, "2"), (fields.steps, "5"), (fields.strength, "65"), (fields.grow, "7"),
        (fields.feather, "4"),
    ):  # fmt: skip
        field.selectAll()
        qtbot.keyClicks(field, text)
    fields.guidance.setValue(2.5)
    type_seed(bench, "77")
    assert fields.lock.isChecked(), "what is typed is meant"
    panel.generate()
    bench.finish()
    assert bench.notice == ""
    assert asked() == EditSettings(
        prompt="a red apple", negative_prompt="people", seed=77, steps=5, guidance=2.5, variations=2,
        strength=0.65, grow=7, feather=4, model=MODEL,
    )  # fmt: skip


def test_automatic_leaves_steps_and_guidance_to_the_model(bench: Bench) -> None:
    bench.open()
    assert bench.panel.settings.steps.text() == bench.panel.settings.guidance.text() == "Automatic"
    bench.generate()
    assert (asked().steps, asked().guidance) == (None, None)


def test_a_model_that_the_core_does_not_have_is_told(bench: Bench) -> None:
    bench.open()
    bench.panel.settings.model.choose("sunflowers")
    bench.panel.generate()
    bench.finish()
    assert bench.notice == "The core has no model 'sunflowers'; it has clipart, tiny."
    bench.panel.watch.core.look()
    model = bench.panel.settings.model
    bench.wait_until(lambda: model.count() == 4)
    assert rows(bench) == {"sunflowers": True, "clipart": True, MODEL: True, "flux2-klein": False}
    assert model.name == "sunflowers", "what the artist chose is not changed behind their back"


def rows(bench: Bench) -> dict[str, bool]:
    """By name: whether a row can be chosen."""
    model = bench.panel.settings.model
    enabled = QtCore.Qt.ItemFlag.ItemIsEnabled
    return {
        model.itemData(row): bool(model.model().index(row, 0).flags() & enabled)
        for row in range(model.count())
    }


def test_a_model_that_is_not_downloaded_is_shown_with_what_to_do_and_cannot_be_chosen(
    bench: Bench, qtbot: QtBot
) -> None:
    bench.open()
    bench.panel.settings_fold.open = True
    bench.panel.watch.core.warm()
    model = bench.panel.settings.model
    bench.wait_until(lambda: model.count() == 3)
    bench.wait_until(lambda: bench.panel.watch.core.downloads)
    row = model.findData("flux2-klein")
    assert model.itemText(row) == "flux2-klein – not downloaded, 16 GB"
    tip = model.itemData(row, QtCore.Qt.ItemDataRole.ToolTipRole)
    assert tip == (
        "<p>flux2-klein is not downloaded yet: 16 GB, licence Apache-2.0. It needs an NVIDIA GPU with 8 GB or more. "
        "Here the core works on the CPU, where an edit with it takes minutes. "
        "The button below the list downloads it.</p>"
    )
    assert "flux2-klein is not downloaded yet" in model.toolTip()
    assert model.name == MODEL

    bench.window.widget.activateWindow()
    model.setFocus()
    for key in ("Key_Down", "Key_End", "Key_F", "Key_PageDown"):
        qtbot.keyClick(model, getattr(QtCore.Qt.Key, key))
        assert model.name == MODEL, key
    model.showPopup()
    view = model.view()
    qtbot.mouseMove(view.viewport(), view.visualRect(model.model().index(0, 0)).center())
    qtbot.mouseClick(view.viewport(), LEFT, pos=view.visualRect(model.model().index(row, 0)).center())
    assert model.name == MODEL
    assert view.isVisible(), "the list stays, so that the artist can choose another"
    for key in ("Key_F", "Key_End", "Key_Return"):
        qtbot.keyClick(view, getattr(QtCore.Qt.Key, key))
    assert model.name in ("clipart", MODEL)
    model.hidePopup()


def test_a_chosen_model_that_has_become_unusable_stays_and_the_core_says_why(bench: Bench) -> None:
    bench.open()
    bench.panel.settings.model.choose("flux2-klein")
    bench.panel.generate()
    bench.finish()
    assert bench.notice == (
        "The model flux2-klein is not downloaded. Get it in the settings of Krita's or GIMP's panel, or by "
        "`lazydiffusion models pull flux2-klein` in a terminal; or choose another: clipart, tiny."
    )
    bench.wait_until(lambda: bench.panel.settings.model.count() == 3)
    assert bench.panel.settings.model.name == bench.panel.preferences.model == "flux2-klein"


def test_a_row_changes_in_place_so_that_the_list_may_be_open(bench: Bench, qtbot: QtBot) -> None:
    model = bench.panel.settings.model
    known = [
        ModelChoice(MODEL, MODEL),
        ModelChoice("large", "large – cannot be used", False, "<b> is missing."),
    ]
    model.offer(known)
    first = model.model().item(0)
    model.offer([ModelChoice(MODEL, MODEL, True, "In memory."), ModelChoice("large", "large (16 GB)")])
    assert model.model().item(0) is first
    assert rows(bench) == {MODEL: True, "large": True}
    assert [model.itemText(row) for row in range(2)] == [MODEL, "large (16 GB)"]
    assert "In memory." in model.toolTip()
    model.offer(known)
    assert "&lt;b&gt; is missing." in model.toolTip(), "words, not markup"
    model.offer([])
    assert rows(bench) == {MODEL: True}, "no core runs"


def test_remove_needs_no_prompt_and_sends_none(bench: Bench) -> None:
    bench.open()
    panel = bench.panel
    panel.prompt.setPlainText("a cat")
    panel.negative.setPlainText("a dog")
    choose_mode(bench, "Remove")
    assert not panel.prompt.isEnabled()
    assert not panel.negative.isEnabled()
    assert not panel.settings.sketch.isEnabled()
    [result] = bench.generate()
    assert (asked().prompt, asked().negative_prompt, asked().strength) == ("", "", 1)
    assert result.layer_name.startswith("Fill (seed ")
    choose_mode(bench, "Fill")
    assert panel.prompt.isEnabled()
    assert panel.prompt.toPlainText() == "a cat"


def test_add_needs_a_prompt_and_keeps_some_of_what_is_there(bench: Bench) -> None:
    bench.open()
    choose_mode(bench, "Add")
    bench.panel.prompt.setPlainText("  \n ")
    bench.panel.generate()
    assert not bench.panel.session.busy
    assert bench.notice == (
        "The prompt is empty. Say what to add, or choose Fill to continue what is around."
    )
    bench.panel.prompt.setPlainText(" a cat ")
    bench.generate()
    assert bench.notice == ""
    assert (asked().prompt, asked().strength) == ("a cat", ADD_STRENGTH)


def test_each_mode_says_in_the_empty_prompt_what_it_does(bench: Bench) -> None:
    said = []
    for name in ("Fill", "Add", "Remove"):
        choose_mode(bench, name)
        said.append(bench.panel.prompt.placeholderText())
    assert len(set(said)) == 3


def test_the_empty_prompt_names_some_of_what_the_chosen_model_was_taught(bench: Bench) -> None:
    """A real core tells of the packaged model, which was taught a list of things; the tests' own was not."""
    bench.open()
    bench.generate()
    panel = bench.panel
    plain = panel.prompt.placeholderText()
    box = panel.settings.model
    bench.qtbot.waitUntil(lambda: box.findText("clipart") >= 0, timeout=10_000)
    box.setCurrentIndex(box.findText("clipart"))
    box.activated.emit(box.currentIndex())
    taught = checkpoints.things(checkpoints.embedded_folder())
    assert len(taught) > 100
    hint = panel.prompt.placeholderText()
    assert hint != plain
    named = hint.removeprefix("What to paint: ").partition("…")[0].split(", ")
    assert len(named) == 3
    assert set(named) <= set(taught)
    assert f"{len(taught)} things" in box.toolTip()
    panel.prompt.setPlainText("dragonfly")
    assert panel.untaught.isHidden(), "a word may not be finished yet"
    bench.qtbot.waitUntil(lambda: "not taught “dragonfly”" in panel.untaught.text(), timeout=5_000)
    assert not panel.untaught.isHidden()
    choose_mode(bench, "Remove")
    bench.qtbot.waitUntil(panel.untaught.isHidden, timeout=5_000)
    choose_mode(bench, "Fill")
    bench.qtbot.waitUntil(lambda: not panel.untaught.isHidden(), timeout=5_000)
    panel.prompt.setPlainText("a butterfly")
    assert panel.untaught.isHidden(), "at once"
    panel.prompt.setPlainText("dragonfly")
    box.choose(MODEL)
    box.activated.emit(box.currentIndex())
    assert panel.prompt.placeholderText() == plain
    bench.qtbot.waitUntil(lambda: not panel.being_edited, timeout=5_000)
    assert panel.untaught.isHidden(), "that one is no model of a few things"


def test_an_unlocked_seed_is_another_each_time(bench: Bench) -> None:
    bench.open()
    [first] = bench.generate()
    assert bench.panel.settings.seed.text() == str(first.fill.seed)
    _, second = bench.generate()
    assert bench.panel.settings.seed.text() == str(second.fill.seed)
    assert first.fill.seed != second.fill.seed
    assert first.fill.rgba != second.fill.rgba


def test_a_locked_seed_gives_the_same_fill_again(bench: Bench, qtbot: QtBot) -> None:
    bench.open()
    type_seed(bench, "4711")
    bench.generate()
    first, second = bench.generate()
    assert first.fill.seed == second.fill.seed == 4711
    assert first.fill.rgba == second.fill.rgba
    qtbot.mouseClick(dice(bench), LEFT)
    thrown = bench.panel.settings.seed.text()
    third = bench.generate()[2]
    assert third.fill.seed == int(thrown) == bench.panel.preferences.seed
    assert third.fill.rgba != first.fill.rgba


def test_a_seed_that_the_artist_unlocks_after_typing_is_thrown_anew(bench: Bench, qtbot: QtBot) -> None:
    bench.open()
    type_seed(bench, "4711")
    qtbot.mouseClick(bench.panel.settings.lock, LEFT)
    [result] = bench.generate()
    assert result.fill.seed != 4711


def test_the_largest_seed_can_be_typed_and_used_and_no_larger_one(bench: Bench, qtbot: QtBot) -> None:
    bench.open()
    assert type_seed(bench, str(MAX_SEED + 1)) == str(MAX_SEED + 1)[:-1]
    assert type_seed(bench, "-12a 3") == "123"
    assert type_seed(bench, str(MAX_SEED)) == str(MAX_SEED)
    [result] = bench.generate()
    assert bench.notice == ""
    assert result.fill.seed == MAX_SEED


def test_what_is_no_seed_cannot_be_pasted(bench: Bench) -> None:
    seed = bench.panel.settings.seed
    for text in ("a cat", "9" * 5000, "٤٢", "1.5"):
        seed.clear()
        seed.insert(text)
        assert seed.text() == "", text[:20]
    seed.editingFinished.emit()
    assert bench.panel.preferences.seed == 0, "an empty field is 0"


def wheel_over(widget: QtWidgets.QWidget) -> None:
    at = QtCore.QPointF(widget.rect().center())
    event = QtGui.QWheelEvent(
        at, widget.mapToGlobal(at), QtCore.QPoint(0, 0), QtCore.QPoint(0, 120),
        QtCore.Qt.MouseButton.NoButton, QtCore.Qt.KeyboardModifier.NoModifier,
        QtCore.Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QtWidgets.QApplication.sendEvent(widget, event)


def test_the_wheel_changes_only_a_field_that_has_the_keyboard(bench: Bench) -> None:
    bench.open()
    panel, fields = bench.panel, bench.panel.settings
    panel.settings_fold.open = True
    fields.model.offer([ModelChoice(name, name) for name in ("one", MODEL, "three")])
    fields.model.choose(MODEL)
    bench.window.widget.activateWindow()
    panel.prompt.setFocus()
    numbers = (fields.variations, fields.steps, fields.guidance, fields.grow, fields.feather)
    before = [field.value() for field in numbers]
    for field in numbers:
        wheel_over(field)
        wheel_over(field.lineEdit())
    wheel_over(fields.model)
    wheel_over(fields.sketch)
    assert [field.value() for field in numbers] == before
    assert (fields.model.name, fields.sketch.currentIndex()) == (MODEL, 0)
    fields.grow.setFocus()
    bench.wait_until(fields.grow.hasFocus)
    wheel_over(fields.grow)
    assert fields.grow.value() == 1


def test_rich_text_is_pasted_as_plain_words(bench: Bench) -> None:
    data = QtCore.QMimeData()
    data.setHtml("<p>a <b>red</b> apple<img src='x.png'></p>")
    data.setText("a red apple")
    clipboard = QtWidgets.QApplication.clipboard()
    clipboard.setMimeData(data)
    for prompt in (bench.panel.prompt, bench.panel.negative):
        prompt.paste()
        assert prompt.toPlainText() == "a red apple"
        assert "img" not in prompt.document().toHtml()
    clipboard.clear()


@pytest.mark.parametrize("field", ["prompt", "negative"])
def test_a_prompt_that_is_too_long_is_told_with_its_length(bench: Bench, field: str) -> None:
    bench.open()
    getattr(bench.panel, field).setPlainText("a" * 1001)
    bench.panel.generate()
    assert not bench.panel.session.busy
    name = {"prompt": "prompt", "negative": "negative prompt"}[field]
    assert bench.notice == f"The {name} has 1001 characters; shorten it to 1000 at most."
    getattr(bench.panel, field).setPlainText("a" * 1000)
    bench.generate()
    assert bench.notice == ""


def test_earlier_settings_come_back_into_every_field(bench: Bench, qtbot: QtBot) -> None:
    settings = EditSettings(
        prompt="a boat\non a lake", negative_prompt="people", seed=MAX_SEED, steps=9, guidance=3.5, variations=4,
        grow=12, feather=34, model="another", strength=ADD_STRENGTH,
    )  # fmt: skip
    panel, fields = bench.panel, bench.panel.settings
    panel.use_settings(settings)
    assert panel.prompt.toPlainText() == settings.prompt
    assert panel.negative.toPlainText() == settings.negative_prompt
    assert fields.seed.text() == str(MAX_SEED)
    assert fields.lock.isChecked()
    assert (fields.steps.value(), fields.guidance.value(), fields.variations.value()) == (9, 3.5, 4)
    assert (fields.grow.value(), fields.feather.value(), fields.model.name) == (12, 34, "another")
    assert panel.modes.checkedButton().objectName() == "lazyModeAdd"
    panel.use_settings(EditSettings(model=MODEL))
    assert panel.modes.checkedButton().objectName() == "lazyModeFill"
    assert panel.prompt.toPlainText() == panel.negative.toPlainText() == ""
    assert fields.steps.text() == fields.guidance.text() == "Automatic"


def test_earlier_settings_make_the_same_fill(bench: Bench) -> None:
    bench.open()
    bench.panel.prompt.setPlainText("a cat")
    [first] = bench.generate()
    settings = asked()
    bench.panel.prompt.setPlainText("a dog")
    bench.generate()
    bench.panel.use_settings(settings)
    again = bench.generate()[2]
    assert asked() == settings
    assert again.fill.rgba == first.fill.rgba
