"""What tests ask of the dialog in a real GIMP, and of what an edit has left behind."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.hosts.gimp.painter import Painter
from tests.hosts.gimp.plugin_process import Plugin

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
        "for name, value in (('Variations', 1), ('Steps', 0), ('Guidance', 0), ('Grow', 0), ('Feather', 0)):\n"
        "    find('lazy' + name).set_value(value)\n"
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


def newest_fill(painter: Painter) -> bytes:
    return painter.last_fills()[0].tobytes()
