"""Tensors that take long to make, kept in a folder for the next run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lazydiffusion.errors import CannotWrite


def cached(cache: Path | None, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `make` gives, from CACHE/NAME.safetensors if it is there; else it is made, and written there.

    Without a cache it is made. A damaged file is made anew. Raises CannotWrite.
    """
    if cache is None:
        return make()
    file = cache / f"{name}.safetensors"
    try:
        return load_file(file)
    except (OSError, SafetensorError):  # there is none yet, or a power cut damaged it
        made = make()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        save_file({key: value.contiguous().cpu() for key, value in made.items()}, partial)
        partial.replace(file)
    except (OSError, SafetensorError) as error:
        raise CannotWrite(f"The cache {cache} cannot be written: {error}.") from error
    return made
