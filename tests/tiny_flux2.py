"""A FLUX.2-klein of random weights: all its parts and their structure, small enough to be made and run in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3ForCausalLM

from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline

WORD_CHANNELS = 8
LATENT_CHANNELS = 4
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


def tiny_parts(**transformer: Any) -> dict[str, Any]:
    """What such a pipeline is made of, the same at every call; `transformer`: changes to its arguments."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {
            "transformer": _transformer(**transformer),
            "vae": tiny_flux2_vae(),
            "text_encoder": _text_encoder(),
            "tokenizer": _tokenizer(),
            "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        }
    for name in ("transformer", "vae", "text_encoder"):
        parts[name].eval().requires_grad_(False)
    return parts


def tiny_klein(is_distilled: bool = True) -> LazyFlux2KleinPipeline:
    """The lazy pipeline of these parts."""
    pipeline = LazyFlux2KleinPipeline(**tiny_parts(), is_distilled=is_distilled)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_flux2(folder: Path, kind: type[DiffusionPipeline] = Flux2KleinPipeline, **settings: Any) -> Path:
    """Save one as a pipeline of diffusers."""
    kind(**tiny_parts(), **settings).save_pretrained(folder)
    return folder


def tiny_flux2_vae() -> AutoencoderKLFlux2:
    """Four levels with attention in the middle; the scaling of its latents' channels is random as well."""
    vae = AutoencoderKLFlux2(
        block_out_channels=(4, 8, 8, 12),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
    ).requires_grad_(False)
    for parameter in vae.parameters():  # biases and norms as well
        parameter.add_(torch.randn_like(parameter) * 0.05)
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2)
    return vae.eval()


def _transformer(**changes: Any) -> Flux2Transformer2DModel:
    settings = {
        "in_channels": 4 * LATENT_CHANNELS, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16,
        "num_attention_heads": 2, "joint_attention_dim": 3 * WORD_CHANNELS, "timestep_guidance_channels": 32,
        "axes_dims_rope": (4, 4, 4, 4), "guidance_embeds": False,
    }  # fmt: skip
    model = Flux2Transformer2DModel(**(settings | changes))
    for parameter in model.parameters():  # nn.Linear's own would hardly let attention or time matter
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=1.5 * parameter.shape[1] ** -0.5)
    return model


def _text_encoder() -> Qwen3ForCausalLM:
    """Of 28 layers: the pipeline takes its words from the 9th, 18th and 27th."""
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=300,
            hidden_size=WORD_CHANNELS,
            intermediate_size=16,
            num_hidden_layers=28,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
        )
    )


def _tokenizer() -> Qwen2TokenizerFast:
    """One word for each letter; chats as Qwen3's are written."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {word: number for number, word in enumerate([*special, *map(chr, range(33, 127)), "Ġ", "Ċ"])}
    tokenizer = Qwen2TokenizerFast(vocab=vocab, merges=[], extra_special_tokens=special[1:])
    tokenizer.chat_template = CHAT
    return tokenizer
