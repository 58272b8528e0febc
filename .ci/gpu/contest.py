"""The three engines trained beside each other for the same number of steps, each in a process of its own.

All have the same data, batch and decoder, and see the same scenes, step by step (lazydiffusion.training.trainer), so
with as many steps they have had as many samples. The host, which launches the steps, is slower than such a GPU, so each
has a process of its own. They go in lockstep: the first of them waits
until the last has taken as many steps, and all end together. How many steps fit into the time is found out by steps
that count. Every few minutes all save their weights, and when one fails, what was saved last is handed over.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import time
import traceback
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
    kept: int = 400
    """Steps after which all save what they have."""


def steps_in(seconds: float, step: float, saving: float, kept: int) -> int:
    """How many steps of so many seconds last `seconds`, with a saving at the end and after every `kept` of them.

    Raises ValueError for none.
    """
    steps = int((seconds - saving) / (step + saving / kept))
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
    engine that fails, when the weights that all saved before are packed.
    """
    began = now()
    from lazydiffusion.engines.names import OWN

    earlier = json.loads((init / "contest.json").read_text())["steps"] if init else 0
    wanted = replace(wanted, seed=wanted.seed + earlier)
    saved_at, pace = 0, 0.0
    runners: list[Runner] = []

    def hand_over(steps: int, engines: dict[str, Any]) -> None:
        facts = json.dumps(about(wanted, steps, earlier, pace, engines), indent=1) + "\n"
        for place in (folder / "exported", folder / "fetch"):
            (place / "contest.json").write_text(facts)
        print(f"{now() - began:.0f} s are gone. To be fetched: {folder / 'fetch'}", flush=True)

    try:
        for engine in OWN:
            runners.append(Runner(wanted, engine, folder, init, prepare))
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
        saved, saved_at = now(), plan.warm + plan.measured
        pace = (trained - start) / plan.measured
        left = (1 - MARGIN) * (60 * plan.minutes - (saved - began))
        steps = saved_at + steps_in(left, pace, saved - trained, plan.kept)
        print(
            f"{pace:.4f} s a step of all, {saved - trained:.1f} s to save: {steps} steps for each", flush=True
        )
        all_of(runners, "end_after", steps)
        for until in range(saved_at + plan.stride, steps, plan.stride):
            all_of(runners, "train", until)
            if until - saved_at >= plan.kept:
                all_of(runners, "save")
                saved_at = until
        all_of(runners, "finish")
        print(f"Trained in {now() - began:.0f} s of {60 * plan.minutes:.0f}", flush=True)
        facts = all_of(runners, "hand_over")
        hand_over(steps, dict(zip(OWN, facts, strict=True)))
    except RuntimeError as error:
        print(f"{now() - began:.0f} s are gone. {error}", flush=True)
        if saved_at:
            for engine in OWN:
                pack_saved(folder, engine)
            hand_over(saved_at, dict.fromkeys(OWN))
        raise
    finally:
        for runner in runners:
            runner.stop()


class Runner:
    """An engine's training in a process of its own, told what to do one thing at a time."""

    def __init__(
        self, wanted: Any, engine: str, folder: Path, init: Path | None, prepare: Callable[[], None] | None
    ):
        spawn = multiprocessing.get_context("spawn")  # CUDA and torch's threads do not outlive a fork
        self.engine = engine
        self.pipe, theirs = spawn.Pipe()
        arguments = (theirs, wanted, engine, folder, init and init / engine, prepare)
        self.process = spawn.Process(target=serve, args=arguments)
        self.process.start()
        theirs.close()

    def ask(self, what: str, *arguments: Any) -> None:
        """One of Training's methods. One that is gone says so when it is to answer."""
        with contextlib.suppress(OSError):
            self.pipe.send((what, arguments))

    def answer(self) -> Any:
        """What it gave. Raises RuntimeError when it failed or is gone."""
        try:
            done, answer = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"The process that trained {self.engine} has ended.") from error
        if not done:
            raise RuntimeError(f"Training {self.engine} failed: {answer}")
        return answer

    def stop(self) -> None:
        """At once: everything that it made is on the disk, and its own way out can take torch half a minute."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def all_of(runners: Sequence[Runner], what: str, *arguments: Any) -> list[Any]:
    """Have all of them do something at the same time; what each gave."""
    for runner in runners:
        runner.ask(what, *arguments)
    return [runner.answer() for runner in runners]


def serve(pipe: Connection, wanted: Any, engine: str, folder: Path, init: Path | None, prepare: Any) -> None:
    """A runner's process: does what it is asked until it is ended. Its first answer says that it is ready."""
    try:
        if prepare is not None:
            prepare()
        training = Training(wanted, engine, folder, init)
        pipe.send((True, None))
        while True:
            what, arguments = pipe.recv()
            pipe.send((True, getattr(training, what)(*arguments)))
    except Exception as error:
        pipe.send((False, f"{error}\n{traceback.format_exc()}"))


class Training:
    """An engine's trainer, whose end is not known at first."""

    def __init__(self, wanted: Any, engine: str, folder: Path, init: Path | None):
        from lazydiffusion.training.trainer import Trainer

        self.engine, self.folder = engine, folder
        settings = wanted.for_engine(engine).ending_after(NO_END).written_to(folder / "runs" / engine)
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

    def finish(self) -> None:
        """The last steps, and a last saving."""
        self.trainer.run()

    def hand_over(self) -> dict[str, Any]:
        """Export and pack; what the comparison has to be read with."""
        pack_saved(self.folder, self.engine)
        average, draws = self.trainer.average, self.trainer.settings.objective.draws
        return {
            "parameters": sum(p.numel() for p in average.parameters()),
            "decoder_parameters": sum(p.numel() for p in average.decoder.parameters()),
            "gflop_a_sample": {
                str(bucket): round(flops / draws / 1e9, 3)
                for bucket, flops in self.trainer.flops_per_scene.items()
            },
        }


def about(
    wanted: Any, steps: int, earlier: int, pace: float, engines: dict[str, dict[str, Any] | None]
) -> dict[str, Any]:
    """What the comparison has to be read with; the lockstep makes the steps every engine's."""
    scenes = wanted.optimiser.batch * (steps + earlier)
    return {
        "steps": steps + earlier,
        "steps_in_this_run": steps,
        "seconds_a_step_of_all": round(pace, 4),
        "scenes": scenes,
        "noisy_samples": scenes * wanted.objective.draws,
        "seed": wanted.seed,
        "engines": engines,
    }


def pack_saved(folder: Path, engine: str) -> None:
    """The averaged weights that an engine's run has saved last, as a checkpoint in parts, and its last samples."""
    from lazydiffusion.commands.export import run as exported

    run = folder / "runs" / engine
    exported(run / "ema", folder / "exported" / engine, STEPS, GUIDANCE, engine)
    pack(folder / "exported" / engine, folder / "fetch" / engine)
    samples = max((run / "samples").glob("*.png"))
    (folder / "fetch" / f"{engine}.png").write_bytes(samples.read_bytes())
