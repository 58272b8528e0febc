"""Which engine a model needs: its own model_index.json says what pipeline it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lazydiffusion import checkpoints
from lazydiffusion.devices import Choice
from lazydiffusion.engines.base import Engine
from lazydiffusion.errors import BadInput, BadModel

AUTO, LAZY, DIFFUSERS = "auto", "lazy", "diffusers"
ENGINES = (LAZY, DIFFUSERS)
LAZY_PIPELINE = "LazyDiffusionPipeline"


def load_engine(model: str, choice: Choice, engine: str = AUTO) -> Engine:
    """The engine of a model, by name, folder or hub id, on a device.

    `engine`: "auto", or the one that the model must be for. Raises BadInput, BadModel, OutOfMemory.
    """
    if engine not in (AUTO, *ENGINES):
        raise BadInput(f"There is no engine {engine!r}; it must be one of {', '.join((AUTO, *ENGINES))}.")
    where = checkpoints.locate(model)
    found = _pipeline_class(where)
    fitting = LAZY if found == LAZY_PIPELINE else DIFFUSERS
    if engine not in (AUTO, fitting):
        raise BadModel(
            f"The model {model} is a {found}, for the engine {fitting}. Use --engine {fitting}, or another model."
        )
    if fitting == LAZY:
        from lazydiffusion.engines.lazy import LazyEngine

        return LazyEngine.load(model, choice)
    from lazydiffusion.engines.inpainting import InpaintEngine

    return InpaintEngine.load(where, choice)


def _pipeline_class(where: Path | str) -> str:
    """The name of the pipeline's class. Raises BadModel where there is none."""
    index: Any
    try:
        if isinstance(where, Path):
            index = json.loads((where / checkpoints.INDEX).read_text(encoding="utf8"))
        else:
            from diffusers import DiffusionPipeline

            index = DiffusionPipeline.load_config(where)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadModel(f"The model {where} cannot be loaded: {reason}") from error
    name = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(name, str):
        raise BadModel(
            f"{where} does not say what pipeline it is: its {checkpoints.INDEX} has no _class_name."
        )
    return name
