"""What is measured of a fill and what a verdict says of it, with engines whose faults are known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.case_files import HOLE, SIZE, write_case

from lazydiffusion.engines.base import Edit, Fill, Pixels, Progress, Report
from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.own_cases.contest import (
    Contender,
    Contest,
    Entry,
    Judged,
    Played,
    announce,
    border_step,
    hold,
    play,
    psnr_outside,
)
from lazydiffusion.evaluation.own_cases.folders import find_cases
from lazydiffusion.evaluation.own_cases.sheets import PAGE, case_sheet, overall_sheets
from lazydiffusion.evaluation.own_cases.tiles import HOLE_COLOUR, TILE, frame
from lazydiffusion.evaluation.own_cases.verdict import summarise, table, verdict
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")


class Flat:
    """Fills the hole with one colour; with `leak`, `leak` px around it as well."""

    def __init__(self, level: int, leak: int = 0):
        self.level, self.leak = level, leak

    def forget(self) -> None:
        pass

    def run(
        self, edit: Edit, report: Report, progress: Progress | None = None, frugal: bool = False
    ) -> Iterator[Fill]:
        report.window, report.hidden_tokens, report.steps = Box(0, 0, *edit.canvas.size), 6, 1
        for number in range(edit.settings.variations):
            box = HOLE.enlarged(self.leak)
            pixels = np.full((box.h, box.w, 4), self.level, np.uint8)
            pixels[..., 3] = 255
            yield Fill(pixels, box, edit.settings.seed + number)


class Redness:
    """A judge of pictures that looks at nothing but their red."""

    name = "redness"

    def __call__(self, pictures: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        assert captions == ["a cat"]
        return pictures[:, 0].mean(dim=(1, 2))


def edit(hole: Box = HOLE, size: tuple[int, int] = SIZE) -> Edit:
    from lazydiffusion.canvas import Canvas

    mask = np.zeros((size[1], size[0]), np.float32)
    mask[hole.slices()] = 1
    grey = np.full((*mask.shape, 3), 100, np.uint8)
    return Edit(Canvas.of(grey), mask, EditSettings(prompt="a cat", variations=2))


def test_a_fill_is_measured_as_it_is() -> None:
    asked = edit()
    played = play(Flat(108), asked, frame(asked), Redness())
    assert [fill.seed for fill in played.fills] == [0, 1]
    for fill in played.fills:
        assert fill.psnr_outside == math.inf
        assert fill.border_step == pytest.approx(8, abs=1e-3)
        assert fill.text_image is not None
        assert 100 / 127.5 - 1 < fill.text_image < 108 / 127.5 - 1


def test_an_engine_that_paints_outside_the_mask_is_found_out() -> None:
    asked = edit()
    fill = play(Flat(108, leak=1), asked, frame(asked)).fills[0]
    touched = (HOLE.w + 2) * (HOLE.h + 2) - HOLE.w * HOLE.h
    kept = SIZE[0] * SIZE[1] - HOLE.w * HOLE.h
    assert fill.psnr_outside == pytest.approx(10 * math.log10(255**2 / (64 * touched / kept)))
    assert fill.text_image is None


def test_a_mask_of_everything_has_neither_border_nor_outside() -> None:
    everything = np.ones((8, 8), np.float32)
    picture = np.zeros((8, 8, 3), np.uint8)
    assert psnr_outside(picture, picture, everything) is None
    assert border_step(picture, everything) is None


def test_a_judge_sees_the_same_part_however_large_the_canvas_is() -> None:
    """The crop around the hole is cut from a part of the canvas, so that large ones need no memory for it."""
    seen = []

    class Eye(Redness):
        def __call__(self, pictures: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
            seen.append(pictures)
            return super().__call__(pictures, captions)

    from lazydiffusion.evaluation.features import hole_crops

    hole = Box(0, 10, 2, 60)
    asked = edit(hole, (300, 200))
    noise = np.random.default_rng(0).integers(0, 256, asked.canvas.pixels.shape, dtype=np.uint8)
    asked.canvas.pixels[:] = noise
    play(Flat(noise[hole.slices()].item(0)), asked, frame(asked), Eye())
    picture = noise.copy()
    picture[HOLE.slices()] = noise[hole.slices()].item(0)
    whole = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    mask = torch.from_numpy(asked.mask > 0)[None, None]
    assert torch.equal(seen[0], hole_crops(whole, mask))


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    """Two cases; `near` meets the canvas better than `far` does, and `leaky` paints past the masks."""
    for name in ("a", "b"):
        write_case(tmp_path / name, sketched=name == "b")
    made = announce(find_cases(tmp_path, EditSettings(variations=2)))
    engines = {"near": Flat(100), "far": Flat(250), "leaky": Flat(250, leak=2)}
    contenders = [
        Contender(name, name, "flat", None, lambda it=engine: it) for name, engine in engines.items()
    ]
    hold(made, contenders, CPU)
    return made


def test_the_verdict_follows_from_the_numbers(contest: Contest) -> None:
    near, far, leaky = (summarise(entry) for entry in contest.entries)
    careful = verdict(Contest(contest.given, contest.entries[:2]))
    assert near.border_step is not None
    assert far.border_step is not None
    assert near.border_step < far.border_step
    assert (near.changed, leaky.changed) == (0, 4)
    assert careful.startswith("**Verdict** from 2 cases with 2 fills of each.")
    assert (
        f"Borders are least visible with `near`: the mean border step is {near.border_step:.1f};" in careful
    )
    assert f"with `far` it is {far.border_step:.1f}, larger in 2 of 2 cases" in careful
    said = verdict(contest)
    assert f"`leaky` changed pixels in 4 fills of 4 (down to {leaky.psnr_outside:.1f} dB)" in said
    assert "prompt" not in said
    told = table(contest, "On paper.", failure="The power went out.")
    assert told.startswith("**The contest ended early:** The power went out.")
    assert said in told
    assert sum(line.startswith("| `") for line in told.splitlines()) == 3 + 2 * 3


def timed(name: str, *seconds: float, score: float) -> Entry:
    """A model that took so long for the fills of one case."""
    tile = np.zeros((1, 1, 3), np.uint8)
    fills = [Judged(n, s, math.inf, 5.0, score, tile) for n, s in enumerate(seconds)]
    played = Played(6, 4, Box(0, 0, 16, 16), fills)
    return Entry(Contender(name, name, "none", None, lambda: Flat(0)), 1.0, [played])


def test_times_are_compared_by_their_ratio(contest: Contest) -> None:
    given = contest.given[:1]
    entries = [timed("slow", 9.0, 3.0, score=0.3), timed("quick", 3.0, 1.0, score=0.2)]
    said = verdict(Contest(given, [*entries, timed("close", 3.1, 1.5, score=0.2)]))
    assert (
        "First fills of an edit, warm-up included: `quick` takes 3.00 s, `close` takes as long (3.10 s), "
        "`slow` takes 3.0 times as long (9.00 s)." in said
    )
    assert "Following fills: `quick` takes 1.00 s, `close` takes 1.5 times as long (1.50 s)" in said
    assert "The mean border step is 5.0 with every model." in said
    assert (
        "The prompt is shown best with `slow`: the mean cosine is 0.300; with `quick` it is 0.200, lower in 1 of 1 case"
        in said
    )
    assert "Outside the mask all 6 fills left every pixel as it was (PSNR infinite)." in said
    alone = verdict(Contest(given, entries[:1]))
    assert "takes" not in alone
    assert "Borders" not in alone


def test_an_error_says_which_model_and_case(contest: Contest) -> None:
    class Broken(Flat):
        def run(self, edit: Edit, *_: object, **__: object) -> Iterator[Fill]:  # type: ignore[override]
            raise BadInput("No.")
            yield

    late = Contender("late", "late", "flat", None, lambda: Broken(0))
    with pytest.raises(BadInput, match=r"late, case a: No\."):
        hold(contest, [late], CPU)
    assert [entry.contender.name for entry in contest.entries] == ["near", "far", "leaky"]


def contains(sheet: Pixels, tile: Pixels) -> bool:
    """Whether a tile stands on a sheet, pixel by pixel."""
    h, w = tile.shape[:2]
    places = np.argwhere((sheet[: len(sheet) - h + 1, : sheet.shape[1] - w + 1] == tile[0, 0]).all(axis=-1))
    return any(np.array_equal(sheet[y : y + h, x : x + w], tile) for y, x in places)


def test_a_cases_sheet_shows_everything_that_was_made_of_it(contest: Contest) -> None:
    sheet = case_sheet(contest, 1)
    framed = contest.given[1].framed
    shown = [framed.canvas, framed.sketch, *[it.tile for e in contest.entries for it in e.played[1].fills]]
    assert all(tile is not None and contains(sheet, tile) for tile in shown)
    assert not contains(case_sheet(contest, 0), framed.sketch)  # type: ignore[arg-type]


def test_many_cases_go_on_several_sheets(contest: Contest) -> None:
    [page] = overall_sheets(contest)
    many = Contest(contest.given * PAGE)
    for entry in contest.entries:
        many.entries.append(Entry(entry.contender, 0.0, entry.played * PAGE))
    first, second = overall_sheets(many)
    assert len(first) == len(second) > len(page)


def test_a_small_hole_is_shown_close_up() -> None:
    small, large = (
        frame(edit(Box(200, 100, 3, 2), (400, 300))),
        frame(edit(Box(50, 50, 300, 200), (400, 300))),
    )
    assert small.box.contains(Box(200, 100, 3, 2))
    assert small.box.w < 40
    assert small.near is not None
    assert max(small.near.shape) == TILE
    assert (small.canvas == HOLE_COLOUR).all(axis=-1).any()  # even a hole of less than a pixel of the tile
    assert (large.box, large.near) == (Box(0, 0, 400, 300), None)
    picture = np.full((300, 400, 3), 7, np.uint8)
    assert small.tile(picture).shape == small.near.shape
    assert (large.tile(picture) == 7).all()
