"""The lazy decoder: a diffusion transformer that sees the hidden tokens and nothing else of the canvas."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from lazydiffusion.models.layers import (
    DecoderBlock,
    Family,
    KeysValues,
    Rotary,
    make_norm,
    masked_out,
    modulations,
    rotary_2d,
    rotary_as,
    sincos_2d,
)

SKETCH_CHANNELS = 4
"""Red, green, blue in -1..1 (0 where nothing is drawn), and 1 where something is drawn."""


@dataclass
class Conditions:
    """All that stays the same over the steps and variations of an edit: computed once, by `LazyDecoder.prepare`."""

    channelwise: Float[Tensor, "b k c"]
    """Context, sketch (and PixArt's positions), to be added to the token embedding."""
    rotary: Rotary | None
    text: list[KeysValues]
    """Keys and values of the text, one pair per block."""
    text_mask: Float[Tensor, "b 1 1 l"] | None
    """layers.masked_out."""
    pooled: Float[Tensor, "b c"] | None = None
    """The text as one vector, of a decoder with `pooled_text`."""

    def stacked(self, other: Conditions) -> Conditions:
        """Both as one batch, this one first. Their texts must have the same length."""
        if (self.text_mask is None) != (other.text_mask is None):
            raise ValueError("Conditions with and without a text mask cannot be stacked; give both a mask.")
        rotary = None
        if self.rotary is not None and other.rotary is not None:
            rotary = (
                torch.cat([self.rotary[0], other.rotary[0]]),
                torch.cat([self.rotary[1], other.rotary[1]]),
            )
        mask = None
        if self.text_mask is not None and other.text_mask is not None:
            mask = torch.cat([self.text_mask, other.text_mask])
        pooled = None
        if self.pooled is not None and other.pooled is not None:
            pooled = torch.cat([self.pooled, other.pooled])
        return Conditions(
            channelwise=torch.cat([self.channelwise, other.channelwise]),
            rotary=rotary,
            text=[
                (torch.cat([k, other_k]), torch.cat([v, other_v]))
                for (k, v), (other_k, other_v) in zip(self.text, other.text, strict=True)
            ],
            text_mask=mask,
            pooled=pooled,
        )

    def for_draws(self, draws: int) -> Conditions:
        """For so many noisy versions of each scene: all in their first draw, all in their second, and so on.

        The texts stay as they are: `prepare` was given one for each draw of each scene.
        """
        rotary = None
        if self.rotary is not None:
            rotary = (self.rotary[0].repeat(draws, 1, 1, 1), self.rotary[1].repeat(draws, 1, 1, 1))
        return replace(self, channelwise=self.channelwise.repeat(draws, 1, 1), rotary=rotary)


class LazyDecoder(ModelMixin, ConfigMixin):
    """A diffusion transformer over K tokens, conditioned on context, text, time step and an optional sketch.

    `token_channels` values per token: patch * patch * 3 pixels, or 2 * 2 * 4 latents. Context and sketch enter
    channel-wise (a linear map of each is added to the token's embedding: the same as LazyDiffusion's concatenation
    along the channels, followed by a linear map); text enters as a sequence, through cross-attention. `prediction`:
    what the output means, "sample" (clean tokens, as in JiT) or "velocity" (noise minus sample) or "epsilon".
    `position_offset`, then `position_scale`, take a token's position to the one that PixArt's table would give it.
    `pooled_text`: the mean of the words also joins each token and the time step, as the class does in DiT (Peebles and
    Xie 2022): a short training learns what to draw much sooner than by cross-attention alone. `trained_tokens`: the
    largest number of tokens that it was trained on, where that is less than a window's; more make a pattern, no thing.
    """

    _supports_gradient_checkpointing = False
    _repeated_blocks: ClassVar[list[str]] = ["DecoderBlock"]

    @register_to_config
    def __init__(
        self,
        token_channels: int = 768,
        out_channels: int | None = None,
        channels: int = 448,
        layers: int = 6,
        heads: int = 7,
        bottleneck: int | None = 128,
        context_channels: int = 320,
        text_channels: int = 384,
        sketch_patch: int = 16,
        family: Family = "modern",
        prediction: Literal["sample", "velocity", "epsilon"] = "sample",
        rotary_base: float = 100.0,
        position_scale: float = 1.0,
        position_offset: float = 0.0,
        pooled_text: bool = False,
        trained_tokens: int | None = None,
    ):
        super().__init__()
        self.family = family
        self.channels = channels
        self.head_dim = channels // heads
        self.rotary_base = rotary_base
        self.position_scale = position_scale
        self.position_offset = position_offset
        self.embed: nn.Module = nn.Linear(token_channels, channels)
        if bottleneck is not None:
            self.embed = nn.Sequential(
                nn.Linear(token_channels, bottleneck, bias=False), nn.Linear(bottleneck, channels)
            )
        self.embed_context = nn.Linear(context_channels, channels, bias=False)
        self.embed_sketch = nn.Sequential(
            nn.Linear(sketch_patch * sketch_patch * SKETCH_CHANNELS, 128, bias=False),
            nn.Linear(128, channels, bias=False),
        )
        self.embed_text = nn.Sequential(
            nn.Linear(text_channels, channels), nn.GELU(approximate="tanh"), nn.Linear(channels, channels)
        )
        self.embed_pooled: nn.Module | None = None
        if pooled_text:
            self.embed_pooled = nn.Sequential(
                nn.RMSNorm(text_channels, eps=1e-6, elementwise_affine=False),
                nn.Linear(text_channels, channels), nn.GELU(approximate="tanh"), nn.Linear(channels, channels),
            )  # fmt: skip
        self.no_prompt = nn.Parameter(torch.randn(text_channels) * 0.02)
        self.frequencies = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embed_timestep = TimestepEmbedding(256, channels)
        self.modulation = nn.Linear(channels, 6 * channels)
        self.blocks = nn.ModuleList([DecoderBlock(channels, heads, family) for _ in range(layers)])
        self.norm_out = make_norm(channels, family, affine=False)
        self.modulation_out = nn.Parameter(torch.zeros(2, channels))
        self.to_out = nn.Linear(channels, out_channels or token_channels)
        self._initialise()

    def _initialise(self) -> None:
        """A fresh decoder's output is 0, and so is what a sketch and the time step add.

        Gates begin open (1), not closed as in adaLN-zero: closed ones cost a short training hundreds of steps.
        """
        for layer in (self.modulation, self.to_out, self.embed_sketch[-1]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        with torch.no_grad():
            for block in self._decoder_blocks():
                block.modulation_offset[[2, 5]] = 1.0

    def _decoder_blocks(self) -> list[DecoderBlock]:
        """The blocks under their own type, which nn.ModuleList forgets."""
        return [cast(DecoderBlock, block) for block in self.blocks]

    def without_prompt(self, batch: int, length: int) -> tuple[Float[Tensor, "b l t"], Bool[Tensor, "b l"]]:
        """The learned 'no prompt' as a text of `length` words, and its mask: what guidance is measured against."""
        first = (torch.arange(length, device=self.no_prompt.device) == 0).expand(batch, -1)
        return self.no_prompt * first[..., None], first

    def prepare(
        self,
        context: Float[Tensor, "b k e"],
        text: Float[Tensor, "b l t"],
        text_mask: Bool[Tensor, "b l"] | None,
        positions: Float[Tensor, "b k 2"],
        sketch: Float[Tensor, "b k s"] | None = None,
    ) -> Conditions:
        """What every step of an edit shares.

        `text_mask`: False at padding; None where there is none. `positions`: (y, x) in tokens. `sketch`: patches of
        red, green, blue in -1..1 and a drawn channel (patchify); None for no sketch, the same as all zeros.
        """
        channelwise = self.embed_context(context)
        if sketch is not None:
            channelwise = channelwise + self.embed_sketch(sketch)
        rotary = None
        if self.family == "modern":
            rotary = rotary_2d(positions, self.head_dim, self.rotary_base)
        else:
            absolute = (positions.float() + self.position_offset) * self.position_scale
            embedded = sincos_2d(absolute, self.channels)
            channelwise = channelwise + embedded.to(channelwise.dtype)
        states = self.embed_text(text)
        return Conditions(
            channelwise=channelwise,
            rotary=rotary,
            text=[block.text_attention.keys_values(states) for block in self._decoder_blocks()],
            text_mask=None if text_mask is None else masked_out(text_mask[:, None, None], states.dtype),
            pooled=None if self.embed_pooled is None else self.embed_pooled(mean_of_words(text, text_mask)),
        )

    def step(
        self, tokens: Float[Tensor, "b k d"], timestep: Float[Tensor, " b"], conditions: Conditions
    ) -> Float[Tensor, "b k o"]:
        """One denoising step: noisy tokens at `timestep` (1000 * sigma, 0 clean, 1000 noise) to the prediction."""
        time = self.embed_timestep(self.frequencies(timestep).to(tokens.dtype))  # (B, C)
        x = self.embed(tokens) + conditions.channelwise
        if conditions.pooled is not None:
            time = time + conditions.pooled
            x = x + conditions.pooled[:, None]
        modulation = self.modulation(functional.silu(time)).unflatten(-1, (6, -1))  # (B, 6, C)
        precision = conditions.text[0][0].dtype  # of keys, and so of queries
        rotary = conditions.rotary and rotary_as(conditions.rotary, precision)
        by_block = modulations(modulation, self._decoder_blocks(), x.dtype)
        for block, own, text in zip(self.blocks, by_block, conditions.text, strict=True):
            x = block(x, own, rotary, text, conditions.text_mask)
        shift, scale = (self.modulation_out + time[:, None]).to(x.dtype).chunk(2, dim=1)
        return self.to_out(torch.addcmul(shift, self.norm_out(x), 1 + scale))  # type: ignore[no-any-return]

    def forward(
        self,
        tokens: Float[Tensor, "b k d"],
        timestep: Float[Tensor, " b"],
        context: Float[Tensor, "b k e"],
        text: Float[Tensor, "b l t"],
        text_mask: Bool[Tensor, "b l"] | None,
        positions: Float[Tensor, "b k 2"],
        sketch: Float[Tensor, "b k s"] | None = None,
    ) -> Float[Tensor, "b k o"]:
        """`step` after `prepare`, for a single step."""
        return self.step(tokens, timestep, self.prepare(context, text, text_mask, positions, sketch))


def mean_of_words(
    text: Float[Tensor, "b l t"], text_mask: Bool[Tensor, "b l"] | None
) -> Float[Tensor, "b t"]:
    """The mean of the states that are no padding: MiniLM's embedding of the sentence, but for its length."""
    if text_mask is None:
        return text.mean(dim=1)
    there = text_mask[..., None].to(text.dtype)
    return (text * there).sum(dim=1) / there.sum(dim=1)
