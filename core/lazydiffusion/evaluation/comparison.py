"""Engines side by side on the same held-out scenes: how real, how true to the prompt, how much in the scene's style."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from lazydiffusion.engines.base import Engine
from lazydiffusion.evaluation.cases import SKETCHES, Cases, complete, with_sketch
from lazydiffusion.evaluation.diversity import diversity
from lazydiffusion.evaluation.features import FeatureNetwork, hole_crops
from lazydiffusion.evaluation.intervals import (
    Estimate,
    difference_interval,
    frechet_difference_interval,
    frechet_interval,
    kernel_difference_interval,
    kernel_interval,
    mean_interval,
)
from lazydiffusion.evaluation.seams import border_steps
from lazydiffusion.evaluation.sketch_following import colour_error, edge_precision, edge_recall
from lazydiffusion.evaluation.style import StyleClassifier
from lazydiffusion.evaluation.text_image import TextImageScore

FID_WINDOW, FID_CROP, KID_CROP = "fid_window", "fid_crop", "kid_crop"
TEXT, STYLE_TOP, STYLE, SEAM, DIVERSITY = "text_image", "style_top1", "style", "border_step", "diversity"
NOTHING, REAL = "smooth extension", "real picture"
"""Rows that frame the engines': no model at all, and the scenes themselves."""

FOLLOWING = {
    "colour error": ("colour blobs", colour_error),
    "edge recall": ("outlines", edge_recall),
    "edge precision": ("outlines", edge_precision),
}
"""What is measured of the fills of which kind of sketch (evaluation.sketch_following)."""

Tell = Callable[[str, int, int], None]
"""Called with (what is being done, fills done, fills in all)."""


@dataclass(frozen=True)
class Judges:
    """The networks that look at the pictures."""

    features: FeatureNetwork
    text: TextImageScore
    style: StyleClassifier


@dataclass(frozen=True)
class Judged:
    """What the judges say of one engine's pictures, by scene: the first seed's, but for the diversity."""

    window: Float[Tensor, "n d"]
    """Features of the whole pictures."""
    crop: Float[Tensor, "n d"]
    """Features of the squares around the holes."""
    scores: Mapping[str, Float[Tensor, " n"]]


@dataclass(frozen=True)
class Row:
    """One engine's line of the comparison."""

    name: str
    figures: dict[str, Estimate]
    milliseconds: float | None
    """Median per fill, as a side effect of this run: `lazydiffusion bench` is what measures time."""
    pictures: Float[Tensor, "seeds n 3 s s"]


@dataclass(frozen=True)
class Comparison:
    """The result."""

    rows: list[Row]
    differences: dict[str, dict[str, Estimate]]
    """By engine, then by figure: the first engine's less that one's, over the same scenes."""
    sketches: dict[str, dict[str, dict[str, Estimate]]]
    """By engine, then by a key of FOLLOWING: `with` the sketch, `without`, their `difference` (below 0 for a colour
    error that the sketch lowers, above 0 for edges that it brings), and the `real` picture's, the best to hope for."""


def compare(
    engines: Mapping[str, Callable[[], Engine]],
    cases: Cases,
    judges: Judges,
    *,
    seeds: int = 2,
    sketched: int = 0,
    tell: Tell = lambda *_: None,
) -> Comparison:
    """Let each engine complete the cases, one engine at a time in memory, and judge them all in the same way.

    `engines`: by the name that the result has for it, what loads it. `seeds`: fills of each scene; below 2 there is
    no diversity. `sketched`: the first so many cases are filled again with each kind of sketch.
    """
    real = judge(cases.real[None], cases, judges)
    judged, rows, sketches = {}, [], {}
    for name, load in engines.items():
        engine = load()
        pictures, milliseconds = complete(engine, cases, seeds, partial(tell, name))
        judged[name] = judge(pictures, cases, judges)
        rows.append(Row(name, _figures(judged[name], real), statistics.median(milliseconds), pictures))
        if sketched:
            some, plain = cases.first(sketched), pictures[0][:sketched]
            sketches[name] = follow_sketches(engine, some, plain, tell, name)
        del engine
    nothing = judge(cases.extended[None], cases, judges)
    rows.append(Row(NOTHING, _figures(nothing, real), None, cases.extended[None]))
    rows.append(Row(REAL, _figures(real, real), None, cases.real[None]))
    first, *others = engines
    differences = {name: _differences(judged[first], judged[name], real) for name in others}
    return Comparison(rows, differences, sketches)


def judge(pictures: Float[Tensor, "seeds n 3 s s"], cases: Cases, judges: Judges) -> Judged:
    """Look at the pictures that an engine made of the cases, or at those that it was to make."""
    first = pictures[0]
    crops = hole_crops(first, cases.hole)
    top, probability = judges.style.consistency(crops, cases.sets)
    steps, _ = border_steps(first, cases.hole)
    scores = {
        TEXT: judges.text(crops, cases.captions),
        STYLE_TOP: top.float(),
        STYLE: probability,
        SEAM: steps,
    }
    if len(pictures) > 1:
        crops_by_seed = torch.stack([crops, *[hole_crops(made, cases.hole) for made in pictures[1:]]])
        scores[DIVERSITY] = diversity(judges.features, crops_by_seed)
    return Judged(judges.features(first), judges.features(crops), scores)


def follow_sketches(
    engine: Engine, cases: Cases, plain: Float[Tensor, "n 3 s s"], tell: Tell, name: str
) -> dict[str, dict[str, Estimate]]:
    """How far the fills follow each kind of sketch, against `plain`, the same seeds' fills without one."""
    followed = {}
    for kind in SKETCHES:
        drawn = with_sketch(cases, kind)
        assert drawn.sketch is not None
        pictures, _ = complete(engine, drawn, 1, partial(tell, f"{name}, {kind}"))
        for measure, (of_kind, measured) in FOLLOWING.items():
            if of_kind != kind:
                continue
            with_it = measured(pictures[0], drawn.sketch, cases.hole)
            without = measured(plain, drawn.sketch, cases.hole)
            followed[measure] = {
                "with": mean_interval(with_it),
                "without": mean_interval(without),
                "difference": difference_interval(with_it, without),
                "real": mean_interval(measured(cases.real, drawn.sketch, cases.hole)),
            }
    return followed


def _figures(judged: Judged, real: Judged) -> dict[str, Estimate]:
    distances = {}
    if judged is not real:
        distances = {
            FID_WINDOW: frechet_interval(judged.window, real.window),
            FID_CROP: frechet_interval(judged.crop, real.crop),
            KID_CROP: kernel_interval(judged.crop, real.crop),
        }
    return distances | {name: mean_interval(values) for name, values in judged.scores.items()}


def _differences(first: Judged, other: Judged, real: Judged) -> dict[str, Estimate]:
    return {
        FID_CROP: frechet_difference_interval(first.crop, other.crop, real.crop),
        KID_CROP: kernel_difference_interval(first.crop, other.crop, real.crop),
        **{
            name: difference_interval(values, other.scores[name])
            for name, values in first.scores.items()
            if name in other.scores
        },
    }
