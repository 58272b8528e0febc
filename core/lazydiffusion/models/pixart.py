"""A LazyDecoder that starts from a PixArt transformer's weights, as LazyDiffusion's published decoder did."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor, nn

from lazydiffusion.errors import BadModel
from lazydiffusion.models.lazy_decoder import LazyDecoder

LATENT_PX = 8
"""Side in px of one latent of the VAE that PixArt was trained with."""
COINCIDING = {
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_type": "default",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "norm_type": "ada_norm_single",
}
"""Settings under which PixArt's block is our block of the family "pixart"."""


@torch.no_grad()
def decoder_from_pixart(
    transformer: PixArtTransformer2DModel, context_channels: int, size: tuple[int, int] | None = None
) -> LazyDecoder:
    """A decoder that computes what `transformer` does when it is given every token and no context.

    It takes tokens of patch * patch * latent channels (patchify's order) and predicts noise; PixArt's second half, the
    learned variance, is left out. What PixArt has no counterpart for adds nothing yet: context, sketch, and the
    learned text for no prompt are zero. Positions coincide for a square window of PixArt's own size; around it they go
    on at the same spacing, with the same centre.

    `size`: (width, height) in px, for the models that are told it (PixArt-alpha at 1024 px): it becomes part of the
    weights, for it does not change here. Their native square by default.
    Raises BadModel for a PixArt whose blocks differ from ours.
    """
    config = transformer.config
    _check(config)
    channels = config.num_attention_heads * config.attention_head_dim
    patch, latents = config.patch_size, config.in_channels
    rows = config.sample_size // patch
    interpolation = config.interpolation_scale or max(config.sample_size // 64, 1)
    decoder: LazyDecoder = LazyDecoder(
        token_channels=patch * patch * latents,
        channels=channels,
        layers=config.num_layers,
        heads=config.num_attention_heads,
        bottleneck=None,
        context_channels=context_channels,
        text_channels=config.caption_channels,
        sketch_patch=patch * LATENT_PX,
        family="pixart",
        prediction="epsilon",
        position_scale=1 / interpolation,
        position_offset=(rows - 1) / 2,
    )
    theirs = transformer.state_dict()
    weights = {
        "embed.weight": theirs["pos_embed.proj.weight"].permute(0, 2, 3, 1).flatten(1),  # (C, p q c)
        "embed.bias": theirs["pos_embed.proj.bias"],
        "modulation_out": theirs["scale_shift_table"],
        **{
            f"to_out.{name}": _noise_only(theirs[f"proj_out.{name}"], latents, patch)
            for name in ("weight", "bias")
        },
        **_renamed(theirs, "adaln_single.emb.timestep_embedder.linear_1", "embed_timestep.linear_1"),
        **_renamed(theirs, "adaln_single.emb.timestep_embedder.linear_2", "embed_timestep.linear_2"),
        **_renamed(theirs, "adaln_single.linear", "modulation"),
        **_renamed(theirs, "caption_projection.linear_1", "embed_text.0"),
        **_renamed(theirs, "caption_projection.linear_2", "embed_text.2"),
        "embed_context.weight": torch.zeros(channels, context_channels),
        "no_prompt": torch.zeros(config.caption_channels),
    }
    for i in range(config.num_layers):
        weights |= _block(theirs, f"transformer_blocks.{i}", f"blocks.{i}")
    if transformer.use_additional_conditions:
        native = config.sample_size * LATENT_PX
        bias = "embed_timestep.linear_2.bias"
        weights[bias] = weights[bias] + _size_embedding(transformer, size or (native, native))
    decoder.load_state_dict({**decoder.state_dict(), **weights})  # strict: an unknown name or shape raises
    # nn.Module's own `to`: ModelMixin's warns of layers to be kept in float32, of which there are none.
    nn.Module.to(decoder, device=transformer.device, dtype=transformer.dtype)
    return decoder


def _check(config: Any) -> None:
    differing = [f"{name} = {config[name]}" for name, value in COINCIDING.items() if config[name] != value]
    if config.cross_attention_dim != config.num_attention_heads * config.attention_head_dim:
        differing.append(f"cross_attention_dim = {config.cross_attention_dim}")
    if config.caption_channels is None:
        differing.append("caption_channels = None")
    if differing:
        raise BadModel(
            f"This PixArt cannot initialise a lazy decoder: {', '.join(differing)} is not what its blocks compute. "
            "Use the transformer of PixArt-alpha or PixArt-sigma."
        )


def _renamed(theirs: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    """Weight and bias of one linear layer under its new name."""
    return {f"{new}.{name}": theirs[f"{old}.{name}"] for name in ("weight", "bias")}


def _block(theirs: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    weights = {f"{new}.modulation_offset": theirs[f"{old}.scale_shift_table"]}
    for their_attention, our_attention in (("attn1", "attention"), ("attn2", "text_attention")):
        for their_layer, our_layer in (
            ("to_q", "to_q"), ("to_k", "to_k"), ("to_v", "to_v"), ("to_out.0", "to_out"),
        ):  # fmt: skip
            weights |= _renamed(
                theirs, f"{old}.{their_attention}.{their_layer}", f"{new}.{our_attention}.{our_layer}"
            )
    weights |= _renamed(theirs, f"{old}.ff.net.0.proj", f"{new}.feed_forward.to_hidden")
    return weights | _renamed(theirs, f"{old}.ff.net.2", f"{new}.feed_forward.to_out")


def _noise_only(projection: Tensor, latents: int, patch: int) -> Tensor:
    """The rows of the output layer, in order (p q c), that predict the noise: the first of PixArt's channels."""
    rows: Tensor = projection.unflatten(0, (patch * patch, -1))[:, :latents].flatten(0, 1)
    return rows


def _size_embedding(transformer: PixArtTransformer2DModel, size: tuple[int, int]) -> Tensor:
    """What PixArt adds to every time step's embedding for a picture of (width, height) px: (C,)."""
    width, height = size
    embedding = transformer.adaln_single.emb
    resolution = torch.tensor([height, width], dtype=torch.float32, device=transformer.device)
    ratio = torch.tensor([height / width], dtype=torch.float32, device=transformer.device)
    parts = (
        part(embedding.additional_condition_proj(values).to(transformer.dtype)).flatten()
        for part, values in (
            (embedding.resolution_embedder, resolution),
            (embedding.aspect_ratio_embedder, ratio),
        )
    )
    return torch.cat([*parts])
