"""`lazydiffusion train`: a run with its progress on the terminal."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from rich.progress import TaskProgressColumn, TimeElapsedColumn, TimeRemainingColumn

from lazydiffusion.commands.terminal import error_console, progress_bar, say
from lazydiffusion.errors import BadInput


def run(
    config: str,
    init_from: Path | None,
    resume: bool,
    engine: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    out: Path | None = None,
) -> None:
    """Train as `config` says, but for another engine, number of steps, time or folder. Raises LazyDiffusionError."""
    try:
        import accelerate  # noqa: F401
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise BadInput(
            f"Training needs {error.name}: install it with `pip install lazydiffusion[train]`."
        ) from error
    from lazydiffusion.training.settings import check_engine, find_settings, load_settings
    from lazydiffusion.training.trainer import Progress as Point
    from lazydiffusion.training.trainer import Trainer

    settings = load_settings(find_settings(config))
    if engine is not None and engine != settings.engine:
        check_engine(engine)
        settings = settings.for_engine(engine)
    if steps is not None:
        if steps < 1:
            raise BadInput(f"The run cannot end after {steps} steps; give 1 or more.")
        settings = settings.ending_after(steps)
    if minutes is not None:
        if not 0 < minutes < math.inf:
            raise BadInput(f"The run cannot end after {minutes:g} minutes; give a number above 0.")
        settings = settings.lasting(minutes)
    if out is not None:
        settings = settings.written_to(out)
    console = error_console()
    with progress_bar(console, TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("Starting", total=1.0)

        def report(point: Point) -> None:
            line = (
                f"step {point.step}  loss {point.loss:.4f}  {point.scenes_per_second:.0f} scenes/s "
                f"({point.scenes_per_second * settings.objective.draws:.0f} samples/s)  "
                f"{100 * point.utilisation:.0f} % of the device's matrix products  "
                f"{point.seconds / 60:.1f} min"
            )
            bar.update(task, description=line, completed=point.share)
            if not console.is_terminal:
                say(console, f"{100 * point.share:5.1f} %  {line}")

        trainer = Trainer(
            settings, init_from=init_from, resume=resume, report=report, say=partial(say, console)
        )
        folder = trainer.run()
    say(console, f"The averaged weights are in {folder}.")
