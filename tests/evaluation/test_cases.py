"""Held-out scenes as edits, and the pictures that engines make of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tests import tiny

from lazydiffusion import geometry
from lazydiffusion.engines.base import Edit, Fill, Progress, Report
from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.cases import SKETCHES, Cases, complete, make_cases, with_sketch

pytestmark = pytest.mark.unit
SIDE = 64


@pytest.fixture(scope="module")
def cases() -> Cases:
    return make_cases(tiny.bank(), 10, SIDE // 16)


class SeedPainter:
    """An engine that paints its seed's number as a grey level, over all of the mask."""

    def forget(self) -> None:
        pass

    def run(
        self, edit: Edit, report: Report, progress: Progress | None = None, frugal: bool = False
    ) -> Iterator[Fill]:
        box = geometry.bounding_box(edit.mask)
        for variation in range(edit.settings.variations):
            report.ms["denoise"] = report.ms.get("denoise", 0) + 5.0
            grey = np.full((box.h, box.w, 3), edit.settings.seed + variation, np.uint8)
            alpha = (255 * edit.mask[box.slices()]).astype(np.uint8)[..., None]
            yield Fill(np.concatenate([grey, alpha], axis=-1), box, edit.settings.seed + variation)


def test_every_case_hides_a_sprite_of_its_own_caption_and_set(cases: Cases) -> None:
    bank = tiny.bank()
    assert len(cases) == 10
    assert cases.real.shape == (10, 3, SIDE, SIDE)
    for row, caption, own in zip(cases.sprites.tolist(), cases.captions, cases.sets.tolist(), strict=True):
        assert caption == bank.captions[row][0]
        assert own == int(bank.sets[row])
    assert cases.hole.flatten(1).any(1).all()
    assert (cases.alpha * cases.hole).flatten(1).amax(1).min() > 0.9


def test_the_same_seed_gives_the_same_cases_and_another_others(cases: Cases) -> None:
    again, other = make_cases(tiny.bank(), 10, SIDE // 16), make_cases(tiny.bank(), 10, SIDE // 16, seed=1)
    assert torch.equal(cases.real, again.real)
    assert torch.equal(cases.hole, again.hole)
    assert not torch.equal(cases.real, other.real)


def test_an_edit_has_what_the_canvas_shows_and_no_two_share_a_seed(cases: Cases) -> None:
    seeds: list[int] = []
    for number in range(len(cases)):
        edit = cases.edit(number, 3)
        shown = torch.from_numpy(edit.canvas.pixels).permute(2, 0, 1) / 127.5 - 1
        torch.testing.assert_close(shown, cases.real[number], atol=1e-6, rtol=0)
        assert np.array_equal(edit.mask > 0, cases.hole[number, 0].numpy())
        assert edit.settings.prompt == cases.captions[number]
        seeds += range(edit.settings.seed, edit.settings.seed + edit.settings.variations)
    assert len(set(seeds)) == 3 * len(cases)


def test_the_fills_are_pasted_and_all_else_is_the_real_picture(cases: Cases) -> None:
    done: list[tuple[int, int]] = []
    pictures, milliseconds = complete(SeedPainter(), cases, 2, lambda *counts: done.append(counts))
    assert pictures.shape == (2, *cases.real.shape)
    assert done[-1] == (20, 20)
    assert milliseconds == [5.0] * 10
    for seed in range(2):
        hole = cases.hole.expand_as(cases.real)
        torch.testing.assert_close(pictures[seed][~hole], cases.real[~hole], atol=1e-6, rtol=0)
        levels = (torch.arange(10) * 2 + seed) / 127.5 - 1
        painted = levels[:, None, None, None].expand_as(cases.real)[hole]
        torch.testing.assert_close(pictures[seed][hole], painted, atol=1e-6, rtol=0)


def test_the_extension_knows_nothing_of_what_is_hidden(cases: Cases) -> None:
    repainted = Cases(**{**vars(cases), "real": torch.where(cases.hole, -cases.real, cases.real)})
    assert torch.equal(cases.extended[cases.hole.expand_as(cases.real)],
                       repainted.extended[cases.hole.expand_as(cases.real)])  # fmt: skip


@pytest.mark.parametrize("kind", SKETCHES)
def test_a_sketch_is_of_its_kind_and_goes_to_the_engine(cases: Cases, kind: str) -> None:
    sketched = with_sketch(cases, kind)
    assert sketched.sketch is not None
    drawn = sketched.sketch[:, 3:] > 0
    assert drawn.flatten(1).any(1).all()
    assert not (drawn & ~cases.hole).any()
    black = (sketched.sketch[:, :3] == -1) | ~drawn
    assert black.all() == (kind == "outlines")
    edit = sketched.edit(2, 1)
    assert edit.sketch is not None
    assert np.array_equal(edit.sketch[..., 3] > 0, drawn[2, 0].numpy())
    assert cases.edit(2, 1).sketch is None


def test_one_scene_is_too_few() -> None:
    with pytest.raises(BadInput, match="1 scenes are too few"):
        make_cases(tiny.bank(), 1, 4)
