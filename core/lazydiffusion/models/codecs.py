"""What a codec gives, and the plain one: tokens are patches of pixels as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lazydiffusion.models.config_only import ConfigOnly
from lazydiffusion.models.extension import extend
from lazydiffusion.models.patches import gather, patchify, scatter, unpatchify


@dataclass
class Encoded:
    """What the decoder gets to know of a window's tokens, and what the codec needs to decode them in place."""

    tokens: Float[Tensor, "1 k d"]
    """The decoder's tokens as the canvas has them."""
    keep: Bool[Tensor, "1 k d"]
    """True where a value is known: it belongs to visible pixels only."""
    indices: Int64[Tensor, "1 k"]
    """Where the tokens lie, row-major in the window."""
    window: Float[Tensor, "1 3 h w"]
    """Red, green, blue, -1..1, smoothly extended into the hole: what the context encoder is shown as well."""
    surroundings: Any = None
    """What the codec itself needs to decode."""


class PixelCodec(ConfigOnly, ModelMixin):
    """Tokens are patches of patch x patch px, as differences from the window's smooth extension into the hole.

    The difference is 0 at visible pixels and wherever a plain background goes on. It has no weights.
    """

    @register_to_config
    def __init__(self, patch: int = 16):
        super().__init__()
        self.patch = patch
        # A pipeline asks its components where they are and in which precision; this one has nothing else to say it.
        self.register_buffer("place", torch.zeros(1), persistent=False)

    @property
    def token_channels(self) -> int:
        """Values per token."""
        return self.patch * self.patch * 3

    @property
    def token_px(self) -> int:
        """Side of a token in working px."""
        return self.patch

    def encode(
        self,
        window: Float[Tensor, "1 3 h w"],
        hole: Bool[Tensor, "1 1 h w"],
        indices: Int64[Tensor, "1 k"],
    ) -> Encoded:
        """The window's tokens at `indices`. `window`: -1..1; `hole`: True where pixels are to be generated.

        Raises ValueError when a side of the window is no multiple of token_px.
        """
        keep = gather(patchify(~hole.expand_as(window), self.patch), indices)
        base = extend(window, hole)
        return Encoded(self._differences(window, base, indices), keep, indices, base)

    def forget(self, encoded: Encoded) -> Encoded:
        """The same window with nothing known of it: every one of its tokens is made, kept pixels and all."""
        return replace(encoded, keep=torch.zeros_like(encoded.keep))

    def encode_picture(self, picture: Float[Tensor, "1 3 h w"], encoded: Encoded) -> Float[Tensor, "1 k d"]:
        """Another picture of the same window, hidden part and all, as tokens of this edit (to start from it)."""
        return self._differences(picture, encoded.window, encoded.indices)

    def decode(self, tokens: Float[Tensor, "b k d"], encoded: Encoded) -> Float[Tensor, "b 3 h w"]:
        """The window with the tokens' pixels in place, clamped to -1..1; one for each of B variations."""
        window = encoded.window
        rows, cols = (side // self.patch for side in window.shape[-2:])
        batch = tokens.shape[0]
        nothing = torch.zeros(
            batch, rows * cols, self.token_channels, dtype=window.dtype, device=window.device
        )
        differences = scatter(nothing, encoded.indices.expand(batch, -1), tokens.to(window.dtype))
        return (window + unpatchify(differences, (rows, cols), self.patch)).clamp(-1, 1)

    def _differences(self, picture: Tensor, base: Tensor, indices: Tensor) -> Tensor:
        return gather(patchify(picture - base, self.patch), indices)
