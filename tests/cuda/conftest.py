"""What only a CUDA device can show. The whole folder is skipped, with the reason, where torch sees none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip this folder's tests without a device; with one, warnings are told, not errors.

    What a CUDA build of torch, its compiler and accelerate warn of depends on card and driver, not on this code.
    """
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.filterwarnings("default"))
        if not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device (torch.cuda.is_available())"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda")


@pytest.fixture
def exact_float32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Float32 products without TensorFloat-32: cuBLAS keeps all bits, and cuDNN, whose default it is, stays out."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    yield
    torch.set_float32_matmul_precision(before)
