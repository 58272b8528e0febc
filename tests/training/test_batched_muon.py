"""Our Muon against torch's: the same weights after several steps, and the same state, in a fraction of the kernels."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lazydiffusion.training.batched_muon import BatchedMuon, orthogonalised

pytestmark = pytest.mark.unit
SHAPES = [(32, 32), (64, 32), (32, 48), (32, 32), (64, 32), (32, 32), (16, 8)]


def matrices(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator) * 0.1) for shape in SHAPES]


def torchs(params: list[nn.Parameter]) -> torch.optim.Muon:
    return torch.optim.Muon(params, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")


def give_gradients(params: list[nn.Parameter], step: int) -> None:
    for number, gradient in enumerate(matrices(100 + step)):
        params[number].grad = gradient.detach() * 10.0 ** (number - 3)


def test_it_takes_torchs_steps() -> None:
    ours, theirs = matrices(), matrices()
    our_muon, their_muon = BatchedMuon(ours, lr=1e-2, weight_decay=0.1), torchs(theirs)
    for step in range(5):
        for params, muon in ((ours, our_muon), (theirs, their_muon)):
            give_gradients(params, step)
            muon.param_groups[0]["lr"] = 1e-2 / (step + 1)
            muon.step()
    for our, their, start in zip(ours, theirs, matrices(), strict=True):
        moved = (their - start).norm()
        assert moved > 0
        # bfloat16 has 8 bits: the order of a product's sums alone makes such differences.
        assert (our - their).norm() < 0.01 * moved
        assert torch.allclose(
            our_muon.state[our]["momentum_buffer"], their_muon.state[their]["momentum_buffer"], atol=1e-6
        )


def test_its_state_is_torchs() -> None:
    params = matrices()
    muon = BatchedMuon(params, lr=1e-2, weight_decay=0.1)
    give_gradients(params, 0)
    muon.step()
    same = copy.deepcopy(params)
    other = torchs(same)
    other.load_state_dict(copy.deepcopy(muon.state_dict()))  # or both would share their buffers
    for step in (1, 2):
        for some, optimiser in ((params, muon), (same, other)):
            give_gradients(some, step)
            optimiser.step()
    for our, their in zip(params, same, strict=True):
        assert torch.allclose(our, their, atol=1e-3)


def test_what_has_no_gradient_stays() -> None:
    params = matrices()
    give_gradients(params, 0)
    params[1].grad = None
    BatchedMuon(params, lr=1e-2, weight_decay=0.1).step()
    changed = [not torch.equal(now, before) for now, before in zip(params, matrices(), strict=True)]
    assert changed == [True, False, True, True, True, True, True]


def test_singular_values_end_near_one() -> None:
    many = torch.randn(3, 24, 40, generator=torch.Generator().manual_seed(0))
    done = orthogonalised(many, (3.4445, -4.775, 2.0315), 5, 1e-7)
    assert done.dtype == torch.float32
    assert done.is_contiguous()
    assert ((torch.linalg.svdvals(done) - 1).abs() < 0.4).all()
    assert torch.equal(orthogonalised(torch.zeros(1, 4, 3), (3.4, -4.8, 2.0), 5, 1e-7), torch.zeros(1, 4, 3))


def test_the_kernels_are_as_many_as_the_shapes_need() -> None:
    class Count(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.count += "mm" in str(func)
            return func(*args, **(kwargs or {}))

    counts = []
    for copies in (1, 5):
        params = [nn.Parameter(torch.randn(16, 16)) for _ in range(copies)]
        muon = BatchedMuon(params, lr=1e-2, weight_decay=0.1)
        for parameter in params:
            parameter.grad = torch.randn_like(parameter)
        with Count() as counted:
            muon.step()
        counts.append(counted.count)
    assert counts == [15, 15]
