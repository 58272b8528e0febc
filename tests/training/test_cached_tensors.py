"""What takes long is made once: a cache that is damaged, and one that cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lazydiffusion.errors import CannotWrite
from lazydiffusion.training.cached_tensors import cached

pytestmark = pytest.mark.unit


def ones() -> dict[str, Tensor]:
    return {"value": torch.ones(2)}


def never() -> dict[str, Tensor]:
    raise AssertionError("it is there already")


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    cached(tmp_path / "cache", "thing", ones)
    assert torch.equal(cached(tmp_path / "cache", "thing", never)["value"], torch.ones(2))


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "thing.safetensors").write_bytes(b"half of a fi")
    assert torch.equal(cached(tmp_path, "thing", ones)["value"], torch.ones(2))
    assert torch.equal(load_file(tmp_path / "thing.safetensors")["value"], torch.ones(2))
    assert [file.name for file in tmp_path.iterdir()] == ["thing.safetensors"]


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CannotWrite, match="cannot be written"):
        cached(tmp_path / "file", "thing", ones)
    (tmp_path / "thing.partial").mkdir()  # safetensors' own error, as on a full disk
    with pytest.raises(CannotWrite, match="cannot be written"):
        cached(tmp_path, "thing", ones)
