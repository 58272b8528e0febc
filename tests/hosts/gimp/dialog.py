"""What tests ask of the dialog in a real GIMP, and of what an edit has left behind."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.hosts.gimp.painter import Painter
from tests.hosts.gimp.plugin_process import Plugin

BOX = [60, 40, 50, 30]
"""Of the selection, in `painter.picture()`."""
RESULTS = "len(find('lazyResults').get_model())"
READY = "find('lazyGenerate').get_label() == '_Generate'"
NOTICE = "find('lazyNotice').get_text() if find('lazyNoticePart').get_visible() else ''"
STATUS = "find('lazyStatus').get_text()"
PROMPT = "b = find('lazyPrompt').get_buffer()\nreturn b.get_text(b.get_start_iter(), b.get_end_iter(), True)"
CHOOSE_SKETCH = """
box = find("lazySketch")
names = [row[0] for row in box.get_model()]
box.set_active(names.index(layer))
"""
# Where a thumbnail lies, as fractions of the list.
THUMBNAIL = """
icons = find('lazyResults')
_, area = icons.get_cell_rect(Gtk.TreePath.new_from_indices([number]), None)
size = icons.get_allocation()
return (area.x + area.width / 2) / size.width, (area.y + area.height / 2) / size.height
"""
CORE = """
import sys
if folder not in sys.path:
    sys.path.insert(0, folder)
from lazydiffusion.client import connect
return connect(start=False).info()["state"]
"""


def fresh(plugin: Plugin) -> Plugin:
    """GIMP remembers the last values: not those of another test."""
    plugin.ask(
        "find('lazyModeFill').set_active(True)\nfind('lazyPrompt').get_buffer().set_text('')\n"
        "for name in ('Variations', 'Steps', 'Guidance', 'Strength', 'Grow', 'Feather'):\n"
        "    find('lazy' + name).set_value({'Variations': 1, 'Strength': 100}.get(name, 0))\n"
        "find('lazySeedLock').set_active(False)"
    )
    return plugin


def set_numbers(plugin: Plugin, **values: float) -> None:
    for name, value in values.items():
        plugin.ask("find(name).set_value(value)", name=f"lazy{name.capitalize()}", value=value)


def core_state(painter: Painter) -> str:
    folder = str(painter.gimp.home / "gimp/plug-ins/lazydiffusion")
    return str(painter.gimp.ask(CORE, folder=folder))


def until_layers(painter: Painter, count: int, timeout: float = 60) -> list[Any]:
    deadline = time.monotonic() + timeout
    while len(layers := painter.layers) != count:
        assert time.monotonic() < deadline, layers
        time.sleep(0.1)
    return layers


def newest_edit(painter: Painter) -> dict[str, Any]:
    history = painter.gimp.folder / "core/history"
    folder = max(history.iterdir(), key=lambda path: int(path.name.partition("-")[0]))
    found: dict[str, Any] = json.loads((folder / "edit.json").read_text())
    return found


def fill_with_sketch(painter: Painter, plugin: Plugin, layer: str) -> bytes:
    """Choose a layer, generate, and give the fill's pixels."""
    plugin.ask(CHOOSE_SKETCH, layer=layer)
    before = plugin.ask(RESULTS)
    plugin.key("ctrl+Return")
    plugin.wait_for(f"{RESULTS} == {before} + 1 and {READY}", 90)
    return newest_fill(painter)


def generate(plugin: Plugin) -> None:
    """An edit by the keyboard, until all its fills are there."""
    before = plugin.ask(RESULTS)
    wanted = before + plugin.ask("find('lazyVariations').get_value_as_int()")
    plugin.key("ctrl+Return")
    plugin.wait_for(f"{RESULTS} == wanted and {READY}", 120, wanted=wanted)
    assert plugin.ask(NOTICE) == ""


def open_history(plugin: Plugin) -> None:
    """From the dialog, with the newest fill chosen."""
    plugin.click("lazyHistoryOpen")
    plugin.wait_for("any(it.get_name() == 'lazyHistory' and len(it.get_model()) for it in widgets())", 60)
    plugin.ask("find('lazyHistory').get_selection().select_path(Gtk.TreePath.new_first())")


def newest_fill(painter: Painter) -> bytes:
    return painter.last_fills()[0].tobytes()
