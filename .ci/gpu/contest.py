"""The three engines trained beside each other for the same number of steps, each in a process of its own.

All have the same data, batch and decoder, and see the same scenes, step by step (lazydiffusion.training.trainer), so
with as many steps they have had as many samples. Launching a step takes the host longer than computing it takes such a
GPU, so three processes on one GPU do nearly three times as much as one. They go in lockstep: the first of them waits
until the last has taken as many steps, and all end together. How many steps fit into the time is found out by steps
that count.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fetching import pack

MARGIN = 0.04
"""Of the time that is left: what the measured steps may have been too fast."""
NO_END = 10**9
STEPS, GUIDANCE = 20, 2.5
"""What the exported models are sampled with."""


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    minutes: float
    """From the first process's start to the last save; what is packed then takes seconds."""
    warm: int = 40
    """Steps that are not timed: every bucket is to come up, and compile, in them."""
    measured: int = 40
    """Steps that are timed."""
    stride: int = 20
    """Steps after which all wait for the last."""


def steps_in(seconds: float, step: float, saving: float) -> int:
    """How many steps of so many seconds, and one saving, last `seconds`. Raises ValueError for none."""
    steps = int((seconds - saving) / step)
    if steps < 1:
        raise ValueError(
            f"{seconds:.0f} s are left when all engines are compiled and measured, a step takes {step:.2f} s and "
            f"saving {saving:.0f} s: give more minutes."
        )
    return steps


def contest(
    wanted: Any,
    plan: Plan,
    folder: Path,
    init: Path | None = None,
    now: Callable[[], float] = time.monotonic,
    prepare: Callable[[], None] | None = None,
) -> None:
    """Train, export and pack in `folder`; what is to be fetched lies in `folder`/fetch.

    `wanted`: the settings of the lazy model's run. `init`: a folder with a checkpoint for each engine, by its name, as
    an earlier contest exports them; its contest.json says how many steps they have behind them, and the scenes are
    others than in those. `prepare`: a function of a module, called first in every process. Raises RuntimeError for an
    engine that fails.
    """
    began = now()
    from lazydiffusion.engines.names import OWN

    earlier = json.loads((init / "contest.json").read_text())["steps"] if init else 0
    wanted = replace(wanted, seed=wanted.seed + earlier)
    runners: list[Runner] = []
    try:
        for engine in OWN:
            runners.append(Runner(wanted, engine, folder / "runs" / engine, init, prepare))
            if engine == OWN[0]:
                runners[0].answer()  # it decodes the sprites, the others then find its cache
        for runner in runners[1:]:
            runner.answer()
        all_of(runners, "train", plan.warm)
        print(f"{now() - began:.0f} s are gone; all are compiled", flush=True)
        start = now()
        all_of(runners, "train", plan.warm + plan.measured)
        trained = now()
        all_of(runners, "save")
        saved = now()
        step, saving = (trained - start) / plan.measured, saved - trained
        left = (1 - MARGIN) * (60 * plan.minutes - (saved - began))
        steps = plan.warm + plan.measured + steps_in(left, step, saving)
        print(f"{step:.4f} s a step of all, {saving:.1f} s to save: {steps} steps for each", flush=True)
        all_of(runners, "end_after", steps)
        for until in range(plan.warm + plan.measured + plan.stride, steps, plan.stride):
            all_of(runners, "train", until)
        facts = all_of(runners, "finish")
        seconds = now() - began
        print(f"Trained in {seconds:.0f} s of {60 * plan.minutes:.0f}", flush=True)
    finally:
        for runner in runners:
            runner.stop()
    hand_over(folder, about(wanted, dict(zip(OWN, facts, strict=True)), earlier, step))


class Runner:
    """An engine's training in a process of its own, told what to do one thing at a time."""

    def __init__(
        self, wanted: Any, engine: str, folder: Path, init: Path | None, prepare: Callable[[], None] | None
    ):
        spawn = multiprocessing.get_context("spawn")  # CUDA and torch's threads do not outlive a fork
        self.engine = engine
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(
            target=serve, args=(theirs, wanted, engine, folder, init and init / engine, prepare), daemon=False
        )
        self.process.start()
        theirs.close()

    def ask(self, what: str, *arguments: Any) -> None:
        """One of Training's methods."""
        self.pipe.send((what, arguments))

    def answer(self) -> Any:
        """What it gave. Raises RuntimeError when it failed or is gone."""
        try:
            done, answer = self.pipe.recv()
        except EOFError as error:
            raise RuntimeError(f"The process that trained {self.engine} has ended.") from error
        if not done:
            raise RuntimeError(f"Training {self.engine} failed: {answer}")
        return answer

    def stop(self) -> None:
        """Ended by the closed pipe, or as it is."""
        self.pipe.close()
        self.process.join(timeout=20)
        if self.process.is_alive():
            self.process.terminate()


def all_of(runners: Sequence[Runner], what: str, *arguments: Any) -> list[Any]:
    """Have all of them do something at the same time; what each gave."""
    for runner in runners:
        runner.ask(what, *arguments)
    return [runner.answer() for runner in runners]


def serve(pipe: Connection, wanted: Any, engine: str, folder: Path, init: Path | None, prepare: Any) -> None:
    """A runner's process: does what it is asked until the pipe is closed. Its first answer says that it is ready."""
    training: Training | None = None
    while True:
        try:
            if training is None:
                if prepare is not None:
                    prepare()
                training = Training(wanted, engine, folder, init)
                answer = None
            else:
                what, arguments = pipe.recv()
                answer = getattr(training, what)(*arguments)
            pipe.send((True, answer))
        except (EOFError, BrokenPipeError):
            return
        except Exception as error:
            import traceback

            pipe.send((False, f"{error}\n{traceback.format_exc()}"))
            return


class Training:
    """An engine's trainer, whose end is not known at first."""

    def __init__(self, wanted: Any, engine: str, folder: Path, init: Path | None):
        from lazydiffusion.training.trainer import Trainer

        settings = wanted.for_engine(engine).ending_after(NO_END).written_to(folder)
        settings = replace(settings, output=replace(settings.output, samples_every=1e6))
        draws = settings.objective.draws

        def report(at: Any) -> None:
            rate = at.scenes_per_second * draws
            print(
                f"{engine} {at.share:.3f} step {at.step} loss {at.loss:.4f} {rate:.0f} samples/s", flush=True
            )

        self.trainer = Trainer(settings, init_from=init, report=report)

    def train(self, until: int) -> None:
        """Up to this step; returns when the device has done them."""
        import torch

        self.trainer.run(until=until)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def save(self) -> None:
        """Weights, state and samples."""
        self.trainer.save()

    def end_after(self, steps: int) -> None:
        """From here on the learning rates fall towards this end."""
        self.trainer.settings = self.trainer.settings.ending_after(steps)

    def finish(self) -> dict[str, Any]:
        """The last steps; what the comparison has to be read with."""
        self.trainer.run()
        average = self.trainer.average
        return {
            "steps": self.trainer.clock.step,
            "parameters": sum(p.numel() for p in average.parameters()),
            "decoder_parameters": sum(p.numel() for p in average.decoder.parameters()),
            "gflop_a_sample": {
                str(bucket): round(flops / self.trainer.settings.objective.draws / 1e9, 3)
                for bucket, flops in self.trainer.flops_per_scene.items()
            },
        }


def about(wanted: Any, engines: dict[str, dict[str, Any]], earlier: int, step: float) -> dict[str, Any]:
    """All of that. Raises RuntimeError for trainings that were not equal."""
    done = {engine: facts.pop("steps") for engine, facts in engines.items()}
    if len(set(done.values())) != 1:
        raise RuntimeError(f"The engines have had different numbers of steps: {done}.")
    [steps] = set(done.values())
    scenes = wanted.optimiser.batch * (steps + earlier)
    return {
        "steps": steps + earlier,
        "steps_in_this_run": steps,
        "seconds_a_step_of_all": round(step, 4),
        "scenes": scenes,
        "noisy_samples": scenes * wanted.objective.draws,
        "seed": wanted.seed,
        "engines": engines,
    }


def hand_over(folder: Path, facts: dict[str, Any]) -> None:
    """Export and pack each engine's averaged weights, and what is known of the run."""
    from lazydiffusion.commands.export import run as exported

    text = json.dumps(facts, indent=1) + "\n"
    for engine in facts["engines"]:
        exported(folder / "runs" / engine / "ema", folder / "exported" / engine, STEPS, GUIDANCE, engine)
        pack(folder / "exported" / engine, folder / "fetch" / engine)
        samples = max((folder / "runs" / engine / "samples").glob("*.png"))
        (folder / "fetch" / f"{engine}.png").write_bytes(samples.read_bytes())
    for place in (folder / "exported", folder / "fetch"):
        (place / "contest.json").write_text(text)
    print(f"To be fetched: {folder / 'fetch'}", flush=True)
