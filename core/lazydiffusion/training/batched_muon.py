"""torch's Muon for many matrices of few shapes: all of one shape are orthogonalised at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class BatchedMuon(torch.optim.Muon):
    """torch.optim.Muon (rates as "match_rms_adamw" has them), the same to rounding, in a twentieth of its kernels.

    torch's own goes from matrix to matrix: 24 kernels for each of a model's 102 kept the host busy for 36 ms a step, a
    sixth of the whole. Here it is 20 for each shape, whatever the number of its matrices. torch has this under way as
    Muon(foreach=True) (pytorch/pytorch pull request 195566); once it is out, this file can go. The state is that of
    torch's Muon.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float):
        super().__init__(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            matrices = [matrix for matrix in group["params"] if matrix.grad is not None]
            if matrices:
                self._move(matrices, group)
        return loss

    def _move(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        momenta = [self._momentum(matrix) for matrix in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        by_shape: dict[torch.Size, list[int]] = {}
        for place, matrix in enumerate(matrices):
            by_shape.setdefault(matrix.shape, []).append(place)
        for shape, places in by_shape.items():
            moves = orthogonalised(
                torch.stack([updates[place] for place in places]),
                group["ns_coefficients"], group["ns_steps"], group["eps"],
            )  # fmt: skip
            torch._foreach_add_(
                [matrices[place] for place in places],
                list(moves.unbind()),
                alpha=-group["lr"] * 0.2 * max(shape) ** 0.5,
            )

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def orthogonalised(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, smallest: float
) -> Tensor:
    """Nearly the closest orthogonal matrix of each of (N, m, n), by Newton-Schulz iterations in bfloat16 (Jordan 2024).

    The computation of torch.optim.Muon for one matrix, with a dimension more. Given back in the matrices' own dtype.
    """
    linear, cubic, quintic = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    if tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(smallest)  # no singular value above 1
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic), x, beta=linear)
    return (x.mT if tall else x).to(matrices.dtype, memory_format=torch.contiguous_format)
