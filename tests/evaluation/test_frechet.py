"""FID and KID against their textbook formulas and against distributions whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.frechet import (
    frechet_distance,
    off_diagonal_mean,
    paired_kernel,
)

pytestmark = pytest.mark.unit


def features(rows: int, width: int, seed: int, shift: float = 0.0) -> Tensor:
    """Correlated, skewed features, all at least 0: like those behind a rectifier."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(99)) / width**0.5
    return (torch.randn(rows, width, generator=generator) @ mixing + shift).clamp_min(0)


def textbook_frechet(first: Tensor, second: Tensor) -> float:
    """As the reference implementations have it: a matrix root of the product of the covariances."""
    means = [rows.double().numpy().mean(axis=0) for rows in (first, second)]
    covariances = [np.cov(rows.double().numpy(), rowvar=False) for rows in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    return float(np.square(means[0] - means[1]).sum() + np.trace(sum(covariances) - 2 * np.real(root)))


def paired_distance(first: Tensor, second: Tensor) -> float:
    """The paired KID."""
    return float(off_diagonal_mean(paired_kernel(first, second), torch.ones(1, len(first))))


def textbook_kernel(first: Tensor, second: Tensor, paired: bool) -> float:
    """The sums of Gretton et al. 2012, written out."""

    def kernel(x: Tensor, y: Tensor) -> float:
        return float((x.double() @ y.double() / len(x) + 1) ** 3)

    n, m = len(first), len(second)
    within = sum(kernel(first[i], first[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    other = sum(kernel(second[i], second[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    pairs = [(i, j) for i in range(n) for j in range(m) if not paired or i != j]
    return within + other - 2 * sum(kernel(first[i], second[j]) for i, j in pairs) / len(pairs)


@pytest.mark.parametrize(("rows", "others"), [(300, 200), (100, 60), (24, 100), (24, 30)])
def test_the_frechet_distance_is_the_textbooks(rows: int, others: int) -> None:
    first, second = features(rows, 40, 1), features(others, 40, 2, shift=0.3)
    # Below 40 pictures the covariances are singular, and the textbook's root is good to half the digits only.
    assert frechet_distance(first, second) == pytest.approx(textbook_frechet(first, second), rel=1e-5)


@pytest.mark.parametrize("rows", [20, 200])
def test_equal_sets_are_at_distance_zero(rows: int) -> None:
    same = features(rows, 50, 3)
    assert frechet_distance(same, same) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(same, same.flip(0)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("rows", [20, 200])
def test_a_shift_counts_its_square(rows: int) -> None:
    first = features(rows, 50, 4)
    shift = torch.linspace(-1, 1, 50)
    assert frechet_distance(first, first + shift) == pytest.approx(float(shift.square().sum()), rel=1e-5)


def test_gaussians_of_other_widths_are_at_the_distance_of_their_deviations() -> None:
    first = features(80, 30, 5).double()
    wider = first.mean(dim=0) + 3 * (first - first.mean(dim=0))
    expected = 4 * float(first.var(dim=0).sum())  # sum of (3 s - s)^2
    assert frechet_distance(first, wider) == pytest.approx(expected, rel=1e-6)


def test_the_kernel_distance_is_the_textbooks() -> None:
    first, second = features(12, 8, 6), features(12, 8, 7, shift=0.2)
    assert paired_distance(first, second) == pytest.approx(textbook_kernel(first, second, True), rel=1e-9)


def test_the_kernel_distance_has_no_bias_where_the_frechet_distance_has() -> None:
    kernel, frechet = [], []
    for number in range(60):
        first, second = features(20, 30, 100 + number), features(20, 30, 200 + number)
        kernel.append(paired_distance(first, second))
        frechet.append(frechet_distance(first, second))
    error = np.std(kernel) / len(kernel) ** 0.5
    assert abs(np.mean(kernel)) < 3 * error  # equal distributions
    assert min(frechet) > 1


def test_scenes_that_resemble_their_own_fill_do_not_lower_the_paired_distance() -> None:
    paired, unpaired = [], []
    for number in range(10):
        real = features(10, 30, 300 + number)
        paired.append(paired_distance(real, real))
        unpaired.append(textbook_kernel(real, real, False))
    assert max(map(abs, paired)) < 1e-12
    assert max(unpaired) < 0


@pytest.mark.parametrize(("rows", "width"), [(16, 40), (60, 20)])
def test_a_row_that_counts_twice_is_a_row_given_twice(rows: int, width: int) -> None:
    first, second = features(rows, width, 8), features(rows, width, 9, shift=0.1)
    counts = torch.arange(rows, dtype=torch.float64) % 3
    repeated = counts.long()
    expected = frechet_distance(
        first.repeat_interleave(repeated, dim=0), second.repeat_interleave(repeated, dim=0)
    )
    assert frechet_distance(first, second, counts) == pytest.approx(expected, rel=1e-6)


def test_a_row_is_not_compared_with_itself_however_often_it_counts() -> None:
    matrix = paired_kernel(features(16, 8, 10), features(16, 8, 11))
    counts = torch.zeros(3, 16)
    counts[0], counts[1], counts[2, 4], counts[2, 9] = 1, 3, 5, 1
    once, thrice, two = off_diagonal_mean(matrix, counts).tolist()
    assert thrice == pytest.approx(once, rel=1e-9)
    assert two == pytest.approx(float(matrix[4, 9]), rel=1e-9)
    assert once == pytest.approx(paired_distance(features(16, 8, 10), features(16, 8, 11)), rel=1e-9)


@pytest.mark.parametrize("distance", [frechet_distance, paired_kernel])
def test_what_cannot_be_compared_is_refused(distance: object) -> None:
    assert callable(distance)
    with pytest.raises(BadInput, match="at least 2 pictures: 1 and 5"):
        distance(torch.rand(1, 4), torch.rand(5, 4))
    with pytest.raises(BadInput, match=r"\(5, 4\) and \(5, 3\) cannot be compared"):
        distance(torch.rand(5, 4), torch.rand(5, 3))
    with pytest.raises(BadInput, match="6 counts do not fit 5 and 5 rows"):
        frechet_distance(torch.rand(5, 4), torch.rand(5, 4), torch.ones(6))
    with pytest.raises(BadInput, match="must be as many: there are 5 and 4"):
        paired_kernel(torch.rand(5, 4), torch.rand(4, 4))
