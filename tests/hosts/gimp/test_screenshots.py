"""The dialog in every state, in dark and light, with the real model: nothing is cut off.

    make test-in-gimp30 test-in-gimp32 ARGS="-k screenshots --screenshots docs/gimp"

keeps the pictures that docs/ shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.hosts.chroots import REPOSITORY, Host
from tests.hosts.gimp.conftest import StartGimp
from tests.hosts.gimp.dialog import READY, RESULTS, set_numbers
from tests.hosts.gimp.painter import Painter, picture, with_plugin
from tests.hosts.gimp.plugin_process import Plugin
from tests.hosts.gimp.real_gimp import RealGimp

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SAMPLE = REPOSITORY / "core/lazydiffusion/assets/sample"
HOLE = (440, 690, 731, 981)
"""Around the sample's mask: left, top, right, bottom."""
BOX = [440, 690, 291, 291]
GAP = 12

# Every text that is shown: one that does not wrap needs its natural width, one that does the height for its width;
# and the window must hold all of it.
CUT_OFF = """
bad = []
window = find(name)
size = window.get_allocation()
def look(widget):
    if not widget.get_mapped():
        return
    given = widget.get_allocation()
    if isinstance(widget, Gtk.Label) and widget.get_text():
        if widget.get_layout().is_ellipsized():
            bad.append([widget.get_text(), "is cut short"])
        if not widget.get_line_wrap() and widget.get_preferred_width().natural_width > given.width:
            bad.append([widget.get_text(), "needs a width of", widget.get_preferred_width().natural_width, given.width])
        if widget.get_line_wrap() and widget.get_preferred_height_for_width(given.width).minimum_height > given.height:
            bad.append([widget.get_text(), "needs more height than", given.height])
    place = widget.translate_coordinates(window, 0, 0)
    if place and not isinstance(widget.get_parent(), (Gtk.Viewport, Gtk.ScrolledWindow)):
        if place[0] + given.width > size.width or place[1] + given.height > size.height:
            bad.append([widget.get_name(), "reaches out of the window"])
    if isinstance(widget, Gtk.Container):
        widget.forall(look)
look(window)
screen = window.get_screen()
if size.width > 800 or size.height > 760:
    bad.append(["the dialog is large:", size.width, size.height])
return bad
"""
SMALL = 660
"""What a screen of 768 px has for a dialog, px."""
FORM = "return find('lazyForm').get_allocation().height"
HEIGHT = "return find('lazyFill').get_allocation().height"
FIT = """
import gc
from lazydiffusion.dialog import FillDialog
[dialog] = [it for it in gc.get_objects() if isinstance(it, FillDialog)]
dialog.fit(height)
dialog.window.resize(1, 1)
"""
BOTTOM = """
widget = find(name)
return widget.translate_coordinates(widget.get_toplevel(), 0, 0)[1] + widget.get_allocation().height
"""
IN_SIGHT = """
widget = find(name)
top = widget.translate_coordinates(find("lazyForm"), 0, 0)[1]
return top, top + widget.get_allocation().height
"""
PLACE = """
window = find(name).get_window()
_, x, y = window.get_origin()
return x, y, window.get_width(), window.get_height()
"""
SELECT_SAMPLE = """
levels = bytes.fromhex(mask)
channel = Gimp.Channel.new(image, "mask", image.get_width(), image.get_height(), 100.0, Gegl.Color.new("black"))
image.insert_channel(channel, None, 0)
whole = bytearray(image.get_width() * image.get_height())
x, y, w, h = box
for row in range(h):
    start = (y + row) * image.get_width() + x
    whole[start : start + w] = levels[row * w : (row + 1) * w]
write(channel, bytes(whole), image.get_width(), image.get_height(), "Y u8")
image.select_item(Gimp.ChannelOps.REPLACE, channel)
image.remove_channel(channel)
image.set_selected_layers(image.get_layers())
"""


@pytest.fixture(params=["dark", "light"])
def theme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_screenshots(
    start_gimp: StartGimp,
    gimp_host: Host,
    theme: str,
    tmp_path: Path,
    keep_picture: Callable[[Image.Image, str], None],
) -> None:
    def install(home: Path) -> None:
        with_plugin()(home)
        with (home / "gimp/gimprc").open("a") as settings:
            settings.write(f"(theme-color-scheme {theme})\n")

    gimp = start_gimp(install=install)
    painter = Painter(gimp)
    painter.create(painter.file(SAMPLE / "canvas.png"), show=True)
    mask = Image.open(SAMPLE / "mask.png").convert("L").crop(HOLE)
    painter.ask(SELECT_SAMPLE, mask=mask.tobytes().hex(), box=BOX)
    assert painter.ask("return list(Gimp.Selection.bounds(image))[2:]") == list(HOLE)
    states: dict[str, Image.Image] = {}

    def look(plugin: Plugin, state: str, window: str = "lazyFill") -> None:
        gimp.screen.move(5, 995)
        time.sleep(0.5)
        plugin.settle()
        assert plugin.ask(CUT_OFF, name=window) == [], state
        x, y, w, h = plugin.ask(PLACE, name=window)
        with Image.open(gimp.screenshot(tmp_path / f"{state}.png")) as picture:
            states[state] = picture.convert("RGB").crop((x, y, x + w, y + h))

    plugin = gimp.open_plugin("Generative fill")
    plugin.wait_for("find('lazyStatus').get_text() == 'Ready on the CPU'", 90)
    plugin.type_into("lazyPrompt", (SAMPLE / "prompt.txt").read_text().strip())
    plugin.ask(
        "find('lazySeed').set_text('0'); find('lazySeedLock').set_active(True)"
    )  # as `make demo` has it
    plugin.key("alt+t")
    set_numbers(plugin, variations=3)
    look(plugin, "idle")
    plugin.key("alt+t")
    plugin.wait_for("not find('lazyVariations').get_mapped()")
    plugin.ask("find('lazyFill').resize(1, 1)")
    set_numbers(plugin, steps=40)  # so that it is busy when it is held
    plugin.click("lazyGenerate")
    plugin.wait_for(f"{RESULTS} == 1 and find('lazyProgress').get_fraction() > 0.4", 180)
    with gimp.held_core():
        look(plugin, "busy")
        assert not plugin.ask(READY), "the edit ended before it was looked at"
    plugin.wait_for(f"{RESULTS} == 3 and {READY}", 180)
    plugin.key("alt+a")
    time.sleep(1)
    look(plugin, "results")
    with Image.open(gimp.screenshot(tmp_path / "window.png")) as picture:
        window = picture.convert("RGB").crop((0, 0, 1590, 990))
    assert_filled(painter, gimp)

    plugin.key("alt+h")
    plugin.wait_for(
        "any(it.get_name() == 'lazyHistory' and len(it.get_model()) == 3 for it in widgets())", 60
    )
    plugin.ask("find('lazyHistory').get_selection().select_path(Gtk.TreePath.new_first())")
    time.sleep(1)
    look(plugin, "history", "lazyHistoryDialog")
    plugin.key("Escape")
    plugin.wait_for("not any(it.get_name() == 'lazyHistory' for it in widgets())")

    painter.ask("Gimp.Selection.none(image)")
    plugin.click("lazyGenerate")
    plugin.wait_until_shown("lazyNoticeAnswer")
    look(plugin, "nothing selected")
    painter.ask(SELECT_SAMPLE, mask=mask.tobytes().hex(), box=BOX)
    set_numbers(plugin, steps=200)
    plugin.click("lazyGenerate")
    plugin.wait_for("find('lazyProgress').get_fraction() > 0", 90)
    gimp.kill_core()
    plugin.wait_for(READY, 30)
    look(plugin, "error")
    plugin.key("Escape")
    plugin.wait_until_ended()
    painter.delete()

    height = max(picture.height for picture in states.values())
    width = sum(picture.width + GAP for picture in states.values()) - GAP
    sheet = Image.new("RGB", (width, height), states["idle"].getpixel((2, 2)))
    left = 0
    for picture in states.values():
        sheet.paste(picture, (left, 0))
        left += picture.width + GAP
    name = f"gimp{gimp_host.recipe.version}-{theme}"
    keep_picture(sheet, name)
    if theme == "dark":
        keep_picture(window, f"{name}-window")


def assert_filled(painter: Painter, gimp: RealGimp) -> None:
    """What the picture shows is true: the layer holds the fill that was chosen."""
    layer = painter.ask("return told(image.get_layers()[0])")
    history = gimp.home / ".local/share/lazydiffusion/history"
    newest = max(history.iterdir(), key=lambda folder: int(folder.name.partition("-")[0]))
    fill = painter.file(newest / "fill-0.png")
    box = [0, 0, *layer["box"][2:]]
    assert np.array_equal(painter.pixels(layer["id"], box), fill)


def test_on_a_small_screen_the_fields_scroll_and_all_buttons_are_in_sight(
    start_gimp: StartGimp,
    tiny_model: Path,
    tmp_path: Path,
    gimp_host: Host,
    keep_picture: Callable[[Image.Image, str], None],
) -> None:
    """The dialog is told of the height of a laptop's screen; GIMP's own window stays as it is."""
    gimp = start_gimp(install=with_plugin(tiny_model))
    painter = Painter(gimp)
    painter.create(picture(), show=True)
    plugin = painter.open_dialog()
    plugin.key("alt+n", "alt+t")
    plugin.wait_until_shown("lazyNegative")
    plugin.click("lazyGenerate")  # nothing is selected
    plugin.wait_until_shown("lazyNoticeAnswer")
    assert plugin.ask(HEIGHT) > SMALL
    plugin.ask(FIT, height=SMALL)
    plugin.wait_for(f"({HEIGHT.removeprefix('return ')}) <= {SMALL}", 10)
    for name in ("lazyGenerate", "lazyNoticeAnswer", "lazyClose", "lazyApply"):
        assert plugin.ask(BOTTOM, name=name) <= SMALL, name
    time.sleep(0.5)
    with Image.open(gimp.screenshot(tmp_path / "small.png")) as screen:
        keep_picture(screen.convert("RGB"), f"gimp{gimp_host.recipe.version}-small")
    plugin.ask("find('lazyModel').grab_focus()")
    plugin.settle()
    top, bottom = plugin.ask(IN_SIGHT, name="lazyModel")
    form = plugin.ask(FORM)
    assert 0 <= top < bottom <= form, "scrolled to"
    painter.ask("Gimp.Selection.all(image)")
    plugin.key("ctrl+Return")
    plugin.wait_for(f"({FORM.removeprefix('return ')}) > form + 40", 10, form=form)  # without the notice
    plugin.wait_for(f"{RESULTS} == 1 and {READY}", 90)
    plugin.key("Escape")
    plugin.wait_until_ended()
    painter.delete()
