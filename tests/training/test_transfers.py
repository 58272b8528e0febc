"""A training step neither copies between host and device nor waits for the device: shown without a GPU."""

from __future__ import annotations

import pytest
import torch
from tests import tiny
from tests.transfers import META, watched_transfers
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.training.batched_muon import BatchedMuon
from lazydiffusion.training.objective import LazyObjective, Objective
from lazydiffusion.training.scenes import SceneMaker

pytestmark = pytest.mark.unit


def test_a_step_from_the_sprites_to_the_averaged_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    encoder = ContextEncoder(**tiny.ENCODER | {"window_tokens": 8, "overview_tokens": 4})
    model = LazyObjective(encoder, LazyDecoder(**tiny.DECODER), Objective(draws=2)).to(META)
    average = [torch.empty_like(weight) for weight in model.parameters()]
    # Of the two optimisers ours; the other is torch's own, which has no form without values.
    matrices = [
        weight for name, weight in model.named_parameters() if ".blocks." in name and weight.ndim == 2
    ]
    muon = BatchedMuon(matrices, lr=1e-3, weight_decay=0.01)
    # Of the sprites in each set, once a run: it has no form without values.
    counts = torch.empty(2, dtype=torch.int64, device=META)
    monkeypatch.setattr(torch, "bincount", lambda sets, minlength: counts)
    maker = SceneMaker(tiny.bank().to(META), 8, 4, generator)
    words = torch.empty(6, 5, tiny.TEXT, device=META)
    mask = torch.ones(6, 5, dtype=torch.bool, device=META)
    for _ in range(2):  # what is made once is made in the first
        with watched_transfers() as transfers:
            loss = model(maker.make(6, 20), words, mask, generator)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            muon.step()
            model.zero_grad()
            with torch.no_grad():
                get_ema_multi_avg_fn(0.999)(average, list(model.parameters()), 0)
    assert transfers.calls > 1000
    assert transfers.found == []
