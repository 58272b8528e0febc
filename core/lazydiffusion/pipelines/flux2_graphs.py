"""Cached steps of FLUX.2-klein as CUDA graphs: 25 blocks over few tokens take longer to launch than to compute.

Keys and values of a reference of 4096 tokens take 1.3 GB, so all graphs read them from one place. The first reference's
own become that place; each later one is copied there (under a millisecond) and then is what lies there, so that no
second copy outlives the copying.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType, ref

import torch
from diffusers.models.transformers.transformer_flux2 import Flux2KVCache, Flux2KVLayerCache
from jaxtyping import Float, Int64
from torch import Tensor

from lazydiffusion.pipelines.cuda_graphs import GraphedStep
from lazydiffusion.pipelines.flux2_placement import stored
from lazydiffusion.pipelines.flux2_reference import Placed, cached_velocity

LARGEST_STEP = 2048
"""Noisy tokens. A step over more is bound by its computation, and would only hold memory as a graph."""

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What a step is given beside its tokens and the reference: small enough to be copied every time (8 MB)."""

    ids: Int64[Tensor, "1 k 4"]
    text: Placed


class GraphedVelocity(GraphedStep[Seen]):
    """Stands in for flux2_reference.cached_velocity on a CUDA device, for one transformer where it lies now.

    Graphs whose capture fails, for lack of memory say, are given up for good: the steps go on without them.
    """

    def __init__(self, transformer: Any):
        super().__init__()
        self.transformer = transformer
        self.given_up = False
        self._weights = _addresses(transformer)
        self._shared: Flux2KVCache | None = None
        self._owner: ReferenceType[Flux2KVCache] | None = None

    def is_of(self, transformer: Any) -> bool:
        """Whether these are graphs of that transformer, with its weights still where they were captured."""
        return transformer is self.transformer and _addresses(transformer) == self._weights

    def velocity(
        self, tokens: Placed, time: Float[Tensor, " 1"], text: Placed, cache: Flux2KVCache
    ) -> Float[Tensor, "1 k c"]:
        """As flux2_reference.cached_velocity, without its first argument."""
        if not self.given_up and tokens.values.shape[1] <= LARGEST_STEP:
            self._share(cache)
            try:
                return self(tokens.values, time, Seen(tokens.ids, text))
            except CaptureFailed as failure:
                LOG.warning("Steps go on without CUDA graphs: one could not be captured (%s).", failure)
                self.given_up = True
            self.forget()
        return cached_velocity(self.transformer, tokens, time, text, cache)

    def forget(self) -> None:
        """Let graphs go, and the place where they read the reference; its owner keeps what lies there."""
        super().forget()
        self._shared = self._owner = None

    def step(self, tokens: Tensor, timestep: Tensor, conditions: Seen) -> Tensor:
        """A cached step, of the reference that lies in the shared place."""
        assert self._shared is not None
        placed = Placed(tokens, conditions.ids)
        return cached_velocity(self.transformer, placed, timestep, conditions.text, self._shared)

    def tensors(self, conditions: Seen) -> list[Tensor]:
        """All of them."""
        return [conditions.ids, conditions.text.values, conditions.text.ids]

    def own(self, conditions: Seen) -> Seen:
        """A copy."""
        text = Placed(conditions.text.values.clone(), conditions.text.ids.clone())
        return Seen(conditions.ids.clone(), text)

    def _capture(self, *given: Any) -> Any:
        try:
            return super()._capture(*given)
        except RuntimeError as error:  # of torch, its allocator and CUDA itself
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            raise CaptureFailed(str(error).strip().partition("\n")[0]) from error

    def _share(self, cache: Flux2KVCache) -> None:
        """Have a reference lie where graphs read it. Another one that lies there, and still lives, gets a copy."""
        owner = self._owner and self._owner()
        if owner is cache:
            return
        if self._shared is None or _sizes(self._shared) != _sizes(cache):
            self.forget()
            self._shared = Flux2KVCache(len(cache.double_block_caches), len(cache.single_block_caches))
            self._shared.num_ref_tokens = cache.num_ref_tokens
            for place, layer in zip(_layers(self._shared), _layers(cache), strict=True):
                place.store(*layer.get())
        else:
            for layer in _layers(owner) if owner is not None else ():
                keys, values = layer.get()
                layer.store(keys.clone(), values.clone())
            for place, layer in zip(_layers(self._shared), _layers(cache), strict=True):
                for mine, theirs in zip(place.get(), layer.get(), strict=True):
                    mine.copy_(theirs)
                layer.store(*place.get())
        self._owner = ref(cache)


class CaptureFailed(Exception):
    """A step could not be captured, and why."""


def _layers(cache: Flux2KVCache) -> Iterator[Flux2KVLayerCache]:
    yield from cache.double_block_caches
    yield from cache.single_block_caches


def _sizes(cache: Flux2KVCache) -> tuple[object, ...]:
    keys, _ = next(_layers(cache)).get()
    return keys.shape, keys.dtype, keys.device


def _addresses(transformer: Any) -> tuple[int, ...]:
    return tuple(part.data_ptr() for weight in transformer.parameters() for part in stored(weight))
