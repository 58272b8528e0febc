"""From a model's name to the engine that runs it."""

from __future__ import annotations

from pathlib import Path

from lazydiffusion import checkpoints
from lazydiffusion.devices import FULL, Choice
from lazydiffusion.engines.base import Engine
from lazydiffusion.engines.names import (
    AUTO,
    DIFFUSERS,
    ENGINES,
    FLUX2_KLEIN,
    check_view,
    engine_of,
    pipeline_class,
)
from lazydiffusion.errors import BadInput, BadModel


def load_engine(model: str, choice: Choice, engine: str = AUTO, view: str | None = None) -> Engine:
    """The engine of a model, by name, folder or hub id, on a device.

    `engine`: "auto", or the one that the model must be for. `view`: how the engine sees the canvas, one of
    names.VIEWS. Raises BadInput, BadModel, OutOfMemory.
    """
    where = checkpoints.locate(model)
    fitting = fitting_engine(model, where, engine)
    check_view(fitting, view)
    by_diffusers, _, shown = (view or "").partition("-")
    if choice.weights != FULL and (fitting != FLUX2_KLEIN or by_diffusers == DIFFUSERS):
        raise BadInput(
            f"--weights {choice.weights} is for {FLUX2_KLEIN} as this program runs it. Leave it at {FULL}."
        )
    if fitting == DIFFUSERS or by_diffusers == DIFFUSERS:
        from lazydiffusion.engines.inpainting import InpaintEngine

        return InpaintEngine.load(where, choice, (view if fitting == DIFFUSERS else shown) or "window")
    if fitting == FLUX2_KLEIN:
        from lazydiffusion.engines.flux2_klein import Flux2KleinEngine, Flux2KleinOptions
        from lazydiffusion.pipelines.flux2_reference import CACHED, Laziness

        options = Flux2KleinOptions(laziness=Laziness(reference=view or CACHED))
        return Flux2KleinEngine.load(where, choice, options)
    from lazydiffusion.engines.lazy import LazyEngine

    return LazyEngine.load(where, choice)


def fitting_engine(model: str, where: Path | str, engine: str = AUTO) -> str:
    """The engine that the model at `where` is for. Raises BadInput, and BadModel when `engine` asks for another."""
    if engine not in (AUTO, *ENGINES):
        raise BadInput(f"There is no engine {engine!r}; it must be one of {', '.join((AUTO, *ENGINES))}.")
    fitting = engine_of(where)
    if engine not in (AUTO, fitting):
        raise BadModel(
            f"The model {model} is a {pipeline_class(where)}, for the engine {fitting}. Use --engine {fitting}, or "
            "another model."
        )
    return fitting
