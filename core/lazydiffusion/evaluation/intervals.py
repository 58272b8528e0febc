"""How certain a figure is: 95 % intervals by the bootstrap over scenes (Efron 1979).

Scenes are drawn with replacement, the same ones for every engine: what the engines share cancels in a difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.frechet import frechet_distance, off_diagonal_mean, paired_kernel

LEVEL = 0.95
RESAMPLES = 2000
DISTANCE_RESAMPLES = 200
"""Of an FID, each of which costs a decomposition."""
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval."""

    value: float
    low: float
    high: float


def resampled_counts(scenes: int, resamples: int, seed: int = SEED) -> Float64[Tensor, "r n"]:
    """How often each scene counts in each resample: rows that sum to `scenes`. The same for the same arguments."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(scenes, (resamples, scenes), generator=generator)
    counts = torch.zeros(resamples, scenes, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))


def mean_interval(values: Float[Tensor, " n"]) -> Estimate:
    """The mean over scenes. Scenes whose value is nan (nothing to measure) do not count.

    Raises BadInput when no scene counts.
    """
    known = values[~values.isnan()].double().cpu()
    if not len(known):
        raise BadInput("There is no scene with a value: a mean needs at least one.")
    means = resampled_counts(len(known), RESAMPLES) @ known / len(known)
    return _percentiles(float(known.mean()), means)


def difference_interval(first: Float[Tensor, " n"], second: Float[Tensor, " n"]) -> Estimate:
    """The mean of first - second over the same scenes: an interval without 0 tells the two apart.

    Scenes where either is nan do not count. Raises BadInput when none counts, or when there are not as many of both.
    """
    if len(first) != len(second):
        raise BadInput(f"A difference needs the same scenes twice: there are {len(first)} and {len(second)}.")
    return mean_interval(first.double() - second.double())


def frechet_interval(
    fills: Float[Tensor, "n d"], real: Float[Tensor, "n d"], *, resamples: int = DISTANCE_RESAMPLES
) -> Estimate:
    """The FID of fills to the same scenes' real pictures, from their features. Raises BadInput."""
    return _around(lambda counts: frechet_distance(fills, real, counts), len(real), resamples)


def frechet_difference_interval(
    first: Float[Tensor, "n d"],
    second: Float[Tensor, "n d"],
    real: Float[Tensor, "n d"],
    *,
    resamples: int = DISTANCE_RESAMPLES,
) -> Estimate:
    """The FID of `first` less that of `second`, fills of the same scenes by two engines. Raises BadInput."""

    def difference(counts: Tensor) -> float:
        return frechet_distance(first, real, counts) - frechet_distance(second, real, counts)

    return _around(difference, len(real), resamples)


def kernel_interval(
    fills: Float[Tensor, "n d"], real: Float[Tensor, "n d"], *, resamples: int = RESAMPLES
) -> Estimate:
    """The paired KID of fills to the same scenes' real pictures, from their features. Raises BadInput."""
    return _off_diagonal_interval(paired_kernel(fills, real), resamples)


def kernel_difference_interval(
    first: Float[Tensor, "n d"],
    second: Float[Tensor, "n d"],
    real: Float[Tensor, "n d"],
    *,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The paired KID of `first` less that of `second`, fills of the same scenes by two engines. Raises BadInput."""
    return _off_diagonal_interval(paired_kernel(first, real) - paired_kernel(second, real), resamples)


def _off_diagonal_interval(matrix: Float64[Tensor, "n n"], resamples: int) -> Estimate:
    scenes = len(matrix)
    value = float(off_diagonal_mean(matrix, torch.ones(1, scenes)))
    return _percentiles(value, off_diagonal_mean(matrix, resampled_counts(scenes, resamples)).cpu())


def _around(statistic: Callable[[Tensor], float], scenes: int, resamples: int) -> Estimate:
    """The statistic with the percentiles of its resamples, moved so that their mean is the statistic.

    A resample holds only 63 % of the scenes, some of them several times, so that its FID is larger by a bias that is
    not uncertainty.
    """
    value = statistic(torch.ones(scenes, dtype=torch.float64))
    counts = resampled_counts(scenes, resamples)
    values = torch.tensor([statistic(row) for row in counts], dtype=torch.float64)
    return _percentiles(value, values + (value - values.mean()))


def _percentiles(value: float, resampled: Float64[Tensor, " r"]) -> Estimate:
    tail = (1 - LEVEL) / 2
    low, high = resampled.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Estimate(value, low, high)
