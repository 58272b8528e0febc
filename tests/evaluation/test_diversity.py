"""Diversity is 0 for equal fills and grows with what sets them apart."""

from __future__ import annotations

import pytest
import torch
from tests.evaluation.test_sprite_features import MeanColour

from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.diversity import diversity

pytestmark = pytest.mark.unit


def test_it_is_the_mean_over_pairs_of_seeds() -> None:
    fills = torch.full((3, 2, 3, 8, 8), 0.5)  # three seeds, two scenes
    fills[:, 1] = -1  # black, but for one channel of a seed each
    for seed in range(3):
        fills[seed, 1, seed] = 1
    equal, different = diversity(MeanColour(), fills).tolist()
    assert equal == pytest.approx(0, abs=1e-6)
    assert different == pytest.approx(1)


def test_one_of_three_seeds_that_differs_counts_in_two_pairs_of_three() -> None:
    fills = torch.full((3, 1, 3, 8, 8), -1.0)
    fills[:2, :, 0] = 1
    fills[2, :, 1] = 1
    assert diversity(MeanColour(), fills).tolist() == pytest.approx([2 / 3])


def test_one_seed_has_no_diversity() -> None:
    with pytest.raises(BadInput, match="at least 2 seeds a scene: there is 1"):
        diversity(MeanColour(), torch.zeros(1, 2, 3, 8, 8))
