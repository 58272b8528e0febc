"""The words of FLUX.2-klein: what of Qwen3 is run for them, and what is not.

The transformer is given what three of its layers say, one on top of the other. diffusers runs all layers, and then asks
for the likelihood of every word of the vocabulary: of Qwen3-4B three tenths of the work, and 1.6 GB of weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import Flux2KleinInpaintPipeline
from jaxtyping import Float
from torch import Tensor

READ_LAYERS = (9, 18, 27)
"""As in diffusers: number n is what the layers before n have made of the words."""
USED_LAYERS = READ_LAYERS[-1] + 1
"""The last one that runs is not read: what a model says last is normalised."""


def words(text_encoder: Any, **arguments: Any) -> Float[Tensor, "b l c"]:
    """Flux2KleinInpaintPipeline's prompt embeddings; arguments as diffusers'."""
    arguments = {"hidden_states_layers": READ_LAYERS, **arguments}
    with _first_layers(text_encoder.model.config, max(arguments["hidden_states_layers"]) + 1):
        embeddings: Tensor = Flux2KleinInpaintPipeline._get_qwen3_prompt_embeds(
            text_encoder.model, **arguments
        )
    return embeddings


def drop_unread_layers(text_encoder: Any) -> None:
    """Give the memory back of layers that `words` does not run."""
    model = text_encoder.model
    model.layers = model.layers[:USED_LAYERS]
    model.config.num_hidden_layers = len(model.layers)


@contextmanager
def _first_layers(config: Any, count: int) -> Iterator[None]:
    """Qwen3Model runs as many layers as its configuration says."""
    own = config.num_hidden_layers
    config.num_hidden_layers = min(own, count)
    try:
        yield
    finally:
        config.num_hidden_layers = own
