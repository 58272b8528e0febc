"""FLUX.2-klein as an engine: a pretrained editing model, whose steps follow the mask (pipelines.flux2_klein)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel
from torch import Tensor
from transformers import Qwen3ForCausalLM

from lazydiffusion.devices import Choice
from lazydiffusion.engines.base import Edit, Fill, Progress, Report, Step
from lazydiffusion.engines.flux2_memory import Need, choose_placement, free_bytes
from lazydiffusion.engines.flux2_weights import shrink
from lazydiffusion.engines.layout import Layout
from lazydiffusion.engines.stages import EventClock, loading_errors, memory_errors, quiet
from lazydiffusion.errors import BadModel
from lazydiffusion.models import lazy_vae
from lazydiffusion.pipelines.flux2_klein import TEXT_LENGTH, WINDOW_TOKENS, LazyFlux2KleinPipeline
from lazydiffusion.pipelines.flux2_latents import WindowReading
from lazydiffusion.pipelines.flux2_reference import Laziness
from lazydiffusion.pipelines.flux2_text import drop_unread_layers
from lazydiffusion.pipelines.kept import Kept
from lazydiffusion.window import PATCH


@dataclass(frozen=True)
class Flux2KleinOptions:
    """How the engine runs; what an edit itself asks for is in its settings."""

    laziness: Laziness = field(default_factory=Laziness)
    window_tokens: int = WINDOW_TOKENS
    """Side of a square window, tokens of 16 px; larger windows are scaled down to it."""
    text_length: int = TEXT_LENGTH
    """Words that every text is padded to."""
    placement: str | None = None
    """Where the models lie, one of flux2_placement.PLACEMENTS; None: by how much of the GPU's memory is free."""


class Flux2KleinEngine:
    """Runs edits on a LazyFlux2KleinPipeline."""

    def __init__(self, pipeline: LazyFlux2KleinPipeline, options: Flux2KleinOptions | None = None):
        self.pipeline = pipeline
        self.options = options or Flux2KleinOptions()
        self._kept = Kept[WindowReading]()
        pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def load(
        cls, where: Path | str, choice: Choice, options: Flux2KleinOptions | None = None
    ) -> Flux2KleinEngine:
        """Load a verified folder or a hub id onto a device. Raises BadInput, BadModel, OutOfMemory."""
        options = options or Flux2KleinOptions()
        with memory_errors():
            pipeline = load_pipeline(where, choice)
            shrink(pipeline, choice.weights)
            free = free_bytes(choice.device)
            if options.placement is not None:
                pipeline.placement = options.placement
            elif free is not None:
                pipeline.placement = choose_placement(Need.of(pipeline), free)
            pipeline.place(choice.device)
            return cls(pipeline, options)

    @property
    def window_tokens(self) -> int:
        """Side of the window that the model is shown, in tokens of 16 px."""
        return self.options.window_tokens

    def run(
        self, edit: Edit, report: Report, progress: Progress | None = None, frugal: bool = False
    ) -> Iterator[Fill]:
        """Make the fills; VAE, text and reference are read once, and not again while the window stays as it is.

        See engines.base.Engine.
        `frugal`: text encoder and transformer take turns on the device, from this edit on.
        """
        settings, pipeline = edit.settings, self.pipeline
        if frugal:
            self.forget()
            pipeline.take_turns()
        with memory_errors(self.forget):
            clock = EventClock(report, pipeline.device)
            choose_plan = partial(pipeline.plan, edit.canvas, window_tokens=self.options.window_tokens)
            layout = Layout.of(edit, choose_plan, report)
            plan = layout.plan
            clock.lap("plan")
            prepared = pipeline.prepare(
                edit.canvas,
                layout.mask,
                settings.prompt,
                plan=plan,
                negative_prompt=settings.negative_prompt,
                sketch=edit.sketch,
                strength=settings.strength,
                steps=settings.steps,
                guidance=settings.guidance,
                max_sequence_length=self.options.text_length,
                laziness=self.options.laziness,
                kept=self._kept,
                on_stage=clock.lap,
            )
            report.steps = prepared.steps
            for number in range(settings.variations):

                def on_step(i: int, timestep: Tensor, tokens: Tensor, clean: Tensor, n: int = number) -> None:
                    if progress is not None:
                        preview = partial(pipeline.preview, prepared, clean)
                        progress(Step(n, i + 1, report.steps, plan.fill_box, preview))

                seed = settings.seed + number
                generator = torch.Generator().manual_seed(seed)
                colours = pipeline.fill(prepared, generator, on_step, clock.lap)
                fill = layout.finished(colours, seed)
                clock.lap("compose")
                clock.settle()
                yield fill
                clock.restart()

    def forget(self) -> None:
        """Let go of what the last edit read of its window."""
        self._kept.forget()


def load_pipeline(where: Path | str, choice: Choice) -> LazyFlux2KleinPipeline:
    """A pipeline from a verified folder or a hub id, on the CPU. Raises BadModel when it cannot be loaded."""
    quiet()
    with loading_errors(where, "loaded as a FLUX.2-klein"):
        pipeline: LazyFlux2KleinPipeline = LazyFlux2KleinPipeline.from_pretrained(
            where, dtype=choice.dtype, use_safetensors=True, local_files_only=isinstance(where, Path)
        )
    check_components(pipeline, where)
    drop_unread_layers(pipeline.text_encoder)
    return pipeline


def check_components(pipeline: LazyFlux2KleinPipeline, where: Path | str) -> None:
    """Raise BadModel where a part is of another architecture than FLUX.2-klein's, or does not fit the others."""
    for name, kind in (
        ("transformer", Flux2Transformer2DModel),
        ("vae", AutoencoderKLFlux2),
        ("text_encoder", Qwen3ForCausalLM),
        ("scheduler", FlowMatchEulerDiscreteScheduler),
    ):
        part = getattr(pipeline, name)
        if not isinstance(part, kind):
            raise BadModel(
                f"{where} is no FLUX.2-klein: its {name} is a {type(part).__name__}, not a {kind.__name__}."
            )
    # Where a tokenizer's files are missing, an empty one is made, and every prompt would be read as nothing.
    if pipeline.tokenizer.chat_template is None or not pipeline.tokenizer("a").input_ids:
        raise BadModel(
            f"{where} is no whole FLUX.2-klein: its tokenizer lacks its words or its chat template. Download it again."
        )
    lazy_vae.check_local(pipeline.vae)
    transformer, latents = pipeline.transformer.config, 4 * pipeline.vae.config.latent_channels
    words = 3 * pipeline.text_encoder.config.hidden_size
    for what, found, expected in (
        ("transformer's tokens have", transformer.in_channels, latents),
        ("transformer's words have", transformer.joint_attention_dim, words),
        ("tokens are wide, in px,", 2 * pipeline.vae_scale_factor, PATCH),
    ):
        if found != expected:
            raise BadModel(
                f"{where} is no whole FLUX.2-klein: its {what} {found} where its other parts need {expected}."
            )
