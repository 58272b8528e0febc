"""The docker in every state, in dark and light, with the real model: nothing is cut off at 300 px.

    make test-in-krita51 test-in-krita6 ARGS="-k screenshots --screenshots docs/krita"

keeps the pictures that docs/ shows.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.hosts.chroots import REPOSITORY, Host
from tests.hosts.conftest import StartKrita
from tests.hosts.krita.artist import PANEL, SELECT, Artist, with_plugin

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SAMPLE = REPOSITORY / "core/lazydiffusion/assets/sample"
WIDTH = 300
GAP = 12

# Every widget that is seen, but what scrolls by itself: where it ends, and the least width that shows all of its text.
CUT_OFF = f"""{PANEL}
area = panel.findChild(QtWidgets.QScrollArea, "lazyScroll")
content = area.widget()
bad = []
if content.width() > area.viewport().width():
    bad.append(["the docker's content", content.width(), area.viewport().width()])
for widget in content.findChildren(QtWidgets.QWidget):
    if not widget.isVisible() or isinstance(widget.parentWidget(), (QtWidgets.QAbstractSpinBox, QtWidgets.QComboBox)):
        continue
    right = widget.mapTo(content, QtCore.QPoint(widget.width(), 0)).x()
    if right > content.width():
        bad.append([widget.objectName() or type(widget).__name__, "reaches to", right, "of", content.width()])
    text = widget.text() if isinstance(widget, (QtWidgets.QAbstractButton, QtWidgets.QLabel)) else ""
    if isinstance(widget, QtWidgets.QLabel) and widget.wordWrap():
        if widget.heightForWidth(widget.width()) > widget.height():
            bad.append([text, "needs a height of", widget.heightForWidth(widget.width()), "has", widget.height()])
    elif isinstance(widget, QtWidgets.QLabel):
        if widget.sizeHint().width() > widget.width():
            bad.append([text, "needs a width of", widget.sizeHint().width(), "has", widget.width()])
    elif text and widget.fontMetrics().boundingRect(text.replace("&", "")).width() > widget.contentsRect().width():
        bad.append([text, "does not fit into", widget.width()])
return bad
"""
LEGIBLE = f"""{PANEL}
def brightness(colour):
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.getRgbF()[:3]]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
found = []
for widget in panel.findChildren(QtWidgets.QLabel):
    if widget.isVisible() and widget.text():
        palette = widget.palette()
        text, ground = (brightness(palette.color(role)) for role in (widget.foregroundRole(), widget.backgroundRole()))
        found.append([widget.text(), (max(text, ground) + 0.05) / (min(text, ground) + 0.05)])
return found
"""
OPEN = """
document = app.openDocument(path)
app.activeWindow().addView(document)
keep["document"] = document
"""


HOLE = (440, 690, 731, 981)
"""Around the sample's mask: left, top, right, bottom."""
BOX = [440, 690, 291, 291]
SELECT_SAMPLE = """
selection = krita.Selection()
selection.setPixelData(bytes.fromhex(mask), *box)
keep["document"].setSelection(selection)
"""
USED = f"{PANEL}return panel.findChild(QtWidgets.QScrollArea, 'lazyScroll').widget().sizeHint().height()"


@pytest.fixture(params=["dark", "bright"])
def theme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_screenshots(
    start_krita: StartKrita,
    krita_host: Host,
    theme: str,
    tmp_path: Path,
    keep_picture: Callable[[Image.Image, str], None],
) -> None:
    def install(home: Path) -> None:
        with_plugin()(home)
        with (home / ".config/kritarc").open("a") as settings:
            settings.write(f"\n[theme]\nTheme=Krita {theme}\n")

    krita = start_krita(install=install)
    artist = Artist(krita, WIDTH)
    shutil.copy(SAMPLE / "canvas.png", krita.home)
    krita.ask(OPEN, 60, path=str(krita.home / "canvas.png"))
    krita.wait_for("app.activeDocument() == keep['document']")
    artist.show_docker()
    krita.ask(
        SELECT_SAMPLE, mask=Image.open(SAMPLE / "mask.png").convert("L").crop(HOLE).tobytes().hex(), box=BOX
    )
    states: dict[str, Image.Image] = {}

    def look(state: str) -> None:
        krita.display.move(5, 995)
        time.sleep(0.3)
        assert krita.ask(CUT_OFF) == [], state
        assert {text: ratio for text, ratio in krita.ask(LEGIBLE) if ratio < 4.5} == {}, state
        with Image.open(krita.grab("lazyPanel", tmp_path / f"{state}.png")) as picture:
            used = min(picture.height, krita.ask(USED) + GAP)
            states[state] = picture.convert("RGB").crop((0, 0, picture.width, used))

    krita.type_into("lazyPrompt", (SAMPLE / "prompt.txt").read_text().strip())
    artist.panel("panel.settings.lock.setChecked(True)")  # seed 0, as `make demo` has it
    krita.click("lazySettingsFold")
    krita.wait_for(
        f"{PANEL}return panel.watch.core.info is not None and panel.watch.core.info['state'] == 'ready'", 60
    )
    artist.set(variations=3)
    look("idle")
    krita.click("lazySettingsFold")
    artist.panel("panel.settings.steps.setValue(40)")  # so that it is busy when it is held
    krita.click("lazyGenerate")
    krita.wait_for(f"{PANEL}return panel.results.results and panel.session.share > 0.4", 180)
    with krita.held_core():
        look("busy")
        assert artist.panel("panel.session.busy"), "the edit ended before it was looked at"
    artist.finish(180)
    krita.click("lazyHistoryFold")
    krita.wait_for(f"{PANEL}return panel.history.list.count() == 3", 60)
    artist.panel("panel.history.list.setCurrentRow(0)")
    time.sleep(1)
    look("results")
    krita.display.move(700, 995)
    time.sleep(0.5)
    with Image.open(krita.screenshot(tmp_path / "window.png")) as picture:
        window = picture.convert("RGB").crop((0, 0, 1590, 990))
    krita.click("lazyHistoryFold")
    artist.panel("panel.settings.variations.setValue(1)")
    krita.ask("app.activeDocument().setSelection(None)")
    krita.click("lazyGenerate")
    look("nothing selected")
    krita.ask(SELECT, x=440, y=690, w=292, h=292, value=255)
    artist.panel("panel.settings.steps.setValue(0)")
    krita.click("lazyLive")
    krita.wait_for(f"{PANEL}return any(it.draft for it in panel.results.results)", 120)
    look("live")
    krita.click("lazyLive")
    krita.wait_for(f"{PANEL}return not any(it.draft for it in panel.results.results)", 60)
    artist.panel("panel.settings.steps.setValue(40)")
    krita.click("lazyGenerate")
    krita.wait_for(f"{PANEL}return panel.session.share", 60)
    krita.kill_core()
    artist.finish(30)
    look("error")

    name = f"krita{krita_host.recipe.version[0]}-{theme}"
    height = max(picture.height for picture in states.values())
    ground = states["idle"].getpixel((1, 1))
    sheet = Image.new("RGB", (len(states) * (WIDTH + GAP) - GAP, height), ground)
    for column, picture in enumerate(states.values()):
        assert abs(picture.width - WIDTH) <= 2
        sheet.paste(picture, (column * (WIDTH + GAP), 0))
    keep_picture(sheet, name)
    if theme == "dark":
        keep_picture(window, f"{name}-window")
