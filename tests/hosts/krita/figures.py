"""How long an edit takes in a real Krita, and how long it keeps Krita's window waiting; small and huge canvases.

    python -m tests.hosts.krita.figures [--host NAME] [--rounds 5] [--no-opengl] [--gaps] [--json FILE]

Without a graphics card OpenGL is done by the processor, which then takes some 40 ms for each frame of Krita's window:
--no-opengl has Krita paint its canvas by Qt, as its settings allow too.

The core is the real one with the embedded model, on this machine's processor. Times are medians and, in brackets, the
worst, in milliseconds. A stall is the longest time in which Krita's event loop did not come round, by a timer of 5 ms
inside Krita. What Krita needs for itself, and what it waits beside a program that keeps the processor as busy as the
core does, stands beside it, measured in the same run. "plugin" is the longest time that the plugin's own code took at a
stretch. --gaps tells what ran in each gap above 25 ms: where that is a snippet of the test, the stall is the test's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.hosts import chroots
from tests.hosts.display import Display
from tests.hosts.krita.artist import PANEL, Artist, with_plugin
from tests.hosts.krita.real_krita import RealKrita

SIDES = (1024, 8192)
SELECTED = (400, 300)

LISTEN = f"""{PANEL}
import time
times = keep["times"] = {{}}
work = keep["work"] = [0.0]
def at(name):
    return lambda *given: times.setdefault(name, time.perf_counter())
panel.go.pressed.connect(at("click"))
panel.session.previewed.connect(at("preview"))
panel.session.found.connect(at("found"))
panel.apply_button.pressed.connect(at("apply"))
panel.applying.applied.connect(at("applied"))
panel.session.changed.connect(lambda: times.setdefault("read", time.perf_counter())
                              if panel.session.text.startswith("Starting") else None)
from lazydiffusion.events import Done
hear = panel.session._hear
def listen(event):
    if isinstance(event, Done):
        times["report"] = event.report["ms"]["total"]
    hear(event)
panel.session._controller._on_event = listen
panel.session.ended.connect(at("ended"))
panel.pen.moved.connect(lambda down: None if down else at("pen up")())
panel.live.found.connect(at("followed"))
from lazydiffusion import turns
from lazydiffusion.background import GuiThread
def timed(function, name):
    def call(*given):
        began = time.perf_counter()
        try:
            with heartbeat.during(name(*given)):
                return function(*given)
        finally:
            work[0] = max(work[0], time.perf_counter() - began)
    return call
turns.Turns._turn = timed(turns.Turns._turn, lambda turns: "plugin: a turn")
handed_over = GuiThread.__call__
def hand_over(gui, it):
    handed_over(gui, timed(it, lambda: "plugin: " + getattr(it, "__qualname__", repr(it))))
GuiThread.__call__ = hand_over
add = krita.Node.addChildNode
def add_child_node(*given):
    with heartbeat.during("Krita: addChildNode"):
        return add(*given)
krita.Node.addChildNode = add_child_node
"""
RESET = "keep['times'].clear(); keep['work'][0] = 0; heartbeat.reset()"
READ = "return keep['times'], keep['work'][0], heartbeat.read()"
LAYER_BY_KRITA = "app.action('add_new_paint_layer').trigger()"
OTHERS = os.cpu_count() or 1
"""Busy processes that stand in for the core, which works with as many threads: one for each processor core."""


def measured(krita: RealKrita, what: str, gaps: bool) -> tuple[dict[str, float], float, float]:
    """Since RESET: when what happened (s), the plugin's longest work and the longest stall (ms)."""
    times, work, beat = krita.ask(READ)
    for gap in beat["gaps"] if gaps else []:
        waited = gap["ms"] - gap["cpu_ms"] - gap["queued_ms"]
        print(  # noqa: T201
            f"{what}, at {gap['at_ms']:.0f}: {gap['ms']:.0f} ms, {gap['cpu_ms']:.0f} on a processor, "
            f"{gap['queued_ms']:.0f} waiting for one, {waited:.0f} for something else"
            + "".join(f"\n    {ms:.0f} ms {name}" for name, ms in gap["ran"]),
            flush=True,
        )
    return times, 1000 * work, beat["longest_ms"]


def measure(artist: Artist, side: int, rounds: int, gaps: bool) -> dict[str, list[float]]:
    """One canvas of side x side px; of each round the milliseconds by name."""
    krita = artist.krita
    artist.create(side, side)
    artist.select((side - SELECTED[0]) // 2, (side - SELECTED[1]) // 2, *SELECTED)
    artist.generate()  # the core starts and loads the model: not what is measured
    artist.apply()
    krita.key("ctrl+z")
    rows: list[dict[str, float]] = []
    for number in range(rounds):
        row: dict[str, float] = {}
        where = f"{side} x {side}, round {number}"
        time.sleep(1.5)
        krita.ask(RESET)
        time.sleep(3)
        row["Krita alone: stall"] = measured(krita, f"{where}, Krita alone", gaps)[2]
        krita.ask(RESET)
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(OTHERS)]
        time.sleep(3)
        for other in others:
            other.kill()
            other.wait()
        row["Krita and a busy program: stall"] = measured(krita, f"{where}, and a busy program", gaps)[2]
        krita.ask(RESET)
        krita.later(LAYER_BY_KRITA)
        time.sleep(3)
        row["Krita's own new layer: stall"] = measured(krita, f"{where}, Krita's own new layer", gaps)[2]
        krita.key("ctrl+z")
        time.sleep(2)
        there = krita.point("lazyGenerate")
        krita.ask(RESET)
        krita.display.click(*there)
        krita.wait_for("'ended' in keep['times']", 120)
        times, work, stall = measured(krita, f"{where}, edit", gaps)
        row["the core's own work"] = times["report"]
        row["canvas read"] = 1000 * (times["read"] - times["click"])
        row["click to first preview"] = 1000 * (times.get("preview", times["found"]) - times["click"])
        row["click to result"] = 1000 * (times["found"] - times["click"])
        row["edit: stall"], row["edit: plugin"] = stall, work
        time.sleep(1)
        there = krita.point("lazyApply")
        krita.ask(RESET)
        krita.display.click(*there)
        krita.wait_for("'applied' in keep['times']", 120)
        time.sleep(2)
        times, work, stall = measured(krita, f"{where}, apply", gaps)
        row["apply to layer"] = 1000 * (times["applied"] - times["apply"])
        row["apply: stall"], row["apply: plugin"] = stall, work
        row["click to layer"] = row["click to result"] + row["apply to layer"]
        krita.key("ctrl+z")
        rows.append(row)
    live = measure_live(artist, side, rounds, gaps)
    return {name: [row[name] for row in rows] for name in rows[0]} | live


def measure_live(artist: Artist, side: int, rounds: int, gaps: bool) -> dict[str, list[float]]:
    """Strokes of a brush into what is selected, with Live on and half the strength: each one's milliseconds by name."""
    krita, display = artist.krita, artist.krita.display
    krita.ask("app.action('KritaShape/KisToolBrush').trigger()")
    artist.panel("panel.settings.strength.setValue(50)")
    artist.panel("panel.live_button.click()")
    krita.wait_for(f"{PANEL}return panel.drafts.current is not None", 120)
    rows: list[dict[str, float]] = []
    for number in range(rounds):
        time.sleep(2)
        x, y = artist.on_screen(side / 2, side / 2 + 10 * number)
        display.move(x, y)
        display.xdotool("mousedown", "1")
        display.move(x + 20, y)
        krita.wait_for(f"{PANEL}return panel.pen.down")
        krita.ask(RESET)
        display.xdotool("mouseup", "1")
        krita.wait_for("'followed' in keep['times']", 120)
        times, work, stall = measured(krita, f"{side} x {side}, Live, stroke {number}", gaps)
        followed = 1000 * (times["followed"] - times["pen up"])
        rows.append({"Live: pen up to fill": followed, "Live: stall": stall, "Live: plugin": work})
    artist.panel("panel.live_button.click()")
    artist.panel("panel.settings.strength.setValue(100)")
    return {name: [row[name] for row in rows] for name in rows[0]}


def main() -> None:
    """Measure, print a table, and keep it if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.hosts.krita.figures")
    parser.add_argument("--host", default="krita51", choices=list(chroots.RECIPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-opengl", action="store_true", help="let Krita paint its canvas without OpenGL")
    parser.add_argument("--gaps", action="store_true", help="tell what ran in each stall above 25 ms")
    parser.add_argument("--json", type=Path, help="write the figures there, those of every round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        display = Display(Path(folder) / "display")
        krita = RealKrita(chroots.host(options.host), Path(folder) / "krita", display, with_plugin())
        if options.no_opengl:
            settings = krita.home / ".config/kritadisplayrc"
            settings.write_text("[General]\nOpenGLRenderer=none\ncanvasState=OPENGL_SUCCESS\n")
        try:
            krita.start()
            artist = Artist(krita)
            artist.create()
            krita.ask(
                "app.action('toggle_display_selection').trigger()"
            )  # Krita paints its ants all the time
            krita.ask(LISTEN)
            found = {side: measure(artist, side, options.rounds, options.gaps) for side in SIDES}
            version = krita.ask("app.version()")
        finally:
            krita.kill()
            display.close()
    print(f"Krita {version}, {options.rounds} rounds, ms: median (worst)")  # noqa: T201
    print(f"{'':32}" + "".join(f"{f'{side} x {side}':>16}" for side in SIDES) + f"{'ratio':>8}")  # noqa: T201
    for name in found[SIDES[0]]:
        values = [found[side][name] for side in SIDES]
        small, large = (statistics.median(of_side) for of_side in values)
        shown = "".join(
            f"{f'{statistics.median(of_side):.0f} ({max(of_side):.0f})':>16}" for of_side in values
        )
        print(f"{name:32}{shown}{large / small:8.1f}")  # noqa: T201
    if options.json:
        options.json.write_text(
            json.dumps({"krita": version, "rounds": options.rounds, "ms": found}, indent=2)
        )


if __name__ == "__main__":
    main()
