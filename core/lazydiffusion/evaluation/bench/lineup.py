"""The engines side by side: one decoder size, one codec, one text encoder and one way of sampling for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import nn
from transformers import T5Config, T5EncoderModel

from lazydiffusion import checkpoints
from lazydiffusion.devices import Choice
from lazydiffusion.engines.lazy import LazyEngine, load_pipeline
from lazydiffusion.engines.names import LAZY, REGENERATE_CROP, REGENERATE_IMAGE, engine_of
from lazydiffusion.engines.stages import quiet
from lazydiffusion.errors import BadInput
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.masked_patches import MaskedPatches
from lazydiffusion.models.presets import PAPER, Preset, build
from lazydiffusion.models.prompt_encoder import PromptEncoder
from lazydiffusion.pipelines.lazy import LazyDiffusionPipeline
from lazydiffusion.pipelines.regenerate import RegenerateCropPipeline, RegenerateImagePipeline
from lazydiffusion.window import PATCH

PAPER_CONFIG = "paper"
BASELINES = {REGENERATE_IMAGE: RegenerateImagePipeline, REGENERATE_CROP: RegenerateCropPipeline}
T5_XXL = {
    "d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240, "num_layers": 24, "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
}  # fmt: skip
"""T5 v1.1's encoder of 4.8 billion weights, which PixArt-alpha and so LazyDiffusion read their prompts with."""
COMPILED_SHAPES = 256
"""Of all that the blocks are given in one run; torch's own limit, 8, would leave the rest uncompiled, unsaid."""
PAPER_WORDS = 120
"""PixArt-alpha's length of a prompt, in words."""


@dataclass
class Lineup:
    """What is compared."""

    engines: dict[str, LazyEngine]
    """By name."""
    native: int
    """Side in px of the window: the smallest square canvas that is shown in full and in full detail."""
    random: list[str]
    """Engines whose weights are random: their fills mean nothing, their cost is that of trained ones."""
    stand_ins: list[str] = field(default_factory=list)
    """What is not what a user of such a model would have, in sentences."""
    compiled: bool = False
    """The transformers' blocks run compiled, in all engines."""

    def compile(self) -> None:
        """Have every transformer block compiled, once for each number of tokens and with and without guidance."""
        torch._dynamo.config.recompile_limit = COMPILED_SHAPES
        for engine in self.engines.values():
            engine.pipeline.compile_blocks()
        self.compiled = True

    @property
    def note(self) -> str:
        """What every figure and table has to say of the weights; may be empty."""
        if not self.random:
            return ""
        if len(self.random) == len(self.engines):
            return "Random weights: timing only."
        verb = "have" if len(self.random) > 1 else "has"
        return f"{' and '.join(self.random)} {verb} random weights: timing only."


def build_lineup(config: str, names: Sequence[str], choice: Choice) -> Lineup:
    """The engines `names` for a configuration: "paper", or the name or folder of a checkpoint of the lazy engine.

    Without trained weights for the same size, the baselines have random ones. Raises BadInput, BadModel.
    """
    if config == PAPER_CONFIG:
        return _lineup(*random_pipeline(PAPER, choice, PAPER_WORDS), names, trained=[])
    where = checkpoints.locate(config)
    if engine_of(where) != LAZY:
        raise BadInput(f"{config} is no model of the lazy engine, with which the others are compared.")
    return _lineup(load_pipeline(where, choice), [], names, trained=[LAZY])


def random_lineup(preset: Preset, names: Sequence[str], choice: Choice) -> Lineup:
    """The engines `names` at a preset's size, all of their own weights random."""
    return _lineup(*random_pipeline(preset, choice), names, trained=[])


def random_pipeline(
    preset: Preset, choice: Choice, words: int = 32
) -> tuple[LazyDiffusionPipeline, list[str]]:
    """A lazy pipeline of a preset's networks, and what stands in for what in it. `words`: a prompt's length."""
    quiet()
    networks = build(preset, choice.device, choice.dtype)
    prompt_encoder, stand_ins = _prompt_encoder(preset.decoder["text_channels"], choice, words)
    pipeline = LazyDiffusionPipeline(
        prompt_encoder, networks.context_encoder, networks.decoder, networks.codec,
        FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip
    return pipeline, stand_ins


def weight_bytes(module: nn.Module) -> int:
    """Bytes of a network's weights in memory."""
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def _lineup(
    lazy: LazyDiffusionPipeline, stand_ins: list[str], names: Sequence[str], trained: Sequence[str]
) -> Lineup:
    pipelines = {name: lazy if name == LAZY else _baseline(lazy, name) for name in names}
    return Lineup(
        engines={name: LazyEngine(pipeline) for name, pipeline in pipelines.items()},
        native=lazy.context_encoder.config.window_tokens * PATCH,
        random=[name for name in names if name not in trained],
        stand_ins=stand_ins,
    )


def _baseline(lazy: LazyDiffusionPipeline, name: str) -> LazyDiffusionPipeline:
    """A baseline that has all it can of a lazy pipeline; only the decoder's map of what it sees has another width."""
    seen = lazy.context_encoder.config
    patches = MaskedPatches(seen.patch, seen.window_tokens, seen.overview_tokens)
    sizes = {key: value for key, value in lazy.decoder.config.items() if not key.startswith("_")}
    with torch.device(lazy.device):
        decoder = LazyDecoder(**(sizes | {"context_channels": patches.channels, "trained_tokens": None}))
    for network in (patches, decoder):
        nn.Module.to(network.eval(), device=lazy.device, dtype=lazy.decoder.dtype)
    sampling = ("default_steps", "default_guidance", "guidance_low", "guidance_high")
    return BASELINES[name](
        lazy.prompt_encoder, patches, decoder, lazy.codec,
        type(lazy.scheduler).from_config(lazy.scheduler.config),
        **{key: lazy.config[key] for key in sampling},
    )  # fmt: skip


def _prompt_encoder(width: int, choice: Choice, words: int) -> tuple[PromptEncoder, list[str]]:
    """Word states of `width`: MiniLM's, or those of a T5 with random weights; and what stands in for what.

    T5-XXL's weights take 10 GB of a GPU; a CPU gets its word vectors alone, without layers.
    """
    encoder = PromptEncoder(max_tokens=words)
    stand_ins = []
    if width != encoder.channels:
        sizes: dict[str, Any] = T5_XXL | {"d_model": width}
        if choice.device.type != "cuda":
            sizes["num_layers"] = 0
        with torch.device(choice.device):
            encoder.encoder = T5EncoderModel._from_config(T5Config(**sizes), dtype=choice.dtype).eval()
        encoder.tokenizer.model_input_names = ["input_ids", "attention_mask"]
        stand_ins = [
            f"The text encoder is T5-XXL's with {sizes['num_layers']} of its 24 layers and random weights"
            f"{'' if sizes['num_layers'] else ' (a CPU has no room for them), so text costs next to nothing here'}; "
            f"MiniLM's tokenizer stands in for T5's. A prompt has {words} words with its padding.",
        ]
    encoder.requires_grad_(False)
    nn.Module.to(encoder, device=choice.device, dtype=choice.dtype)
    return cast(PromptEncoder, encoder), stand_ins
