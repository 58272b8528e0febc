"""How far the features of fills are from those of real pictures, as distributions: FID and KID.

The FID (Heusel et al. 2017) is the field's usual figure, but grows as pictures become fewer. The KID (Binkowski et al.
2018) does not: of few pictures it is only less certain.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lazydiffusion.errors import BadInput


def frechet_distance(
    first: Float[Tensor, "n d"], second: Float[Tensor, "m d"], counts: Float[Tensor, " n"] | None = None
) -> float:
    """|mu1 - mu2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)) of the Gaussians with the features' means and covariances.

    In float64. `counts`: how often each row counts, for a bootstrap over scenes; the rows of both are then scenes.
    Raises BadInput for fewer than two rows, or for rows of different widths.
    """
    _check(first, second, counts)
    mean_first, factor_first = _mean_and_factor(first, counts)
    mean_second, factor_second = _mean_and_factor(second, counts)
    # With S = F^T F, the eigenvalues of S1 S2 are the squares of the singular values of F1 F2^T: no matrix root is
    # taken, and no matrix is wider than there are pictures, or features.
    product = factor_first @ factor_second.T
    gram = product @ product.T if len(product) < product.shape[1] else product.T @ product
    # Three times as fast as its singular values, and eight digits of the sum are left.
    trace_root = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().sum()
    traces = factor_first.square().sum() + factor_second.square().sum()
    return float((mean_first - mean_second).square().sum() + traces - 2 * trace_root)


def paired_kernel(first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> Float64[Tensor, "n n"]:
    """What each pair of scenes adds to the paired KID, which is the mean of this matrix off its diagonal.

    The KID is the unbiased squared maximum mean discrepancy of the features with the kernel (x . y / d + 1)^3. Paired:
    row i of both is the same scene, so that they are not independent, and are never compared (Gretton et al. 2012,
    eq. 4). It can be negative. Raises BadInput as `frechet_distance`, and for pairs that are not as many.
    """
    _check(first, second)
    if len(first) != len(second):
        raise BadInput(f"Paired features must be as many: there are {len(first)} and {len(second)}.")
    across = _kernel(first, second)
    return _kernel(first, first) + _kernel(second, second) - across - across.T


def off_diagonal_mean(matrix: Float64[Tensor, "n n"], counts: Float[Tensor, "r n"]) -> Float64[Tensor, " r"]:
    """Weighted means over all pairs of different rows; row i counts counts[:, i] times, and never against itself."""
    counts = counts.to(matrix.device, torch.float64)
    distinct = matrix - torch.diag(matrix.diagonal())
    pairs = counts.sum(dim=1).square() - counts.square().sum(dim=1)
    return ((counts @ distinct) * counts).sum(dim=1) / pairs


def _kernel(left: Tensor, right: Tensor) -> Tensor:
    """Binkowski et al. 2018, eq. 2."""
    return (left.double() @ right.double().T / left.shape[1] + 1) ** 3


def _mean_and_factor(features: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean (d,), and F of at most d rows with F^T F = the unbiased covariance, in float64."""
    rows = features.double()
    if counts is None:
        weight = torch.ones(len(rows), dtype=torch.float64, device=rows.device)
    else:
        weight = counts.to(rows.device, torch.float64)
        rows, weight = rows[weight > 0], weight[weight > 0]
    total = weight.sum()
    mean = (rows * weight[:, None]).sum(dim=0) / total
    factor = (rows - mean) * (weight / (total - 1)).sqrt()[:, None]
    if len(factor) > factor.shape[1]:
        factor = torch.linalg.qr(factor, mode="r").R  # the covariance's own factor, without its rounding
    return mean, factor


def _check(first: Tensor, second: Tensor, counts: Tensor | None = None) -> None:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise BadInput(f"Features of {tuple(first.shape)} and {tuple(second.shape)} cannot be compared.")
    if min(len(first), len(second)) < 2:
        raise BadInput(
            f"A distance of distributions needs at least 2 pictures: {len(first)} and {len(second)} given."
        )
    if counts is not None and not len(counts) == len(first) == len(second):
        raise BadInput(f"{len(counts)} counts do not fit {len(first)} and {len(second)} rows of features.")
