"""`lazydiffusion bench`: time, memory and operations of the engines on this machine, side by side."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import MofNCompleteColumn, TimeElapsedColumn

from lazydiffusion import output_folder
from lazydiffusion.commands.terminal import error_console, progress_bar, say
from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.klein_bench.sizes import CONFIGS as KLEIN_CONFIGS

Number = TypeVar("Number", int, float, str)
LISTS = {
    "masks": "0.01,0.05,0.1,0.25,0.5,1.0",
    "canvas": "1024,2048,4096,8192",
    "steps": "4,20,50",
    "engines": "lazy,regenerate-image,regenerate-crop",
}
"""What is measured where nothing else is said."""
KLEIN_LISTS = {
    "masks": "0.01,0.05,0.1,0.25,0.5",
    "canvas": "",
    "steps": "4",
    "engines": "cached,refreshed,full,diffusers,diffusers-crop",
}
"""The same for FLUX.2-klein."""
RESULTS, TABLE = "results.json", "table.md"
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
    compile: bool = False

    @classmethod
    def of(
        cls, config: str, repeats: int, device: str, compile: bool = False, **lists: str | None
    ) -> Options:
        """With what is usual for the configuration, where a list is None."""
        usual = KLEIN_LISTS if config in KLEIN_CONFIGS else LISTS
        given = {name: value for name, value in lists.items() if value is not None}
        return cls(config=config, repeats=repeats, device=device, compile=compile, **(usual | given))

    @property
    def command(self) -> str:
        """The command that makes these results again."""
        given = {name: value for name, value in vars(self).items() if name != "compile"}
        words = [word for name, value in given.items() for word in (f"--{name}", shlex.quote(str(value)))]
        return " ".join(["lazydiffusion bench", *words, *["--compile"] * self.compile, "--out DIR"])


@dataclass(frozen=True)
class Lists:
    """The options that are lists, read."""

    masks: list[float]
    canvases: list[int]
    steps: list[int]
    names: list[str]


def run(options: Options, out: Path) -> None:
    """Measure, and write results.json, table.md and the figures to `out`. Raises LazyDiffusionError."""
    if options.repeats < 1:
        raise BadInput(f"{options.repeats} repeats measure nothing; use 1 or more.")
    if options.compile and options.config in KLEIN_CONFIGS:
        raise BadInput("FLUX.2-klein's blocks cannot be compiled here: leave --compile out.")
    lists = Lists(
        _listed("masks", options.masks, float), _listed("canvas", options.canvas, int),
        _listed("steps", options.steps, int), _listed("engines", options.engines, str),
    )  # fmt: skip
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BadInput(
            "The figures need matplotlib: install it with `pip install lazydiffusion[eval]`."
        ) from error
    output_folder.check(out, (RESULTS, TABLE))

    console = error_console()
    if options.config in KLEIN_CONFIGS:
        from lazydiffusion.evaluation.klein_bench.plots import draw_all
        from lazydiffusion.evaluation.klein_bench.report import table

        found = _measure_klein(options, lists, console)
    else:
        from lazydiffusion.evaluation.bench.plots import draw_all
        from lazydiffusion.evaluation.bench.report import table

        found = _measure(options, lists, console)
    with output_folder.writing(out):
        (out / RESULTS).write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")
        (out / TABLE).write_text(table(found), encoding="utf8")
        draw_all(found, out)
    print(table(found))
    say(console, f"Wrote {out}.")


def _measure(options: Options, lists: Lists, console: Console) -> dict[str, Any]:
    """Our own engine and its baselines: what results.json holds."""
    from lazydiffusion.devices import choose_device
    from lazydiffusion.evaluation.bench.cases import Sweeps, check_names
    from lazydiffusion.evaluation.bench.lineup import build_lineup
    from lazydiffusion.evaluation.bench.measure import measure, runs_of
    from lazydiffusion.evaluation.bench.peaks import device_rates
    from lazydiffusion.evaluation.bench.report import machine, results

    choice = choose_device(options.device)
    check_names(lists.names)
    host = machine(choice)
    lineup = build_lineup(options.config, lists.names, choice)
    if options.compile:
        lineup.compile()
    sweeps = Sweeps(lineup.native, lists.masks, lists.canvases, lists.steps, lists.names)
    cases = sweeps.cases()
    say(console, *filter(None, [lineup.note, *lineup.stand_ins]))
    rates = device_rates(choice.device, choice.dtype)
    with _progress(console, len(cases) * runs_of(options.repeats)) as advance:
        measured = measure(lineup, cases, options.repeats, advance)
    return results(options.config, options.command, choice, lineup, sweeps, measured, rates, host)


def _measure_klein(options: Options, lists: Lists, console: Console) -> dict[str, Any]:
    """The views of FLUX.2-klein with random weights: what results.json holds."""
    from lazydiffusion.devices import choose_device
    from lazydiffusion.evaluation.bench.peaks import device_rates
    from lazydiffusion.evaluation.bench.report import machine
    from lazydiffusion.evaluation.klein_bench.lineup import NOTE, STAND_INS, check_views, random_klein
    from lazydiffusion.evaluation.klein_bench.measure import make_cases, measure, runs_of
    from lazydiffusion.evaluation.klein_bench.report import results

    choice = choose_device(options.device)
    check_views(lists.names)
    size = KLEIN_CONFIGS[options.config]
    cases = make_cases(lists.names, lists.masks, lists.canvases or [size.native], lists.steps, size.native)
    host = machine(choice)
    say(console, NOTE, *STAND_INS)
    lineup = random_klein(size, lists.names, choice)
    rates = device_rates(choice.device, choice.dtype)
    with _progress(console, len(cases) * runs_of(options.repeats)) as advance:
        measured = measure(lineup, cases, options.repeats, advance)
    return results(options.config, options.command, choice, lineup, measured, rates, host)


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
    with progress_bar(console, MofNCompleteColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("", total=total)
        begun = 0

        def advance(what: str) -> None:
            nonlocal begun
            bar.update(task, description=what, completed=begun)
            if not console.is_terminal and begun * LINES // total != (begun - 1) * LINES // total:
                say(console, f"{100 * begun / total:3.0f} %  {what}")
            begun += 1

        yield advance
