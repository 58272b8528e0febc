"""The engine of our own models: the lazy one, whose cost follows the mask, and the baselines beside it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lazydiffusion import checkpoints
from lazydiffusion.devices import Choice
from lazydiffusion.engines.base import Edit, Fill, Progress, Report, Step
from lazydiffusion.engines.layout import Layout
from lazydiffusion.engines.names import pipeline_class
from lazydiffusion.engines.stages import Clock, loading_errors, memory_errors, quiet
from lazydiffusion.errors import BadModel
from lazydiffusion.pipelines.kept import Kept
from lazydiffusion.pipelines.lazy import CanvasReading, LazyDiffusionPipeline
from lazydiffusion.pipelines.regenerate import RegenerateCropPipeline, RegenerateImagePipeline

PIPELINES = {
    kind.__name__: kind for kind in (LazyDiffusionPipeline, RegenerateImagePipeline, RegenerateCropPipeline)
}


class LazyEngine:
    """Runs edits on a LazyDiffusionPipeline, or on one of the two that share its calls (pipelines.regenerate)."""

    def __init__(self, pipeline: LazyDiffusionPipeline):
        self.pipeline = pipeline
        self._kept = Kept[CanvasReading]()
        pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def load(cls, model: str | Path, choice: Choice) -> LazyEngine:
        """Load a checkpoint onto a device: by name, folder or hub id, or from a folder that is verified already.

        Raises BadModel, OutOfMemory.
        """
        where = checkpoints.locate(model) if isinstance(model, str) else model
        with memory_errors():
            return cls(load_pipeline(where, choice))

    def run(
        self, edit: Edit, report: Report, progress: Progress | None = None, frugal: bool = False
    ) -> Iterator[Fill]:
        """Make the fills; the encoders run once, or not at all after an edit of the same. See engines.base.Engine."""
        settings, pipeline = edit.settings, self.pipeline
        if frugal:
            self.forget()
            pipeline.drop_graphs()
        with memory_errors(self.forget):
            clock = Clock(report, pipeline.device)
            layout = Layout.of(edit, partial(pipeline.plan, edit.canvas), report)
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
                kept=self._kept,
            )
            report.steps = prepared.steps - prepared.first_step
            clock.lap("encode")
            for number in range(settings.variations):

                def on_step(i: int, timestep: Tensor, tokens: Tensor, clean: Tensor, n: int = number) -> None:
                    if progress is not None:
                        preview = partial(pipeline.preview, prepared, clean)
                        progress(Step(n, i + 1, report.steps, plan.fill_box, preview))

                seed = settings.seed + number
                generator = torch.Generator().manual_seed(seed)
                colours = pipeline.fill(prepared, generator, on_step, frugal)
                clock.lap("denoise")
                fill = layout.finished(colours, seed)
                clock.lap("compose")
                yield fill
                clock.restart()

    def forget(self) -> None:
        """Let go of what the last edit read of its canvas."""
        self._kept.forget()


def load_pipeline(where: Path | str, choice: Choice) -> LazyDiffusionPipeline:
    """A pipeline from a verified folder or a hub id, on its device. Raises BadModel when it cannot be loaded."""
    quiet()
    kind = PIPELINES.get(name := pipeline_class(where))
    if kind is None:
        raise BadModel(f"The model {where} is a {name}; it must be one of {', '.join(PIPELINES)}.")
    with loading_errors(where):
        pipeline: LazyDiffusionPipeline = kind.from_pretrained(
            where, dtype=choice.dtype, use_safetensors=True, local_files_only=isinstance(where, Path)
        )
    pipeline.to(choice.device)
    return pipeline
