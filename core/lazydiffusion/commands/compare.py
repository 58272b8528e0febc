"""`lazydiffusion compare`: models on an artist's own cases, with the same seeds, and a verdict."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lazydiffusion import checkpoints
from lazydiffusion.commands.terminal import counted, error_console, say
from lazydiffusion.engines.names import check_view, engine_of
from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.own_cases.folders import find_cases
from lazydiffusion.protocol import MAX_VARIATIONS, EditSettings
from lazydiffusion.version import __version__


@dataclass(frozen=True)
class Named:
    """A model as it was written, NAME or NAME@VIEW, and what that means."""

    written: str
    model: str
    view: str | None
    engine: str


def run(
    models: Sequence[str], cases: Path, out: Path, seeds: int, *,
    steps: int | None, guidance: float | None, clip: Path | None, device: str,
) -> None:  # fmt: skip
    """Check everything that can be checked, then fill all cases with each model, write and print the verdict.

    Raises LazyDiffusionError; what the models before had finished is written then, and said so.
    """
    warnings.filterwarnings("ignore", module="PIL")  # Pillow's notes on odd files are not for artists
    if len(models) < 2:
        raise BadInput("A comparison needs two models: give --model twice or more.")
    if not 1 <= seeds <= MAX_VARIATIONS:
        raise BadInput(f"The number of seeds is {seeds}; it must be between 1 and {MAX_VARIATIONS}.")
    found = find_cases(cases, EditSettings(variations=seeds, steps=steps, guidance=guidance))
    named = [_named(written) for written in models]
    labels = _labels(named)
    if out.resolve().is_relative_to(cases.resolve()):
        raise BadInput(
            f"{out} is among the cases, and would be taken for one the next time: choose another --out."
        )

    import torch

    from lazydiffusion.devices import choose_device
    from lazydiffusion.engines.choose import load_engine
    from lazydiffusion.evaluation.own_cases import report
    from lazydiffusion.evaluation.own_cases.contest import Contender, announce, hold
    from lazydiffusion.evaluation.text_image import Clip

    choice = choose_device(device)
    judge = None if clip is None else Clip(clip)  # on the CPU: the device's memory is the models'
    report.prepare(out, [case.name for case in found])
    contenders = [
        Contender(label, it.model, it.engine, it.view, partial(load_engine, it.model, choice, view=it.view))
        for label, it in zip(labels, named, strict=True)
    ]
    dtype = str(choice.dtype).removeprefix("torch.")
    own = "the models’ own numbers of"
    conditions = f"The same seeds for all, on {choice.name} in {dtype}, with {steps or own} steps."
    if judge is not None:
        conditions += (
            f" Text-image is the cosine of the part around the hole with the prompt, by {judge.name}."
        )
    about = {
        "lazydiffusion": __version__,
        "torch": torch.__version__,
        "device": choice.name,
        "dtype": dtype,
        "seeds": seeds,
        "steps": steps,
        "guidance": guidance,
        "clip": None if clip is None else str(clip),
    }

    console = error_console()
    with counted(console, "Reading the cases") as tell:
        contest = announce(found)
        try:
            hold(contest, contenders, choice.device, judge, tell)
        except Exception as error:
            if contest.entries:
                report.write(out, contest, conditions, about, failure=str(error))
                say(console, f"What was finished before is in {out}.")
            raise
    print(report.write(out, contest, conditions, about), end="")
    sheets = f"{report.SHEETS}/ with one for each case"
    say(console, f"Wrote {out}: results.json, table.md, sheet.png, and {sheets}.")


def _named(written: str) -> Named:
    """What NAME or NAME@VIEW means. Raises BadModel, BadInput for a view that the model's engine has not."""
    model, view = written, None
    if "@" in written and not Path(written).is_dir():
        model, _, view = written.rpartition("@")
    engine = engine_of(checkpoints.locate(model))
    try:
        check_view(engine, view, f"@{view}")
    except BadInput as error:
        raise BadInput(f"--model {written}: {error}") from error
    return Named(written, model, view, engine)


def _labels(named: Sequence[Named]) -> list[str]:
    """What tables call the models: a folder's own name where that tells them apart. Raises BadInput for twins."""
    written = [it.written for it in named]
    twins = [it for it in written if written.count(it) > 1]
    if twins:
        raise BadInput(f"--model {twins[0]} is given twice: a model is compared with others.")
    short = [
        Path(it.model).resolve().name + (f"@{it.view}" if it.view else "")
        if Path(it.model).is_dir()
        else it.written
        for it in named
    ]
    return [brief if short.count(brief) == 1 else whole for brief, whole in zip(short, written, strict=True)]
