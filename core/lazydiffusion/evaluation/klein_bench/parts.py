"""The parts of an edit with FLUX.2-klein, and what they do: times, operations, and how many tokens every step runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lazydiffusion import compose
from lazydiffusion.engines.base import Edit, Report
from lazydiffusion.evaluation.bench.parts import (
    COMPOSE,
    OTHER,
    PLAN,
    STEPS,
    TEXT,
    VIEW,
    Around,
    Timed,
    replaced,
    run_edit,
    within,
)
from lazydiffusion.pipelines import flux2_klein, flux2_latents, window_pixels

ENCODE = "VAE encode"
REFERENCE = "reference"
DECODE = "VAE decode"
PARTS = {
    PLAN: "which window, which tokens; diffusers' window as well",
    VIEW: "canvas to window",
    ENCODE: "the window's latents",
    TEXT: "tokenizer and text encoder",
    REFERENCE: "the pass that keeps the canvas's keys and values",
    STEPS: "the denoising loop, all steps",
    DECODE: "latents to pixels",
    COMPOSE: "window to canvas, and alpha",
    OTHER: "noise, copies between host and device, and what diffusers does to pictures",
}
"""In the order in which an edit comes to them, with what they are. Together they are the whole edit."""


@dataclass
class Cost:
    """What one edit does. FLOPs count 2 for a multiply-add; what is not a matrix product or convolution counts 0."""

    hidden_tokens: int
    """Tokens of the window that the mask touches."""
    step_tokens: list[int]
    """Of every step: those that pass through the transformer, text, reference and noisy ones."""
    flops: dict[str, int]
    """By part; parts without any are left out."""

    @property
    def total_flops(self) -> int:
        """Of all parts."""
        return sum(self.flops.values())


@contextmanager
def watched(pipeline: Any, around: Around) -> Iterator[None]:
    """While this lasts, `around` is put around every call of the pipeline's that belongs to one part.

    The denoising loop is a function of ours, and in diffusers' pipeline what it shows its progress bar for.
    """
    calls = [(pipeline, "encode_prompt", TEXT), (pipeline, "_encode_vae_image", ENCODE)]
    if isinstance(pipeline, flux2_klein.LazyFlux2KleinPipeline):
        calls += [
            (compose, "view", VIEW),
            (flux2_klein, "read_reference", REFERENCE),
            (flux2_klein, "denoise", STEPS),
            (flux2_latents, "decode", DECODE),
            (window_pixels, "fill_colours", COMPOSE),
        ]
    else:
        calls.append((pipeline.vae, "decode", DECODE))
    own_bar = pipeline.progress_bar

    @contextmanager
    def bar(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with around(STEPS, args), own_bar(*args, **kwargs) as shown:
            yield shown

    with ExitStack() as stack:
        for owner, name, part in calls:
            stack.enter_context(replaced(owner, name, within(around, part, getattr(owner, name))))
        stack.enter_context(replaced(pipeline, "progress_bar", bar))
        yield


def count_edit(engine: Timed, edit: Edit) -> Cost:
    """Run an edit without CUDA graphs, and count. On a CPU, whose fused attention no counter knows, without that."""
    pipeline = engine.pipeline
    counter = FlopCounterMode(display=False)
    flops: dict[str, int] = {}
    step_tokens: list[int] = []
    inside: list[str] = []
    own_forward: Callable[..., Any] = pipeline.transformer.forward

    @contextmanager
    def count(part: str, _: tuple[Any, ...]) -> Iterator[None]:
        before = counter.get_total_flops()
        inside.append(part)
        yield
        inside.pop()
        flops[part] = flops.get(part, 0) + counter.get_total_flops() - before

    def forward(hidden_states: Tensor, encoder_hidden_states: Tensor, **others: Any) -> Any:
        if inside == [STEPS]:
            step_tokens.append(hidden_states.shape[1] + encoder_hidden_states.shape[1])
        return own_forward(hidden_states=hidden_states, encoder_hidden_states=encoder_hidden_states, **others)

    report = Report()
    attention = sdpa_kernel(SDPBackend.MATH) if pipeline.device.type == "cpu" else nullcontext()
    with ExitStack() as stack:
        if isinstance(pipeline, flux2_klein.LazyFlux2KleinPipeline):
            stack.enter_context(replaced(pipeline, "_cached_step", lambda: None))
        stack.enter_context(attention)
        stack.enter_context(counter)
        stack.enter_context(replaced(pipeline.transformer, "forward", forward))
        stack.enter_context(watched(pipeline, count))
        run_edit(engine, edit, report)
    flops[OTHER] = counter.get_total_flops() - sum(flops.values())
    return Cost(
        hidden_tokens=report.hidden_tokens,
        step_tokens=step_tokens,
        flops={part: number for part, number in flops.items() if number},
    )
