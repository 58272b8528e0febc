"""The engines by name, and which of them a model is for: its own model_index.json says what pipeline it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lazydiffusion import checkpoints
from lazydiffusion.errors import BadInput, BadModel, first_line

AUTO = "auto"
"""The engine that the model is for."""
LAZY, REGENERATE_IMAGE, REGENERATE_CROP = "lazy", "regenerate-image", "regenerate-crop"
FLUX2_KLEIN, DIFFUSERS = "flux2-klein", "diffusers"
OWN = (LAZY, REGENERATE_IMAGE, REGENERATE_CROP)
"""Those whose models are trained here."""
ENGINES = (LAZY, FLUX2_KLEIN, REGENERATE_IMAGE, REGENERATE_CROP, DIFFUSERS)

OF_PIPELINE = {
    "LazyDiffusionPipeline": LAZY,
    "RegenerateImagePipeline": REGENERATE_IMAGE,
    "RegenerateCropPipeline": REGENERATE_CROP,
    # All of them have the same components, so that weights of any will do.
    "Flux2KleinPipeline": FLUX2_KLEIN,
    "Flux2KleinInpaintPipeline": FLUX2_KLEIN,
    "Flux2KleinKVPipeline": FLUX2_KLEIN,
    "LazyFlux2KleinPipeline": FLUX2_KLEIN,
}
"""A pipeline of any other class is for DIFFUSERS."""

VIEWS = {
    DIFFUSERS: ("window", "crop", "canvas"),
    FLUX2_KLEIN: ("cached", "refreshed", "full", "diffusers", "diffusers-crop", "diffusers-canvas"),
}
"""What --view can name, the usual one first. Of a pipeline of diffusers: what of the canvas it is shown
(inpainting.VIEWS). Of FLUX.2-klein: how its steps see the canvas (pipelines.flux2_reference), or that diffusers' own
pipeline runs it, which denoises all of its window, crop or canvas. All other engines have one view only."""


def engine_of(where: Path | str) -> str:
    """The engine that a model is for, by folder or hub id. Raises BadModel, HubUnreachable as `pipeline_class`."""
    return OF_PIPELINE.get(pipeline_class(where), DIFFUSERS)


def check_view(engine: str, view: str | None, written: str | None = None) -> None:
    """Raise BadInput for a view that an engine has not. `written`: what the user is to leave away, if not --view."""
    if view is None:
        return
    if engine not in VIEWS:
        written = written or f"--view {view}"
        raise BadInput(f"The engine {engine} chooses its own view of the canvas: leave {written} away.")
    if view not in VIEWS[engine]:
        raise BadInput(f"There is no view {view!r}; it must be one of {', '.join(VIEWS[engine])}.")


def pipeline_class(where: Path | str) -> str:
    """The name of the class of a model's pipeline.

    Raises BadModel where there is none; of a hub id also HubUnreachable.
    """
    index: Any
    try:
        if isinstance(where, Path):
            index = json.loads((where / checkpoints.INDEX).read_text(encoding="utf8"))
        else:
            from lazydiffusion.hub import pipeline_index

            index = json.loads(pipeline_index(where))
    except (OSError, ValueError) as error:
        raise BadModel(f"The model {where} cannot be loaded: {first_line(error)}.") from error
    name = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(name, str):
        raise BadModel(
            f"{where} does not say what pipeline it is: its {checkpoints.INDEX} has no _class_name."
        )
    return name
