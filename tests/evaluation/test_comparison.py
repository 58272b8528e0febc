"""Engines side by side: what is better comes out better, with its interval, in every file that is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests import tiny
from torch import Tensor, nn

from lazydiffusion import geometry
from lazydiffusion.compose import to_bytes
from lazydiffusion.engines.base import Edit, Engine, Fill, Progress, Report
from lazydiffusion.evaluation import comparison_report
from lazydiffusion.evaluation.cases import Cases, make_cases
from lazydiffusion.evaluation.comparison import (
    DIVERSITY,
    FID_CROP,
    FID_WINDOW,
    KID_CROP,
    NOTHING,
    REAL,
    SEAM,
    STYLE,
    STYLE_TOP,
    TEXT,
    Comparison,
    Judges,
    compare,
)
from lazydiffusion.evaluation.style import StyleClassifier

pytestmark = pytest.mark.unit


class MeanColours:
    """Features: the picture at 3 x 3 px."""

    name, channels = "mean colours", 27

    def __call__(self, pictures: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(pictures, 3).flatten(1).float()


class RednessScore:
    """A text-image score for which every caption asks for red."""

    name = "redness"

    def __call__(self, pictures: Tensor, captions: list[str]) -> Tensor:
        assert len(pictures) == len(captions)
        return pictures[:, 0].mean(dim=(1, 2))


class Painter:
    """Paints what was hidden, a few levels off, or knows nothing of it and paints one colour; follows any sketch."""

    def __init__(self, cases: Cases, knows: bool):
        self.pictures = [to_bytes(real.permute(1, 2, 0).numpy()) for real in cases.real]
        self.knows = knows

    def forget(self) -> None:
        pass

    def run(
        self, edit: Edit, report: Report, progress: Progress | None = None, frugal: bool = False
    ) -> Iterator[Fill]:
        settings, box = edit.settings, geometry.bounding_box(edit.mask)
        alpha = (255 * edit.mask[box.slices()]).astype(np.uint8)[..., None]
        for seed in range(settings.seed, settings.seed + settings.variations):
            report.ms["denoise"] = report.ms.get("denoise", 0) + 8.0
            truth = self.pictures[settings.seed // settings.variations][box.slices()].astype(int)
            colour = np.random.default_rng(seed).integers(0, 256, (1, 1, 3))
            painted = np.clip(truth + colour // 32 - 4 if self.knows else 0 * truth + colour, 0, 255)
            painted = painted.astype(np.uint8)
            if edit.sketch is not None:
                drawn = edit.sketch[box.slices()]
                painted = np.where(drawn[..., 3:] > 0, drawn[..., :3], painted)
            yield Fill(np.concatenate([painted, alpha], axis=-1), box, seed)


@pytest.fixture(scope="module")
def cases() -> Cases:
    return make_cases(tiny.bank(), 24, 4)


@pytest.fixture(scope="module")
def compared(cases: Cases) -> Comparison:
    torch.manual_seed(0)
    judges = Judges(
        MeanColours(),
        RednessScore(),
        StyleClassifier(MeanColours(), nn.Linear(27, 2).requires_grad_(False), ["first", "second"], 0.5),
    )
    engines: dict[str, Engine] = {"good": Painter(cases, True), "bad": Painter(cases, False)}
    loaders = {name: (lambda engine=engine: engine) for name, engine in engines.items()}
    return compare(loaders, cases, judges, seeds=3, sketched=24)


def test_every_engine_and_both_frames_have_a_row(compared: Comparison) -> None:
    assert [row.name for row in compared.rows] == ["good", "bad", NOTHING, REAL]
    by_name = {row.name: row for row in compared.rows}
    scores = {TEXT, STYLE, STYLE_TOP, SEAM}
    assert set(by_name["good"].figures) == {*scores, DIVERSITY, FID_CROP, FID_WINDOW, KID_CROP}
    assert set(by_name[NOTHING].figures) == {*scores, FID_CROP, FID_WINDOW, KID_CROP}
    assert set(by_name[REAL].figures) == scores
    assert by_name["good"].milliseconds == 8.0
    for row in compared.rows:
        for estimate in row.figures.values():
            assert estimate.low <= estimate.value <= estimate.high


def test_what_is_nearer_to_the_truth_is_told_apart(compared: Comparison) -> None:
    good, bad = (row.figures for row in compared.rows[:2])
    for figure in (FID_CROP, FID_WINDOW):
        assert good[figure].high < bad[figure].low
    assert good[KID_CROP].value < bad[KID_CROP].value  # of 24 scenes it is not certain
    assert good[SEAM].high < bad[SEAM].low
    assert good[DIVERSITY].high < bad[DIVERSITY].low  # three shades of nearly the same, three colours
    found = compared.differences["bad"]
    assert list(compared.differences) == ["bad"]
    assert found[FID_CROP].high < 0
    assert found[KID_CROP].value == pytest.approx(good[KID_CROP].value - bad[KID_CROP].value)
    assert found[KID_CROP].value < 0
    assert found[SEAM].high < 0
    assert found[SEAM].value == pytest.approx(good[SEAM].value - bad[SEAM].value)


def test_a_sketch_that_is_followed_is_seen_to_be(compared: Comparison) -> None:
    assert set(compared.sketches) == {"good", "bad"}
    blobs, lines = compared.sketches["bad"]["colour error"], compared.sketches["bad"]["edge recall"]
    assert blobs["with"].value < 20 < blobs["without"].value
    assert blobs["difference"].high < 0
    assert lines["with"].value > 0.9
    assert lines["difference"].low > 0
    assert compared.sketches["good"]["edge precision"]["real"].value > 0.6


def test_all_of_it_is_written(compared: Comparison, cases: Cases, tmp_path: Path) -> None:
    about = {"judges": {"Features": "mean colours"}, "device": "cpu"}
    comparison_report.write(tmp_path / "out", compared, cases, about)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["scenes"], results["device"]) == (24, "cpu")
    assert [row["name"] for row in results["rows"]] == ["good", "bad", NOTHING, REAL]
    assert results["rows"][0]["figures"][SEAM]["value"] == compared.rows[0].figures[SEAM].value
    assert results["sketches"]["bad"]["edge recall"]["with"]["value"] > 0.9
    text = (tmp_path / "out" / "table.md").read_text()
    for row in compared.rows:
        assert f"\n| {row.name} | " in text
    assert f"{compared.rows[1].figures[SEAM].value:.1f} (" in text
    differences = text.split("good less the others", 1)[1].splitlines()
    assert "| KID, crop ↓ |" in differences[2]
    assert f"{compared.differences['bad'][KID_CROP].value:.3f} (" in differences[4]
    assert "FID, window" not in differences[2]  # nothing differs in it: no column
    with Image.open(tmp_path / "out" / "contact-sheet.png") as sheet:
        columns = sheet.width / (150 + 6)
        assert columns == pytest.approx(4, abs=0.1)  # canvas, two engines, real picture
        assert len(sheet.convert("RGB").getcolors(1 << 24)) > 100


def test_one_engine_alone_has_nothing_to_differ_from(cases: Cases) -> None:
    judges = Judges(
        MeanColours(),
        RednessScore(),
        StyleClassifier(MeanColours(), nn.Linear(27, 2).requires_grad_(False), ["first", "second"], 0.5),
    )
    found = compare({"only": lambda: Painter(cases, True)}, cases, judges, seeds=1)
    assert found.differences == found.sketches == {}
    assert DIVERSITY not in found.rows[0].figures
    assert "less the others" not in comparison_report.table(found, len(cases), {})
