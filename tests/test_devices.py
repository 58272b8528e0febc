"""Which device and precision are chosen. What a GPU would answer is made up: none is needed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lazydiffusion.devices import choose_device, multiplies_in_bfloat16

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("generation", "dtype"), [(7, torch.float16), (8, torch.bfloat16), (9, torch.bfloat16)]
)
def test_a_gpu_gets_the_precision_that_it_computes_in(
    monkeypatch: pytest.MonkeyPatch, generation: int, dtype: torch.dtype
) -> None:
    """torch counts emulated bfloat16 as supported, and cuDNN then finds no engine for a convolution."""
    answers = {
        "is_available": True,
        "current_device": 0,
        "get_device_name": "a card",
        "get_device_properties": SimpleNamespace(major=generation),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    assert torch.cuda.is_bf16_supported()
    choice = choose_device("cuda")
    assert choice.dtype == dtype
    assert choice.reason == "a CUDA GPU is present: a card"


@pytest.mark.parametrize("native", [True, False])
def test_a_processor_says_whether_it_multiplies_bfloat16(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": native})
    assert multiplies_in_bfloat16(torch.device("cpu")) is native
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "aarch64"})
    assert not multiplies_in_bfloat16(torch.device("cpu"))
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not multiplies_in_bfloat16(torch.device("cpu"))


def test_a_gpu_that_emulates_bfloat16_does_not_multiply_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not multiplies_in_bfloat16(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert multiplies_in_bfloat16(torch.device("cuda"))
