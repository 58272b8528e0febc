"""How the noisy tokens of FLUX.2-klein see the canvas: its tokens in every step, or only their keys and values.

The transformer reads one sequence: text, reference (the canvas, as an image to edit) and noisy tokens. With the
reference in it, a step costs what the window costs. The layers' keys and values for the reference can be kept instead
(Flux2KVCache of diffusers), and then a step costs what its noisy tokens and the text cost. They come from

- one pass in which the reference sees itself only, at noise level 0 ("extract"). They depend on nothing but the
  canvas: neither on the text nor on the noise. Flux2KleinKVPipeline runs FLUX.2-klein-9b-kv so; for a model that is
  not made for it this is an approximation.
- a step that has the reference in it and is recorded. They are exact for this text and this step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux2 import (
    Flux2KVAttnProcessor,
    Flux2KVCache,
    Flux2KVParallelSelfAttnProcessor,
)
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lazydiffusion.errors import BadInput

CACHED, REFRESHED, FULL = "cached", "refreshed", "full"
REFERENCES = (CACHED, REFRESHED, FULL)


@dataclass(frozen=True)
class Placed:
    """Tokens, and where each of them lies."""

    values: Float[Tensor, "1 n c"]
    ids: Int64[Tensor, "1 n 4"]
    """Picture, row, column, word: as diffusers numbers them."""


@dataclass(frozen=True)
class Laziness:
    """How much of the window takes part in a step. Raises BadInput for values that cannot be."""

    reference: str = CACHED
    """"cached": read once, by itself. "refreshed": part of every `refresh_every`-th step, kept in between. "full": part
    of every step, as in Flux2KleinInpaintPipeline."""
    refresh_every: int = 2
    """Steps; with 1, "refreshed" is "full"."""
    ring: int = 1
    """Width in tokens of the visible surroundings that are noisy tokens too, so that the fill meets them."""
    renoise: bool = True
    """Whether visible tokens among them are the canvas's own, noised to each step's level, as in
    Flux2KleinInpaintPipeline; otherwise they are made like hidden ones, and dropped afterwards."""

    def __post_init__(self) -> None:
        if self.reference not in REFERENCES:
            raise BadInput(f'The reference is "{self.reference}"; it must be one of {", ".join(REFERENCES)}.')
        if self.refresh_every < 1:
            raise BadInput(
                f"The reference cannot be refreshed every {self.refresh_every} steps; use 1 or more."
            )
        if self.ring < 0:
            raise BadInput(f"A ring of {self.ring} tokens is not possible; use 0 or more.")


def allow_caching(transformer: Any) -> None:
    """Give a Flux2Transformer2DModel the attention that knows the cache; without one it works as before.

    With the attention that it is made with, `kv_cache_mode` is ignored, with no more than a warning in the log.
    """
    for block in transformer.transformer_blocks:
        block.attn.set_processor(Flux2KVAttnProcessor())
    for block in transformer.single_transformer_blocks:
        block.attn.set_processor(Flux2KVParallelSelfAttnProcessor())


def read_reference(transformer: Any, reference: Placed, text: Placed) -> Flux2KVCache:
    """One pass over the reference alone: its keys and values in every layer.

    The transformer wants a text, of which the reference sees nothing: it is given one word.
    """
    word = Placed(text.values[:, :1], text.ids[:, :1])
    time = reference.values.new_zeros(1)
    _, cache = _run(
        transformer, reference, time, word, kv_cache_mode="extract", num_ref_tokens=reference.values.shape[1]
    )
    return cache


CachedStep = Callable[[Placed, Tensor, Placed, Flux2KVCache], Tensor]
"""cached_velocity of one transformer, or a stand-in for it."""


def cached_velocity(
    transformer: Any, tokens: Placed, time: Float[Tensor, " 1"], text: Placed, cache: Flux2KVCache
) -> Float[Tensor, "1 k c"]:
    """A step over noisy tokens and text that sees the reference's keys and values: the velocity in float32."""
    velocity: Tensor = _run(transformer, tokens, time, text, kv_cache=cache, kv_cache_mode="cached")[0]
    return velocity.float()


class Velocity:
    """What the transformer makes of the noisy tokens of one fill, step after step, with one text.

    `cache`: for "cached", of read_reference; `cached_step`: what takes its steps, cached_velocity by default.
    """

    def __init__(
        self,
        transformer: Any,
        text: Placed,
        reference: Placed,
        laziness: Laziness,
        cache: Flux2KVCache | None = None,
        cached_step: CachedStep | None = None,
    ):
        self.transformer, self.text, self.reference = transformer, text, reference
        self.refresh_every = 1 if laziness.reference == FULL else laziness.refresh_every
        self.fixed = laziness.reference == CACHED
        self.cache = cache
        eager = partial(cached_velocity, transformer)
        self.cached_step = cached_step if cached_step is not None and self.fixed else eager

    def __call__(self, step: int, tokens: Placed, time: Float[Tensor, " 1"]) -> Float[Tensor, "1 k c"]:
        """The velocity in float32. `step`: how many were taken before, of this fill; `time`: noise level, 0..1."""
        if self.fixed or step % self.refresh_every:
            assert self.cache is not None
            return self.cached_step(tokens, time, self.text, self.cache)
        if self.refresh_every == 1:
            return self._with_reference(tokens, time)
        first = self.text.values.shape[1]
        with _KeysAndValues(first, first + self.reference.values.shape[1]) as recorded:
            velocity = self._with_reference(tokens, time)
        self.cache = recorded.as_cache(self.transformer)
        return velocity

    def _with_reference(self, tokens: Placed, time: Tensor) -> Tensor:
        both = Placed(
            torch.cat([self.reference.values, tokens.values], dim=1),
            torch.cat([self.reference.ids, tokens.ids], dim=1),
        )
        velocity: Tensor = _run(self.transformer, both, time, self.text)[0]
        return velocity[:, self.reference.values.shape[1] :].float()


class _KeysAndValues(TorchFunctionMode):
    """Listens to torch's own attention, in this thread only, and keeps what it is given at some of the places."""

    def __init__(self, first: int, last: int):
        super().__init__()
        self.places = slice(first, last)
        self.layers: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            parts = (given[name][:, :, self.places] for name in ("key", "value"))  # (1, heads, N, D)
            keys, values = (part.transpose(1, 2).contiguous() for part in parts)
            self.layers.append((keys, values))
        return func(*args, **kwargs)

    def as_cache(self, transformer: Any) -> Flux2KVCache:
        """What was kept, as diffusers keeps it. Raises BadInput when it is not of every layer."""
        cache = Flux2KVCache(len(transformer.transformer_blocks), len(transformer.single_transformer_blocks))
        layers = [*cache.double_block_caches, *cache.single_block_caches]
        if len(layers) != len(self.layers):
            raise BadInput(
                'A "refreshed" reference needs torch\'s own attention, and this model was set to another. Choose '
                '"cached" or "full", or set the attention backend back to "native".'
            )
        for layer, (keys, values) in zip(layers, self.layers, strict=True):
            layer.store(keys, values)
        cache.num_ref_tokens = self.places.stop - self.places.start
        return cache


def _run(transformer: Any, tokens: Placed, time: Tensor, text: Placed, **caching: Any) -> Any:
    """One pass of the transformer, in the precision of its text (to ask it for its own takes milliseconds)."""
    return transformer(
        hidden_states=tokens.values.to(text.values.dtype),
        timestep=time,
        guidance=None,
        encoder_hidden_states=text.values,
        img_ids=tokens.ids,
        txt_ids=text.ids,
        return_dict=False,
        **caching,
    )
