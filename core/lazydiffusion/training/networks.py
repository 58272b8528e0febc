"""The networks that a run trains: made, tried without numbers, compiled, and given a checkpoint's weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lazydiffusion.engines.names import LAZY
from lazydiffusion.errors import BadInput, BadModel, first_line
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.layers import Family
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.masked_patches import MaskedPatches
from lazydiffusion.training.objective import LazyObjective, Objective, Prediction
from lazydiffusion.training.scenes import Scenes
from lazydiffusion.window import PATCH

WORDS, WORD_CHANNELS = 16, 384
"""Of a caption, as captions.CaptionBank has them of MiniLM."""
TRIED = 2
"""Scenes of a step that is only tried."""


def make_networks(
    engine: str,
    encoder: Mapping[str, Any],
    decoder: Mapping[str, Any],
    window_tokens: int,
    overview_tokens: int,
    constants: Objective,
) -> LazyObjective:
    """Networks with random weights, of the configuration's tables: a baseline has no encoder, and the same decoder."""
    grids = {"window_tokens": window_tokens, "overview_tokens": overview_tokens}
    if engine == LAZY:
        return LazyObjective(ContextEncoder(**{**grids, **encoder}), LazyDecoder(**decoder), constants)
    patches = MaskedPatches(**grids)
    context = {"context_channels": patches.channels}
    return LazyObjective(patches, LazyDecoder(**{**decoder, **context}), constants)


def try_networks(
    encoder: Mapping[str, Any],
    decoder: Mapping[str, Any],
    window_tokens: int,
    overview_tokens: int,
    constants: Objective,
) -> None:
    """Make them and take a step on torch's meta device: shapes without numbers, in milliseconds.

    Raises BadInput, with the reason, for arguments that no networks, or none that fit each other, can be made of.
    """
    for name, kinds in (("prediction", Prediction), ("family", Family)):
        value, known = decoder.get(name), get_args(kinds)
        if value is not None and value not in known:
            raise BadInput(f"the decoder's `{name}` is {value!r}; it must be one of {', '.join(known)}.")
    try:
        with torch.device("meta"):
            model = make_networks(LAZY, encoder, decoder, window_tokens, overview_tokens, constants)
            text = torch.empty(TRIED, WORDS, WORD_CHANNELS)
            model(_shapes(window_tokens, overview_tokens), text, torch.ones(TRIED, WORDS, dtype=torch.bool))
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise BadInput(
            f"no networks can be made of [encoder] and [decoder]: {first_line(error)}. Their arguments are those of "
            "ContextEncoder and LazyDecoder."
        ) from error


def _shapes(window_tokens: int, overview_tokens: int) -> Scenes:
    """Scenes that have nothing but their shapes; all of the window's tokens are made."""
    side, overview = window_tokens * PATCH, overview_tokens * PATCH
    return Scenes(
        window=torch.empty(TRIED, 3, side, side),
        hole=torch.empty(TRIED, 1, side, side, dtype=torch.bool),
        overview=torch.empty(TRIED, 3, overview, overview),
        overview_hole=torch.empty(TRIED, 1, overview, overview, dtype=torch.bool),
        window_positions=torch.empty(TRIED, window_tokens**2, 2),
        overview_positions=torch.empty(TRIED, overview_tokens**2, 2),
        indices=torch.zeros(TRIED, window_tokens**2, dtype=torch.long),
        sketch=torch.empty(TRIED, 4, side, side),
        sprites=torch.zeros(TRIED, dtype=torch.long),
        alpha=torch.empty(TRIED, 1, side, side),
    )


def compile_blocks(model: LazyObjective, **options: Any) -> None:
    """Compile each block, and what makes the text's keys and values: all of a kind share what was compiled.

    A whole stack as one region calls no faster (measured on a CPU) and takes as many times as long to compile as it has
    blocks. The text is the same for every number of tokens; uncompiled it was 300 kernels, half of those left outside.
    """
    for block in [*model.encoder.blocks, *model.decoder.blocks]:
        block.compile(dynamic=False, **options)
    for block in model.decoder.blocks:
        attention: Any = block.text_attention
        attention.keys_values = torch.compile(attention.keys_values, dynamic=False, **options)


def load_weights(model: LazyObjective, folder: Path) -> None:
    """Take the weights of a checkpoint folder (`context_encoder/`, `decoder/`), such as a run's `ema`.

    A part that has no weights is passed over. Raises BadModel when the folder holds none, or weights of other shapes.
    """
    for name, part in (("context_encoder", model.encoder), ("decoder", model.decoder)):
        if not any(True for _ in part.parameters()):
            continue
        file = folder / name / "diffusion_pytorch_model.safetensors"
        if not file.is_file():
            raise BadModel(
                f"{folder} is no checkpoint: {file} is missing. Give a folder with context_encoder/ and decoder/."
            )
        try:
            weights = load_file(file)
        except (OSError, SafetensorError) as error:
            raise BadModel(f"{file} cannot be read as safetensors: {first_line(error)}.") from error
        if mismatch := _first_mismatch(part, weights):
            raise BadModel(
                f"{file} does not fit the configured {name}: {mismatch}. Give the configuration that these weights "
                "were trained with, or other weights."
            )
        part.load_state_dict(weights)


def _first_mismatch(part: nn.Module, weights: Mapping[str, Tensor]) -> str | None:
    """What keeps these weights from being the part's, in words."""
    wanted = part.state_dict()
    for name, tensor in wanted.items():
        if name not in weights:
            return f"it has no `{name}`"
        if weights[name].shape != tensor.shape:
            has, needs = (" x ".join(map(str, shape)) for shape in (weights[name].shape, tensor.shape))
            return f"its `{name}` is {has}, and the configuration's is {needs}"
    unknown = sorted(set(weights) - set(wanted))
    return f"it has a `{unknown[0]}`, which the configuration's has not" if unknown else None
