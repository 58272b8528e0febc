"""`lazydiffusion bench`: time, memory and operations of the engines on this machine, side by side."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lazydiffusion.errors import BadInput

Number = TypeVar("Number", int, float, str)
LINES = 20
"""How many lines tell of the progress where there is no terminal."""


@dataclass(frozen=True)
class Options:
    """What the command was given; lists are separated by commas, and that of the canvases may be empty."""

    config: str
    masks: str
    canvas: str
    steps: str
    engines: str
    repeats: int
    device: str

    @property
    def command(self) -> str:
        """The command that makes these results again."""
        words = [
            word
            for name, value in vars(self).items()
            for word in (f"--{name.replace('_', '-')}", shlex.quote(str(value)))
        ]
        return f"lazydiffusion bench {' '.join(words)} --out DIR"


def run(options: Options, out: Path) -> None:
    """Measure, and write results.json, table.md and the figures to `out`. Raises LazyDiffusionError."""
    if options.repeats < 1:
        raise BadInput(f"{options.repeats} repeats measure nothing; use 1 or more.")
    masks, canvases = _listed("masks", options.masks, float), _listed("canvas", options.canvas, int)
    steps, names = _listed("steps", options.steps, int), _listed("engines", options.engines, str)
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BadInput(
            "The figures need matplotlib: install it with `pip install lazydiffusion[eval]`."
        ) from error
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; give a folder for the results.")

    console = Console(stderr=True)
    from lazydiffusion.devices import choose_device
    from lazydiffusion.evaluation.bench.cases import Sweeps, check_names
    from lazydiffusion.evaluation.bench.lineup import build_lineup
    from lazydiffusion.evaluation.bench.measure import measure, runs_of
    from lazydiffusion.evaluation.bench.peaks import device_rates
    from lazydiffusion.evaluation.bench.plots import draw_all
    from lazydiffusion.evaluation.bench.report import machine, results, table

    choice = choose_device(options.device)
    check_names(names)
    host = machine(choice)
    lineup = build_lineup(options.config, names, choice)
    sweeps = Sweeps(lineup.native, masks, canvases, steps, names)
    cases = sweeps.cases()
    for sentence in filter(None, [lineup.note, *lineup.stand_ins]):
        console.print(sentence, highlight=False, soft_wrap=True)
    rates = device_rates(choice.device, choice.dtype)
    with _progress(console, len(cases) * runs_of(options.repeats)) as advance:
        measured = measure(lineup, cases, options.repeats, advance)

    found = results(options.config, options.command, choice, lineup, sweeps, measured, rates, host)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")
    (out / "table.md").write_text(table(found), encoding="utf8")
    draw_all(found, out)
    print(table(found))
    console.print(f"Wrote {out}.", highlight=False, soft_wrap=True)


def _listed(option: str, text: str, kind: Callable[[str], Number]) -> list[Number]:
    """The values of a list such as "0.01,0.1"; each once, in their order."""
    try:
        return list(dict.fromkeys(kind(word.strip()) for word in text.split(",") if word.strip()))
    except ValueError as error:
        raise BadInput(
            f"--{option} {text} is no list of numbers; separate them by commas, as in 4,20."
        ) from error


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, a line now and then elsewhere. What it gives is called before each of `total` runs."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total)
        begun = 0

        def advance(what: str) -> None:
            nonlocal begun
            bar.update(task, description=what, completed=begun)
            if not console.is_terminal and begun * LINES // total != (begun - 1) * LINES // total:
                console.print(f"{100 * begun / total:3.0f} %  {what}", highlight=False, soft_wrap=True)
            begun += 1

        yield advance
