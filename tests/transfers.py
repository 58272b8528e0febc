"""What a step on a GPU would wait for, found without one: tensors on the "meta" device stand for those on the GPU.

They have shapes and no values. Whatever asks for a value (`.item()`, a boolean index, `nonzero`) fails on them, and
what is copied between host and device is seen. Either would keep the host waiting, and cannot be captured in a graph.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")
COPIES = ("aten::_to_copy", "aten::copy_")


@dataclass
class Transfers:
    """What was seen."""

    calls: int = 0
    """Operations in all."""
    found: list[str] = field(default_factory=list)
    """Of each copy between devices, the place in this project or in diffusers that made it."""


@contextmanager
def watched_transfers() -> Iterator[Transfers]:
    """Within it, everything is seen."""
    transfers = Transfers()
    with _Calls(transfers), _Constants(transfers):
        yield transfers


class _Calls(TorchDispatchMode):
    def __init__(self, transfers: Transfers) -> None:
        super().__init__()
        self.transfers = transfers

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.transfers.calls += 1
        if func._schema.name in COPIES:
            given = [it for it in tree_leaves((args, kwargs, result)) if isinstance(it, torch.Tensor)]
            if len({tensor.device for tensor in given}) > 1:
                self.transfers.found.append(_place())
        return result


class _Constants(TorchFunctionMode):
    """torch.tensor copies numbers of the host, and makes tensors on "meta" without any operation."""

    def __init__(self, transfers: Transfers) -> None:
        super().__init__()
        self.transfers = transfers

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and result.device == META:
            source = args[0] if args else None
            if not (isinstance(source, torch.Tensor) and source.device == META):
                self.transfers.found.append(_place())
        return result


def _place() -> str:
    names = ("lazydiffusion", "diffusers")
    frames = [frame for frame in traceback.extract_stack() if any(name in frame.filename for name in names)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "elsewhere"
