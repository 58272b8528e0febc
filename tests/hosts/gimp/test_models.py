"""The dialog's list of models in a real GIMP, by mouse and keyboard."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.hosts.chroots import Host
from tests.hosts.gimp.conftest import StartGimp
from tests.hosts.gimp.painter import Painter, picture, with_plugin
from tests.hosts.installing import MODEL

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Of each row of the list of models: its id, its text, and whether it can be chosen.
MODELS = "[[row[0], row[1], row[2]] for row in find('lazyModel').get_model()]"
CHOSEN = "find('lazyModel').get_active_id()"
# Where a row of the open list is on the screen.
MENU_ROW = """
item = find("lazyModel").get_popup_accessible().get_widget().get_children()[number]
size = item.get_allocation()
_, x, y = item.get_window().get_origin()
return [x + size.x + size.width // 2, y + size.y + size.height // 2, item.get_sensitive()]
"""
OPEN_LIST = "find('lazyModel').get_property('popup-shown')"


def test_a_model_that_is_not_downloaded_is_seen_and_cannot_be_chosen(
    start_gimp: StartGimp,
    tiny_model: Path,
    gimp_host: Host,
    tmp_path: Path,
    keep_picture: Callable[[Image.Image, str], None],
) -> None:
    gimp = start_gimp(install=with_plugin(tiny_model))
    painter = Painter(gimp)
    painter.create(picture(), show=True)
    painter.select(60, 40, 50, 30)
    plugin = painter.open_dialog()
    assert plugin.ask(MODELS) == [
        ["clipart", "clipart", True],
        [MODEL, MODEL, True],
        ["flux2-klein", "flux2-klein – not downloaded, 16 GB", False],
    ]
    assert (
        "flux2-klein: Run `lazydiffusion models pull flux2-klein` in a terminal: 16 GB, licence Apache-2.0. "
        "Then it can be chosen here."
    ) in plugin.ask("find('lazyModel').get_tooltip_text()")
    plugin.key("alt+t")  # the settings
    plugin.wait_until_shown("lazyModel")
    assert plugin.ask(CHOSEN) == MODEL

    plugin.click("lazyModel")
    plugin.wait_for(OPEN_LIST)
    x, y, sensitive = plugin.ask(MENU_ROW, number=2)
    assert not sensitive
    gimp.screen.move(x, y)
    time.sleep(0.5)
    with Image.open(gimp.screenshot(tmp_path / "open.png")) as screen:
        keep_picture(screen.convert("RGB"), f"gimp{gimp_host.recipe.version}-models")
    gimp.screen.click(x, y)
    plugin.settle()
    assert plugin.ask(CHOSEN) == MODEL
    plugin.key("Down", "Return")
    plugin.settle()
    assert plugin.ask(CHOSEN) != "flux2-klein"
    if plugin.ask(OPEN_LIST):
        plugin.key("Escape")
    plugin.ask("find('lazyModel').set_active_id(model)", model=MODEL)

    plugin.ask("find('lazyModel').emit('move-active', Gtk.ScrollType.STEP_DOWN)")
    plugin.ask("find('lazyModel').emit('move-active', Gtk.ScrollType.END)")
    assert plugin.ask(CHOSEN) == MODEL
    plugin.ask("find('lazyModel').emit('move-active', Gtk.ScrollType.STEP_UP)")
    assert plugin.ask(CHOSEN) == "clipart"
    plugin.ask("find('lazyModel').emit('move-active', Gtk.ScrollType.STEP_DOWN)")
    assert plugin.ask(CHOSEN) == MODEL

    # One that was chosen while it could be used stays; the core says what is wrong.
    plugin.ask("find('lazyModel').set_active_id('flux2-klein')")
    plugin.key("ctrl+Return")
    plugin.wait_for("find('lazyNoticePart').get_visible()", 60)
    assert plugin.ask("find('lazyNotice').get_text()") == (
        "The model flux2-klein is not downloaded. Get it in the settings of Krita's or GIMP's panel, or by "
        "`lazydiffusion models pull flux2-klein` in a terminal; or choose another: clipart, tiny."
    )
    assert plugin.ask(CHOSEN) == "flux2-klein"
    plugin.key("Escape")
    plugin.wait_until_ended()
    painter.delete()
