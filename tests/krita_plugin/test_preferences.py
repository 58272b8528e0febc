"""What the docker remembers: from one start of Krita to the next, and whatever has become of its file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from krita_plugin.lazydiffusion.panel import Panel
from krita_plugin.lazydiffusion.preferences import Preferences
from pytestqt.qtbot import QtBot
from tests.krita_plugin.conftest import Bench
from tests.service.core_process import MODEL

pytestmark = pytest.mark.integration


@pytest.fixture
def file(configuration: Path) -> Path:
    return configuration / "krita.json"


def change_everything(panel: Panel) -> Preferences:
    """Give every field another value than its default."""
    panel.prompt.setPlainText('two lines,\n"ä" and 猫')
    panel.negative.setPlainText("people")
    panel.modes.buttons()[1].click()
    panel.negative_fold.open = panel.settings_fold.open = True
    fields = panel.settings
    fields.variations.setValue(3)
    fields.steps.setValue(12)
    fields.guidance.setValue(4.5)
    fields.strength.setValue(45)
    fields.grow.setValue(5)
    fields.feather.setValue(6)
    fields.lock.click()
    fields.seed.setText("2147483648")
    fields.seed.editingFinished.emit()
    return panel.preferences


def test_every_field_is_there_again_after_a_restart_of_krita(bench: Bench, qtbot: QtBot) -> None:
    changed = asdict(change_everything(bench.panel))
    defaults = asdict(Preferences())
    assert [name for name in changed if changed[name] == defaults[name]] == []
    bench.panel.close_down()
    after = Bench(qtbot).panel
    assert asdict(after.preferences) == changed
    assert after.prompt.toPlainText() == 'two lines,\n"ä" and 猫'
    assert after.negative.toPlainText() == "people"
    assert after.modes.checkedButton().objectName() == "lazyModeAdd"
    assert after.negative_fold.open
    assert after.settings_fold.open
    assert after.settings.isVisible()
    shown = Preferences()
    after.settings.store_values(shown)
    for name in (
        "variations",
        "seed",
        "seed_locked",
        "steps",
        "guidance",
        "strength",
        "grow",
        "feather",
        "model",
    ):
        assert getattr(shown, name) == changed[name]


def test_changes_are_saved_by_themselves_a_moment_later(bench: Bench, file: Path) -> None:
    bench.panel.prompt.setPlainText("a boat")
    assert json.loads(file.read_text("utf8"))["prompt"] == "", "not at every key"
    bench.wait_until(lambda: json.loads(file.read_text("utf8"))["prompt"] == "a boat", seconds=5)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b'["mode"]',
        b"\xff\xfe\x00",
        pytest.param(b"[" * 100_000, id="nested"),
        pytest.param(b'{"guidance": 1%s}' % (b"0" * 400), id="huge"),
        pytest.param(b'{"seed": 1%s}' % (b"0" * 5000), id="longer than Python reads"),
    ],
)
def test_a_broken_file_gives_the_defaults(file: Path, content: bytes, qtbot: QtBot) -> None:
    file.write_bytes(content)
    panel = Panel()
    qtbot.addWidget(panel)
    assert panel.preferences == Preferences()


def test_a_field_that_is_wrong_has_its_default_and_the_others_stay(file: Path) -> None:
    good = asdict(Preferences("add", "a cat", "a dog", 3, 5, True, 7, 1.5, 60, 2, 4, MODEL, True, True))
    wrong: dict[str, list[object]] = {
        "mode": ["paint", 3, None],
        "prompt": [5, "a" * 100_001, "\ud800", None, ["a"]],
        "negative_prompt": [{}, "a" * 100_001],
        "variations": [0, 9, "3", 2.0, True],
        "seed": [-1, 2**63, 1.0, "5"],
        "seed_locked": [1, "yes", None],
        "steps": [-1, 201, None],
        "guidance": [-0.5, 20.5, float("nan"), float("inf"), True, "2"],
        "strength": [4, 101, 0.5, None],
        "grow": [-1, 1025],
        "feather": [-1, 1025, "4 px"],
        "model": [None, 7],
        "show_negative": [0],
        "show_settings": ["true"],
    }
    assert set(wrong) == set(good)
    for name, values in wrong.items():
        for value in values:
            file.write_text(json.dumps({**good, name: value}), "utf8")
            expected = {**good, name: getattr(Preferences(), name)}
            assert asdict(Preferences.load(file)) == expected, (name, value)
    file.write_text(json.dumps({**good, "guidance": 2, "of_a_newer_version": [1]}), "utf8")
    assert asdict(Preferences.load(file)) == {**good, "guidance": 2.0}


def test_a_folder_that_cannot_be_written_stops_no_edit(
    bench: Bench, configuration: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (configuration / "krita.json").unlink()
    configuration.rmdir()
    configuration.write_text("a file where the folder should be", "utf8")
    bench.open()
    assert len(bench.generate()) == 1
    assert bench.notice == ""
    bench.panel.close_down()
    assert "The settings cannot be saved in" in caplog.text


def test_the_file_is_the_users_alone(bench: Bench, file: Path) -> None:
    bench.open()
    bench.generate()
    assert file.stat().st_mode & 0o777 == 0o600
