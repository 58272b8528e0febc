"""The plugin as users get it, and what is still there after Krita's restart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.hosts.chroots import REPOSITORY
from tests.hosts.conftest import StartKrita
from tests.hosts.krita.artist import PANEL, Artist, with_plugin

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FILE_NAME = """
dialog = QtWidgets.QApplication.activeModalWidget()
field = dialog.findChild(QtWidgets.QLineEdit, "fileNameEdit")
field.setFocus()
return field.hasFocus()
"""
YES = """
dialog = QtWidgets.QApplication.activeModalWidget()
if not isinstance(dialog, QtWidgets.QMessageBox):
    return False
dialog.button(QtWidgets.QMessageBox.StandardButton.Yes).setObjectName("yes")
return "LazyDiffusion" in dialog.text()
"""


def test_kritas_own_importer_takes_the_zip(start_krita: StartKrita, tiny_model: Path) -> None:
    """Tools > Scripts > Import Python Plugin from File, by mouse and keyboard, and a restart."""
    krita = start_krita(install=with_plugin(tiny_model, own=False))
    command = [sys.executable, str(REPOSITORY / "build_plugins.py"), "--out", str(krita.home)]
    subprocess.run(command, check=True, capture_output=True)
    [archive] = krita.home.glob("lazydiffusion-krita-*.zip")
    krita.later("app.action('plugin_importer_file').trigger()")
    krita.wait_for("QtWidgets.QApplication.activeModalWidget() is not None")
    krita.settle()
    krita.wait_for(FILE_NAME)
    krita.display.type(str(archive))
    krita.key("Return")
    krita.wait_for(YES)
    krita.click("yes")
    krita.wait_for("QtWidgets.QApplication.activeModalWidget() is None")
    krita.quit()
    assert "enable_lazydiffusion=true" in (krita.home / ".config/kritarc").read_text()

    krita.start()
    artist = Artist(krita)
    artist.create()
    artist.select(50, 60, 80, 40)
    artist.generate()
    artist.apply()
    assert len(artist.layers) == 2
    assert krita.ask("app.action('lazydiffusion_apply').shortcut().toString()") == "Ctrl+Alt+Return"


def test_history_and_settings_survive_a_restart(start_krita: StartKrita, tiny_model: Path) -> None:
    krita = start_krita(install=with_plugin(tiny_model))
    artist = Artist(krita)
    artist.create()
    artist.select(50, 60, 80, 40)
    krita.type_into("lazyPrompt", "a red apple")
    krita.click("lazySettingsFold")
    artist.set(variations=2, feather=3, steps=4)
    [(first, _, _), (second, _, _)] = artist.generate()
    artist.panel("panel.results.step(1)")
    fill = artist.fill_picture()
    krita.quit()

    krita.start()
    artist.create()
    assert artist.panel("panel.prompt.toPlainText()") == "a red apple"
    fields = [artist.panel(f"panel.settings.{name}.value()") for name in ("variations", "feather", "steps")]
    assert fields == [2, 3, 4]
    krita.click("lazySettingsFold")
    assert not artist.panel("panel.settings.isVisible()")
    krita.click("lazyHistoryFold")
    krita.wait_for(f"{PANEL}return panel.history.list.count()", 60)
    captions = artist.panel("[panel.history.list.item(row).text() for row in range(2)]")
    assert [caption.partition(" · ")[0] for caption in captions] == [
        f"a red apple\nseed {first}", f"a red apple\nseed {second}"
    ]  # fmt: skip
    artist.panel("panel.history.list.setCurrentRow(1)")
    krita.click("lazyHistoryApply")
    krita.wait_for("len(app.activeDocument().topLevelNodes()) == 2", 30)
    assert artist.layers == ["Background", f"a red apple (seed {second})"]
    opaque = fill[..., 3] == 255
    assert np.array_equal(artist.export()[60:100, 50:130][opaque], fill[opaque])
    krita.click("lazyHistoryReuse")
    assert artist.panel("panel.settings.seed.text()") == str(second)
    assert artist.panel("panel.settings.lock.isChecked()")
