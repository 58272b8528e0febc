"""How much memory the device has left."""

from __future__ import annotations

import psutil
import pytest
import torch

from lazydiffusion.devices import Choice, choose_device
from lazydiffusion.service import memory


@pytest.mark.unit
def test_on_the_cpu_it_is_the_computers() -> None:
    cpu = choose_device("cpu")
    free, total = memory.free_and_total(cpu)
    assert total == psutil.virtual_memory().total
    assert 0 < free < total
    memory.empty_cache(cpu)
    memory.empty_cache(None)  # before a device is chosen there is nothing to give back


@pytest.mark.unit
def test_what_was_pinned_for_a_gpu_is_given_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch keeps it otherwise, gigabytes after a streamed model is let go; made up here, where there is no GPU."""
    given_back: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append("the GPU's"))
    monkeypatch.setattr(
        torch._C, "_host_emptyCache", lambda: given_back.append("the computer's"), raising=False
    )
    memory.empty_cache(Choice(torch.device("cuda"), torch.bfloat16, "a test"))
    assert given_back == ["the GPU's", "the computer's"]


@pytest.mark.gpu
def test_what_was_pinned_is_not_kept() -> None:
    pinned = torch.ones(2**28, dtype=torch.uint8).pin_memory()
    held = torch.cuda.host_memory_stats()["allocated_bytes.current"]
    del pinned
    memory.empty_cache(Choice(torch.device("cuda"), torch.bfloat16, "a test"))
    assert held - torch.cuda.host_memory_stats()["allocated_bytes.current"] >= 2**28


@pytest.mark.gpu
def test_on_a_gpu_what_is_let_go_can_be_given_back() -> None:
    gpu = Choice(torch.device("cuda"), torch.bfloat16, "a test")
    before, total = memory.free_and_total(gpu)
    held = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    del held
    kept, _ = memory.free_and_total(gpu)
    memory.empty_cache(gpu)
    after, _ = memory.free_and_total(gpu)
    assert after - kept >= 2**30  # PyTorch had kept it for itself
    assert 0 < before <= total
