"""What an ordinary inpainting transformer is told of the canvas: the masked picture itself, patch by patch."""

from __future__ import annotations

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lazydiffusion.models.config_only import ConfigOnly
from lazydiffusion.models.context_encoder import VIEW_CHANNELS
from lazydiffusion.models.patches import gather, patchify


class MaskedPatches(ConfigOnly, ModelMixin):
    """Stands where the context encoder stands, without its weights: a token's context is its own patch.

    The decoder's linear map of it is what inpainting models do with a masked picture and a mask: they are further
    channels of their input (Rombach et al. 2022; LazyDiffusion's RegenerateImage and RegenerateCrop). What lies
    outside the window is not seen.
    """

    @register_to_config
    def __init__(self, patch: int = 16, window_tokens: int = 16, overview_tokens: int = 8):
        super().__init__()
        self.patch = patch
        self.blocks = nn.ModuleList()
        # As in PixelCodec: what tells a pipeline its device and precision.
        self.register_buffer("place", torch.zeros(1), persistent=False)

    @property
    def channels(self) -> int:
        """Values per token: the decoder's `context_channels`."""
        return self.patch * self.patch * VIEW_CHANNELS

    def forward(
        self,
        window: Float[Tensor, "b 4 h w"],
        overview: Float[Tensor, "b 4 oh ow"],
        window_positions: Float[Tensor, "b n 2"],
        overview_positions: Float[Tensor, "b m 2"],
        indices: Int64[Tensor, "b k"],
    ) -> Float[Tensor, "b k c"]:
        """The window's patches at `indices`; of the arguments, those of ContextEncoder, only these two count."""
        return gather(patchify(window, self.patch), indices)
