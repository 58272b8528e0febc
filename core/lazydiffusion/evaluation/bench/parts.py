"""The parts of an edit: whatever is to be measured is put around the pipeline's own calls while an edit runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

from lazydiffusion import compose
from lazydiffusion.devices import synchronise
from lazydiffusion.engines.base import Edit, Engine, Report
from lazydiffusion.evaluation.bench.cases import AGAIN, Case, Edits
from lazydiffusion.pipelines.lazy import LazyDiffusionPipeline
from lazydiffusion.pipelines.sampling import Step

PLAN = "plan"
VIEW = "view"
TEXT = "text"
CODEC_ENCODE = "codec encode"
CONTEXT = "context"
CONDITIONS = "conditions"
STEPS = "steps"
CODEC_DECODE = "codec decode"
COMPOSE = "compose"
OTHER = "other"
PARTS = {
    PLAN: "which window, which tokens",
    VIEW: "canvas to window and overview",
    TEXT: "the text encoder",
    CODEC_ENCODE: "pixels to the tokens' known values",
    CONTEXT: "the context encoder",
    CONDITIONS: "what all steps share: context, keys and values of the text",
    STEPS: "the decoder, all steps",
    CODEC_DECODE: "tokens to pixels",
    COMPOSE: "window to canvas, and alpha",
    OTHER: "noise, sampler, copies between host and device",
}
"""In the order in which an edit comes to them, with what they are. Together they are the whole edit."""

Around = Callable[[str, tuple[Any, ...]], AbstractContextManager[None]]
"""(part, the call's arguments) -> what is entered around the call."""


class Timed(Engine, Protocol):
    """An engine whose calls can be watched, and whose device can be waited for."""

    pipeline: Any


Watch = Callable[[Any, Around], AbstractContextManager[None]]
"""(pipeline, around) -> what puts `around` around the pipeline's calls while it lasts, as `watched` does."""


@contextmanager
def watched(pipeline: LazyDiffusionPipeline, around: Around, step: Step | None = None) -> Iterator[None]:
    """While this lasts, `around` is put around every call of the pipeline's that belongs to one part.

    `step`: what the pipeline calls as its decoder's step; its own by default (on CUDA, graphs).
    """
    own_step = step or pipeline._step()
    calls: list[tuple[Any, str, str]] = [
        (compose, "view", VIEW),
        (pipeline.prompt_encoder, "forward", TEXT),
        (pipeline.codec, "encode", CODEC_ENCODE),
        (pipeline.context_encoder, "forward", CONTEXT),
        (pipeline.decoder, "prepare", CONDITIONS),
        (pipeline.codec, "decode", CODEC_DECODE),
        (compose, "from_window", COMPOSE),
    ]
    with ExitStack() as stack:
        for owner, name, part in calls:
            stack.enter_context(replaced(owner, name, within(around, part, getattr(owner, name))))
        stack.enter_context(replaced(pipeline, "_step", lambda: within(around, STEPS, own_step)))
        yield


def part_times(
    engine: Timed, edit: Edit, parts: Iterable[str] = tuple(PARTS), watch: Watch = watched
) -> dict[str, float]:
    """Milliseconds of each part of one edit. The device is waited for around every call, which costs time itself.

    `parts`: those that `watch` knows of, and PLAN, COMPOSE and OTHER.
    """
    device = engine.pipeline.device
    ms = dict.fromkeys(parts, 0.0)

    @contextmanager
    def clock(part: str, _: tuple[Any, ...]) -> Iterator[None]:
        synchronise(device)
        start = time.perf_counter()
        yield
        synchronise(device)
        ms[part] += 1000 * (time.perf_counter() - start)

    report = Report()
    with watch(engine.pipeline, clock):
        total = run_edit(engine, edit, report)
    ms[PLAN] += report.ms["plan"]
    ms[COMPOSE] += report.ms["compose"]
    ms[OTHER] = total - sum(ms.values())
    return ms


def run_edit(engine: Timed, edit: Edit, report: Report | None = None) -> float:
    """Milliseconds from an edit to the pixels of its last fill, in the computer's own memory."""
    device = engine.pipeline.device
    synchronise(device)
    start = time.perf_counter()
    for _ in engine.run(edit, report or Report()):
        pass
    synchronise(device)
    return 1000 * (time.perf_counter() - start)


def next_edit(engine: Timed, edits: Edits, case: Case) -> Edit:
    """An edit of the case, for an engine that has never seen its canvas, or, where the case says so, has just."""
    engine.forget()
    if case.sent == AGAIN:
        run_edit(engine, edits.make(case))
    return edits.make(case)


def within(around: Around, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A call that has `around` around it."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with around(part, args):
            return call(*args, **kwargs)

    return wrapper


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute has another value for a while; what an instance has of its class, it has so again."""
    own = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)
