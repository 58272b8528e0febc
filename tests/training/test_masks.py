"""Random holes: all kinds of them, never empty, over what is to be painted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lazydiffusion.geometry import plan
from lazydiffusion.training import masks
from lazydiffusion.training.masks import COARSE, KINDS, moved, random_holes, random_kinds, to_whole_tokens

pytestmark = pytest.mark.unit
SIDE = 64
FURTHEST = 6
"""From an object to its loose outline, in coarse px: what random_holes goes by if it is told nothing."""


def objects(count: int = 64) -> Tensor:
    """Soft discs of different sizes at different places, (count, 64, 64)."""
    generator = torch.Generator().manual_seed(0)
    centre = 14 + 36 * torch.rand(count, 2, generator=generator)
    radius = 3 + 9 * torch.rand(count, generator=generator)
    line = torch.arange(SIDE) + 0.5
    y, x = line[:, None] - centre[:, 0, None, None], line[None, :] - centre[:, 1, None, None]
    return (radius[:, None, None] - torch.hypot(y, x)).clamp(0, 1)


def holes(alpha: Tensor, kind: str, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> Tensor:
    """Holes of one kind only."""
    monkeypatch.setattr(masks, "KIND_WEIGHTS", tuple(float(name == kind) for name in KINDS))
    return random_holes(alpha, torch.Generator().manual_seed(seed))


def share_covered(hole: Tensor, alpha: Tensor) -> Tensor:
    return (hole * alpha).sum((1, 2)) / alpha.sum((1, 2))


@pytest.mark.parametrize(
    ("kind", "least", "on_average"),
    [("outline", 0.995, 0.999), ("ellipse", 0.95, 0.98), ("box", 0.995, 0.999), ("strokes", 0, 0.5)],
)
def test_a_hole_covers_its_object(
    kind: str, least: float, on_average: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = objects()
    hole = holes(alpha, kind, monkeypatch)

    assert hole.dtype == torch.bool
    assert hole.shape == alpha.shape
    assert hole.any(2).any(1).all()
    covered = share_covered(hole, alpha)
    assert covered.min() >= least
    assert covered.mean() >= on_average
    assert (covered > 0).all()
    assert (~hole).any(2).any(1).all()  # small objects: something is left to see


@pytest.mark.parametrize("kind", KINDS)
def test_a_hole_stays_near_its_object(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = objects()
    hole = holes(alpha, kind, monkeypatch)
    # In each direction an outline's distance, or a box's margin and an ellipse's excess, and the coarse grid's own px.
    reach = (FURTHEST + 2) * COARSE
    near = torch.nn.functional.max_pool2d((alpha > 0)[:, None].float(), 2 * reach + 1, 1, reach)[:, 0] > 0

    assert not (hole & ~near).any()


@pytest.mark.parametrize(
    ("kind", "reaches"), [("outline", range(FURTHEST)), ("box", range(FURTHEST // 2 + 1))]
)
def test_a_hole_is_drawn_at_all_distances(kind: str, reaches: range, monkeypatch: pytest.MonkeyPatch) -> None:
    """Artists do not trace what they want painted over."""
    alpha = torch.zeros(400, SIDE, SIDE)
    alpha[:, 28:36, 28:36] = 1
    hole = holes(alpha, kind, monkeypatch)
    found = (hole.any(2).sum(1) - 8) // (2 * COARSE)  # in coarse px

    assert torch.equal(found, (hole.any(1).sum(1) - 8) // (2 * COARSE))
    assert set(found.tolist()) == set(reaches)
    corner = hole[torch.arange(400), 28 - COARSE * found, 28 - COARSE * found]
    assert torch.equal(corner, found == 0) if kind == "outline" else corner.all()  # an outline is rounded


def test_an_outline_holds_what_is_faint_of_its_object(monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = torch.zeros(20, SIDE, SIDE)
    alpha[:, 8:12, 8:12], alpha[:, 40, 12:60] = 1, 0.03
    assert holes(alpha, "outline", monkeypatch)[alpha > 0].all()


def test_strokes_are_a_thick_line_through_points_of_the_objects_box() -> None:
    centre, half = torch.tensor([[12.0, 18.0]]).expand(9, -1), torch.tensor([[5.0, 8.0]]).expand(9, -1)
    line = torch.arange(32.0)
    strokes = masks._strokes(centre, half, line[:, None], line[None], torch.Generator().manual_seed(3))

    again = torch.Generator().manual_seed(3)
    corners = torch.empty(9, 6, 2).uniform_(-0.8, 0.8, generator=again) * half[:, None] + centre[:, None]
    widths = torch.empty(9, 1).uniform_(0.2, 0.5, generator=again) * 5 + 1
    along = torch.linspace(0, 1, 200)[:, None, None, None]
    dots = torch.lerp(corners[:, :-1], corners[:, 1:], along).transpose(0, 1).reshape(9, -1, 2)
    distance = torch.cdist(torch.cartesian_prod(line, line), dots).amin(-1)
    sure = (distance - widths).abs() > 0.05
    assert torch.equal(strokes.flatten(1)[sure], (distance <= widths)[sure])


def test_holes_are_made_of_coarse_px_but_an_outline_keeps_the_objects_own() -> None:
    alpha = objects(8)
    hole = random_holes(alpha, torch.Generator().manual_seed(1))
    blocks = hole.unfold(1, COARSE, COARSE).unfold(2, COARSE, COARSE).flatten(3)
    whole = blocks.all(-1) | ~blocks.any(-1)
    fine = (alpha > 0.02).unfold(1, COARSE, COARSE).unfold(2, COARSE, COARSE).flatten(3).any(-1)

    assert (whole | fine).all()


def test_kinds_come_as_often_as_their_weights_say() -> None:
    """Over a slanted line only a box is a filled rectangle."""
    alpha = torch.zeros(SIDE, SIDE)
    alpha[torch.arange(15, 45), torch.arange(15, 45)] = 1
    alpha = alpha.expand(600, -1, -1)
    hole = random_holes(alpha, torch.Generator().manual_seed(2))
    ys, xs = hole.any(2).sum(1), hole.any(1).sum(1)
    boxes = (hole.sum((1, 2)) == ys * xs).float().mean()

    assert boxes == pytest.approx(0.2, abs=0.05)


def test_the_same_generator_makes_the_same_holes() -> None:
    alpha = objects(8)
    first, again, other = (random_holes(alpha, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_object_at_the_windows_border_gets_a_hole_there(monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = torch.zeros(8, SIDE, SIDE)
    alpha[:, :3, -3:] = 1
    for kind in KINDS:
        hole = holes(alpha, kind, monkeypatch)
        assert hole.any(2).any(1).all(), kind
        assert not hole[:, SIDE // 2 + 8 :].any()


def test_random_kinds_come_as_often_as_their_weights_say() -> None:
    kinds = random_kinds(40_000, (4, 1, 3, 2), torch.device("cpu"), torch.Generator().manual_seed(0))
    shares = torch.bincount(kinds, minlength=4) / len(kinds)
    assert torch.allclose(shares, torch.tensor([0.4, 0.1, 0.3, 0.2]), atol=0.01)


def test_a_kind_without_weight_never_comes() -> None:
    kinds = random_kinds(1000, (0, 1, 0, 1, 0), torch.device("cpu"), torch.Generator().manual_seed(0))
    assert set(kinds.tolist()) == {1, 3}


@pytest.mark.parametrize("reach", [1, 3])
def test_an_outline_is_as_loose_as_it_is_told(reach: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "KIND_WEIGHTS", (1.0, 0.0, 0.0, 0.0))
    alpha = torch.zeros(200, SIDE, SIDE)
    alpha[:, 28:36, 28:36] = 1
    hole = random_holes(alpha, torch.Generator().manual_seed(0), furthest=reach * COARSE)
    assert set(((hole.any(2).sum(1) - 8) // (2 * COARSE)).tolist()) == set(range(reach))


edges = st.tuples(st.integers(0, 127), st.integers(0, 127)).map(sorted)


@given(rows=edges, columns=edges)
def test_a_hole_lies_on_its_tokens_as_a_windows_mask_does(rows: list[int], columns: list[int]) -> None:
    """In a canvas so large that the window can move, choose_window centres every mask on its tokens."""
    hole = torch.zeros(1, 128, 128, dtype=torch.bool)
    hole[0, rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
    shift = to_whole_tokens(hole)
    found = moved(hole, shift)

    assert shift.abs().max() <= 8
    assert found.sum() == hole.sum()
    mask = np.zeros((1024, 1024), np.float32)
    mask[400 + rows[0] : 401 + rows[1], 400 + columns[0] : 401 + columns[1]] = 1
    planned = plan((1024, 1024), mask)
    for axis, (low, last), corner in ((0, rows, planned.window.y), (1, columns, planned.window.x)):
        wanted = (400 + low - corner) % 16  # where a window of 16 px tokens has the mask's first px
        nearest = (wanted - low + 8) % 16 - 8
        stays = low == 0 or last == 127 or low + nearest < 0 or last + nearest > 127
        assert int(shift[0, axis]) == (0 if stays else nearest)


def test_what_is_moved_keeps_its_shape_and_loses_what_leaves() -> None:
    hole = objects(6) > 0
    there = moved(hole, torch.tensor([[3, -2]]).expand(6, -1))
    assert torch.equal(there[:, 3:, :-2], hole[:, :-3, 2:])
    assert not there[:, :3].any()
    assert not there[:, :, -2:].any()
