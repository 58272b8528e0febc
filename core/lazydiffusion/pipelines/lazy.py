"""LazyDiffusionPipeline: called like an inpaint pipeline of diffusers, at a cost that follows the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from PIL import Image
from torch import Tensor

from lazydiffusion import compose
from lazydiffusion.canvas import Canvas
from lazydiffusion.errors import BadInput
from lazydiffusion.geometry import EditPlan, Framing, plan
from lazydiffusion.models import flow
from lazydiffusion.models.codecs import Encoded, PixelCodec
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.extension import extend
from lazydiffusion.models.latent_codec import LatentCodec
from lazydiffusion.models.lazy_decoder import Conditions, LazyDecoder
from lazydiffusion.models.masked_patches import MaskedPatches
from lazydiffusion.models.patches import gather, patchify
from lazydiffusion.models.prompt_encoder import PromptEncoder
from lazydiffusion.pipelines import sketches, window_pixels
from lazydiffusion.pipelines.arguments import (
    canvas_array,
    check_count,
    check_edit,
    check_output_type,
    mask_array,
    sketch_array,
)
from lazydiffusion.pipelines.beside import Beside
from lazydiffusion.pipelines.cuda_graphs import GraphedDecoder
from lazydiffusion.pipelines.kept import Kept
from lazydiffusion.pipelines.output import LazyDiffusionOutput, StepCallback, as_callback
from lazydiffusion.pipelines.sampling import Callback, Guidance, Known, denoise
from lazydiffusion.window import PATCH, Box, choose_window


@dataclass(frozen=True)
class CanvasReading:
    """What the encoders have read: the same for all prompts, sketches and seeds."""

    plan: EditPlan
    views: tuple[compose.View, compose.View]
    """Of the window and of the overview."""
    encoded: Encoded
    context: Tensor
    """(1, K, C)."""

    def is_of(self, plan: EditPlan, views: tuple[compose.View, compose.View]) -> bool:
        """Whether these would be read the same. What lies in the hole was not read."""
        mine = self.plan
        return (
            (mine.canvas_size, mine.window, mine.working_size)
            == (plan.canvas_size, plan.window, plan.working_size)
            and np.array_equal(mine.indices, plan.indices)
            and all(own.shows_same(other) for own, other in zip(self.views, views, strict=True))
        )


@dataclass
class PreparedEdit:
    """All that the variations of one edit share: made once, by `prepare`."""

    plan: EditPlan
    reading: CanvasReading
    conditional: Conditions
    unconditional: Conditions | None
    guidance: Guidance
    steps: int
    first_step: int
    start: Tensor | None
    """Clean tokens (1, K, D) to start from when strength is below 1."""


class LazyDiffusionPipeline(DiffusionPipeline):
    """Generative fill: the context encoder reads the canvas once, the decoder makes the masked tokens only.

    `default_steps`, `default_guidance` and the guidance interval travel with the checkpoint. The models are called by
    other names than `forward`, where diffusers' offloading would move them, so it is not offered: move all of them
    with `to`; where memory is short, load them as bfloat16 or `fill` frugally.
    """

    _callback_tensor_inputs: ClassVar[list[str]] = ["tokens"]
    framing: Framing = staticmethod(choose_window)
    """How the window is chosen."""

    def __init__(
        self,
        prompt_encoder: PromptEncoder,
        context_encoder: ContextEncoder | MaskedPatches,
        decoder: LazyDecoder,
        codec: PixelCodec | LatentCodec,
        scheduler: FlowMatchEulerDiscreteScheduler | FlowMatchHeunDiscreteScheduler,
        default_steps: int = 20,
        default_guidance: float = 2.5,
        guidance_low: float = 0.05,
        guidance_high: float = 0.9,
    ):
        super().__init__()
        self.register_modules(
            prompt_encoder=prompt_encoder,
            context_encoder=context_encoder,
            decoder=decoder,
            codec=codec,
            scheduler=scheduler,
        )
        self.register_to_config(
            default_steps=default_steps,
            default_guidance=default_guidance,
            guidance_low=guidance_low,
            guidance_high=guidance_high,
        )
        self._graphed: GraphedDecoder | None = None
        self._beside = Beside()

    @property
    def device(self) -> torch.device:
        """The decoder's. diffusers walks through all modules for it: milliseconds, many times an edit."""
        place: torch.device = self.decoder.to_out.weight.device
        return place

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As diffusers has it. Graphs that were captured read the weights where they lay: they are captured anew."""
        self._graphed = None
        moved: Self = super().to(*args, **kwargs)
        return moved

    def drop_graphs(self) -> None:
        """Let go of captured CUDA graphs, and of their memory, which nothing else can use; they are captured anew."""
        self._graphed = None

    def compile_blocks(self) -> None:
        """Compile every transformer block (not the whole graph): seconds once per bucket, then faster steps."""
        self._graphed = None
        for block in [*self.context_encoder.blocks, *self.decoder.blocks]:
            block.compile(dynamic=False)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] = "",
        image: Image.Image | npt.NDArray[np.uint8] | None = None,
        mask_image: Image.Image | npt.NDArray[Any] | None = None,
        negative_prompt: str = "",
        sketch_image: Image.Image | npt.NDArray[np.uint8] | None = None,
        strength: float = 1.0,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("tokens",),
    ) -> LazyDiffusionOutput | tuple[Any, ...]:
        """Fill what the mask covers.

        `image`: the canvas, RGB or (H, W, 3) uint8. `mask_image`: greyscale of the same size, 0 = keep (bit-exact),
        anything above 0 is generated and pasted with that opacity. `sketch_image`: RGBA of the same size, drawn where
        alpha is above 16 of 255. `strength`: below 1, start from the sketch, or else from what the canvas shows under
        the mask. With several prompts or `num_images_per_prompt`, fills are made one after the other: none depends on
        the others. `generator`: one for all fills in turn, or one each. `output_type`: "pil" or "np" ((N, H, W, 3)
        uint8).
        Steps and guidance that are None are the model's own. Raises BadInput.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        canvas, mask = Canvas.of(canvas_array(image)), mask_array(mask_image)
        check_count(num_images_per_prompt)
        count = len(prompts) * num_images_per_prompt
        if isinstance(generator, list) and len(generator) != count:
            raise BadInput(
                f"{len(generator)} generators were given for {count} fills; give one, or one for each."
            )
        check_output_type(output_type)
        on_step = as_callback(self, callback_on_step_end, callback_on_step_end_tensor_inputs, "tokens")
        plan_ = self.plan(canvas, mask)
        fills: list[npt.NDArray[np.uint8]] = []
        kept = Kept[CanvasReading]()
        alpha = mask[plan_.fill_box.slices()]
        with self.progress_bar(total=count) as bar:
            for words in prompts:
                edit = self.prepare(
                    canvas, mask, words,
                    plan=plan_, negative_prompt=negative_prompt, sketch=sketch_array(sketch_image), strength=strength,
                    steps=num_inference_steps, guidance=guidance_scale, kept=kept,
                )  # fmt: skip
                for _ in range(num_images_per_prompt):
                    own = generator[len(fills)] if isinstance(generator, list) else generator
                    fills.append(compose.with_alpha(self.fill(edit, own, on_step), alpha))
                    bar.update()
        output = LazyDiffusionOutput.of(canvas, fills, plan_.fill_box, output_type)
        return output if return_dict else output.to_tuple()

    def plan(self, canvas: Canvas, mask: npt.NDArray[np.floating]) -> EditPlan:
        """The edit's geometry, for this model's window and overview. `mask`: (h, w) of the canvas's region."""
        config = self.context_encoder.config
        return plan(
            canvas.size,
            mask,
            region=None if canvas.whole else canvas.region,
            window_tokens=config.window_tokens,
            overview_tokens=config.overview_tokens,
            framing=self.framing,
            most_hidden=self.decoder.config.trained_tokens,
        )

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
        kept: Kept[CanvasReading] | None = None,
    ) -> PreparedEdit:
        """Run the encoders, once for all variations. Mask (h, w), 0..1, and sketch (h, w, 4): of the canvas's region.

        `kept`: what the last edit read; the encoders only run where this one would read something else.
        """
        plan = plan or self.plan(canvas, mask)
        steps = self.config.default_steps if steps is None else steps
        scale = self.config.default_guidance if guidance is None else guidance
        check_edit(canvas, mask, sketch, strength, steps, scale)
        # What comes from the computer's memory comes first: a copy waits for all that a GPU was given before it.
        indices = torch.from_numpy(plan.indices)[None].to(self.device)
        positions = gather(torch.from_numpy(plan.window_positions)[None].to(self.device), indices)
        drawn = self._read_sketch(sketch, canvas, plan, indices)
        reading = self._read_canvas(canvas, mask, plan, indices, kept or Kept())
        encoded, context = reading.encoded, reading.context

        length = self.prompt_encoder.max_tokens
        with self._beside(self.device) as used:
            words = self._words(prompt, length)
            other = self._words(negative_prompt, length) if negative_prompt and scale != 1 else None
            used(*words, *(other or ()))
        conditional = self.decoder.prepare(context, *words, positions, drawn)
        unconditional = None
        if scale != 1:
            other = other or self.decoder.without_prompt(1, length)
            unconditional = self.decoder.prepare(context, *other, positions, drawn)
        first_step = 0
        start = None
        if strength < 1:
            first_step = min(steps - 1, steps - max(1, round(steps * strength)))
            start = self._starting_tokens(canvas, sketch, plan, encoded)
        return PreparedEdit(
            plan=plan,
            reading=reading,
            conditional=conditional,
            unconditional=unconditional,
            guidance=Guidance(scale, self.config.guidance_low, self.config.guidance_high),
            steps=steps,
            first_step=first_step,
            start=start,
        )

    @torch.no_grad()
    def fill(
        self,
        edit: PreparedEdit,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
        frugal: bool = False,
    ) -> npt.NDArray[np.uint8]:
        """One variation: the colours (h, w, 3) of the plan's fill box, at canvas resolution.

        `callback`: called once a step, also where the scheduler asks the decoder twice for one, as Heun's does.
        `frugal`: with less memory and more time (guidance in two passes, no CUDA graphs), for when memory is short.
        """
        encoded, plan = edit.reading.encoded, edit.plan
        noise = self._noise(plan, encoded.indices, generator)
        self.scheduler.set_timesteps(edit.steps, device=self.device)
        tokens, order = noise, self.scheduler.order
        first = edit.first_step * order  # of the scheduler's time steps, of which a step takes so many
        if edit.start is not None:
            level = float(self.scheduler.timesteps[first]) / flow.STEPS_PER_SIGMA
            sigma = torch.full((1, 1, 1), level, device=self.device)
            tokens = flow.add_noise(edit.start, noise, sigma)
        clean = torch.where(encoded.keep, encoded.tokens, torch.zeros_like(encoded.tokens)).float()
        known = Known(clean, noise, encoded.keep)
        tokens = denoise(
            self.decoder,
            self.scheduler,
            tokens,
            edit.conditional,
            edit.unconditional,
            edit.guidance,
            known=known,
            first_step=first,
            step=self.decoder.step if frugal else self._step(),
            callback=callback and _once_a_step(callback, order, len(self.scheduler.timesteps) - first),
            frugal=frugal,
        )
        tokens = known.impose(tokens, 0.0)
        return self._fill_box(tokens, encoded, plan)

    def preview(self, edit: PreparedEdit, tokens: Tensor) -> npt.NDArray[np.uint8]:
        """What clean tokens (1, K, D) show: the fill box (h, w, 3) at working scale, or at the canvas's if less."""
        plan, encoded = edit.plan, edit.reading.encoded
        tokens = torch.where(encoded.keep, encoded.tokens, tokens)
        scale = min(1.0, plan.scale)
        size = max(1, round(plan.fill_box.w * scale)), max(1, round(plan.fill_box.h * scale))
        return self._fill_box(tokens, encoded, plan, size)

    def _read_canvas(
        self,
        canvas: Canvas,
        mask: npt.NDArray[np.floating],
        plan: EditPlan,
        indices: Tensor,
        kept: Kept[CanvasReading],
    ) -> CanvasReading:
        """The canvas as the models see it, read by the encoders unless it is the one that is kept."""
        window = compose.view(canvas, mask, plan.window, plan.working_size, plan.fill_box)
        everything = Box(0, 0, *plan.canvas_size)
        overview = compose.view(canvas, mask, everything, plan.overview_size, plan.fill_box)

        def read() -> CanvasReading:
            return CanvasReading(plan, (window, overview), *self._encode(window, overview, plan, indices))

        return kept.get(lambda reading: reading.is_of(plan, (window, overview)), read)

    def _encode(
        self, window: compose.View, overview: compose.View, plan: EditPlan, indices: Tensor
    ) -> tuple[Encoded, Tensor]:
        """The codec's view of the window, and the context: one run of the encoder."""
        positions = [
            torch.from_numpy(places)[None].to(self.device)
            for places in (plan.window_positions, plan.overview_positions)
        ]
        (colour, hole), (around, around_hole) = self._seen(window), self._seen(overview)
        encoded = self.codec.encode(colour, hole, indices)
        context = self.context_encoder(
            self._with_hole(encoded.window, hole),
            self._with_hole(extend(around, around_hole), around_hole),
            *positions,
            indices,
        )
        return encoded, context

    def _seen(self, view: compose.View) -> tuple[Tensor, Tensor]:
        """A view on the device: colours (1, 3, h, w), 0 in the hole, and the hole (1, 1, h, w)."""
        hole = torch.from_numpy(view.hole).to(self.device)[None, None]
        return window_pixels.view_colours(view, self.device).masked_fill_(hole, 0.0), hole

    def _with_hole(self, extended: Tensor, hole: Tensor) -> Tensor:
        """A view as the context encoder takes it: (1, 4, h, w), colours smoothly extended into the hole."""
        return torch.cat([extended, hole.float()], dim=1).to(self.context_encoder.dtype)

    def _read_sketch(
        self, sketch: npt.NDArray[np.uint8] | None, canvas: Canvas, plan: EditPlan, indices: Tensor
    ) -> Tensor | None:
        """The sketch's patches at the decoder's tokens: colours (0 where nothing is drawn), and what is drawn."""
        if sketch is None:
            return None
        values = sketches.in_window(sketch, canvas, plan)
        image = torch.from_numpy(values).permute(2, 0, 1)[None].to(self.device, self.decoder.dtype)
        return gather(patchify(image, PATCH), indices)

    def _starting_tokens(
        self,
        canvas: Canvas,
        sketch: npt.NDArray[np.uint8] | None,
        plan: EditPlan,
        encoded: Encoded,
    ) -> Tensor:
        """Clean tokens of the canvas with the sketch laid over it: what SDEdit starts from."""
        drawn = sketches.laid_over(canvas, sketch)
        colour, _ = self._seen(compose.view(drawn, None, plan.window, plan.working_size))
        tokens: Tensor = self.codec.encode_picture(colour, encoded)
        return tokens.float()

    def _words(self, prompt: str, length: int) -> tuple[Tensor, Tensor]:
        """The prompt's word states (1, L, T) and mask, padded to one length for all prompts."""
        states, mask = self.prompt_encoder([prompt])
        missing = length - states.shape[1]
        states = torch.nn.functional.pad(states, (0, 0, 0, missing)).to(self.device, self.decoder.dtype)
        return states, torch.nn.functional.pad(mask, (0, missing)).to(self.device)

    def _noise(self, plan: EditPlan, indices: Tensor, generator: torch.Generator | None) -> Tensor:
        """Noise for the whole window, of which the tokens take theirs: a place's noise does not depend on the mask."""
        rows, cols = plan.grid
        device = generator.device if generator is not None else torch.device("cpu")
        grid = torch.randn((1, rows * cols, self.codec.token_channels), generator=generator, device=device)
        return gather(grid.to(self.device), indices)

    def _fill_box(
        self, tokens: Tensor, encoded: Encoded, plan: EditPlan, size: tuple[int, int] | None = None
    ) -> npt.NDArray[np.uint8]:
        """What tokens (1, K, D) show in the fill box: (h, w, 3) at canvas resolution, or at `size` (width, height)."""
        window = self.codec.decode(tokens.to(self.codec.dtype), encoded)[0]
        return window_pixels.fill_colours(window, plan, size)

    def _step(self) -> Any:
        """The decoder's step; as CUDA graphs on a CUDA device."""
        if self.device.type != "cuda":
            return self.decoder.step
        if self._graphed is None or self._graphed.decoder is not self.decoder:
            self._graphed = GraphedDecoder(self.decoder)
        return self._graphed


def _once_a_step(callback: Callback, order: int, evaluations: int) -> Callback:
    """A callback for `denoise` that calls another one when a step of `order` evaluations, or the last one, is done."""

    def follow(number: int, timestep: Tensor, tokens: Tensor, clean: Tensor) -> Tensor | None:
        if (number + 1) % order and number + 1 < evaluations:
            return None
        return callback(number // order, timestep, tokens, clean)

    return follow
