"""Tiny pipelines of pixels and of latents, placed on a device, and edits that fall into different buckets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tests.checkpoint_files import tiny_pipeline
from tests.models.tiny_vae import tiny_vae

from lazydiffusion.canvas import Canvas
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.latent_codec import LatentCodec
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.prompt_encoder import PromptEncoder
from lazydiffusion.pipelines.lazy import LazyDiffusionPipeline, PreparedEdit
from lazydiffusion.pipelines.sampling import Step

KINDS = ("pixels", "latents")
HOLES = {"small": (80, 80, 110, 112), "large": (60, 40, 180, 200)}
"""Left, top, right, bottom of two masks, px: their edits have different numbers of tokens."""


def make_pipeline(kind: str, device: torch.device, dtype: torch.dtype) -> LazyDiffusionPipeline:
    """The same weights at every call, whatever the device."""
    pipeline = tiny_pipeline() if kind == "pixels" else _latent_pipeline()
    for network in (pipeline.prompt_encoder, pipeline.context_encoder, pipeline.decoder, pipeline.codec):
        torch.nn.Module.to(network, device=device, dtype=dtype)  # ModelMixin's own `to` warns
    return pipeline


def _latent_pipeline() -> LazyDiffusionPipeline:
    """PixArt's kind of decoder on latents, as the paper's configuration has it."""
    torch.manual_seed(0)
    decoder = LazyDecoder(
        token_channels=16, channels=32, layers=2, heads=2, bottleneck=None, context_channels=32,
        family="pixart", prediction="epsilon",
    )  # fmt: skip
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    pipeline = LazyDiffusionPipeline(
        PromptEncoder(),
        ContextEncoder(channels=32, layers=2, heads=2).eval(),
        decoder.eval(),
        LatentCodec.from_vae(tiny_vae()).eval(),
        FlowMatchEulerDiscreteScheduler(),
        default_steps=3,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def canvas() -> Canvas:
    return Canvas.of(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))


def mask(hole: str) -> npt.NDArray[np.float32]:
    left, top, right, bottom = HOLES[hole]
    drawn = np.zeros((256, 256), np.float32)
    drawn[top:bottom, left:right] = 1
    return drawn


def prepare(
    pipeline: LazyDiffusionPipeline, hole: str = "small", prompt: str = "a cat", guidance: float = 2.5
) -> PreparedEdit:
    return pipeline.prepare(canvas(), mask(hole), prompt, guidance=guidance)


def fill(pipeline: LazyDiffusionPipeline, edit: PreparedEdit, seed: int = 0) -> npt.NDArray[np.int64]:
    """The colours of one variation, ready to be subtracted."""
    return pipeline.fill(edit, torch.Generator().manual_seed(seed)).astype(np.int64)


@contextmanager
def stepping_with(pipeline: LazyDiffusionPipeline, step: Step) -> Iterator[None]:
    """The pipeline makes its steps with `step` meanwhile: eagerly, say, or counted."""
    pipeline._step = lambda: step
    try:
        yield
    finally:
        del pipeline._step
