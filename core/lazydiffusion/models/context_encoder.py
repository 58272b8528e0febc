"""The context encoder: reads window, mask and overview once per edit and keeps what the hidden tokens need."""

from __future__ import annotations

from typing import ClassVar

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lazydiffusion.models.layers import EncoderBlock, make_norm, rotary_2d
from lazydiffusion.models.patches import patchify

VIEW_CHANNELS = 4
"""Red, green, blue in -1..1 (where hidden: extension.extend), and 1 where hidden."""


class ContextEncoder(ModelMixin, ConfigMixin):
    """A vision transformer over two views of the canvas: the window in full detail, and the overview.

    Both are cut into patches of `patch` px, embedded through a bottleneck, told apart by a learned vector, and placed
    in one frame by continuous rotary positions; any grid of either will do. The last block asks only for the kept
    tokens.
    """

    _supports_gradient_checkpointing = False
    _repeated_blocks: ClassVar[list[str]] = ["EncoderBlock"]

    @register_to_config
    def __init__(
        self,
        patch: int = 16,
        channels: int = 320,
        layers: int = 7,
        heads: int = 5,
        bottleneck: int = 128,
        rotary_base: float = 100.0,
        window_tokens: int = 16,
        overview_tokens: int = 8,
    ):
        super().__init__()
        self.patch = patch
        self.head_dim = channels // heads
        self.rotary_base = rotary_base
        self.embed = nn.Sequential(
            nn.Linear(patch * patch * VIEW_CHANNELS, bottleneck, bias=False), nn.Linear(bottleneck, channels)
        )
        self.view = nn.Parameter(torch.randn(2, channels) * 0.02)
        self.blocks = nn.ModuleList([EncoderBlock(channels, heads) for _ in range(layers)])
        self.norm_out = make_norm(channels, "modern", affine=True)

    def forward(
        self,
        window: Float[Tensor, "b 4 h w"],
        overview: Float[Tensor, "b 4 oh ow"],
        window_positions: Float[Tensor, "b n 2"],
        overview_positions: Float[Tensor, "b m 2"],
        indices: Int64[Tensor, "b k"],
    ) -> Float[Tensor, "b k c"]:
        """The context (B, K, C) of the window's tokens at `indices` (row-major).

        `window`, `overview`: red, green, blue in -1..1, extended smoothly into the hole (extension.extend), then a
        channel that is 1 where hidden and 0 elsewhere. `*_positions`: (y, x) of each token in tokens from the
        window's centre (see geometry.EditPlan).
        """
        views = [self.embed(patchify(view, self.patch)) for view in (window, overview)]
        x = torch.cat([view + self.view[i] for i, view in enumerate(views)], dim=1)
        positions = torch.cat([window_positions, overview_positions], dim=1)
        rotary = rotary_2d(positions, self.head_dim, self.rotary_base)
        for block in self.blocks[:-1]:
            x = block(x, rotary)
        x = self.blocks[-1](x, rotary, indices)
        return self.norm_out(x)  # type: ignore[no-any-return]
