"""LazyFlux2KleinPipeline: FLUX.2-klein as it is published, denoising the hidden tokens only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

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
from lazydiffusion.pipelines import flux2_latents, flux2_text, sketches, window_pixels
from lazydiffusion.pipelines.arguments import (
    canvas_array,
    check_count,
    check_edit,
    check_output_type,
    mask_array,
    sketch_array,
)
from lazydiffusion.pipelines.beside import Beside
from lazydiffusion.pipelines.flux2_denoising import PreparedKleinEdit, denoise, noisy_tokens
from lazydiffusion.pipelines.flux2_graphs import GraphedVelocity
from lazydiffusion.pipelines.flux2_latents import WindowReading
from lazydiffusion.pipelines.flux2_placement import STREAMED, TURNS, WHOLE, stream_blocks
from lazydiffusion.pipelines.flux2_reference import (
    CACHED,
    CachedStep,
    Laziness,
    Placed,
    allow_caching,
    read_reference,
)
from lazydiffusion.pipelines.kept import Kept
from lazydiffusion.pipelines.output import LazyDiffusionOutput, StepCallback, as_callback
from lazydiffusion.pipelines.sampling import Callback

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

    `placement`: where its models lie (flux2_placement), for when the device does not hold them all; set it before
    `place`. diffusers' own offloading of a pipeline does not work here: it waits for calls of the VAE as a whole.
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
        self.placement = WHOLE
        self._texts: dict[tuple[str, int, torch.device], Placed] = {}
        self._graphed: GraphedVelocity | None = None
        self._beside = Beside()

    @property
    def device(self) -> torch.device:
        """The VAE's, where all is computed. diffusers walks through all modules for it: half a millisecond."""
        place: torch.device = self.vae.decoder.conv_out.weight.device
        return place

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As diffusers has it. Graphs that were captured read the weights where they lay: they are captured anew."""
        self._graphed = None
        moved: Self = super().to(*args, **kwargs)
        return moved

    def place(self, device: torch.device) -> None:
        """Move the models to a device, as far as the placement has them there before an edit."""
        self._graphed = None
        self.vae.to(device)
        if self.placement == STREAMED:
            stream_blocks(self.transformer, device)
            stream_blocks(self.text_encoder.model, device)
            return
        self.transformer.to(device)
        if self.placement == WHOLE:
            self.text_encoder.to(device)

    def take_turns(self) -> None:
        """From now on, text encoder and transformer are not on the device together."""
        if self.placement == WHOLE:
            self.placement, self._graphed = TURNS, None
            self.text_encoder.to("cpu")  # before the VAE, which comes first in an edit, asks for memory

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
        check_count(num_images_per_prompt)
        canvas, mask = Canvas.of(canvas_array(image)), mask_array(mask_image)
        edit = self.prepare(
            canvas, mask, prompt, negative_prompt=negative_prompt, strength=strength, steps=num_inference_steps,
            sketch=sketch_array(sketch_image), guidance=guidance_scale,
            max_sequence_length=max_sequence_length, laziness=laziness,
        )  # fmt: skip
        on_step = as_callback(self, callback_on_step_end, callback_on_step_end_tensor_inputs, "latents")
        box = edit.plan.fill_box
        alpha = mask[box.slices()]
        fills = [
            compose.with_alpha(self.fill(edit, generator, on_step), alpha)
            for _ in range(num_images_per_prompt)
        ]
        output = LazyDiffusionOutput.of(canvas, fills, box, output_type)
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
        kept: Kept[WindowReading] | None = None,
        on_stage: Stage | None = None,
    ) -> PreparedKleinEdit:
        """Run VAE, text encoder and reference, once for all variations.

        Mask (h, w), 0..1, and sketch (h, w, 4): of the canvas's region. The sketch is laid over the canvas inside the
        mask: the model sees it in its reference. With a strength below 1 the fill also starts from there, noised to
        the level at which the last `strength` of the steps begin. `kept`: what the last edit read; VAE and reference
        only run where this one's window shows something else. Raises BadInput, also for guidance or a negative prompt
        that a distilled model cannot use.
        """
        laziness, plan = laziness or Laziness(), plan or self.plan(canvas, mask)
        distilled = bool(self.config.is_distilled)
        asked = (DISTILLED_STEPS if distilled else BASE_STEPS) if steps is None else steps
        if guidance is None:
            guidance = 1.0 if distilled else BASE_GUIDANCE
        check_edit(canvas, mask, sketch, strength, asked, guidance)
        if distilled and (negative_prompt or guidance > 1):
            raise BadInput(
                "This model is distilled: it has no guidance and takes no negative prompt. Leave both empty."
            )

        # What comes from the computer's memory comes first: a copy waits for all that a GPU was given before it.
        steps = len(self._timesteps(plan, asked, strength))
        chosen = torch.from_numpy(noisy_tokens(plan.hidden, laziness.ring))
        hidden = torch.from_numpy(plan.hidden).flatten()[chosen]
        visible = ~hidden[None, :, None].to(self.device)
        indices, grid = chosen[None].to(self.device), torch.empty(1, 1, *plan.hidden.shape)
        ids = gather(self._prepare_latent_ids(grid).to(self.device), indices)
        reference_ids = self._prepare_image_ids([grid], 1).to(self.device)

        window = self._read_window(canvas, mask, sketch, plan, kept or Kept())
        _tell(on_stage, "encode")
        # Launching the text encoder takes the computer about as long as the VAE's encoder takes the device.
        with self._beside(self.device if self.placement == WHOLE else None) as used:
            text = self._words(prompt, max_sequence_length)
            negative = self._words(negative_prompt, max_sequence_length) if guidance > 1 else None
            for words in (text, negative):
                if words is not None:
                    used(words.values, words.ids)
        _tell(on_stage, "text")
        packed = self._pack_latents(window.latents).to(self.transformer.dtype)
        reference = Placed(packed, reference_ids)
        if laziness.reference == CACHED and window.cache is None:
            window.cache = read_reference(self.transformer, reference, text)
        _tell(on_stage, "reference")
        return PreparedKleinEdit(
            plan=plan,
            window=window,
            hidden=torch.from_numpy(plan.hidden),
            indices=indices,
            ids=ids,
            visible=visible,
            reference=reference,
            text=text,
            negative=negative,
            guidance=guidance,
            laziness=laziness,
            asked_steps=asked,
            strength=strength,
            steps=steps,
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
        noise = self._noise(edit, generator)
        timesteps = self._timesteps(edit.plan, edit.asked_steps, edit.strength)
        step = self._cached_step() if edit.laziness.reference == CACHED else None
        latents = denoise(self.transformer, self.scheduler, timesteps, edit, noise, callback, step)
        _tell(on_stage, "denoise")
        window = flux2_latents.decode(self.vae, self._in_place(edit, latents), edit.window, edit.hidden)
        colours = window_pixels.fill_colours(window[0], edit.plan)
        _tell(on_stage, "decode")
        return colours

    @torch.no_grad()
    def preview(self, edit: PreparedKleinEdit, clean: Float[Tensor, "1 k c"]) -> npt.NDArray[np.uint8]:
        """What clean noisy-place tokens show, coarsely: the fill box (h, w, 3) at canvas resolution."""
        window = flux2_latents.preview(self.vae, self._in_place(edit, clean), edit.window, edit.hidden)
        return window_pixels.fill_colours(window[0], edit.plan)

    def _cached_step(self) -> CachedStep | None:
        """Steps with a cached reference as CUDA graphs, where the models stay on a CUDA device; None: as they are."""
        if self.placement != WHOLE or self.device.type != "cuda":
            return None
        if self._graphed is None or not self._graphed.is_of(self.transformer):
            self._graphed = None  # gives back what it holds before the next one asks
            self._graphed = GraphedVelocity(self.transformer)
        return self._graphed.velocity

    def _timesteps(self, plan: EditPlan, steps: int, strength: float) -> Tensor:
        """Set the scheduler, and give the time steps that are taken; the schedule is that of the whole window."""
        sigmas = np.linspace(1.0, 1 / steps, steps)
        mu = compute_empirical_mu(image_seq_len=plan.hidden.size, num_steps=steps)
        retrieve_timesteps(self.scheduler, steps, self.device, sigmas=sigmas, mu=mu)
        timesteps: Tensor = self.get_timesteps(steps, strength, self.device)[0]
        return timesteps

    def _noise(self, edit: PreparedKleinEdit, generator: torch.Generator | None) -> Tensor:
        """The noisy tokens' share of the window's noise, which is diffusers' own for this generator, in float32.

        All of it is drawn, for a generator cannot skip: a place's noise does not depend on the mask.
        """
        device = generator.device if generator is not None else torch.device("cpu")
        grid = torch.randn(edit.window.latents.shape, generator=generator, device=device)
        return gather(self._pack_latents(grid.to(self.device)), edit.indices)

    def _read_window(
        self,
        canvas: Canvas,
        mask: npt.NDArray[np.floating],
        sketch: npt.NDArray[np.uint8] | None,
        plan: EditPlan,
        kept: Kept[WindowReading],
    ) -> WindowReading:
        """The window with all that is in it, the sketch laid over it: read by the VAE unless it is the one kept."""
        shown = sketches.laid_over(canvas, sketch, mask)
        view = compose.view(shown, None, plan.window, plan.working_size)

        def read() -> WindowReading:
            picture = window_pixels.view_colours(view, self.device)
            latents = self._encode_vae_image(picture.to(self.vae.dtype), generator=None)
            return WindowReading(view, picture, latents)

        return kept.get(lambda reading: reading.view.shows_same(view), read)

    def _words(self, prompt: str, length: int) -> Placed:
        """A prompt's words, by the text encoder or from the last few prompts."""
        device, turns = self.device, self.placement == TURNS
        kept = self._texts.pop((prompt, length, device), None)
        if kept is None:
            if turns:
                self.transformer.to("cpu")
                self.text_encoder.to(device)
            values, ids = self.encode_prompt(prompt, device=device, max_sequence_length=length)
            kept = Placed(values.to(self.transformer.dtype), ids)
        if turns:
            self.text_encoder.to("cpu")
            self.transformer.to(device)
        self._texts[prompt, length, device] = kept
        while len(self._texts) > KEPT_TEXTS:
            del self._texts[next(iter(self._texts))]
        return kept

    @staticmethod
    def _get_qwen3_prompt_embeds(text_encoder: Any, **arguments: Any) -> Tensor:
        """diffusers' own, for encode_prompt, without the layers that nobody reads."""
        return flux2_text.words(text_encoder, **arguments)

    def _in_place(self, edit: PreparedKleinEdit, latents: Tensor) -> Tensor:
        """The window's latents (1, C, rows, cols) with the noisy tokens' among them."""
        grid = edit.window.latents
        window = scatter(self._pack_latents(grid).float(), edit.indices, latents.float())
        return window.transpose(1, 2).reshape(grid.shape)


def _tell(on_stage: Stage | None, stage: str) -> None:
    if on_stage is not None:
        on_stage(stage)
