"""LazyFlux2KleinPipeline: FLUX.2-klein as it is published, denoising the hidden tokens only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from diffusers import Flux2KleinInpaintPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein_inpaint import compute_empirical_mu, retrieve_timesteps
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from lazydiffusion import compose
from lazydiffusion.canvas import Canvas
from lazydiffusion.errors import BadInput
from lazydiffusion.geometry import EditPlan, plan
from lazydiffusion.models.patches import gather, scatter
from lazydiffusion.pipelines import flux2_latents
from lazydiffusion.pipelines.arguments import (
    canvas_array,
    check_edit,
    check_output_type,
    mask_array,
    sketch_array,
)
from lazydiffusion.pipelines.flux2_denoising import PreparedKleinEdit, denoise, noisy_tokens
from lazydiffusion.pipelines.flux2_latents import Surroundings
from lazydiffusion.pipelines.flux2_reference import (
    CACHED,
    Laziness,
    Placed,
    allow_caching,
    read_reference,
)
from lazydiffusion.pipelines.lazy import LazyDiffusionOutput, StepCallback
from lazydiffusion.pipelines.sampling import Callback
from lazydiffusion.window import Box

WINDOW_TOKENS = 64
"""Side of the window: 1024 px, the model's own size."""
DISTILLED_STEPS, BASE_STEPS = 4, 50
BASE_GUIDANCE = 4.0
"""As in Flux2KleinPipeline. A distilled model has no guidance."""
TEXT_LENGTH = 512
"""Words of every text, padding included, as in diffusers: the transformer sees the padding too."""
KEPT_TEXTS = 8

Stage = Callable[[str], None]
"""Told at the end of each stage of the work: encode, text, reference, denoise, decode."""


class LazyFlux2KleinPipeline(Flux2KleinInpaintPipeline):
    """Fills what a mask covers with the components of Flux2KleinPipeline, Flux2KleinInpaintPipeline or -KVPipeline.

    The canvas window is encoded once and is the model's reference image, whose keys and values are read once; then
    each step runs the hidden tokens, a ring around them and the text. With all tokens hidden it is one of diffusers'
    pipelines, exactly: Flux2KleinInpaintPipeline with a "full" reference, Flux2KleinKVPipeline with a "cached" one.

    `swap`: text encoder and transformer take turns on the device, for when its memory does not hold both. diffusers'
    own offloading does not work here: it waits for calls of the VAE as a whole.
    """

    _callback_tensor_inputs: ClassVar[list[str]] = ["latents"]

    def __init__(
        self,
        scheduler: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        transformer: Any,
        is_distilled: bool = True,
    ):
        super().__init__(scheduler, vae, text_encoder, tokenizer, transformer, is_distilled)
        allow_caching(transformer)
        self.swap = False
        self._texts: dict[tuple[str, int, torch.device], Placed] = {}

    def place(self, device: torch.device | str) -> None:
        """Move the models to a device; with `swap`, the text encoder waits in the computer's memory."""
        for model in (self.vae, self.transformer, None if self.swap else self.text_encoder):
            if model is not None:
                model.to(device)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str = "",
        image: Image.Image | npt.NDArray[np.uint8] | None = None,
        mask_image: Image.Image | npt.NDArray[Any] | None = None,
        negative_prompt: str = "",
        sketch_image: Image.Image | npt.NDArray[np.uint8] | None = None,
        strength: float = 1.0,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        max_sequence_length: int = TEXT_LENGTH,
        laziness: Laziness | None = None,
    ) -> LazyDiffusionOutput | tuple[Any, ...]:
        """Fill what the mask covers; arguments and result as LazyDiffusionPipeline's.

        `laziness`: how much of the window takes part in a step. Raises BadInput.
        """
        check_output_type(output_type)
        canvas, mask = Canvas.of(canvas_array(image)), mask_array(mask_image)
        edit = self.prepare(
            canvas, mask, prompt, negative_prompt=negative_prompt, strength=strength, steps=num_inference_steps,
            sketch=sketch_array(sketch_image), guidance=guidance_scale,
            max_sequence_length=max_sequence_length, laziness=laziness,
        )  # fmt: skip

        def on_step(step: int, timestep: Tensor, latents: Tensor, clean: Tensor) -> Tensor | None:
            if callback_on_step_end is None:
                return None
            values = {"latents": latents} if "latents" in callback_on_step_end_tensor_inputs else {}
            return callback_on_step_end(self, step, timestep, values).get("latents")

        box = edit.plan.fill_box
        alpha = mask[box.slices()]
        fills = [
            compose.with_alpha(self.fill(edit, generator, on_step), alpha)
            for _ in range(num_images_per_prompt)
        ]
        images: Any = [compose.paste(canvas.pixels, fill, box) for fill in fills]
        images = [Image.fromarray(it) for it in images] if output_type == "pil" else np.stack(images)
        output = LazyDiffusionOutput(images=images, fills=fills, box=(box.x, box.y, box.w, box.h))
        return output if return_dict else output.to_tuple()

    def plan(
        self, canvas: Canvas, mask: npt.NDArray[np.floating], window_tokens: int = WINDOW_TOKENS
    ) -> EditPlan:
        """The edit's geometry. `mask`: (h, w) of the canvas's region; `window_tokens`: side of a square window."""
        region = None if canvas.whole else canvas.region
        return plan(canvas.size, mask, region=region, window_tokens=window_tokens)

    @torch.no_grad()
    def prepare(
        self,
        canvas: Canvas,
        mask: npt.NDArray[np.floating],
        prompt: str,
        *,
        plan: EditPlan | None = None,
        negative_prompt: str = "",
        sketch: npt.NDArray[np.uint8] | None = None,
        strength: float = 1.0,
        steps: int | None = None,
        guidance: float | None = None,
        max_sequence_length: int = TEXT_LENGTH,
        laziness: Laziness | None = None,
        on_stage: Stage | None = None,
    ) -> PreparedKleinEdit:
        """Run VAE, text encoder and reference, once for all variations.

        Mask (h, w), 0..1, and sketch (h, w, 4): of the canvas's region. The sketch is laid over the canvas inside the
        mask: the model sees it in its reference. With a strength below 1 the fill also starts from there, noised to
        the level at which the last `strength` of the steps begin. Raises BadInput, also for guidance or a negative
        prompt that a distilled model cannot use.
        """
        laziness, plan = laziness or Laziness(), plan or self.plan(canvas, mask)
        check_edit(canvas, mask, sketch, strength)
        distilled = bool(self.config.is_distilled)
        if distilled and (negative_prompt or (guidance or 1) > 1):
            raise BadInput(
                "This model is distilled: it has no guidance and takes no negative prompt. Leave both empty."
            )
        guidance = guidance if guidance is not None else 1.0 if distilled else BASE_GUIDANCE
        asked = steps or (DISTILLED_STEPS if distilled else BASE_STEPS)

        surroundings = self._encoded(canvas, mask, sketch, plan)
        _tell(on_stage, "encode")
        text = self._words(prompt, max_sequence_length)
        negative = self._words(negative_prompt, max_sequence_length) if guidance > 1 else None
        _tell(on_stage, "text")
        reference = Placed(
            self._pack_latents(surroundings.latents).to(self.transformer.dtype),
            self._prepare_image_ids([surroundings.latents], 1).to(self.vae.device),
        )
        caching = laziness.reference == CACHED
        cache = read_reference(self.transformer, reference, text) if caching else None
        _tell(on_stage, "reference")

        chosen = torch.from_numpy(noisy_tokens(plan.hidden, laziness.ring))
        hidden = torch.from_numpy(plan.hidden).flatten()[chosen]
        indices = chosen[None].to(self.vae.device)
        ids = self._prepare_latent_ids(surroundings.latents).to(self.vae.device)
        return PreparedKleinEdit(
            plan=plan,
            surroundings=surroundings,
            indices=indices,
            ids=gather(ids, indices),
            visible=~hidden[None, :, None].to(self.vae.device),
            reference=reference,
            cache=cache,
            text=text,
            negative=negative,
            guidance=guidance,
            laziness=laziness,
            asked_steps=asked,
            strength=strength,
            steps=len(self._timesteps(plan, asked, strength)),
        )

    @torch.no_grad()
    def fill(
        self,
        edit: PreparedKleinEdit,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
        on_stage: Stage | None = None,
    ) -> npt.NDArray[np.uint8]:
        """One variation: the colours (h, w, 3) of the plan's fill box, at canvas resolution."""
        timesteps = self._timesteps(edit.plan, edit.asked_steps, edit.strength)
        noise = self._noise(edit, generator)
        latents = denoise(self.transformer, self.scheduler, timesteps, edit, noise, callback)
        _tell(on_stage, "denoise")
        window = flux2_latents.decode(self.vae, self._in_place(edit, latents), edit.surroundings)
        colours = compose.from_window(_pixels(window), edit.plan)
        _tell(on_stage, "decode")
        return colours

    @torch.no_grad()
    def preview(self, edit: PreparedKleinEdit, clean: Float[Tensor, "1 k c"]) -> npt.NDArray[np.uint8]:
        """What clean noisy-place tokens show, coarsely: the fill box (h, w, 3) at canvas resolution."""
        window = flux2_latents.preview(self.vae, self._in_place(edit, clean), edit.surroundings)
        return compose.from_window(_pixels(window), edit.plan)

    def _timesteps(self, plan: EditPlan, steps: int, strength: float) -> Tensor:
        """Set the scheduler, and give the time steps that are taken; the schedule is that of the whole window."""
        sigmas = np.linspace(1.0, 1 / steps, steps)
        mu = compute_empirical_mu(image_seq_len=plan.hidden.size, num_steps=steps)
        retrieve_timesteps(self.scheduler, steps, self.vae.device, sigmas=sigmas, mu=mu)
        timesteps: Tensor = self.get_timesteps(steps, strength, self.vae.device)[0]
        return timesteps

    def _noise(self, edit: PreparedKleinEdit, generator: torch.Generator | None) -> Tensor:
        """The noisy tokens' share of the window's noise, which is diffusers' own for this generator, in float32."""
        device = generator.device if generator is not None else torch.device("cpu")
        grid = torch.randn(edit.surroundings.latents.shape, generator=generator, device=device)
        return gather(self._pack_latents(grid).to(self.vae.device), edit.indices)

    def _encoded(
        self,
        canvas: Canvas,
        mask: npt.NDArray[np.floating],
        sketch: npt.NDArray[np.uint8] | None,
        plan: EditPlan,
    ) -> Surroundings:
        """The window with all that is in it, the sketch laid over it, and its latents: one run of the encoder."""
        pixels = canvas.pixels
        if sketch is not None:
            drawn = np.where((mask > 0)[..., None], sketch, 0)
            pixels = compose.paste(pixels, drawn, Box(0, 0, canvas.region.w, canvas.region.h))
        shown = replace(canvas, pixels=pixels)
        nothing_hidden = np.zeros(mask.shape, np.float32)
        view = compose.view(shown, nothing_hidden, plan.window, plan.working_size)
        picture = torch.from_numpy(view.colour).permute(2, 0, 1)[None].to(self.vae.device)
        latents = self._encode_vae_image(picture.to(self.vae.dtype), generator=None)
        return Surroundings(picture, latents, torch.from_numpy(plan.hidden))

    def _words(self, prompt: str, length: int) -> Placed:
        """A prompt's words, by the text encoder or from the last few prompts."""
        device = self.vae.device
        kept = self._texts.pop((prompt, length, device), None)
        if kept is None:
            if self.swap:
                self.transformer.to("cpu")
            self.text_encoder.to(device)
            values, ids = self.encode_prompt(prompt, device=device, max_sequence_length=length)
            kept = Placed(values.to(self.transformer.dtype), ids)
        if self.swap:
            self.text_encoder.to("cpu")
            self.transformer.to(device)
        self._texts[prompt, length, device] = kept
        while len(self._texts) > KEPT_TEXTS:
            del self._texts[next(iter(self._texts))]
        return kept

    def _in_place(self, edit: PreparedKleinEdit, latents: Tensor) -> Tensor:
        """The window's latents (1, C, rows, cols) with the noisy tokens' among them."""
        grid = edit.surroundings.latents
        window = scatter(self._pack_latents(grid).float(), edit.indices, latents.float())
        return window.transpose(1, 2).reshape(grid.shape)


def _tell(on_stage: Stage | None, stage: str) -> None:
    if on_stage is not None:
        on_stage(stage)


def _pixels(window: Tensor) -> npt.NDArray[np.float32]:
    """(1, 3, h, w) as (h, w, 3)."""
    return np.asarray(window[0].permute(1, 2, 0).float().cpu().numpy())
