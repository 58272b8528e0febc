"""From a model's name to the engine that runs it."""

from __future__ import annotations

from lazydiffusion import checkpoints
from lazydiffusion.devices import Choice
from lazydiffusion.engines.base import Engine
from lazydiffusion.engines.names import AUTO, DIFFUSERS, ENGINES, engine_of, pipeline_class
from lazydiffusion.errors import BadInput, BadModel


def load_engine(model: str, choice: Choice, engine: str = AUTO, view: str | None = None) -> Engine:
    """The engine of a model, by name, folder or hub id, on a device.

    `engine`: "auto", or the one that the model must be for. `view`: what of the canvas an inpainting pipeline is
    shown (inpainting.VIEWS). Raises BadInput, BadModel, OutOfMemory.
    """
    if engine not in (AUTO, *ENGINES):
        raise BadInput(f"There is no engine {engine!r}; it must be one of {', '.join((AUTO, *ENGINES))}.")
    where = checkpoints.locate(model)
    fitting = engine_of(where)
    if engine not in (AUTO, fitting):
        raise BadModel(
            f"The model {model} is a {pipeline_class(where)}, for the engine {fitting}. Use --engine {fitting}, or "
            "another model."
        )
    if fitting == DIFFUSERS:
        from lazydiffusion.engines.inpainting import InpaintEngine

        return InpaintEngine.load(where, choice, view or "window")
    if view is not None:
        raise BadInput(f"The engine {fitting} chooses its own view of the canvas: leave --view {view} away.")
    from lazydiffusion.engines.lazy import LazyEngine

    return LazyEngine.load(where, choice)
