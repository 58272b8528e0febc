"""Steps that CUDA graphs capture neither copy between host and device nor wait: shown without a GPU."""

from __future__ import annotations

import pytest
import torch
from tests import tiny
from tests.tiny_flux2 import tiny_parts
from tests.transfers import META, watched_transfers

from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.pipelines.flux2_reference import Placed, allow_caching, cached_velocity, read_reference

pytestmark = pytest.mark.unit


def test_what_is_looked_for_is_found() -> None:
    values = torch.ones(3, device=META)
    with watched_transfers() as transfers:
        torch.tensor(5.0, device=META)
        values + torch.arange(3).to(META)
    assert len(transfers.found) == 2
    for ask in (lambda: values.sum().item(), lambda: values[values > 0], lambda: values.cpu()):
        with pytest.raises(RuntimeError, match="meta"):
            ask()


def test_a_step_of_the_lazy_decoder() -> None:
    decoder = LazyDecoder(**tiny.DECODER).eval().to(META)
    channels = decoder.config
    with torch.no_grad(), watched_transfers() as transfers, META:
        tokens = torch.empty(2, 6, channels.token_channels)
        context = torch.empty(2, 6, channels.context_channels)
        words, mask = torch.empty(2, 5, tiny.TEXT), torch.ones(2, 5, dtype=torch.bool)
        conditions = decoder.prepare(context, words, mask, torch.empty(2, 6, 2), None)
        answer = decoder.step(tokens, torch.empty(2), conditions)
    assert answer.shape == tokens.shape
    assert transfers.calls > 50
    assert transfers.found == []


def test_a_cached_step_of_flux2_klein() -> None:
    transformer = tiny_parts()["transformer"].to(META)
    allow_caching(transformer)
    config = transformer.config

    def placed(count: int, width: int) -> Placed:
        return Placed(torch.empty(1, count, width), torch.zeros(1, count, 4, dtype=torch.int64))

    with torch.no_grad(), watched_transfers() as transfers, META:
        text = placed(7, config.joint_attention_dim)
        cache = read_reference(transformer, placed(16, config.in_channels), text)
        tokens = placed(5, config.in_channels)
        velocity = cached_velocity(transformer, tokens, torch.empty(1), text, cache)
    assert velocity.shape == tokens.values.shape
    assert transfers.calls > 500
    assert transfers.found == []
