"""Tiny checkpoints with random weights, made as a real one is: the same classes, files and hashes."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from lazydiffusion.checkpoints import write_hashes
from lazydiffusion.models.codecs import PixelCodec
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.masked_patches import MaskedPatches
from lazydiffusion.models.prompt_encoder import PromptEncoder
from lazydiffusion.pipelines.lazy import LazyDiffusionPipeline
from lazydiffusion.pipelines.regenerate import RegenerateImagePipeline


def tiny_pipeline(
    seed: int = 0, kind: type[LazyDiffusionPipeline] = LazyDiffusionPipeline
) -> LazyDiffusionPipeline:
    """A pipeline whose networks are two layers of 32 channels, with every weight random (a fresh decoder gives 0)."""
    torch.manual_seed(seed)
    encoder: ContextEncoder | MaskedPatches = ContextEncoder(channels=32, layers=2, heads=2)
    width = 32
    if issubclass(kind, RegenerateImagePipeline):
        encoder = MaskedPatches()
        width = encoder.channels
    decoder = LazyDecoder(channels=32, layers=2, heads=2, bottleneck=16, context_channels=width)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    pipeline = kind(
        prompt_encoder=PromptEncoder(),
        context_encoder=encoder.eval(),
        decoder=decoder.eval(),
        codec=PixelCodec(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        default_steps=3,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_checkpoint(folder: Path, kind: type[LazyDiffusionPipeline] = LazyDiffusionPipeline) -> Path:
    """A tiny pipeline, saved with its hashes."""
    tiny_pipeline(kind=kind).save_pretrained(folder, safe_serialization=True)
    write_hashes(folder)
    return folder
