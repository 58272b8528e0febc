"""The three engines trained one after the other for the same number of steps, and then held against each other.

All have the same data, batch and decoder, and see the same scenes, step by step (lazydiffusion.training.trainer), so
with as many steps they have had as many samples. How many fit into the time is found out first, by steps that count.
"""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fetching import pack

REPORT = ("table.md", "results.json", "contact-sheet.png")
MARGIN = 0.03
"""Of the time: what the measured steps may have been too fast."""
NO_END = 10**9


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    minutes: float
    """From the sprites' loading to the last engine's last save; export and evaluation come after."""
    warm: int = 24
    """Steps that are not timed: every bucket is to come up twice, for its first step compiles."""
    measured: int = 60
    """Steps that are timed."""
    scenes: int = 300
    """Of the evaluation."""
    seeds: int = 2


@dataclass(frozen=True)
class Pace:
    """What one engine's training was found to take, in seconds."""

    step: float
    saving: float


def shared_steps(seconds: float, paces: Mapping[str, Pace]) -> int:
    """How many steps every engine can take, all the same number, so that all of them and their saving last `seconds`.

    Raises ValueError when there is no time for one each.
    """
    saving = sum(pace.saving for pace in paces.values())
    steps = int((seconds - saving) / sum(pace.step for pace in paces.values()))
    if steps < 1:
        raise ValueError(
            f"{seconds:.0f} s are left when all engines are compiled and measured, and their saving takes "
            f"{saving:.0f} s: give more minutes."
        )
    return steps


def contest(
    wanted: Any, plan: Plan, folder: Path, init: Path | None = None, now: Callable[[], float] = time.monotonic
) -> None:
    """Train, export, pack and compare in `folder`; what is to be fetched lies in `folder`/fetch.

    `wanted`: the settings of the lazy model's run. `init`: a folder with a checkpoint for each engine, by its name, as
    an earlier contest exports them; its contest.json says how many steps they have behind them, and the scenes are
    others than in those.
    """
    began = now()
    import torch

    from lazydiffusion.engines.names import OWN

    torch._dynamo.config.recompile_limit = 64  # blocks of three engines are compiled in one process
    earlier = json.loads((init / "contest.json").read_text())["steps"] if init else 0
    wanted = replace(wanted, seed=wanted.seed + earlier)
    trainers = {engine: make_trainer(wanted, engine, folder / "runs" / engine, init) for engine in OWN}
    paces = {}
    for engine, trainer in trainers.items():
        paces[engine] = measure(trainer, plan, now)
        print(
            f"{engine}: {paces[engine].step:.4f} s a step, {paces[engine].saving:.1f} s to save", flush=True
        )
    left = (1 - MARGIN) * (60 * plan.minutes - (now() - began))
    steps = plan.warm + plan.measured + shared_steps(left, paces)
    print(f"{now() - began:.0f} s are gone; {steps} steps for each engine", flush=True)
    for engine, trainer in trainers.items():
        print(f"Training {engine}", flush=True)
        trainer.settings = trainer.settings.ending_after(steps)
        trainer.run()
    print(f"Trained in {now() - began:.0f} s of {60 * plan.minutes:.0f}", flush=True)
    facts = about(wanted, trainers, paces, earlier)
    trainers.clear()
    gc.collect()
    torch.cuda.empty_cache()
    hand_over(folder, facts)
    compare(wanted, plan, folder)


def make_trainer(wanted: Any, engine: str, folder: Path, init: Path | None) -> Any:
    """An engine's trainer, whose end is not known yet."""
    from lazydiffusion.training.trainer import Trainer

    settings = wanted.for_engine(engine).ending_after(NO_END).written_to(folder)
    settings = replace(settings, output=replace(settings.output, samples_every=1e6))
    draws = settings.objective.draws

    def report(at: Any) -> None:
        rate = at.scenes_per_second * draws
        print(f"{at.share:.3f} step {at.step} loss {at.loss:.4f} {rate:.0f} samples/s", flush=True)

    return Trainer(settings, init_from=init / engine if init else None, report=report)


def measure(trainer: Any, plan: Plan, now: Callable[[], float]) -> Pace:
    """An engine's first steps, of which the last ones are timed, and a first saving."""
    import torch

    times = []
    for work in (
        lambda: trainer.run(until=plan.warm),
        lambda: trainer.run(until=plan.warm + plan.measured),
        trainer.save,
    ):
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(now())
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # of one engine's activations, before the next one's
    return Pace((times[1] - times[0]) / plan.measured, times[2] - times[1])


def about(
    wanted: Any, trainers: Mapping[str, Any], paces: Mapping[str, Pace], earlier: int
) -> dict[str, Any]:
    """What the comparison has to be read with. Raises RuntimeError for trainings that were not equal."""
    done = {engine: trainer.clock.step for engine, trainer in trainers.items()}
    if len(set(done.values())) != 1:
        raise RuntimeError(f"The engines have had different numbers of steps: {done}.")
    [steps] = set(done.values())
    scenes = wanted.optimiser.batch * (steps + earlier)
    return {
        "steps": steps + earlier,
        "steps_in_this_run": steps,
        "scenes": scenes,
        "noisy_samples": scenes * wanted.objective.draws,
        "seed": wanted.seed,
        "engines": {
            engine: {
                "parameters": sum(p.numel() for p in trainer.average.parameters()),
                "seconds_a_step": round(paces[engine].step, 4),
                "seconds_trained": round(trainer.clock.seconds, 1),
            }
            for engine, trainer in trainers.items()
        },
    }


def hand_over(folder: Path, facts: dict[str, Any]) -> None:
    """Export and pack each engine's averaged weights: whatever happens to the comparison, they can be fetched."""
    from lazydiffusion.commands.export import run as exported

    (folder / "fetch" / "report").mkdir(parents=True)
    for engine in facts["engines"]:
        exported(folder / "runs" / engine / "ema", folder / "exported" / engine, 20, 2.5, engine)
        pack(folder / "exported" / engine, folder / "fetch" / engine)
    text = json.dumps(facts, indent=1) + "\n"
    for place in (folder / "exported", folder / "fetch" / "report"):
        (place / "contest.json").write_text(text)


def compare(wanted: Any, plan: Plan, folder: Path) -> None:
    """`lazydiffusion evaluate` of the three, on scenes of sprites that none was trained on."""
    from lazydiffusion.commands import evaluate
    from lazydiffusion.engines.names import OWN

    models = [str(folder / "exported" / engine) for engine in OWN]
    data, cache = Path(wanted.data.shards), Path(wanted.data.cache)
    evaluate.run(
        evaluate.Options(
            models,
            data,
            folder / "evaluation",
            plan.scenes,
            seeds=plan.seeds,
            cache=cache,
            vocabulary=wanted.data.vocabulary,
        )
    )
    for name in REPORT:
        shutil.copy(folder / "evaluation" / name, folder / "fetch" / "report")
    print(f"To be fetched, a folder a call: {folder / 'fetch'}", flush=True)
