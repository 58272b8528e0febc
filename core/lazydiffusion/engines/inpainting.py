"""Any inpainting pipeline of diffusers as an engine: it is shown a window around the mask, at the size that it likes.

Nothing here is lazy: such a pipeline denoises all of its window at every step. What the mask hides is kept of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoPipelineForInpainting, Flux2KleinInpaintPipeline
from PIL import Image

from lazydiffusion import checkpoints, compose, geometry
from lazydiffusion.devices import Choice
from lazydiffusion.engines.base import Edit, Fill, Pixels, Progress, Report, Step
from lazydiffusion.engines.layout import Layout
from lazydiffusion.engines.names import FLUX2_KLEIN, engine_of
from lazydiffusion.engines.stages import Clock, loading_errors, memory_errors, quiet
from lazydiffusion.errors import BadInput
from lazydiffusion.geometry import EditPlan, Framing
from lazydiffusion.pipelines import sketches
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import choose_canvas, choose_crop, choose_window

SKETCH_STRENGTH = 0.8
"""A fill with a sketch starts from it with this much noise (SDEdit, Meng et al. 2022), unless told otherwise."""
PREVIEW_SHRINK = 4
"""A preview decodes latents of 1 / 4 of the size: a sixteenth of the work."""


VIEWS: dict[str, Framing] = {"window": choose_window, "crop": choose_crop, "canvas": choose_canvas}
"""What of the canvas a pipeline is shown: the mask with as much around it, hardly more than the mask (as diffusers'
`padding_mask_crop` does), or all of it (as diffusers does by itself)."""


class InpaintEngine:
    """Runs edits on a pipeline that `AutoPipelineForInpainting` knows, or on Flux2KleinInpaintPipeline.

    `view`: a key of VIEWS. `defaults`: arguments of the pipeline's call, for settings that an edit leaves to the model.
    """

    def __init__(self, pipeline: Any, view: str = "window", defaults: Mapping[str, Any] | None = None):
        self.pipeline = pipeline
        self.defaults = dict(defaults or {})
        self.framing = VIEWS[view]
        pipeline.set_progress_bar_config(disable=True)
        self.parameters = inspect.signature(pipeline.__call__).parameters

    @classmethod
    def load(cls, where: Path | str, choice: Choice, view: str = "window") -> InpaintEngine:
        """Load a verified folder or a hub id onto a device. Raises BadModel, OutOfMemory."""
        quiet()
        is_klein = engine_of(where) == FLUX2_KLEIN
        kind = Flux2KleinInpaintPipeline if is_klein else AutoPipelineForInpainting  # which does not know it
        with memory_errors():
            with loading_errors(where, "used for inpainting"):
                pipeline = kind.from_pretrained(
                    where, dtype=choice.dtype, use_safetensors=True, local_files_only=isinstance(where, Path),
                    variant=_variant(where) if isinstance(where, Path) else None,
                )  # fmt: skip
            defaults = _klein_defaults(pipeline, where) if is_klein else None
            pipeline.to(choice.device)
            return cls(pipeline, view, defaults)

    @property
    def window_tokens(self) -> int:
        """Side of the window that it is shown, in tokens of 16 px."""
        network = getattr(self.pipeline, "unet", None) or getattr(self.pipeline, "transformer", None)
        side = getattr(getattr(network, "config", None), "sample_size", None)
        return checkpoints.native_window(side, self.pipeline.vae_scale_factor)

    def run(
        self, edit: Edit, report: Report, progress: Progress | None = None, frugal: bool = False
    ) -> Iterator[Fill]:
        """Make the fills. See engines.base.Engine. Raises BadInput for settings that the pipeline has not."""
        settings, canvas = edit.settings, edit.canvas
        with memory_errors():
            clock = Clock(report, self.pipeline.device)
            choose_plan = partial(
                geometry.plan, canvas.size,
                region=canvas.region, window_tokens=self.window_tokens, framing=self.framing,
            )  # fmt: skip
            layout = Layout.of(edit, choose_plan, report)
            plan = layout.plan
            given = self._arguments(settings, edit.sketch is not None)
            picture = _window(edit, layout)
            hidden = layout.mask[layout.local_box.slices()] > 0
            window = plan.window.moved(-plan.fill_box.x, -plan.fill_box.y)
            hole = compose.touched(hidden, plan.working_size, window)
            if frugal and hasattr(self.pipeline, "enable_vae_tiling"):
                self.pipeline.enable_vae_tiling()
            clock.lap("plan")
            for number in range(settings.variations):

                def on_step(
                    pipeline: Any, index: int, timestep: Any, tensors: dict[str, Any], n: int = number
                ) -> dict[str, Any]:
                    report.steps = int(pipeline.num_timesteps)
                    if progress is not None:
                        preview = partial(self._preview, tensors.get("latents"), picture, plan)
                        progress(Step(n, index + 1, report.steps, plan.fill_box, preview))
                    return {}

                seed = settings.seed + number
                made = self.pipeline(
                    **given,
                    image=Image.fromarray(picture),
                    mask_image=Image.fromarray(hole.astype(np.uint8) * 255),
                    width=plan.working_size[0],
                    height=plan.working_size[1],
                    generator=torch.Generator().manual_seed(seed),
                    callback_on_step_end=on_step,
                    output_type="np",
                )
                clock.lap("denoise")
                colours = compose.from_window(2 * np.asarray(made.images[0], np.float32) - 1, plan)
                fill = layout.finished(colours, seed)
                clock.lap("compose")
                yield fill
                clock.restart()

    def forget(self) -> None:
        """Nothing is kept: such a pipeline reads its window anew in every edit."""

    def _arguments(self, settings: EditSettings, sketched: bool) -> dict[str, Any]:
        """What of an edit's settings the pipeline is called with; what is not said is its own default."""
        strength = settings.strength
        if sketched and strength == 1:
            strength = SKETCH_STRENGTH
        wanted: dict[str, Any] = {"prompt": settings.prompt, **self.defaults}
        if settings.steps is not None:
            wanted["num_inference_steps"] = settings.steps
        if settings.guidance is not None:
            wanted["guidance_scale"] = settings.guidance
        if settings.negative_prompt:
            wanted["negative_prompt"] = settings.negative_prompt
        if strength < 1 or "strength" in self.parameters:
            wanted["strength"] = strength
        for name, what in (
            ("negative_prompt", "takes no negative prompt. Leave it empty."),
            ("strength", "always starts from noise: it can use no sketch, and add nothing to what is there."),
            ("guidance_scale", "has no guidance. Leave it to the model."),
        ):
            if name in wanted and name not in self.parameters:
                raise BadInput(f"This model ({type(self.pipeline).__name__}) {what}")
        own = self.parameters.get("num_inference_steps")
        steps = wanted.get("num_inference_steps", own and own.default)
        if isinstance(steps, int) and int(steps * strength) < 1:  # as the pipelines count those that are left
            raise BadInput(
                f"Of {steps} steps, a strength of {strength:g} leaves none to take: ask for more steps."
            )
        return wanted

    @torch.inference_mode()
    def _preview(self, latents: Any, picture: Pixels, plan: EditPlan) -> Pixels:
        """The fill's box from small latents; what the window showed before, where a pipeline packs its latents.

        And where these are no numbers in the VAE's precision: pipelines take SDXL's to float32 for a moment, not here.
        """
        vae = getattr(self.pipeline, "vae", None)
        shown = picture.astype(np.float32) / 127.5 - 1
        if vae is not None and latents is not None and latents.ndim == 4:
            small = F.avg_pool2d(latents.float(), PREVIEW_SHRINK, ceil_mode=True).to(vae.dtype)
            scaled = small / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0)
            decoded = vae.decode(scaled, return_dict=False)[0][:1].float()
            sized = F.interpolate(decoded, size=picture.shape[:2], mode="bilinear", align_corners=False)
            found = sized[0].permute(1, 2, 0).clamp(-1, 1).cpu().numpy()
            shown = found if np.isfinite(found).all() else shown
        return compose.from_window(shown, plan)


def _window(edit: Edit, layout: Layout) -> Pixels:
    """The window (h, w, 3) at working size with all that is in it, also under the mask; the sketch laid over it."""
    canvas = sketches.laid_over(edit.canvas, edit.sketch, layout.mask)
    return compose.to_bytes(compose.view(canvas, None, layout.plan.window, layout.plan.working_size).colour)


def _klein_defaults(pipeline: Any, where: Path | str) -> dict[str, Any]:
    """Steps and guidance of FLUX.2-klein: its inpainting pipeline's own are those of no klein.

    Raises BadModel where its parts do not fit each other.
    """
    from lazydiffusion.engines.flux2_klein import check_components
    from lazydiffusion.pipelines.flux2_klein import BASE_GUIDANCE, BASE_STEPS, DISTILLED_STEPS

    check_components(pipeline, where)
    if pipeline.config.is_distilled:
        return {"num_inference_steps": DISTILLED_STEPS, "guidance_scale": 1.0}
    return {"num_inference_steps": BASE_STEPS, "guidance_scale": BASE_GUIDANCE}


def _variant(folder: Path) -> str | None:
    """The variant of the weights that a folder holds, where it has no others: SDXL is often kept as fp16 alone."""
    names = [path.name for path in folder.rglob("*.safetensors")]
    return "fp16" if names and all(name.endswith(".fp16.safetensors") for name in names) else None
