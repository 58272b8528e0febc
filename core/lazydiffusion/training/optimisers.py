"""Muon for the blocks' matrices, AdamW for the rest, and one learning-rate curve for both."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lazydiffusion.training.batched_muon import BatchedMuon
from lazydiffusion.training.settings import Optimiser


def make_optimisers(model: nn.Module, settings: Optimiser) -> list[torch.optim.Optimizer]:
    """One for the matrices inside `blocks` (Muon, unless switched off), one AdamW for embeddings, outputs, vectors."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        in_block = ".blocks." in name and parameter.ndim == 2 and "modulation" not in name
        (matrices if in_block else others).append(parameter)
    adamw: dict[str, Any] = {"betas": (0.9, 0.97), "fused": True}
    rest = torch.optim.AdamW(others, lr=settings.adamw_rate, weight_decay=0.0, **adamw)
    if not settings.muon:
        decayed = torch.optim.AdamW(
            matrices, lr=settings.adamw_rate, weight_decay=settings.weight_decay, **adamw
        )
        return [decayed, rest]
    return [BatchedMuon(matrices, lr=settings.muon_rate, weight_decay=settings.weight_decay), rest]


def learning_rate_share(step: int, progress: float, settings: Optimiser) -> float:
    """Share of the full learning rate at this step. `progress`: 0 at the run's start, 1 at its end.

    Rises linearly over the warm-up, then falls linearly with progress to 0.
    """
    warm = min(1.0, (step + 1) / max(1, settings.warm_up))
    return warm * settings.rate_at_start * max(0.0, 1.0 - progress)


def averaging_decay(step: int, settings: Optimiser) -> float:
    """What is kept of the averaged weights in this step: `ema`, but less in the first steps: they are forgotten.

    With `ema` alone, ema ** steps of a run's random beginning stay in its average: 21 % after 1560 steps at 0.999.
    (1 + step) / (10 + step), as in TensorFlow's moving averages, looks back over about a tenth of the steps so far.
    """
    return min(settings.ema, (1 + step) / (10 + step))


def set_learning_rates(optimisers: list[torch.optim.Optimizer], share: float, settings: Optimiser) -> None:
    """Give both optimisers their share of the full rate."""
    matrices = settings.muon_rate if settings.muon else settings.adamw_rate
    for optimiser, rate in zip(optimisers, (matrices, settings.adamw_rate), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = rate * share
