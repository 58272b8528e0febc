"""`lazydiffusion fill`: one edit from files to files."""

from __future__ import annotations

import json
import secrets
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lazydiffusion import checkpoints, colour, compose, images
from lazydiffusion.canvas import Canvas
from lazydiffusion.engines.base import Edit, Fill, Report, Step
from lazydiffusion.errors import BadInput
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


def run(files: Files, settings: EditSettings, device: str, as_json: bool) -> None:
    """Check everything that can be checked, then load, fill and write. Raises LazyDiffusionError."""
    warnings.filterwarnings("ignore", module="PIL")  # Pillow's notes on odd files are not for artists
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
    engine, choice = _load(settings.model, device, console)
    loaded = time.perf_counter()
    report = Report()
    edit = Edit(Canvas.of(images.to_srgb(canvas)), mask, settings, sketch)
    seeds = []
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("Filling")

        def progress(step: Step) -> None:
            total = step.steps * settings.variations
            bar.update(task, total=total, completed=step.fill * step.steps + step.step)

        for number, made in enumerate(engine.run(edit, report, progress)):
            composing = time.perf_counter()
            _write(canvas, made, outs[number], layers[number] if layers else None)
            seeds.append(made.seed)
            report.ms["compose"] += 1000 * (time.perf_counter() - composing)
    report.ms["load"] = 1000 * (loaded - started)
    report.ms["total"] = 1000 * (time.perf_counter() - started)
    summary = _summary(report, made, seeds, str(choice.device))
    if as_json:
        print(json.dumps(summary))
    else:
        _describe(summary, outs, console)


def _load(model: str, device: str, console: Console) -> tuple[Any, Any]:
    """The engine and its device. Importing PyTorch and diffusers is part of loading, and takes most of it."""
    checkpoints.locate(model)  # a wrong name or hash is told before the long imports
    with console.status("Loading the model") if console.is_terminal else _silence():
        from lazydiffusion.devices import choose_device
        from lazydiffusion.engines.lazy import LazyEngine

        choice = choose_device(device)
        return LazyEngine.load(model, choice), choice


def _silence() -> Any:
    from contextlib import nullcontext

    return nullcontext()


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
    alpha = canvas.alpha
    if alpha is not None:  # what is generated is there, even where the canvas was transparent
        alpha = alpha.copy()
        region = alpha[made.box.slices()]
        region[...] = region + ((255 - region.astype(int)) * pixels[..., 3] + 127) // 255
    write_canvas(out, compose.paste(canvas.pixels, pixels, made.box), alpha, canvas.icc_profile)
    if layer is not None:
        write_layer(layer, compose.layer(canvas.size, pixels, made.box), canvas.icc_profile)


def _summary(report: Report, made: Fill, seeds: list[int], device: str) -> dict[str, Any]:
    assert report.window is not None
    order = ("load", "plan", "encode", "denoise", "compose", "total")
    return {
        "box": made.box.as_list(),
        "seeds": seeds,
        "hidden_tokens": report.hidden_tokens,
        "window": report.window.as_list(),
        "scale": report.scale,
        "device": device,
        "steps": report.steps,
        "ms": {stage: round(report.ms[stage], 1) for stage in order},
    }


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
