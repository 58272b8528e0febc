"""What both transformers are built of: rotary positions, attention, feed-forward, and the two kinds of block.

Two families of the same block exist. `modern` (ours): RMSNorm, SwiGLU, qk-norm, rotary positions, as in JiT (Li and He
2025). `pixart` (PixArt-alpha, Chen et al. 2023): LayerNorm, GELU, biases, positions added to the tokens; it exists so
that a PixArt checkpoint can initialise the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from lazydiffusion.models.patches import gather

Family = Literal["modern", "pixart"]
Rotary = tuple[Tensor, Tensor]
"""Cosines and sines, (B, 1, N, head_dim / 2) each, float32."""
KeysValues = tuple[Tensor, Tensor]
"""(B, heads, L, head_dim) each."""


def rotary_2d(positions: Float[Tensor, "b n 2"], head_dim: int, base: float = 100.0) -> Rotary:
    """Rotary angles for continuous (y, x) positions in tokens.

    The first half of a head turns with y, the second with x. Frequencies fall from 1 to about 1 / base radians per
    token. Any grid, any extent: nothing is tabulated.
    """
    quarter = head_dim // 4
    frequencies = base ** (-torch.arange(quarter, device=positions.device, dtype=torch.float32) / quarter)
    angles = (positions.float()[..., None] * frequencies).flatten(-2)  # (B, N, 2 * quarter)
    return angles.cos()[:, None], angles.sin()[:, None]


def rotary_as(rotary: Rotary, dtype: torch.dtype) -> Rotary:
    """In the precision of what is turned by it: once for all blocks, each of which would make it four times."""
    return rotary[0].to(dtype), rotary[1].to(dtype)


def rotate(x: Float[Tensor, "b h n d"], rotary: Rotary) -> Float[Tensor, "b h n d"]:
    """Turn each pair (x[i], x[i + d / 2]) of a head by its angle."""
    cos, sin = rotary_as(rotary, x.dtype)
    first, second = x.chunk(2, dim=-1)
    turned = torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin)
    return torch.cat(turned, dim=-1)


def sincos_2d(positions: Float[Tensor, "b n 2"], channels: int) -> Float[Tensor, "b n c"]:
    """Sine-cosine embedding of (y, x) as diffusers' get_2d_sincos_pos_embed makes it: x first, then y; sines first."""
    quarter = channels // 4
    exponent = torch.arange(quarter, device=positions.device, dtype=torch.float64) / quarter
    angles = positions.double()[..., None] / 10000**exponent  # (B, N, 2, quarter)
    y, x = (torch.cat([angles[..., axis, :].sin(), angles[..., axis, :].cos()], dim=-1) for axis in (0, 1))
    return torch.cat([x, y], dim=-1).to(positions.dtype)


class RMSNorm(nn.RMSNorm):
    """torch's, in the precision of what it is given; with a float32 weight, as under autocast, it is not one kernel."""

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Over the last dimension."""
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return functional.rms_norm(x, self.normalized_shape, weight, self.eps)


def make_norm(channels: int, family: Family, *, affine: bool) -> nn.Module:
    """The family's normalisation over the last dimension, with learned scale (and bias) only when `affine`."""
    if family == "modern":
        return RMSNorm(channels, eps=1e-6, elementwise_affine=affine)
    return nn.LayerNorm(channels, eps=1e-6, elementwise_affine=affine)


def masked_out(mask: Bool[Tensor, "*b"], dtype: torch.dtype) -> Float[Tensor, "*b"]:
    """0 where a mask is True and minus infinity elsewhere: what attention makes of it at every call, three kernels."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, float("-inf"))


def attend(
    queries: Float[Tensor, "b h n d"],
    keys: Float[Tensor, "b h l d"],
    values: Float[Tensor, "b h l d"],
    mask: Float[Tensor, "b 1 1 l"] | None = None,
) -> Float[Tensor, "b h n d"]:
    """scaled_dot_product_attention; where a CPU trains, as plain products.

    torch's fused attention for CPUs is made for long sequences, and its own unfused one is no faster: with either, a
    step of training/configs/cpu.toml takes 1.4 times as long.
    """
    if queries.device.type != "cpu" or not queries.requires_grad:
        found: Tensor = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return found
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    shares: Tensor = scores.softmax(-1, dtype=torch.float32).to(values.dtype)
    return shares @ values


class Attention(nn.Module):
    """Multi-head attention whose keys and values may be computed once and reused (`keys_values`)."""

    def __init__(self, channels: int, heads: int, family: Family):
        super().__init__()
        modern, bias = family == "modern", family == "pixart"
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=bias)
        self.to_k = nn.Linear(channels, channels, bias=bias)
        self.to_v = nn.Linear(channels, channels, bias=bias)
        self.to_out = nn.Linear(channels, channels, bias=bias)
        self.norm_q = RMSNorm(channels // heads, eps=1e-6) if modern else nn.Identity()
        self.norm_k = RMSNorm(channels // heads, eps=1e-6) if modern else nn.Identity()

    def split(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n d"]:
        """One head after the other becomes a dimension of its own."""
        heads: Tensor = x.unflatten(-1, (self.heads, -1))
        return heads.transpose(1, 2)

    def keys_values(self, source: Float[Tensor, "b l c"], rotary: Rotary | None = None) -> KeysValues:
        """Keys and values of `source`: constant over the denoising steps when `source` is."""
        keys = self.norm_k(self.split(self.to_k(source)))
        return (keys if rotary is None else rotate(keys, rotary)), self.split(self.to_v(source))

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        keys_values: KeysValues,
        rotary: Rotary | None = None,
        mask: Float[Tensor, "b 1 1 l"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Attend from x; `mask` (masked_out) is added to the scores."""
        queries = self.norm_q(self.split(self.to_q(x)))
        if rotary is not None:
            queries = rotate(queries, rotary)
        keys, values = keys_values
        out = attend(queries, keys, values, mask)
        return self.to_out(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """SwiGLU (modern; hidden width 8/3) or GELU (pixart; hidden width 4): the same number of weights."""

    def __init__(self, channels: int, family: Family):
        super().__init__()
        self.family = family
        hidden = 4 * channels if family == "pixart" else 64 * round(channels * 8 / 3 / 64)
        self.to_hidden = nn.Linear(
            channels, hidden if family == "pixart" else 2 * hidden, bias=family == "pixart"
        )
        self.to_out = nn.Linear(hidden, channels, bias=family == "pixart")

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Each token by itself."""
        hidden = self.to_hidden(x)
        if self.family == "pixart":
            return self.to_out(functional.gelu(hidden, approximate="tanh"))  # type: ignore[no-any-return]
        gate, value = hidden.chunk(2, dim=-1)
        return self.to_out(functional.silu(gate) * value)  # type: ignore[no-any-return]


class EncoderBlock(nn.Module):
    """Pre-norm self-attention and feed-forward. Given `kept`, only these tokens ask and are given back."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.norm_attention = make_norm(channels, "modern", affine=True)
        self.attention = Attention(channels, heads, "modern")
        self.norm_feed_forward = make_norm(channels, "modern", affine=True)
        self.feed_forward = FeedForward(channels, "modern")

    def forward(
        self, x: Float[Tensor, "b n c"], rotary: Rotary, kept: Int64[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b m c"]:
        """All N tokens, or only those at `kept` (they still attend to all)."""
        normed = self.norm_attention(x)
        keys_values = self.attention.keys_values(normed, rotary)
        if kept is not None:
            x, normed = gather(x, kept), gather(normed, kept)
            cos, sin = (gather(part[:, 0], kept)[:, None] for part in rotary)
            rotary = (cos, sin)
        x = x + self.attention(normed, keys_values, rotary)
        return x + self.feed_forward(self.norm_feed_forward(x))  # type: ignore[no-any-return]


class DecoderBlock(nn.Module):
    """Self-attention among the hidden tokens, cross-attention to the text, feed-forward; modulated by the time step.

    Modulation is adaLN-single (PixArt-alpha, section 2.3): six vectors shared by all blocks plus an offset learned
    here, which `modulations` adds for all blocks at once. A step over few tokens takes as long as its kernels are many.
    """

    def __init__(self, channels: int, heads: int, family: Family):
        super().__init__()
        self.modulation_offset = nn.Parameter(torch.zeros(6, channels))
        self.norm_attention = make_norm(channels, family, affine=False)
        self.attention = Attention(channels, heads, family)
        self.norm_text = make_norm(channels, family, affine=True) if family == "modern" else nn.Identity()
        self.text_attention = Attention(channels, heads, family)
        self.norm_feed_forward = make_norm(channels, family, affine=False)
        self.feed_forward = FeedForward(channels, family)

    def forward(
        self,
        x: Float[Tensor, "b k c"],
        modulation: Float[Tensor, "b 6 c"],
        rotary: Rotary | None,
        text: KeysValues,
        text_mask: Float[Tensor, "b 1 1 l"] | None,
    ) -> Float[Tensor, "b k c"]:
        """`modulation`: this block's of `modulations`. `text`, `text_mask`: see Attention."""
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation[:, :, None].unbind(1)  # (B, 1, C)
        normed = torch.addcmul(shift_a, self.norm_attention(x), scale_a)
        attended = self.attention(normed, self.attention.keys_values(normed, rotary), rotary)
        x = torch.addcmul(x, gate_a, attended)
        x = x + self.text_attention(self.norm_text(x), text, mask=text_mask)
        normed = torch.addcmul(shift_f, self.norm_feed_forward(x), scale_f)
        return torch.addcmul(x, gate_f, self.feed_forward(normed))


def modulations(
    shared: Float[Tensor, "b 6 c"], blocks: Sequence[DecoderBlock], dtype: torch.dtype
) -> Float[Tensor, "n b 6 c"]:
    """Of each block: shift, 1 + scale and gate of the attention, then of the feed-forward."""
    offsets = torch.stack([block.modulation_offset for block in blocks])
    found = (shared + offsets[:, None]).to(dtype)
    found[:, :, 1::3] += 1
    return found
