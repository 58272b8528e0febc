"""The latent codec: tokens are patches of a VAE's latents, encoded and decoded only where the mask needs it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from lazydiffusion.errors import BadModel
from lazydiffusion.models import lazy_vae
from lazydiffusion.models.codecs import Encoded
from lazydiffusion.models.extension import extend
from lazydiffusion.models.patches import gather, patchify, scatter, unpatchify
from lazydiffusion.window import Box

STABLE_DIFFUSION_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
}
"""AutoencoderKL's arguments for the VAE of Stable Diffusion 1 and 2 and of PixArt-alpha."""
DETAIL_MARGIN = 4
"""Latents around the decoder's tokens that are encoded in detail as well; the overview's stand in for the others."""
MERGE_REACH = 2
"""Islands of tokens at most twice this many tokens apart are encoded, and decoded, as one box."""


@dataclass
class LatentSurroundings:
    """What a lazy decode needs beside the tokens."""

    latents: Float[Tensor, "1 c lh lw"]
    """The window's, in detail near the tokens; scaled, as tokens are."""
    sample: Float[Tensor, "1 c sh sw"]
    """Latents whose full decode tells the normalisations' statistics."""
    hidden: Bool[Tensor, "rows cols"]
    """The tokens that have anything to decode; on the CPU."""
    statistics: lazy_vae.NormStatistics | None = None
    """Recorded at the first decode, shared by all variations; may be taken over from an earlier edit of the window."""


class LatentCodec(ModelMixin, ConfigMixin):
    """Tokens are patches of patch x patch latents of an AutoencoderKL, encoded and decoded only where needed.

    Encoding: the VAE's encoder sees the decoder's tokens with a margin in detail, and an overview: the whole window,
    `overview_shrink` times as narrow. Decoding: the middle block runs on the whole latent grid, everything after it on
    the hidden tokens' bounding boxes (one for each island of the mask) with the halo that makes it equal to the full
    decode there, given the same statistics for the group normalisations (lazy_vae.py). These are recorded once per
    edit, at its first decode, from a decode of the overview; or, with `whole_window`, of the window itself, which is
    then encoded in full as well. Where the mask covers the whole window nothing is estimated.

    Cost with Stable Diffusion's VAE, a window of 1024 x 1024 px and a mask of 10 %, in FLOPs: a decode takes 0.20 of
    the full one, encoding 0.27 of a full encode; once per edit, the overview takes 0.23 of a full encode (0.06 when it
    shrinks 4 times), its statistics 0.24 of a full decode (0.06).

    Error of a fill, against encoding and decoding the finished picture in full, with a small VAE (8 to 24 channels,
    briefly trained) on windows of 256 x 256 px: 2.4 levels of 255 on average, 1.0 of it a shift of colour, when the
    overview shrinks 2 times; 5.8 and 3.0 when it shrinks 4 times; 1.1 and 0.7 with `whole_window`, whose statistics
    are those of the canvas before the fill. Statistics of the decoded boxes alone would be far off: 13 and 11.

    `vae_config`: AutoencoderKL's arguments; its weights are saved with this model. Raises BadModel for a VAE that
    cannot be run in parts.
    """

    @register_to_config
    def __init__(
        self,
        patch: int = 2,
        vae_config: dict[str, Any] | None = None,
        overview_shrink: int = 2,
        whole_window: bool = False,
    ):
        super().__init__()
        self.patch = patch
        self.overview_shrink = overview_shrink
        self.whole_window = whole_window
        self.vae = AutoencoderKL(**(vae_config or STABLE_DIFFUSION_VAE))
        lazy_vae.check_local(self.vae)
        if self.vae.config.latents_mean is not None:
            raise BadModel(
                "This VAE scales each latent channel by itself, which the latent codec does not know."
            )

    @classmethod
    def from_vae(cls, vae: AutoencoderKL, **settings: Any) -> Self:
        """A codec around a VAE that is loaded already; it is shared, not copied. `settings`: as for the class."""
        config = {name: value for name, value in vae.config.items() if not name.startswith("_")}
        with torch.device("meta"):
            codec: Self = cls(vae_config=config, **settings)
        codec.vae = vae
        return codec

    @property
    def token_channels(self) -> int:
        """Values per token."""
        return int(self.patch * self.patch * self.vae.config.latent_channels)

    @property
    def latent_px(self) -> int:
        """Side of a latent in working px."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def token_px(self) -> int:
        """Side of a token in working px."""
        return self.patch * self.latent_px

    @torch.no_grad()
    def encode(
        self,
        window: Float[Tensor, "1 3 h w"],
        hole: Bool[Tensor, "1 1 h w"],
        indices: Int64[Tensor, "1 k"],
    ) -> Encoded:
        """The window's tokens at `indices`. `window`: -1..1; `hole`: True where pixels are to be generated.

        What the hole shows is replaced by the smooth extension of the picture around it, so that the latents beside it
        know nothing of it. A latent is known when none of its own px is hidden. Raises ValueError when a side of the
        window is no multiple of token_px.
        """
        height, width = window.shape[-2:]
        if height % self.token_px or width % self.token_px:
            raise ValueError(
                f"A window of {width} x {height} px cannot be cut into tokens of {self.token_px} px."
            )
        grid = height // self.token_px, width // self.token_px
        visible = functional.max_pool2d(hole.float(), self.latent_px) == 0
        keep = patchify(visible.expand(-1, self.vae.config.latent_channels, -1, -1), self.patch)
        keep = gather(keep, indices)
        # Asked of the device before it has much to do, for it answers when it has done all that it was given.
        asked, hidden = _marked(indices[0], grid), _marked(indices[0, ~keep[0].all(dim=-1)], grid)
        window = extend(window, hole)
        latents, sample = self._latents(window.to(self.vae.dtype), asked)
        tokens = gather(patchify(latents, self.patch), indices).to(window.dtype)
        return Encoded(tokens, keep, indices, window, LatentSurroundings(latents, sample, hidden))

    def forget(self, encoded: Encoded) -> Encoded:
        """The same window with nothing known of it: every one of its tokens is made, and decoded in full."""
        surroundings: LatentSurroundings = encoded.surroundings
        everything = replace(surroundings, hidden=torch.ones_like(surroundings.hidden))
        return replace(encoded, keep=torch.zeros_like(encoded.keep), surroundings=everything)

    @torch.no_grad()
    def encode_picture(self, picture: Float[Tensor, "1 3 h w"], encoded: Encoded) -> Float[Tensor, "1 k d"]:
        """Another picture of the same window, hidden part and all, as tokens of this edit (to start from it)."""
        surroundings: LatentSurroundings = encoded.surroundings
        rows, cols = surroundings.hidden.shape
        latents = self._detailed(
            surroundings.latents.clone(),
            picture.to(self.vae.dtype),
            _marked(encoded.indices[0], (rows, cols)),
        )
        return gather(patchify(latents, self.patch), encoded.indices).to(picture.dtype)

    @torch.no_grad()
    def decode(self, tokens: Float[Tensor, "b k d"], encoded: Encoded) -> Float[Tensor, "b 3 h w"]:
        """The window with the hidden tokens' pixels in place, clamped to -1..1; one for each of B variations.

        Variations are decoded one after the other: none depends on the others, and the memory is that of one. Tokens
        of which every value is known are not decoded: the window has their pixels.
        """
        return torch.cat([self._decode_one(variation[None], encoded) for variation in tokens])

    def _decode_one(self, tokens: Float[Tensor, "1 k d"], encoded: Encoded) -> Float[Tensor, "1 3 h w"]:
        surroundings: LatentSurroundings = encoded.surroundings
        picture = encoded.window.clone()
        boxes = islands(surroundings.hidden)
        if not boxes:
            return picture.clamp(-1, 1)
        known = patchify(surroundings.latents, self.patch)
        filled = scatter(known, encoded.indices, tokens.to(known.dtype))
        rows, cols = surroundings.hidden.shape
        latents = self._unscaled(unpatchify(filled, (rows, cols), self.patch))
        features = lazy_vae.decode_middle(self.vae, latents)
        for box in boxes:
            with nullcontext() if box == Box(0, 0, cols, rows) else self._norms(surroundings):
                region = _region(box, self.token_px)
                decoded = lazy_vae.run_layers(lazy_vae.decoder_layers(self.vae), features, region)
            hidden = surroundings.hidden[box.slices()].to(picture.device, non_blocking=True)
            hidden = hidden.repeat_interleave(self.token_px, 0).repeat_interleave(self.token_px, 1)
            part = picture[(..., *region.slices())]
            part.copy_(torch.where(hidden, decoded.to(part.dtype), part))
        return picture.clamp(-1, 1)

    def _latents(
        self, picture: Float[Tensor, "1 3 h w"], asked: Bool[Tensor, "rows cols"]
    ) -> tuple[Float[Tensor, "1 c lh lw"], Float[Tensor, "1 c sh sw"]]:
        """The window's latents, in detail near the tokens `asked` for; and those that stand for it in statistics."""
        rows, cols = (side * self.patch for side in asked.shape)
        if self.whole_window:
            latents = self._encoded(picture, Box(0, 0, cols, rows))
            return latents, latents
        coarse = Box(0, 0, -(-cols // self.overview_shrink), -(-rows // self.overview_shrink))
        size = coarse.h * self.latent_px, coarse.w * self.latent_px
        sample = self._encoded(functional.interpolate(picture, size=size, mode="area"), coarse)
        latents = functional.interpolate(sample, size=(rows, cols), mode="bilinear")
        return self._detailed(latents, picture, asked), sample

    def _detailed(
        self,
        latents: Float[Tensor, "1 c lh lw"],
        picture: Float[Tensor, "1 3 h w"],
        asked: Bool[Tensor, "rows cols"],
    ) -> Float[Tensor, "1 c lh lw"]:
        """`latents`, overwritten with the picture's own near the tokens `asked` for."""
        size = latents.shape[-1], latents.shape[-2]
        regions = [_region(box, self.patch, DETAIL_MARGIN).clip(size) for box in islands(asked)]
        for region in [Box(0, 0, *size)] if self.whole_window else regions:
            latents[(..., *region.slices())] = self._encoded(picture, region)
        return latents

    def _norms(self, surroundings: LatentSurroundings) -> AbstractContextManager[None]:
        """The local layers' normalisations, with the statistics of the whole window."""
        if surroundings.statistics is None:
            features = lazy_vae.decode_middle(self.vae, self._unscaled(surroundings.sample))
            height, width = (side * self.latent_px for side in surroundings.sample.shape[-2:])
            with lazy_vae.recorded_norms() as statistics:
                lazy_vae.run_layers(lazy_vae.decoder_layers(self.vae), features, Box(0, 0, width, height))
            # Only now, when it is whole: a list that memory ended in would fail every later edit of the canvas.
            surroundings.statistics = statistics
        return lazy_vae.given_norms(surroundings.statistics)

    def _encoded(self, picture: Float[Tensor, "1 3 h w"], region: Box) -> Float[Tensor, "1 c lh lw"]:
        """The most likely latents of a region (in latents) of the picture, scaled as diffusion models get them."""
        moments = lazy_vae.run_layers(lazy_vae.encoder_layers(self.vae), picture, region)
        config = self.vae.config
        mean = moments[:, : config.latent_channels]
        scaled: Tensor = (mean - (config.shift_factor or 0)) * config.scaling_factor
        return scaled

    def _unscaled(self, latents: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 c h w"]:
        """The inverse of that scaling: what the VAE's decoder is given."""
        unscaled: Tensor = latents / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0)
        return unscaled


def islands(marked: Bool[Tensor, "rows cols"], reach: int = MERGE_REACH) -> list[Box]:
    """Boxes (in tokens) around the marked tokens: one for each group that lies more than 2 * reach from the others."""
    if not marked.any():
        return []
    near = functional.max_pool2d(marked[None].float(), 2 * reach + 1, stride=1, padding=reach)[0] > 0
    chosen, groups = marked.cpu().numpy(), _groups(near.cpu().numpy())
    boxes = []
    for group in np.unique(groups[chosen]):
        ys, xs = np.nonzero((groups == group) & chosen)
        left, top = int(xs.min()), int(ys.min())
        boxes.append(Box(left, top, int(xs.max()) - left + 1, int(ys.max()) - top + 1))
    return boxes


def _groups(near: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """One number for all tokens of a group, which may touch at corners only; larger for a group that ends later.

    Groups are joined from the runs of tokens in each row, which are few. What belongs to none has any number.
    """
    padded = np.pad(near, ((0, 0), (1, 1)))
    changes = np.diff(padded.ravel().view(np.int8), prepend=0)
    starts, ends = np.flatnonzero(changes == 1), np.flatnonzero(changes == -1)
    below = padded.shape[1]  # from a token to the one below it
    first = np.searchsorted(ends + below, starts, side="left")
    stop = np.searchsorted(starts + below, ends, side="right")
    group = list(range(len(starts)))

    def last(run: int) -> int:
        """The last run that is known to be of its group."""
        while group[run] != run:
            group[run] = run = group[group[run]]
        return run

    for run in range(len(starts)):
        for above in range(first[run], stop[run]):
            group[last(above)] = run
    of_run = np.array([last(run) for run in range(len(starts))])
    runs = np.cumsum(changes == 1).reshape(padded.shape)[:, 1:-1] - 1
    return np.asarray(of_run[np.maximum(runs, 0)])


def _marked(indices: Int64[Tensor, " k"], grid: tuple[int, int]) -> Bool[Tensor, "rows cols"]:
    """True at the tokens of `indices`, on the CPU."""
    marked = torch.zeros(grid[0] * grid[1], dtype=torch.bool)
    marked[indices.cpu()] = True
    return marked.view(grid)


def _region(box: Box, side: int, margin: int = 0) -> Box:
    """A box of tokens that are `side` wide, with a margin in the same unit."""
    twice = 2 * margin
    return Box(box.x * side - margin, box.y * side - margin, box.w * side + twice, box.h * side + twice)
