"""Times what the resident core adds to an edit on this machine: `make bench-service`.

Starts a core of its own in temporary folders and asks it as an editor does. The overhead of an edit is its wall time in
the client, from the request to the pixels in hand, less what the core says that the engine itself took. Prints one
JSON object.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from lazydiffusion import events
from lazydiffusion.client import Core, CoreError, connect, places
from lazydiffusion.protocol import EditRequest, EditSettings, ImageData
from lazydiffusion.window import Box, overview_size, region_to_send

NOT_THE_ENGINES = ("total", "waited", "save")
"""What a report of the core has beside the engine's own stages."""
START_SECONDS = 120.0
MASK_SHARE = 0.1


@contextlib.contextmanager
def running_core(model: str) -> Iterator[tuple[Core, dict[str, float]]]:
    """A core of its own, and the seconds until it answered and until its model was loaded."""
    with tempfile.TemporaryDirectory(prefix="lazydiffusion-bench-") as folder:
        os.environ[places.RUNTIME_VARIABLE] = folder
        started = time.perf_counter()
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "lazydiffusion", "serve"),
                    *("--model", model, "--history", str(Path(folder, "history"))),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            core = _answering(process, Path(folder, "log"))
            answers = time.perf_counter() - started
            while core.info()["state"] == "loading":
                time.sleep(0.05)
            yield core, {"answers_s": answers, "ready_s": time.perf_counter() - started}
        finally:
            process.terminate()
            process.wait(timeout=20)


def _answering(process: subprocess.Popen[bytes], log: Path) -> Core:
    deadline = time.perf_counter() + START_SECONDS
    while time.perf_counter() < deadline and process.poll() is None:
        with contextlib.suppress(CoreError):
            return connect(start=False, client="bench")
        time.sleep(0.01)
    raise SystemExit(f"The core did not start:\n{log.read_text(encoding='utf8', errors='replace')}")


def request(side: int, model: str, *, region_only: bool, **settings: Any) -> EditRequest:
    """A square mask of a tenth of a canvas, side x side px; the whole canvas, or only what the edit needs."""
    y, x = np.mgrid[:side, :side]
    canvas = np.stack([x * 255 // side, y * 255 // side, (x + y) // 16 % 256], -1).astype(np.uint8)
    hole = round(side * MASK_SHARE**0.5)
    corner = (side - hole) // 2
    mask = np.zeros((side, side), np.uint8)
    mask[corner : corner + hole, corner : corner + hole] = 255
    box, overview = Box(0, 0, side, side), None
    if region_only:
        box = region_to_send((side, side), Box(corner, corner, hole, hole))
        size = overview_size((side, side))
        small = np.asarray(Image.fromarray(canvas).resize(size, Image.Resampling.BOX))
        overview = ImageData("rgb8", size, small.tobytes())
    here = box.slices()
    return EditRequest(
        EditSettings(prompt="a red apple", seed=1, model=model, **settings),
        (side, side),
        ImageData("rgb8", (box.w, box.h), canvas[here].tobytes()),
        ImageData("grey8", (box.w, box.h), mask[here].tobytes()),
        region=box,
        overview=overview,
    )


def overhead(core: Core, asked: EditRequest, repeats: int) -> dict[str, float]:
    """Median and worst overhead of an edit in ms, with its parts, over `repeats` edits after two to warm up."""
    rows: list[dict[str, float]] = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        edit = core.submit(asked)
        accepted = time.perf_counter()
        report: dict[str, Any] = {}
        filled = 0.0
        for event in edit.events():
            if isinstance(event, events.Filled):
                edit.fill(event.fill)
                filled = time.perf_counter()
            elif isinstance(event, events.Failed):
                raise SystemExit(event.message)
            elif isinstance(event, events.Done):
                report = event.report
        engine = sum(ms for stage, ms in report["ms"].items() if stage not in NOT_THE_ENGINES)
        rows.append(
            {
                "overhead_ms": 1000 * (filled - started) - engine,
                "send_ms": 1000 * (accepted - started),
                "save_ms": report["ms"]["save"],
                "engine_ms": engine,
                "load_ms": report["ms"]["load"],
            }
        )
    kept = rows[2:]
    medians = {name: round(statistics.median(row[name] for row in kept), 2) for name in kept[0]}
    return {**medians, "worst_overhead_ms": round(max(row["overhead_ms"] for row in kept), 2)}


def cancelling(core: Core, model: str, repeats: int) -> dict[str, float]:
    """Median ms from a cancellation to the edit's end and to the next edit's start, and the length of a step."""
    ends, nexts, steps = [], [], []
    long = request(1024, model, region_only=True, steps=200, variations=16)
    short = request(1024, model, region_only=True, steps=1)
    for _ in range(repeats):
        edit = core.submit(long)
        follower = core.submit(short)
        stream, times = edit.events(), []
        for event in stream:
            if isinstance(event, events.Stepped):
                times.append(time.perf_counter())
                if len(times) == 20:
                    break
        asked = time.perf_counter()
        edit.cancel()
        last = list(stream)[-1]
        ends.append(1000 * (time.perf_counter() - asked))
        if not isinstance(last, events.Cancelled):
            raise SystemExit(f"A cancelled edit ended with {last}.")
        next(event for event in follower.events() if isinstance(event, events.Started))
        nexts.append(1000 * (time.perf_counter() - asked))
        follower.wait()
        steps.append(1000 * (times[-1] - times[0]) / (len(times) - 1))
    return {
        "step_ms": round(statistics.median(steps), 2),
        "cancel_to_end_ms": round(statistics.median(ends), 2),
        "cancel_to_next_ms": round(statistics.median(nexts), 2),
    }


def main(
    model: Annotated[str, typer.Option(help="A model's name or folder.")] = "clipart",
    side: Annotated[int, typer.Option(help="Side of the canvas, px.")] = 2048,
    repeats: Annotated[int, typer.Option(help="Timed edits of each kind; the median counts.")] = 20,
    starts: Annotated[int, typer.Option(help="How often the core is started.")] = 3,
) -> None:
    """Print the report as JSON."""
    report: dict[str, Any] = {"model": model, "side": side, "starts": []}
    for number in range(starts):
        with running_core(model) as (core, times):
            report["starts"].append({name: round(seconds, 2) for name, seconds in times.items()})
            if number == starts - 1:
                name = str(core.info()["default_model"])
                report["device"] = core.info()["device"]["name"]
                for kind, region_only in (("whole_canvas", False), ("region", True)):
                    report[kind] = overhead(
                        core, request(side, name, region_only=region_only, steps=2), repeats
                    )
                report["cancelling"] = cancelling(core, name, max(1, repeats // 4))
    typer.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    typer.run(main)
