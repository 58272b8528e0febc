"""Models on the same cases with the same seeds: what each fill cost, and what it left as it was."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lazydiffusion import compose, geometry
from lazydiffusion.engines.base import Edit, Engine, Fill, Pixels, Report
from lazydiffusion.errors import LazyDiffusionError
from lazydiffusion.evaluation.features import hole_crops
from lazydiffusion.evaluation.own_cases.folders import CaseFolder
from lazydiffusion.evaluation.own_cases.tiles import Framed, frame
from lazydiffusion.evaluation.seams import border_steps
from lazydiffusion.evaluation.text_image import TextImageScore
from lazydiffusion.window import Box

Masks = npt.NDArray[np.float32]
Tell = Callable[[str, int, int], None]
"""Called with (what is being done, fills done, fills in all)."""


@dataclass(frozen=True)
class Contender:
    """A model that takes part."""

    name: str
    """As tables and sheets have it."""
    model: str
    engine: str
    view: str | None
    load: Callable[[], Engine]


@dataclass(frozen=True)
class Judged:
    """One fill."""

    seed: int
    seconds: float
    """Until it was there: since the edit began for the first one, since the fill before for the others."""
    psnr_outside: float | None
    """dB, of the finished picture where the mask is 0; infinite where no pixel changed, None where all is masked."""
    border_step: float | None
    """8-bit levels (seams.border_steps); None where the mask has no border."""
    text_image: float | None
    """Cosine with the prompt; None without a judge or a prompt."""
    tile: Pixels
    """The part of the finished picture that the sheets show."""


@dataclass(frozen=True)
class Played:
    """One model's edit of one case."""

    hidden_tokens: int
    steps: int
    window: Box
    fills: list[Judged]


@dataclass(frozen=True)
class Given:
    """What all models were given of a case, as far as the report tells it."""

    case: CaseFolder
    framed: Framed
    border_step: float | None
    """Of the canvas itself: how much of a step is there anyway."""


@dataclass
class Entry:
    """What one model did."""

    contender: Contender
    load_seconds: float = 0.0
    played: list[Played] = field(default_factory=list)
    """By case, in the cases' order."""
    peak_bytes: int | None = None
    """The most that torch held of the CUDA device, weights included; None without one."""


@dataclass
class Contest:
    """What is given, and what each model that has finished made of it."""

    given: list[Given]
    entries: list[Entry] = field(default_factory=list)


def announce(cases: Sequence[CaseFolder]) -> Contest:
    """A contest in which nobody has taken part yet."""
    return Contest([_given(case) for case in cases])


def hold(
    contest: Contest,
    contenders: Sequence[Contender],
    device: torch.device,
    text: TextImageScore | None = None,
    tell: Tell = lambda *_: None,
) -> None:
    """Let each model fill all cases, one model at a time in memory; it is among the entries once it has finished.

    `text`: judges pictures by the prompt. Raises what loading and filling raise, with the model's and case's names.
    """
    total = sum(given.case.settings.variations for given in contest.given)
    for contender in contenders:
        entry = Entry(contender)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        tell(f"Loading {contender.name}", 0, total)
        started = time.perf_counter()
        engine = contender.load()
        entry.load_seconds = time.perf_counter() - started
        filled = 0
        for given in contest.given:
            case = given.case
            tell(contender.name, filled, total)
            try:
                entry.played.append(play(engine, case.edit(), given.framed, text))
            except LazyDiffusionError as error:
                raise type(error)(f"{contender.name}, case {case.name}: {error}") from error
            filled += case.settings.variations
        tell(contender.name, filled, total)
        if device.type == "cuda":
            entry.peak_bytes = torch.cuda.max_memory_allocated(device)
        del engine
        gc.collect()  # pipelines hold themselves in circles
        if device.type == "cuda":
            torch.cuda.empty_cache()
        contest.entries.append(entry)


def play(engine: Engine, edit: Edit, framed: Framed, text: TextImageScore | None = None) -> Played:
    """One edit, timed and judged."""
    report, made, seconds = Report(), list[Fill](), list[float]()
    engine.forget()  # cases may share a canvas
    started = time.perf_counter()
    for fill in engine.run(edit, report):
        made.append(fill)
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    assert report.window is not None
    judged = []
    for fill, took in zip(made, seconds, strict=True):
        picture = compose.paste(edit.canvas.pixels, fill.pixels, fill.box)
        judged.append(
            Judged(
                seed=fill.seed,
                seconds=took,
                psnr_outside=psnr_outside(picture, edit.canvas.pixels, edit.mask),
                border_step=border_step(picture, edit.mask),
                text_image=_text_image(picture, edit, text),
                tile=framed.tile(picture),
            )
        )
    return Played(report.hidden_tokens, report.steps, report.window, judged)


def psnr_outside(picture: Pixels, canvas: Pixels, mask: Masks) -> float | None:
    """Peak signal-to-noise ratio in dB of pixels (h, w, 3) where the mask (h, w) is 0.

    Infinite where all of them are the canvas's own, bit by bit; None where there are none.
    """
    kept = mask == 0
    if not kept.any():
        return None
    error = np.mean((picture[kept].astype(np.float64) - canvas[kept]) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def border_step(picture: Pixels, mask: Masks) -> float | None:
    """Mean step of pixels (h, w, 3) across the mask's border, 8-bit levels; None where the mask covers everything."""
    hidden = mask > 0
    if hidden.all():
        return None
    box = geometry.bounding_box(mask).enlarged(1).clip((mask.shape[1], mask.shape[0]))
    steps, _ = border_steps(*_batch(picture, hidden, box))
    return float(steps)


def _text_image(picture: Pixels, edit: Edit, text: TextImageScore | None) -> float | None:
    prompt = edit.settings.prompt
    if text is None or not prompt:
        return None
    hole = geometry.bounding_box(edit.mask)
    # Far enough around the hole that its square crop is the same as in all of the canvas.
    near = hole.enlarged(2 * max(hole.w, hole.h)).clip(edit.canvas.size)
    return float(text(hole_crops(*_batch(picture, edit.mask > 0, near)), [prompt]))


def _batch(
    picture: Pixels, hidden: npt.NDArray[np.bool_], box: Box
) -> tuple[Float[Tensor, "1 3 h w"], Bool[Tensor, "1 1 h w"]]:
    """A picture, -1..1, and its hole inside a box."""
    part = torch.from_numpy(np.ascontiguousarray(picture[box.slices()])).permute(2, 0, 1)
    hole = torch.from_numpy(np.ascontiguousarray(hidden[box.slices()]))
    return part[None].float() / 127.5 - 1, hole[None, None]


def _given(case: CaseFolder) -> Given:
    edit = case.edit()
    return Given(case, frame(edit), border_step(edit.canvas.pixels, edit.mask))
