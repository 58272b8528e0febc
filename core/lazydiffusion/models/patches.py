"""Pixels to tokens and back, and picking tokens out of a window: exact, and nothing but reshapes and gathers."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor


def patchify(image: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b n d"]:
    """Cut into side x side patches, row-major: "b c (rows p) (cols q) -> b (rows cols) (p q c)".

    Raises ValueError when a side of the image is no multiple of `side`.
    """
    height, width = image.shape[-2:]
    if height % side or width % side:
        raise ValueError(f"An image of {width} x {height} px cannot be cut into patches of {side} px.")
    return rearrange(image, "b c (rows p) (cols q) -> b (rows cols) (p q c)", p=side, q=side)


def unpatchify(tokens: Float[Tensor, "b n d"], grid: tuple[int, int], side: int) -> Float[Tensor, "b c h w"]:
    """The exact inverse of patchify for a grid of (rows, cols)."""
    return rearrange(
        tokens, "b (rows cols) (p q c) -> b c (rows p) (cols q)", rows=grid[0], cols=grid[1], p=side, q=side
    )


def gather(tokens: Float[Tensor, "b n d"], indices: Int64[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """The tokens at `indices`, one list of indices per batch element."""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[-1]))


def scatter(
    tokens: Float[Tensor, "b n d"], indices: Int64[Tensor, "b k"], values: Float[Tensor, "b k d"]
) -> Float[Tensor, "b n d"]:
    """A copy of `tokens` with `values` at `indices`; putting back what `gather` took gives the same tokens."""
    return torch.scatter(tokens, 1, indices[..., None].expand(-1, -1, tokens.shape[-1]), values)
