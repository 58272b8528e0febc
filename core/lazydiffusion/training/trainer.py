"""The training loop: `lazydiffusion train CONFIG.toml`, one process or (`accelerate launch -m lazydiffusion`) many."""

from __future__ import annotations

import copy
import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object, set_seed
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode

from lazydiffusion import output_folder
from lazydiffusion.checkpoints import VOCABULARY
from lazydiffusion.devices import matrix_product_rate, multiplies_in_bfloat16
from lazydiffusion.engines.names import LAZY
from lazydiffusion.errors import BadInput, BadModel
from lazydiffusion.models.prompt_encoder import PromptEncoder
from lazydiffusion.pipelines.sampling import Guidance
from lazydiffusion.training.captions import CaptionBank, encode_captions
from lazydiffusion.training.first_weights import start_from_patches
from lazydiffusion.training.framing import FRAMING
from lazydiffusion.training.grids import contact_sheet, fill_scenes
from lazydiffusion.training.networks import compile_blocks, load_weights, make_networks
from lazydiffusion.training.objective import LazyObjective
from lazydiffusion.training.optimisers import (
    averaging_decay,
    learning_rate_share,
    make_optimisers,
    set_learning_rates,
)
from lazydiffusion.training.scenes import SceneMaker, Scenes
from lazydiffusion.training.settings import ALL_SETS, Settings
from lazydiffusion.training.sprites import SpriteBank, load_bank
from lazydiffusion.training.supply import Supply
from lazydiffusion.training.vocabulary import find_vocabulary, load_vocabulary

EMA_FOLDER = "ema"
SCHEDULER_FOLDER = "scheduler"
"""In the averaged weights' folder: how they are to be sampled."""
STATE_FOLDER = "state"
FIRST_SCENES, FIRST_BATCHES = 64, 8
"""Of the scenes whose patches tell a training from scratch where to begin."""
COUNTED = 4
"""Scenes whose operations are counted, once for each bucket."""
NOISE_SEED = 2**31
"""How far the loss's seeds are from the scenes', which end before it; a CPU's generator takes 32 bits of a seed."""


@dataclass
class Progress:
    """What a run reports at a logging interval."""

    step: int
    share: float
    """0 at the start, 1 at the end."""
    loss: float
    scenes_per_second: float
    utilisation: float
    """Share of the device's measured matrix-product rate that the model's own operations reach."""
    seconds: float


class Trainer:
    """One training run: set up in the constructor, run by `run`."""

    def __init__(
        self,
        settings: Settings,
        *,
        init_from: Path | None = None,
        resume: bool = False,
        report: Callable[[Progress], None] | None = None,
        say: Callable[[str], None] = print,
    ):
        self.settings, self.report = settings, report
        self.folder = Path(settings.output.folder)
        claim_folder(self.folder, resume)
        half = multiplies_in_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.accelerator = Accelerator(
            mixed_precision="bf16" if half else "no", log_with="tensorboard", project_dir=self.folder
        )
        self.say = say if self.accelerator.is_main_process else lambda _: None
        self.accelerator.init_trackers("log")
        set_seed(settings.seed, device_specific=True)
        torch.set_float32_matmul_precision("high")
        device = self.accelerator.device
        self.generators = Generators(device, settings.seed, self.accelerator.process_index)

        trained = {"trained_tokens": max(settings.data.buckets)} if settings.engine == LAZY else {}
        model = make_networks(
            settings.engine, settings.encoder, settings.decoder | trained,
            settings.data.window_tokens, settings.data.overview_tokens, settings.objective,
        )  # fmt: skip
        self.frame = FRAMING[settings.engine]
        if init_from is not None:
            load_weights(model, init_from)
            self.say(f"Weights taken from {init_from}.")

        taught = settings.data.vocabulary
        self.vocabulary = load_vocabulary(find_vocabulary(taught)) if taught else {}
        self.bank, self.held_out = self._load_sprites()
        self.captions, self.held_out_captions = self._load_captions()
        self.supply = self.generators.supply = Supply(
            self._maker(self.bank, self.generators.scenes), self.captions, self.bucket,
            settings.optimiser.batch, settings.data.at_once,
        )  # fmt: skip

        model.to(device)
        if init_from is None and not resume:
            start_from_patches(model, self._first_scenes())
        # Not swa_utils.AveragedModel: it copies a number to the device at every update and waits for it.
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        if settings.compile:
            compile_blocks(model)
        optimisers = make_optimisers(model, settings.optimiser)
        self.model, *self.optimisers = self.accelerator.prepare(model, *optimisers)
        self.clock = Clock()
        self.accelerator.register_for_checkpointing(self.clock, self.average, self.generators)
        if resume:
            self._resume()
        self.flops_per_scene: dict[int, float] = {}
        self.ceiling = matrix_product_rate(device, torch.bfloat16 if half else torch.float32)

    def run(self, until: int | None = None) -> Path:
        """Train to the end; gives the folder of the averaged weights.

        `until`: stop before this step instead, and save nothing; the next call goes on.
        Raises BadInput, without saving, when the loss is no longer a number.
        """
        settings = self.settings
        started, last_save = time.monotonic(), time.monotonic()
        earlier = self.clock.seconds
        losses: list[Tensor] = []
        scenes_done, flops_done, since = 0, 0.0, time.monotonic()
        while True:
            self.clock.seconds = earlier + time.monotonic() - started
            share = self._share()
            if share >= 1:
                break
            if until is not None and self.clock.step >= until:
                return self.folder / EMA_FOLDER
            bucket = self.bucket(self.supply.first_of(self.clock.step))
            first, began = bucket not in self.flops_per_scene, time.monotonic()
            losses.append(self._step(bucket, share))
            self.clock.step += 1
            if first:
                self.say(f"The first step with {bucket} tokens took {time.monotonic() - began:.1f} s.")
            scenes_done += settings.optimiser.batch * self.accelerator.num_processes
            flops_done += self.flops_per_scene[bucket] * settings.optimiser.batch
            if self.clock.step % settings.output.log_every == 0:
                loss = float(torch.stack(losses).mean())  # the loop's only wait for the device
                if not math.isfinite(loss):  # before the next save writes over what was good
                    raise BadInput(
                        f"The loss is {loss} at step {self.clock.step}: lower `muon_rate` and `adamw_rate`. The "
                        f"weights that were saved before, if any, are in {self.folder / EMA_FOLDER}."
                    )
                elapsed = time.monotonic() - since
                self._log(
                    Progress(
                        self.clock.step, share, loss, scenes_done / elapsed,
                        flops_done / elapsed / self.ceiling, self.clock.seconds,
                    )
                )  # fmt: skip
                losses, scenes_done, flops_done, since = [], 0, 0.0, time.monotonic()
            if time.monotonic() - last_save > 60 * settings.output.samples_every:
                self.save()
                last_save = since = time.monotonic()
                losses, scenes_done, flops_done = [], 0, 0.0
        self.save()
        self.accelerator.end_training()
        return self.folder / EMA_FOLDER

    def bucket(self, step: int) -> int:
        """How many tokens the scenes that begin with that step have: the same on every process and for every engine."""
        data = self.settings.data
        return random.Random(f"{self.settings.seed} {step}").choices(data.buckets, data.bucket_weights)[0]

    def save(self) -> None:
        """Write the averaged weights, the state to resume from, and a sample grid.

        Weights and state are each replaced as a whole, for a lease may end meanwhile, and the weights come first.
        """
        main = self.accelerator.is_main_process
        ema, state = self.folder / EMA_FOLDER, self.folder / STATE_FOLDER
        new_ema, new_state = (self.folder / f"{folder.name}.new" for folder in (ema, state))
        if main:
            for left_over in (new_ema, new_state):
                shutil.rmtree(left_over, ignore_errors=True)
            for name, part in (("context_encoder", self.average.encoder), ("decoder", self.average.decoder)):
                part.save_pretrained(new_ema / name)
            self._scheduler().save_pretrained(new_ema / SCHEDULER_FOLDER)
            if self.vocabulary:
                (new_ema / VOCABULARY).write_text(json.dumps(self.vocabulary, indent=0), encoding="utf8")
            output_folder.put_in_place(new_ema, ema)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(new_state))
        self.accelerator.wait_for_everyone()
        if main:
            output_folder.put_in_place(new_state, state)
            sheet = self.sample_grid()
            picture = Image.fromarray((sheet.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
            (self.folder / "samples").mkdir(exist_ok=True)
            picture.save(self.folder / "samples" / f"step-{self.clock.step:07d}.png")
            self.accelerator.get_tracker("tensorboard").writer.add_image("samples", sheet, self.clock.step)
        self.accelerator.wait_for_everyone()

    def sample_grid(self) -> Tensor:
        """The averaged weights' fills of held-out scenes: the same scenes and noise every time."""
        settings = self.settings
        generator = torch.Generator(self.accelerator.device).manual_seed(1234)
        maker = self._maker(self.held_out, generator)
        room = 2 * max(settings.data.buckets)  # for the largest hole
        tokens = min(settings.data.window_tokens**2, room)
        scenes = self.frame(maker.make(settings.output.samples, tokens))
        text, mask = self.held_out_captions.draw(scenes.sprites, generator)
        filled = fill_scenes(
            self.average, scenes, text, mask,
            steps=settings.output.sample_steps,
            guidance=Guidance.between_shifted(settings.output.sample_guidance, settings.objective.shift),
            scheduler=self._scheduler(), generator=generator,
        )  # fmt: skip
        return contact_sheet(scenes, filled)

    def _scheduler(self) -> FlowMatchEulerDiscreteScheduler:
        """What the model is to be sampled with."""
        return FlowMatchEulerDiscreteScheduler(shift=self.settings.objective.shift)

    def _step(self, bucket: int, share: float) -> Tensor:
        settings = self.settings.optimiser
        set_learning_rates(
            [getattr(o, "optimizer", o) for o in self.optimisers],
            learning_rate_share(self.clock.step, share, settings),
            settings,
        )
        scenes, text, mask = self.supply.take(self.clock.step)
        scenes = self.frame(scenes)
        if bucket not in self.flops_per_scene:
            self.flops_per_scene[bucket] = self._count_flops(scenes.first(COUNTED), text, mask)
        with self.accelerator.autocast():
            loss: Tensor = self.model(scenes, text, mask, self.generators.noise)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), settings.clip)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        with torch.no_grad():
            model = self.accelerator.unwrap_model(self.model)
            blend = get_ema_multi_avg_fn(averaging_decay(self.clock.step, settings))
            blend(list(self.average.parameters()), list(model.parameters()), 0)
        return loss.detach()

    def _count_flops(self, scenes: Scenes, text: Tensor, mask: Tensor) -> float:
        """Operations per scene, forward and backward, of a bucket.

        Counted on few scenes, for they run uncompiled so that the counter sees everything, and need more memory.
        """
        state = self.generators.noise.get_state()
        model: LazyObjective = self.accelerator.unwrap_model(self.model)
        count = len(scenes.window)
        with FlopCounterMode(display=False) as counter, torch.compiler.set_stance("force_eager"):
            with self.accelerator.autocast():
                loss = model(scenes, text[:count], mask[:count], self.generators.noise)
            loss.backward()
        model.zero_grad()
        self.generators.noise.set_state(state)
        return float(counter.get_total_flops()) / count

    def _share(self) -> float:
        """How much of the run is done, by steps or by time; every process gets the first one's answer."""
        settings = self.settings.optimiser
        share = self.clock.step / settings.steps
        if settings.minutes > 0:
            share = max(share, self.clock.seconds / (60 * settings.minutes))
            if self.accelerator.num_processes > 1:
                share = float(broadcast(torch.tensor(share, device=self.accelerator.device)))
        return share

    def _log(self, progress: Progress) -> None:
        self.accelerator.log(
            {
                "loss": progress.loss,
                "scenes per second": progress.scenes_per_second,
                "model-FLOP utilisation": progress.utilisation,
            },
            step=progress.step,
        )
        if self.report is not None and self.accelerator.is_main_process:
            self.report(progress)

    def _maker(self, bank: SpriteBank, generator: torch.Generator) -> SceneMaker:
        """Of the run's kind of scenes."""
        data = self.settings.data
        return SceneMaker(bank, data.window_tokens, data.overview_tokens, generator, self.settings.scenes)

    def _first_scenes(self) -> Iterator[Scenes]:
        """Scenes to look at before the first step; from the noise's generator, so that scene n stays scene n."""
        maker, bucket = self._maker(self.bank, self.generators.noise), max(self.settings.data.buckets)
        return (self.frame(maker.make(FIRST_SCENES, bucket)) for _ in range(FIRST_BATCHES))

    def _load_sprites(self) -> tuple[SpriteBank, SpriteBank]:
        """(training sprites, held-out sprites), on the device. One process decodes, the others then find its cache."""
        data = self.settings.data
        cache = Path(data.cache) if data.cache else None
        with self.accelerator.main_process_first():
            bank = load_bank(Path(data.shards), side=data.sprite_side, cache=cache)
        if ALL_SETS not in data.sets:
            bank = bank.of_sets(data.sets)
        if self.vocabulary:
            bank = bank.of_vocabulary(self.vocabulary)
        held_out = bank.held_out()
        if not held_out.any() or held_out.all():
            raise BadInput(
                f"{data.shards} holds {len(bank)} sprites, too few to keep some apart for the samples: add more."
            )
        self.say(f"{int((~held_out).sum())} sprites to train on, {int(held_out.sum())} held out.")
        device = self.accelerator.device
        return bank.subset(~held_out).to(device), bank.subset(held_out).to(device)

    def _load_captions(self) -> tuple[CaptionBank, CaptionBank]:
        """Of both kinds of sprites, likewise."""
        data = self.settings.data
        cache = Path(data.cache) if data.cache else None
        encoder = PromptEncoder().to(self.accelerator.device)
        with self.accelerator.main_process_first():
            training, held_out = (
                encode_captions(bank, encoder, data.captions, cache) for bank in (self.bank, self.held_out)
            )
        return training, held_out

    def _resume(self) -> None:
        try:
            self.accelerator.load_state(str(self.folder / STATE_FOLDER))
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            reason = str(error).strip().partition("\n")[0].rstrip(":.")
            raise BadModel(
                f"The state in {self.folder / STATE_FOLDER} does not fit this configuration ({reason}): resume it with "
                "the configuration that it was trained with, or start another run with --init-from and --out."
            ) from error
        self.say(f"Resumed at step {self.clock.step}.")


class Clock:
    """Steps and seconds of training so far; part of the state that is resumed."""

    def __init__(self) -> None:
        self.step, self.seconds = 0, 0.0

    def state_dict(self) -> dict[str, float]:
        """Steps and seconds."""
        return {"step": self.step, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a saved state."""
        self.step, self.seconds = int(state["step"]), float(state["seconds"])


class Generators:
    """The random generators of one process: what scenes are made with, and what the loss draws.

    Two of them, for how much noise a loss draws depends on the engine's number of tokens: scene n, with its caption, is
    the same for every engine. Their states are a part of what is resumed, those of all processes.
    """

    def __init__(self, device: torch.device, seed: int, process: int):
        self.process = process
        self.scenes = torch.Generator(device).manual_seed(seed + process)
        self.noise = torch.Generator(device).manual_seed(NOISE_SEED + seed + process)
        self.supply: Supply | None = None
        """What draws on `scenes`, and may have drawn more than was trained on."""

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Their states by process. Every process has to call it."""
        return {
            "scenes": gather_object([self.supply.state() if self.supply else self.scenes.get_state()]),
            "noise": gather_object([self.noise.get_state()]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        What it has nothing of begins as in a new run: a process that there was not, and the noise in a state of before
        it had a generator of its own (`state`, the first process's scenes).
        """
        for generator, states in (
            (self.scenes, state.get("scenes") or [state["state"]]),
            (self.noise, state.get("noise", [])),
        ):
            if self.process < len(states):
                generator.set_state(states[self.process].cpu())


def claim_folder(folder: Path, resume: bool) -> None:
    """Make a run's folder, and see that it can be written to and that no earlier run is lost in it.

    Raises BadModel when there is nothing to resume, BadInput for a folder that holds a run, CannotWrite.
    """
    if resume and not (folder / STATE_FOLDER).is_dir():
        raise BadModel(
            f"There is nothing to resume in {folder / STATE_FOLDER}: start the run without --resume."
        )
    held = [name for name in (EMA_FOLDER, STATE_FOLDER) if (folder / name).exists()]
    if held and not resume:
        raise BadInput(
            f"{folder} holds a run already ({', '.join(f'{name}/' for name in held)}), which a new one would write "
            "over: give --resume, or another folder with --out."
        )
    output_folder.check(folder, keep=True)  # of several processes, none takes it from the others
