"""`lazydiffusion fill`: one edit from files to files."""

from __future__ import annotations

import json
import secrets
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lazydiffusion import checkpoints, colour, compose, images
from lazydiffusion.canvas import Canvas
from lazydiffusion.client.taught import untaught_note
from lazydiffusion.commands.fill_via_core import CoreEdit
from lazydiffusion.commands.terminal import counted, error_console, say
from lazydiffusion.engines.base import Edit, Fill, Report, Step
from lazydiffusion.errors import BadInput, LazyDiffusionError
from lazydiffusion.image_output import check_writable, write_canvas, write_layer
from lazydiffusion.protocol import EditSettings


@dataclass(frozen=True)
class Files:
    """What is read and written."""

    canvas: Path
    mask: Path
    out: Path
    layer: Path | None = None
    sketch: Path | None = None


def random_seed() -> int:
    """A seed short enough to be typed again."""
    return secrets.randbelow(2**32)


@dataclass(frozen=True)
class Loading:
    """How the model is loaded, in this process; the core has chosen that for itself."""

    engine: str = "auto"
    view: str | None = None
    device: str = "auto"
    weights: str = "full"

    def check_for_core(self) -> None:
        """Raise BadInput for what cannot be asked of the core."""
        for option, value, usual in (("device", self.device, "auto"), ("weights", self.weights, "full")):
            if value != usual:
                raise BadInput(
                    f"The core has chosen its {option}: leave --{option} {value} away, or start the core with "
                    f"`lazydiffusion serve --{option} {value}`."
                )
        if self.engine != "auto" or self.view is not None:
            raise BadInput("The core takes the engine that the model is for: leave --engine and --view away.")


def run(files: Files, settings: EditSettings, loading: Loading, *, via_core: bool, as_json: bool) -> None:
    """Check everything that can be checked, then load, fill and write. Raises LazyDiffusionError."""
    warnings.filterwarnings("ignore", module="PIL")  # Pillow's notes on odd files are not for artists
    if via_core:
        loading.check_for_core()
    canvas = images.read_canvas(files.canvas)
    mask = images.read_mask(files.mask, canvas.size)
    sketch = images.read_sketch(files.sketch, canvas.size) if files.sketch else None
    outs, layers = _targets(files, settings.variations)
    for paths, alpha in ((outs, canvas.transparent), (layers, True)):
        for path in paths:
            check_writable(path, alpha=alpha, icc_profile=canvas.icc_profile, size=canvas.size)

    console = error_console()
    started = time.perf_counter()
    source: _Local | CoreEdit
    waiting = "Asking the core" if via_core else "Loading the model"
    with console.status(waiting) if console.is_terminal else nullcontext():
        shown = images.to_srgb(canvas)
        if via_core:
            source = CoreEdit(shown, mask, settings, sketch)
        else:
            source = _Local(Edit(Canvas.of(shown), mask, settings, sketch), loading)
    if note := untaught_note(settings.prompt, source.words):
        say(console, note)
    seeds: list[int] = []
    box: list[int] = []
    writing = 0.0
    with counted(console, "Filling") as tell:
        for number, made in enumerate(source.fills(partial(tell, "Filling"))):
            composing = time.perf_counter()
            _write(canvas, made, outs[number], layers[number] if layers else None)
            seeds.append(made.seed)
            box = made.box.as_list()
            writing += 1000 * (time.perf_counter() - composing)
    if len(seeds) < settings.variations:
        raise EditStopped("The edit was cancelled in the core before it was finished.")
    summary = {"box": box, "seeds": seeds, **source.summary()}
    summary["ms"]["compose"] += writing
    summary["ms"]["total"] = 1000 * (time.perf_counter() - started)
    order = ["load", *[stage for stage in summary["ms"] if stage not in ("load", "total")], "total"]
    summary["ms"] = {stage: round(summary["ms"][stage], 1) for stage in order}
    if as_json:
        print(json.dumps(summary))
    else:
        say(console, *_described(summary, outs))  # on stderr, so that stdout stays free


class EditStopped(LazyDiffusionError):
    """Somebody else cancelled the edit."""


class _Local:
    """The edit in this process."""

    def __init__(self, edit: Edit, loading: Loading):
        # Importing PyTorch and diffusers is part of loading, and takes most of it.
        started = time.perf_counter()
        self.edit = edit
        # A wrong name or hash is told before the long imports.
        where = checkpoints.locate(edit.settings.model)
        self.words = checkpoints.words(where) if isinstance(where, Path) else []
        """What a prompt may call what the model was taught; empty of a model for anything."""
        from lazydiffusion.devices import choose_device
        from lazydiffusion.engines.choose import load_engine

        self.choice = choose_device(loading.device, loading.weights)
        self.engine = load_engine(edit.settings.model, self.choice, loading.engine, loading.view)
        self.report = Report()
        self.report.ms["load"] = 1000 * (time.perf_counter() - started)

    def fills(self, progress: Callable[[int, int], None]) -> Iterator[Fill]:
        """The fills, one after the other; `progress` is told (steps taken, steps in all)."""

        def on_step(step: Step) -> None:
            total = step.steps * self.edit.settings.variations
            progress(step.fill * step.steps + step.step, total)

        yield from self.engine.run(self.edit, self.report, on_step)

    def summary(self) -> dict[str, Any]:
        """What the edit cost."""
        report = self.report
        assert report.window is not None
        return {
            "hidden_tokens": report.hidden_tokens,
            "window": report.window.as_list(),
            "scale": report.scale,
            "device": str(self.choice.device),
            "steps": report.steps,
            "ms": report.ms,
        }


def _targets(files: Files, variations: int) -> tuple[list[Path], list[Path]]:
    """Where the results and the layers go: numbered from 1 when there are several."""

    def numbered(path: Path) -> list[Path]:
        if variations == 1:
            return [path]
        return [path.with_name(f"{path.stem}-{i + 1}{path.suffix}") for i in range(variations)]

    outs, layers = numbered(files.out), numbered(files.layer) if files.layer else []
    inputs = {p.resolve() for p in (files.canvas, files.mask, files.sketch) if p is not None}
    for path in [*outs, *layers]:
        if path.resolve() in inputs:
            raise BadInput(
                f"{path} would be written over, but it is one of the pictures read; choose another name."
            )
    if {p.resolve() for p in outs} & {p.resolve() for p in layers}:
        raise BadInput(f"OUT and LAYER are both {files.out}; choose two names.")
    return outs, layers


def _write(canvas: images.Picture, made: Fill, out: Path, layer: Path | None) -> None:
    """Paste a fill into the canvas's own colour space and write the files."""
    pixels = made.pixels.copy()
    pixels[..., :3] = colour.from_srgb(made.pixels[..., :3].copy(), canvas.icc_profile)
    if canvas.alpha is None:
        write_canvas(out, compose.paste(canvas.pixels, pixels, made.box), None, canvas.icc_profile)
    else:  # what is generated is there, even where the canvas was transparent
        pasted, alpha = compose.paste_over(canvas.pixels, canvas.alpha, pixels, made.box)
        write_canvas(out, pasted, alpha, canvas.icc_profile)
    if layer is not None:
        write_layer(layer, compose.layer(canvas.size, pixels, made.box), canvas.icc_profile)


def _described(summary: dict[str, Any], outs: list[Path]) -> tuple[str, str]:
    """Where the results are and where the time went."""
    names = ", ".join(str(path) for path in outs)
    x, y, w, h = summary["box"]
    parts = [f"{stage} {ms / 1000:.2f} s" for stage, ms in summary["ms"].items() if stage != "total"]
    return (
        f"Wrote {names}: {w} x {h} px at ({x}, {y}), {summary['hidden_tokens']} tokens, {summary['steps']} steps, "
        f"seed {', '.join(map(str, summary['seeds']))}, on {summary['device']}.",
        f"Time: {', '.join(parts)}; in all {summary['ms']['total'] / 1000:.2f} s.",
    )
