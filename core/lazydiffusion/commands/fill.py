"""`lazydiffusion fill`: one edit from files to files."""

from __future__ import annotations

import json
import secrets
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lazydiffusion import checkpoints, colour, compose, images
from lazydiffusion.canvas import Canvas
from lazydiffusion.commands.fill_via_core import CoreEdit
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


def run(
    files: Files,
    settings: EditSettings,
    device: str,
    as_json: bool,
    via_core: bool = False,
    engine: str = "auto",
    view: str | None = None,
    weights: str = "full",
) -> None:
    """Check everything that can be checked, then load, fill and write. Raises LazyDiffusionError."""
    warnings.filterwarnings("ignore", module="PIL")  # Pillow's notes on odd files are not for artists
    if via_core and device != "auto":
        raise BadInput(
            f"The core has chosen its device: leave --device {device} away, or start the core with "
            f"`lazydiffusion serve --device {device}`."
        )
    if via_core and (engine != "auto" or view is not None):
        raise BadInput("The core takes the engine that the model is for: leave --engine and --view away.")
    if via_core and weights != "full":
        raise BadInput(
            f"The core has its own weights: leave --weights {weights} away, or start the core with "
            f"`lazydiffusion serve --weights {weights}`."
        )
    canvas = images.read_canvas(files.canvas)
    mask = images.read_mask(files.mask, canvas.size)
    sketch = images.read_sketch(files.sketch, canvas.size) if files.sketch else None
    outs, layers = _targets(files, settings.variations)
    transparent = canvas.alpha is not None and int(canvas.alpha.min()) < 255
    for path in outs:
        check_writable(path, alpha=transparent, icc_profile=canvas.icc_profile, size=canvas.size)
    for path in layers:
        check_writable(path, alpha=True, icc_profile=canvas.icc_profile, size=canvas.size)

    console = Console(stderr=True)
    started = time.perf_counter()
    source: _Local | CoreEdit
    if via_core:
        with console.status("Asking the core") if console.is_terminal else nullcontext():
            source = CoreEdit(images.to_srgb(canvas), mask, settings, sketch)
    else:
        source = _Local(
            images.to_srgb(canvas), mask, settings, sketch, engine, view, device, weights, console
        )
    seeds: list[int] = []
    box: list[int] = []
    writing = 0.0
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("Filling")

        def progress(taken: int, total: int) -> None:
            bar.update(task, total=total, completed=taken)

        for number, made in enumerate(source.fills(progress)):
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
        _describe(summary, outs, console)


class EditStopped(LazyDiffusionError):
    """Somebody else cancelled the edit."""


class _Local:
    """The edit in this process."""

    def __init__(
        self,
        canvas: npt.NDArray[np.uint8],
        mask: npt.NDArray[np.float32],
        settings: EditSettings,
        sketch: npt.NDArray[np.uint8] | None,
        engine: str,
        view: str | None,
        device: str,
        weights: str,
        console: Console,
    ):
        loading = time.perf_counter()
        self.edit = Edit(Canvas.of(canvas), mask, settings, sketch)
        self.engine, self.choice = _load(settings.model, engine, view, device, weights, console)
        self.report = Report()
        self.report.ms["load"] = 1000 * (time.perf_counter() - loading)

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


def _load(
    model: str, engine: str, view: str | None, device: str, weights: str, console: Console
) -> tuple[Any, Any]:
    """The engine and its device. Importing PyTorch and diffusers is part of loading, and takes most of it."""
    checkpoints.locate(model)  # a wrong name or hash is told before the long imports
    with console.status("Loading the model") if console.is_terminal else nullcontext():
        from lazydiffusion.devices import choose_device
        from lazydiffusion.engines.choose import load_engine

        choice = choose_device(device, weights)
        return load_engine(model, choice, engine, view), choice


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


def _describe(summary: dict[str, Any], outs: list[Path], console: Console) -> None:
    """Where the results are and where the time went; on stderr, so that stdout stays free."""
    names = ", ".join(str(path) for path in outs)
    x, y, w, h = summary["box"]
    console.print(
        f"Wrote {names}: {w} x {h} px at ({x}, {y}), {summary['hidden_tokens']} tokens, {summary['steps']} steps, "
        f"seed {', '.join(map(str, summary['seeds']))}, on {summary['device']}.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    parts = [f"{stage} {ms / 1000:.2f} s" for stage, ms in summary["ms"].items() if stage != "total"]
    console.print(
        f"Time: {', '.join(parts)}; in all {summary['ms']['total'] / 1000:.2f} s.",
        highlight=False,
        soft_wrap=True,
    )
    sys.stderr.flush()
