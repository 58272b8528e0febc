"""What an edit asks the computer for while a device reads the canvas: a copy or a question would wait until it has.

On a CPU nothing waits; the order of the calls is looked at. tests/cuda has torch itself complain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from tests.cuda.tiny_edits import KINDS, canvas, make_pipeline, mask
from torch.utils._python_dispatch import TorchDispatchMode

from lazydiffusion.models import latent_codec
from lazydiffusion.pipelines.beside import Beside

CPU = torch.device("cpu")


class Order(TorchDispatchMode):
    """Notes the first work of a network, and all copies and questions."""

    def __init__(self, patch: pytest.MonkeyPatch):
        super().__init__()
        self.found: list[str] = []
        self.beside = False
        self.note(patch, torch, "from_numpy", "copy")
        self.note(patch, latent_codec, "_marked", "question")

    def note(self, patch: pytest.MonkeyPatch, owner: Any, name: str, what: str) -> None:
        call = getattr(owner, name)
        patch.setattr(owner, name, lambda *given: self.found.append(what) or call(*given))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__.split(".")[0] in ("convolution", "addmm", "mm"):
            self.found.append("words" if self.beside else "work")
        return func(*args, **(kwargs or {}))

    @contextmanager
    def as_beside(self, device: torch.device | None) -> Iterator[Any]:
        assert device == CPU
        self.beside = True
        yield lambda *_: None
        self.beside = False


@pytest.mark.integration
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_asked_once_the_networks_read(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make_pipeline(kind, CPU, torch.float32)
    sketch = np.full((256, 256, 4), 255, np.uint8)
    with Order(monkeypatch) as order:
        monkeypatch.setattr(pipeline, "_beside", order.as_beside)
        pipeline.prepare(canvas(), mask("large"), "a cat", negative_prompt="a dog", sketch=sketch)
    begun = order.found.index("work")
    assert set(order.found[:begun]) == {"copy"} | ({"question"} if kind == "latents" else set())
    assert set(order.found[begun:]) == {"work", "words"}


class Stream:
    """Notes who waits for whom."""

    def __init__(self, name: str, waits: list[tuple[str, str]]):
        self.name, self.waits = name, waits

    def wait_stream(self, other: Stream) -> None:
        self.waits.append((self.name, other.name))


@pytest.mark.unit
def test_what_comes_afterwards_waits_even_for_work_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words may be kept, and be read by the next try."""
    waits: list[tuple[str, str]] = []
    current = ["usual"]

    @contextmanager
    def stream(chosen: Stream) -> Iterator[None]:
        current.append(chosen.name)
        try:
            yield
        finally:
            current.pop()

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(current[-1], waits))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side", waits))
    monkeypatch.setattr(torch.cuda, "stream", stream)
    beside, recorded = Beside(), list[str]()
    made: Any = type("Made", (), {"record_stream": lambda self, here: recorded.append(here.name)})()
    with beside(torch.device("cuda")) as used:
        assert current[-1] == "side"
        used(made)
    with pytest.raises(torch.OutOfMemoryError), beside(torch.device("cuda")):
        raise torch.OutOfMemoryError
    assert recorded == ["usual"]
    assert waits == [("usual", "side")] * 2
    assert current == ["usual"]
