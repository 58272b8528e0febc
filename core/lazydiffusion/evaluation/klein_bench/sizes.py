"""How large the models are that are timed: FLUX.2-klein-4B as it is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lazydiffusion.window import PATCH


@dataclass(frozen=True)
class Size:
    """Arguments of the networks; what is left out has the libraries' own value."""

    transformer: Mapping[str, Any]
    """Of Flux2Transformer2DModel."""
    vae: Mapping[str, Any]
    """Of AutoencoderKLFlux2."""
    text_encoder: Mapping[str, Any]
    """Of Qwen3Config."""
    window_tokens: int = 64

    @property
    def native(self) -> int:
        """Side in px of the square canvas that is the window."""
        return self.window_tokens * PATCH


KLEIN_4B = Size(
    transformer={
        "num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "attention_head_dim": 128,
        "joint_attention_dim": 3 * 2560, "guidance_embeds": False,
    },
    vae={},
    text_encoder={
        "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40960,
        "tie_word_embeddings": True,
    },
)  # fmt: skip
"""3.88, 0.08 and 4.02 billion weights: the published model's architecture, whose text encoder is Qwen3-4B."""

CONFIGS = {"flux2-klein-4b": KLEIN_4B}
"""What `lazydiffusion bench --config` can name here."""
