"""The training loop: `lazydiffusion train CONFIG.toml`, one process or (`accelerate launch -m lazydiffusion`) many."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode

from lazydiffusion.devices import matrix_product_rate
from lazydiffusion.engines.names import LAZY
from lazydiffusion.errors import BadInput, BadModel
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.masked_patches import MaskedPatches
from lazydiffusion.models.prompt_encoder import PromptEncoder
from lazydiffusion.training.captions import CaptionBank, encode_captions
from lazydiffusion.training.first_weights import start_from_patches
from lazydiffusion.training.framing import FRAMING
from lazydiffusion.training.grids import contact_sheet, fill_scenes
from lazydiffusion.training.objective import LazyObjective
from lazydiffusion.training.optimisers import learning_rate_share, make_optimisers, set_learning_rates
from lazydiffusion.training.scenes import SceneMaker, Scenes
from lazydiffusion.training.settings import ALL_SETS, Settings
from lazydiffusion.training.sprites import SpriteBank, load_bank

EMA_FOLDER = "ema"
STATE_FOLDER = "state"
FIRST_SCENES, FIRST_BATCHES = 64, 8
"""Of the scenes whose patches tell a training from scratch where to begin."""
COUNTED = 4
"""Scenes whose operations are counted, once for each bucket."""


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
        precision = "bf16" if torch.cuda.is_available() else "no"
        self.accelerator = Accelerator(
            mixed_precision=precision, log_with="tensorboard", project_dir=self.folder
        )
        self.say = say if self.accelerator.is_main_process else lambda _: None
        self.accelerator.init_trackers("log")
        set_seed(settings.seed, device_specific=True)
        torch.set_float32_matmul_precision("high")
        device = self.accelerator.device
        self.generator = torch.Generator(device).manual_seed(settings.seed + self.accelerator.process_index)

        model = make_model(settings)
        self.frame = FRAMING[settings.engine]
        if init_from is not None:
            load_weights(model, init_from)
            self.say(f"Weights taken from {init_from}.")
        if resume and not (self.folder / STATE_FOLDER).is_dir():
            raise BadModel(
                f"There is nothing to resume in {self.folder / STATE_FOLDER}: start the run without --resume."
            )

        self.bank, self.held_out = self._load_sprites()
        self.captions = self._load_captions(self.bank)
        self.held_out_captions = self._load_captions(self.held_out)
        self.maker = SceneMaker(
            self.bank, settings.data.window_tokens, settings.data.overview_tokens, self.generator
        )

        model.to(device)
        if init_from is None and not resume:
            largest = max(settings.data.buckets)
            scenes = (self.frame(self.maker.make(FIRST_SCENES, largest)) for _ in range(FIRST_BATCHES))
            start_from_patches(model, scenes)
        # Not swa_utils.AveragedModel: it copies a number to the device at every update and waits for it.
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        self.blend = get_ema_multi_avg_fn(settings.optimiser.ema)
        if settings.compile:
            compile_blocks(model)
        optimisers = make_optimisers(model, settings.optimiser)
        self.model, *self.optimisers = self.accelerator.prepare(model, *optimisers)
        self.clock = Clock()
        self.accelerator.register_for_checkpointing(self.clock, self.average, GeneratorState(self.generator))
        if resume:
            self._resume()
        self.flops_per_scene: dict[int, float] = {}
        self.ceiling = matrix_product_rate(device, torch.bfloat16 if device.type == "cuda" else torch.float32)

    def run(self) -> Path:
        """Train to the end; gives the folder of the averaged weights."""
        settings = self.settings
        started, last_save = time.monotonic(), time.monotonic()
        earlier = self.clock.seconds
        losses: list[Tensor] = []
        scenes_done, flops_done, since = 0, 0.0, time.monotonic()
        buckets = random.Random(
            settings.seed + self.clock.step
        )  # the same on every process: all take one bucket
        while True:
            self.clock.seconds = earlier + time.monotonic() - started
            share = self._share()
            if share >= 1:
                break
            bucket = buckets.choices(settings.data.buckets, settings.data.bucket_weights)[0]
            first, began = bucket not in self.flops_per_scene, time.monotonic()
            losses.append(self._step(bucket, share))
            self.clock.step += 1
            if first:
                self.say(f"The first step with {bucket} tokens took {time.monotonic() - began:.1f} s.")
            scenes_done += settings.optimiser.batch * self.accelerator.num_processes
            flops_done += self.flops_per_scene[bucket] * settings.optimiser.batch
            if self.clock.step % settings.output.log_every == 0:
                loss = float(torch.stack(losses).mean())  # the loop's only wait for the device
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

    def save(self) -> None:
        """Write the averaged weights, the state to resume from, and a sample grid."""
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(self.folder / STATE_FOLDER))
        if self.accelerator.is_main_process:
            for name, part in (("context_encoder", self.average.encoder), ("decoder", self.average.decoder)):
                part.save_pretrained(self.folder / EMA_FOLDER / name)
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
        maker = SceneMaker(
            self.held_out, settings.data.window_tokens, settings.data.overview_tokens, generator
        )
        tokens = min(
            settings.data.window_tokens**2, 2 * max(settings.data.buckets)
        )  # room for the largest hole
        scenes = self.frame(maker.make(settings.output.samples, tokens))
        text, mask = self.held_out_captions.draw(scenes.sprites, generator)
        filled = fill_scenes(
            self.average, scenes, text, mask,
            steps=settings.output.sample_steps, guidance=settings.output.sample_guidance, generator=generator,
        )  # fmt: skip
        return contact_sheet(scenes, filled)

    def _step(self, bucket: int, share: float) -> Tensor:
        settings = self.settings.optimiser
        set_learning_rates(
            [getattr(o, "optimizer", o) for o in self.optimisers],
            learning_rate_share(self.clock.step, share, settings),
            settings,
        )
        scenes = self.frame(self.maker.make(settings.batch, bucket))
        text, mask = self.captions.draw(scenes.sprites, self.generator)
        if bucket not in self.flops_per_scene:
            self.flops_per_scene[bucket] = self._count_flops(scenes.first(COUNTED), text, mask)
        with self.accelerator.autocast():
            loss: Tensor = self.model(scenes, text, mask, self.generator)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), settings.clip)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        with torch.no_grad():
            model = self.accelerator.unwrap_model(self.model)
            self.blend(list(self.average.parameters()), list(model.parameters()), 0)
        return loss.detach()

    def _count_flops(self, scenes: Scenes, text: Tensor, mask: Tensor) -> float:
        """Operations per scene, forward and backward, of a bucket.

        Counted on few scenes, for they run uncompiled so that the counter sees everything, and need more memory.
        """
        state = self.generator.get_state()
        model: LazyObjective = self.accelerator.unwrap_model(self.model)
        count = len(scenes.window)
        with FlopCounterMode(display=False) as counter, torch.compiler.set_stance("force_eager"):
            with self.accelerator.autocast():
                loss = model(scenes, text[:count], mask[:count], self.generator)
            loss.backward()
        model.zero_grad()
        self.generator.set_state(state)
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

    def _load_sprites(self) -> tuple[SpriteBank, SpriteBank]:
        """(training sprites, held-out sprites), on the device. One process decodes, the others then find its cache."""
        data = self.settings.data
        cache = Path(data.cache) if data.cache else None
        with self.accelerator.main_process_first():
            bank = load_bank(Path(data.shards), side=data.sprite_side, cache=cache)
        if ALL_SETS not in data.sets:
            bank = bank.of_sets(data.sets)
        held_out = bank.held_out()
        if not held_out.any() or held_out.all():
            raise BadInput(
                f"{data.shards} holds {len(bank)} sprites, too few to keep some apart for the samples: add more."
            )
        self.say(f"{int((~held_out).sum())} sprites to train on, {int(held_out.sum())} held out.")
        return bank.subset(~held_out).to(self.accelerator.device), bank.subset(held_out).to(
            self.accelerator.device
        )

    def _load_captions(self, bank: SpriteBank) -> CaptionBank:
        data = self.settings.data
        cache = Path(data.cache) if data.cache else None
        encoder = PromptEncoder().to(self.accelerator.device)
        with self.accelerator.main_process_first():
            return encode_captions(bank, encoder, data.captions, cache)

    def _resume(self) -> None:
        self.accelerator.load_state(str(self.folder / STATE_FOLDER))
        self.say(f"Resumed at step {self.clock.step}.")


def make_model(settings: Settings) -> LazyObjective:
    """The networks that a run trains, with random weights: a baseline has no encoder, and the same decoder."""
    grids = {
        "window_tokens": settings.data.window_tokens,
        "overview_tokens": settings.data.overview_tokens,
    }
    decoder = settings.decoder
    encoder: ContextEncoder | MaskedPatches
    if settings.engine == LAZY:
        encoder = ContextEncoder(**{**grids, **settings.encoder})
    else:
        encoder = MaskedPatches(**grids)
        decoder = {**decoder, "context_channels": encoder.channels}
    return LazyObjective(encoder, LazyDecoder(**decoder), settings.objective)


def compile_blocks(model: LazyObjective, **options: Any) -> None:
    """Compile each block, and what makes the text's keys and values: all of a kind share what was compiled.

    A whole stack as one region calls no faster (measured on a CPU) and takes as many times as long to compile as it has
    blocks. The text is the same for every number of tokens; uncompiled it was 300 kernels, half of those left outside.
    """
    for block in [*model.encoder.blocks, *model.decoder.blocks]:
        block.compile(dynamic=False, **options)
    for block in model.decoder.blocks:
        attention: Any = block.text_attention
        attention.keys_values = torch.compile(attention.keys_values, dynamic=False, **options)


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


class GeneratorState:
    """The scenes' random generator, as part of the state that is resumed."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def state_dict(self) -> dict[str, Tensor]:
        """Its state."""
        return {"state": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved state."""
        self.generator.set_state(state["state"].cpu())


def load_weights(model: LazyObjective, folder: Path) -> None:
    """Take the weights of a checkpoint folder (`context_encoder/`, `decoder/`), such as a run's `ema`.

    A part that has no weights is passed over. Raises BadModel when the folder holds none, or weights of other shapes.
    """
    for name, part in (("context_encoder", model.encoder), ("decoder", model.decoder)):
        if not any(True for _ in part.parameters()):
            continue
        file = folder / name / "diffusion_pytorch_model.safetensors"
        if not file.is_file():
            raise BadModel(
                f"{folder} is no checkpoint: {file} is missing. Give a folder with context_encoder/ and decoder/."
            )
        try:
            part.load_state_dict(load_file(file))
        except RuntimeError as error:
            raise BadModel(f"{file} does not fit the configured {name}: {error}") from error
