"""The docker's list of models in a real Krita, by mouse and keyboard."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.hosts.chroots import Host
from tests.hosts.conftest import StartKrita
from tests.hosts.installing import MODEL
from tests.hosts.krita.artist import PANEL, Artist, with_plugin
from tests.loopback_hub import KLEIN, WEIGHTS, Hub

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BUTTON = f"lazyDownload-{KLEIN}"
ROWS = """
box = find("lazyModel")
enabled = QtCore.Qt.ItemFlag.ItemIsEnabled
return [[box.itemData(row), box.itemText(row), bool(box.model().index(row, 0).flags() & enabled)]
        for row in range(box.count())]
"""
ROW = """
box = find("lazyModel")
row = box.view().visualRect(box.model().index(box.findData(name), 0))
there = box.view().viewport().mapToGlobal(row.center())
return there.x(), there.y()
"""
OPEN = "find('lazyModel').view().isVisible()"
TIP = "any(it.inherits('QTipLabel') and it.isVisible() for it in QtWidgets.QApplication.topLevelWidgets())"
# Whether a row of the open list shows all of its text.
CUT_OFF = """
view = find("lazyModel").view()
return view.sizeHintForColumn(0) > view.viewport().width()
"""
SHOW = f"""{PANEL}
panel.settings_fold.open = True
scroll = panel.findChild(QtWidgets.QScrollArea, "lazyScroll")
scroll.ensureWidgetVisible(panel.settings.downloads)
scroll.ensureWidgetVisible(panel.settings.model)
"""
# Of the button that leads to the download; empty where there is none.
SAYS = f"""{PANEL}
shown = panel.findChild(QtWidgets.QPushButton, "{BUTTON}")
return shown.text() if shown is not None else ""
"""
NOTICE = f"{PANEL}return panel.notice.text"
ANSWER = "find('lazyNoticeAnswer').text()"


def test_a_model_that_is_not_downloaded_is_seen_and_cannot_be_chosen(
    artist: Artist, krita_host: Host, tmp_path: Path, keep_picture: Callable[[Image.Image, str], None]
) -> None:
    krita = artist.krita
    artist.create()
    krita.type_into("lazyPrompt", "a tree")  # which starts the core
    krita.wait_for("find('lazyModel').count() == 3", 90)
    assert krita.ask(ROWS) == [
        ["clipart", "clipart", True],
        [MODEL, MODEL, True],
        [KLEIN, "flux2-klein – not downloaded, 16 GB", False],
    ]
    krita.ask(SHOW)
    krita.settle()
    assert artist.panel("panel.settings.model.name") == MODEL

    def still_chosen() -> bool:
        return [artist.panel("panel.settings.model.name"), artist.panel("panel.preferences.model")] == [
            MODEL
        ] * 2

    krita.click("lazyModel")
    krita.wait_for(OPEN)
    krita.display.move(*krita.ask(ROW, name="clipart"))
    krita.settle()
    x, y = krita.ask(ROW, name=KLEIN)
    krita.display.move(x, y)
    time.sleep(0.2)
    krita.display.move(x + 3, y)
    krita.wait_for(TIP, 10)
    assert not krita.ask(CUT_OFF)
    with Image.open(krita.screenshot(tmp_path / "open.png")) as picture:
        keep_picture(
            picture.convert("RGB").crop((0, 0, 1590, 990)), f"krita{krita_host.recipe.version[0]}-models"
        )
    krita.display.click(x, y)
    krita.settle()
    assert still_chosen()
    assert krita.ask(OPEN), "the list stays, so that the artist can choose another"
    krita.key("f", "End", "Escape")
    krita.wait_for(f"not {OPEN}")
    assert still_chosen()

    krita.ask("find('lazyModel').setFocus()")
    for key in ("Down", "End", "f", "Page_Down"):
        krita.key(key)
        assert still_chosen(), key
    krita.key("Up")
    assert artist.panel("panel.settings.model.name") == "clipart"
    krita.key("Down")
    assert still_chosen()


def test_a_model_is_downloaded_by_its_button_and_paints(
    start_krita: StartKrita,
    tiny_model: Path,
    klein_hub: Hub,
    krita_host: Host,
    tmp_path: Path,
    keep_picture: Callable[[Image.Image, str], None],
) -> None:
    """From a hub on loopback, which the core that Krita starts finds in Krita's environment."""
    krita = start_krita(install=with_plugin(tiny_model), environment=klein_hub.environment)
    artist = Artist(krita)
    artist.create()
    artist.select(60, 40, 50, 30)
    krita.type_into("lazyPrompt", "a tree")  # which starts the core

    def keep(name: str) -> None:
        with Image.open(krita.screenshot(tmp_path / "shown.png")) as picture:
            shown = picture.convert("RGB").crop((0, 0, 1590, 990))
            keep_picture(shown, f"krita{krita_host.recipe.version[0]}-{name}")

    def wait_until(snippet: str, beginning: str) -> None:
        krita.wait_for(
            f"def asked():\n    {snippet.strip().replace(chr(10), chr(10) + '    ')}\n"
            "return asked().startswith(beginning)",
            90,
            beginning=beginning,
        )

    wait_until(SAYS, "Get flux2-klein…")
    krita.ask(SHOW)
    krita.settle()
    krita.click(BUTTON)
    wait_until(NOTICE, "flux2-klein is not downloaded yet: 16 GB, licence Apache-2.0. It needs")
    assert krita.ask(ANSWER) == "Download it"
    keep("download")
    klein_hub.stall, klein_hub.cut = True, {WEIGHTS: [1000]}
    krita.click("lazyNoticeAnswer")
    wait_until(SAYS, "flux2-klein: downloading, ")
    krita.click(BUTTON)
    wait_until(NOTICE, "flux2-klein is being downloaded (")
    assert krita.ask(ANSWER) == "Stop the download"
    keep("downloading")
    krita.click("lazyNoticeAnswer")
    wait_until(SAYS, "Get flux2-klein…")
    krita.click(BUTTON)
    wait_until(NOTICE, "flux2-klein is not downloaded yet: ")
    assert krita.ask(ANSWER) == "Go on with the download"
    klein_hub.stall = False
    krita.click("lazyNoticeAnswer")
    wait_until(NOTICE, "flux2-klein is here. It can be chosen as the model now.")
    assert krita.ask(SAYS) == ""
    assert krita.ask(ROWS)[1] == [KLEIN, KLEIN, True]
    krita.ask("find('lazyModel').setFocus()")
    krita.key("Up")
    assert artist.panel("panel.preferences.model") == KLEIN
    krita.ask(f"{PANEL}panel.settings.steps.setValue(1)")
    [(_, box, _)] = artist.generate()
    assert box == [60, 40, 50, 30]
    artist.apply()
    krita.quit()
