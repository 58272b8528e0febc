"""How long the dialog and an edit take in a real GIMP; small and huge canvases.

    python -m tests.hosts.gimp.figures [--host NAME] [--rounds 5] [--json FILE]

The core is the real one with the embedded model, on this machine's processor. Times are medians, in milliseconds.
"Menu to dialog" is from the Return key in GIMP's search for actions until the dialog is on the screen; "click" is on
Generate, "layer" when GIMP has it. What GIMP needs for itself stands beside it: a new layer by its own procedure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from tests.hosts import chroots
from tests.hosts.display import Display
from tests.hosts.gimp.painter import Painter, picture, with_plugin
from tests.hosts.gimp.plugin_process import Plugin
from tests.hosts.gimp.real_gimp import RealGimp

SIDES = (1024, 8192)
SELECTED = (400, 300)
TILE = 1024

# The dialog's own methods, timed in its process.
LISTEN = """
import gc, time
[dialog] = [it for it in gc.get_objects() if type(it).__name__ == "FillDialog"]
keep["dialog"] = dialog
times = keep["times"] = {}
def at(name, function, after=True):
    def call(*given, **named):
        if not after:
            times.setdefault(name, time.perf_counter())
        found = function(*given, **named)
        if after:
            times.setdefault(name, time.perf_counter())
        return found
    return call
dialog.go.connect("button-press-event", lambda *_: times.setdefault("click", time.perf_counter()) and False)
dialog.apply_button.connect("button-press-event", lambda *_: times.setdefault("apply", time.perf_counter()) and False)
dialog._read = at("read", dialog._read)
dialog.controller._on_fill = at("found", dialog._take)
from lazydiffusion.events import Done, Previewed
hear = dialog._hear
def listen(event):
    hear(event)
    if isinstance(event, Previewed):
        times.setdefault("preview", time.perf_counter())
    if isinstance(event, Done):
        times["report"] = event.report["ms"]["total"]
dialog.controller._on_event = listen
dialog.picture.add_layers = at("layer", dialog.picture.add_layers)
"""
OWN_LAYER = """
import time
began = time.perf_counter()
image.insert_layer(layer_of(image, "own", w, h, bytes(4 * w * h), 10, 10), None, 0)
Gimp.displays_flush()
return 1000 * (time.perf_counter() - began)
"""


def measure(painter: Painter, side: int, rounds: int) -> dict[str, float]:
    """One canvas of side x side px; milliseconds by name."""
    gimp = painter.gimp
    small = picture(TILE, TILE)
    painter.create(np.tile(small, (side // TILE, side // TILE, 1)), show=True)
    painter.select((side - SELECTED[0]) // 2, (side - SELECTED[1]) // 2, *SELECTED)
    time.sleep(3)  # GIMP paints it
    rows: list[dict[str, float]] = []
    for number in range(rounds + 1):  # in the first, the core starts and loads the model
        row: dict[str, float] = {}
        plugin = opened(gimp, row)
        plugin.wait_for("find('lazyStatus').get_text() == 'Ready on the CPU'", 90)
        time.sleep(1)
        plugin.ask(LISTEN)
        plugin.click("lazyGenerate")
        plugin.wait_for("'report' in keep['times'] and find('lazyGenerate').get_label() == '_Generate'", 120)
        plugin.click("lazyApply")
        plugin.wait_for("'layer' in keep['times']", 60)
        times = plugin.ask("keep['times']")
        row["canvas read"] = 1000 * (times["read"] - times["click"])
        row["click to first preview"] = 1000 * (times.get("preview", times["found"]) - times["click"])
        row["click to result"] = 1000 * (times["found"] - times["click"])
        row["the core's own work"] = times["report"]
        row["apply to layer"] = 1000 * (times["layer"] - times["apply"])
        row["click to layer"] = row["click to result"] + row["apply to layer"]
        plugin.key("Escape")
        plugin.wait_until_ended()
        row["GIMP's own new layer"] = painter.ask(OWN_LAYER, w=SELECTED[0], h=SELECTED[1])
        painter.ask("[image.remove_layer(it) for it in image.get_layers()[:-1]]; Gimp.displays_flush()")
        time.sleep(2)
        if number:
            rows.append(row)
    painter.delete()
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def opened(gimp: RealGimp, row: dict[str, float]) -> Plugin:
    """The dialog, opened by GIMP's search; how long it took from the Return key."""
    old = {plugin.socket for plugin in gimp.plugins()}
    pressed: list[float] = []
    key = gimp.screen.key
    gimp.screen.key = lambda *keys: (pressed.append(time.monotonic()), key(*keys))[1]  # type: ignore[method-assign]
    try:
        gimp.run_action("Generative fill")
    finally:
        gimp.screen.key = key  # type: ignore[method-assign]
    while not (found := [plugin for plugin in gimp.plugins() if plugin.socket not in old]):
        time.sleep(0.005)
    plugin = found[0]
    while not plugin.exists("lazyGenerate"):
        time.sleep(0.005)
    row["menu to dialog"] = 1000 * (time.monotonic() - pressed[-1])
    return plugin


def main() -> None:
    """Measure, print a table, and keep it if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.hosts.gimp.figures")
    hosts = [name for name, recipe in chroots.RECIPES.items() if recipe.editor == "gimp"]
    parser.add_argument("--host", default=hosts[0], choices=hosts)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        display = Display(Path(folder) / "display")
        gimp = RealGimp(chroots.host(options.host), Path(folder) / "gimp", display, with_plugin())
        try:
            gimp.start()
            painter = Painter(gimp)
            found = {side: measure(painter, side, options.rounds) for side in SIDES}
            version = gimp.ask("Gimp.version()")
        finally:
            gimp.kill()
            display.close()
    print(f"GIMP {version}, {options.rounds} rounds, ms")  # noqa: T201
    print(f"{'':32}" + "".join(f"{f'{side} x {side}':>14}" for side in SIDES) + f"{'ratio':>8}")  # noqa: T201
    for name in found[SIDES[0]]:
        values = [found[side][name] for side in SIDES]
        print(f"{name:32}" + "".join(f"{value:14.0f}" for value in values) + f"{values[1] / values[0]:8.1f}")  # noqa: T201
    if options.json:
        options.json.write_text(
            json.dumps({"gimp": version, "rounds": options.rounds, "ms": found}, indent=2)
        )


if __name__ == "__main__":
    main()
