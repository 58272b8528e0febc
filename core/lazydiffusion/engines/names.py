"""The engines by name, and which of them a model is for: its own model_index.json says what pipeline it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lazydiffusion import checkpoints
from lazydiffusion.errors import BadModel

AUTO = "auto"
"""The engine that the model is for."""
LAZY, REGENERATE_IMAGE, REGENERATE_CROP = "lazy", "regenerate-image", "regenerate-crop"
DIFFUSERS = "diffusers"
ENGINES = (LAZY, REGENERATE_IMAGE, REGENERATE_CROP, DIFFUSERS)

OF_PIPELINE = {
    "LazyDiffusionPipeline": LAZY,
    "RegenerateImagePipeline": REGENERATE_IMAGE,
    "RegenerateCropPipeline": REGENERATE_CROP,
}
"""A pipeline of any other class is for DIFFUSERS."""


def engine_of(where: Path | str) -> str:
    """The engine that a model is for, by folder or hub id. Raises BadModel when its index cannot be read."""
    return OF_PIPELINE.get(pipeline_class(where), DIFFUSERS)


def pipeline_class(where: Path | str) -> str:
    """The name of the class of a model's pipeline. Raises BadModel where there is none."""
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
