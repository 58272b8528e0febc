"""How much memory the device has left."""

from __future__ import annotations

import psutil
import pytest
import torch

from lazydiffusion.devices import Choice, choose_device
from lazydiffusion.service import memory


@pytest.mark.unit
def test_before_a_device_is_chosen_nothing_is_known() -> None:
    assert memory.free(None) is None
    assert memory.total(None) is None
    memory.empty_cache(None)


@pytest.mark.unit
def test_on_the_cpu_it_is_the_computers() -> None:
    cpu = choose_device("cpu")
    free, total = memory.free(cpu), memory.total(cpu)
    assert free is not None
    assert total == psutil.virtual_memory().total
    assert 0 < free < total
    memory.empty_cache(cpu)


@pytest.mark.gpu
def test_on_a_gpu_what_is_let_go_can_be_given_back() -> None:
    gpu = Choice(torch.device("cuda"), torch.bfloat16, "a test")
    before = memory.free(gpu)
    held = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    del held
    kept, total = memory.free(gpu), memory.total(gpu)
    memory.empty_cache(gpu)
    after = memory.free(gpu)
    assert before is not None
    assert kept is not None
    assert after is not None
    assert total is not None
    assert after - kept >= 2**30  # PyTorch had kept it for itself
    assert 0 < before <= total
