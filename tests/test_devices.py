"""Which device and precision are chosen. What a GPU would answer is made up: none is needed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lazydiffusion.devices import choose_device

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
