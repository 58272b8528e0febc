"""Sprites rendered for the scores, and what is kept of them from run to run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests import tiny
from torch import Tensor, nn

from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.sprite_features import (
    LARGEST,
    SMALLEST,
    fingerprint,
    fit,
    render,
    split,
    sprite_features,
)

pytestmark = pytest.mark.unit


class MeanColour:
    """Features: a picture's mean colour, 0..1. Counts the pictures that it was shown."""

    name = "mean colour"
    channels = 3

    def __init__(self) -> None:
        self.shown = 0

    def __call__(self, pictures: Tensor) -> Tensor:
        self.shown += len(pictures)
        return (pictures.mean(dim=(2, 3)) + 1) / 2


def test_a_sprite_lies_whole_on_one_colour() -> None:
    red = torch.from_numpy(tiny.disc(64, (255, 0, 0))).permute(2, 0, 1)
    pictures = render(red.expand(200, -1, -1, -1), torch.Generator().manual_seed(0), side=96)
    assert pictures.shape == (200, 3, 96, 96)
    assert -1 <= pictures.min() < pictures.max() <= 1
    for picture in pictures:
        background = picture[:, :1, :1]
        border = torch.cat([picture[:, 0], picture[:, -1], picture[:, :, 0], picture[:, :, -1]], dim=1)
        assert torch.allclose(border, background[:, 0].expand_as(border), atol=1e-5)
        if (background[:, 0, 0] - torch.tensor([1.0, -1.0, -1.0])).abs().max() < 0.2:
            continue  # red on red
        painted = ((picture - background).abs() > 0.05).any(dim=0)
        rows, columns = (painted.any(dim=axis).sum().item() for axis in (1, 0))
        assert abs(rows - columns) <= 2
        assert SMALLEST * 96 - 3 <= rows <= LARGEST * 96 + 3
    assert (pictures[:, :, 0, 0] == 1).all(dim=1).float().mean() == pytest.approx(0.3, abs=0.1)


def test_half_of_the_sprites_are_mirrored() -> None:
    half = torch.zeros(4, 32, 32, dtype=torch.uint8)
    half[:, :, :16] = 255  # white, on the left
    half[:3, 24:, :16] = 0  # black below: never turned upside down
    pictures = render(half.expand(100, -1, -1, -1), torch.Generator().manual_seed(1), side=64)
    black = (pictures < -0.99).all(dim=1)
    line = torch.arange(64.0)
    centre_x = (black.sum(dim=1) * line).sum(dim=1) / black.sum(dim=(1, 2))
    assert (centre_x < 31.5).float().mean() == pytest.approx(0.5, abs=0.15)
    white = (pictures > 0.99).all(dim=1)
    plain = ~white[:, 0, 0] & ~black[:, 0, 0]
    assert plain.sum() > 50
    heights = [(part.sum(dim=2) * line).sum(dim=1) / part.sum(dim=(1, 2)) for part in (white, black)]
    assert (heights[0] < heights[1])[plain].all()


def test_features_are_computed_once(tmp_path: Path) -> None:
    bank, network = tiny.bank(), MeanColour()
    seen: list[tuple[int, int]] = []
    features = sprite_features(network, bank, tmp_path / "cache", lambda *done: seen.append(done))
    assert features.shape == (12, 3)
    assert features.dtype == torch.float32
    assert seen[-1] == (12, 12)
    again = sprite_features(network, bank, tmp_path / "cache")
    assert network.shown == 12
    assert torch.allclose(again, features)
    assert torch.allclose(sprite_features(network, bank), features)
    sprite_features(network, dataclasses.replace(bank, keys=[*bank.keys[:-1], "f0"]), tmp_path / "cache")
    assert network.shown == 36  # without a cache, and for another bank


def test_what_is_kept_depends_on_the_network_the_sprites_and_the_settings() -> None:
    bank, network, other = tiny.bank(), MeanColour(), MeanColour()
    other.name = "another"
    assert fingerprint(network, bank) == fingerprint(MeanColour(), tiny.bank())
    names = {fingerprint(network, bank), fingerprint(other, bank), fingerprint(network, bank, 30)}
    assert len(names) == 3


def test_training_and_held_out_sprites_are_told_apart() -> None:
    bank = tiny.bank()
    training, held_out = split(bank)
    assert held_out.tolist() == [0, 4, 8]
    assert sorted([*training.tolist(), *held_out.tolist()]) == list(range(12))
    with pytest.raises(BadInput, match="3 of 3 sprites are held out"):
        split(bank.subset(bank.held_out()))
    with pytest.raises(BadInput, match="0 of 9 sprites are held out"):
        split(bank.subset(~bank.held_out()))


def test_a_head_is_trained_on_its_rows_only() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(64, 4)
    answers = inputs @ torch.tensor([1.0, -2.0, 0.5, 3.0])
    answers[32:] = 100  # rows that it must not see
    head = nn.Linear(4, 1)
    fit(
        head,
        lambda rows: F.mse_loss(head(inputs[rows])[:, 0], answers[rows]),
        torch.arange(32),
        epochs=300,
        batch=8,
        rate=0.05,
    )
    assert F.mse_loss(head(inputs[:32])[:, 0], answers[:32]) < 0.1
    assert not head.training
    assert not any(parameter.requires_grad for parameter in head.parameters())
