"""Intervals hold the truth as often as they say, and what two engines share does not widen their difference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.frechet import frechet_distance, off_diagonal_mean, paired_kernel
from lazydiffusion.evaluation.intervals import (
    Estimate,
    difference_interval,
    frechet_difference_interval,
    frechet_interval,
    kernel_difference_interval,
    kernel_interval,
    mean_interval,
    resampled_counts,
)

pytestmark = pytest.mark.unit
SCENES, WIDTH = 40, 12


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel_distance(fills: Tensor, real: Tensor) -> float:
    """The paired KID."""
    return float(off_diagonal_mean(paired_kernel(fills, real), torch.ones(1, len(real))))


def engines(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features of the real pictures of some scenes, and of two engines' fills: the second's are nearer."""
    real = normal(SCENES, WIDTH, seed=seed)
    far, near = (
        real + shift + 0.5 * normal(SCENES, WIDTH, seed=seed + i) for i, shift in ((1, 0.6), (2, 0.2))
    )
    return real, far, near


def test_a_resample_holds_as_many_scenes() -> None:
    counts = resampled_counts(50, 400, seed=0)
    assert (counts.sum(dim=1) == 50).all()
    assert float((counts > 0).double().mean()) == pytest.approx(1 - 0.98**50, abs=0.01)
    assert torch.equal(counts, resampled_counts(50, 400, seed=0))
    assert not torch.equal(counts, resampled_counts(50, 400, seed=1))


def test_a_means_interval_holds_the_true_mean_nineteen_times_in_twenty() -> None:
    samples = normal(300, 60, seed=1).exp()  # skewed; its mean is exp(1 / 2)
    held = [estimate.low <= torch.e**0.5 <= estimate.high for estimate in map(mean_interval, samples)]
    assert 0.87 < sum(held) / len(held) < 0.98


def test_a_means_interval_is_as_wide_as_its_standard_error_says() -> None:
    values = normal(400, seed=2)
    estimate = mean_interval(values)
    assert estimate.value == pytest.approx(float(values.mean()))
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * float(values.std()) / 20, rel=0.1)
    assert mean_interval(values) == estimate


def test_scenes_without_a_value_do_not_count() -> None:
    nothing = float("nan")
    assert mean_interval(torch.tensor([1.0, nothing, 3.0])).value == 2
    difference = difference_interval(torch.tensor([1.0, nothing, 3.0]), torch.tensor([nothing, 1.0, 2.0]))
    assert difference == Estimate(1.0, 1.0, 1.0)
    with pytest.raises(BadInput, match="no scene with a value"):
        mean_interval(torch.tensor([nothing]))


def test_what_two_engines_share_cancels_in_their_difference() -> None:
    scene = 10 * normal(100, seed=3)  # some scenes are far harder than others
    first, second = scene + normal(100, seed=4) + 1, scene + normal(100, seed=5)
    assert difference_interval(first, second).low > 0
    assert mean_interval(first).low < mean_interval(second).high
    with pytest.raises(BadInput, match="same scenes twice: there are 100 and 99"):
        difference_interval(first, second[1:])


def test_distances_are_those_of_all_scenes() -> None:
    real, far, near = engines(10)
    frechet = [frechet_distance(fills, real) for fills in (far, near)]
    kernel = [kernel_distance(fills, real) for fills in (far, near)]
    assert frechet_interval(far, real, resamples=9).value == pytest.approx(frechet[0])
    assert kernel_interval(far, real, resamples=9).value == pytest.approx(kernel[0])
    assert frechet_difference_interval(far, near, real, resamples=9).value == pytest.approx(
        frechet[0] - frechet[1]
    )
    assert kernel_difference_interval(far, near, real, resamples=9).value == pytest.approx(
        kernel[0] - kernel[1]
    )


@pytest.mark.parametrize(
    ("interval", "distance"), [(frechet_interval, frechet_distance), (kernel_interval, kernel_distance)]
)
def test_a_distances_interval_is_as_wide_as_other_scenes_make_it(interval: object, distance: object) -> None:
    assert callable(interval)
    assert callable(distance)
    drawn = [engines(100 + 3 * number)[:2] for number in range(80)]
    spread = torch.tensor([distance(far, real) for real, far in drawn]).std()
    estimates = [interval(far, real, resamples=200) for real, far in drawn[:12]]
    assert all(estimate.low < estimate.value < estimate.high for estimate in estimates)
    width = torch.tensor([estimate.high - estimate.low for estimate in estimates]).mean()
    assert float(width) == pytest.approx(2 * 1.96 * float(spread), rel=0.35)


@pytest.mark.parametrize("interval", [frechet_difference_interval, kernel_difference_interval])
def test_the_farther_engine_is_told_from_the_nearer(interval: object) -> None:
    assert callable(interval)
    real, far, near = engines(20)
    assert interval(far, near, real).low > 0
    same = interval(near, near, real)
    assert same == Estimate(0.0, 0.0, 0.0)
