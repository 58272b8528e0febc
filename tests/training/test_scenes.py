"""Training scenes: one canvas in two views, an object hidden in both, and the tokens that are to be made."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests import tiny
from torch import Tensor

from lazydiffusion import geometry, tokens
from lazydiffusion.training import masks, scenes
from lazydiffusion.training.scenes import SceneMaker, Scenes, Shares, masked_view
from lazydiffusion.window import PATCH, Box

pytestmark = pytest.mark.unit
GRID, COARSE_GRID, BUCKET = 8, 4, 20
SIDE, COARSE_SIDE = GRID * PATCH, COARSE_GRID * PATCH


def maker(seed: int = 0, **shares: float) -> SceneMaker:
    return SceneMaker(tiny.bank(), GRID, COARSE_GRID, torch.Generator().manual_seed(seed), Shares(**shares))


def make(batch: int = 24, seed: int = 0, **shares: float) -> Scenes:
    return maker(seed, **shares).make(batch, BUCKET)


@pytest.fixture
def outlines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holes that cover their object wholly."""
    monkeypatch.setattr(masks, "KIND_WEIGHTS", (1.0, 0.0, 0.0, 0.0))


@pytest.fixture
def where(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Of each scene made: its canvas's side, in window sides, and the window's corner (y, x) on it, in px."""
    placed: list[tuple[Tensor, Tensor]] = []
    positions = SceneMaker._overview_positions

    def remember(self: SceneMaker, extent: Tensor, offset: Tensor) -> Tensor:
        placed[:] = zip(extent, offset, strict=True)
        return positions(self, extent, offset)

    monkeypatch.setattr(SceneMaker, "_overview_positions", remember)
    return placed


def with_and_without_target() -> tuple[Scenes, Scenes]:
    """The same scenes twice: with all objects in their holes, and with none."""
    return make(removal=0.0), make(removal=1.0)


def test_the_same_generator_makes_the_same_scenes() -> None:
    first, again, other = make(4, seed=3), make(4, seed=3), make(4, seed=4)

    for field in dataclasses.fields(Scenes):
        assert torch.equal(getattr(first, field.name), getattr(again, field.name)), field.name
    assert not torch.equal(first.window, other.window)


def test_scenes_have_what_the_models_ask_for() -> None:
    made = make(3)

    assert made.window.shape == (3, 3, SIDE, SIDE)
    assert made.overview.shape == (3, 3, COARSE_SIDE, COARSE_SIDE)
    assert made.hole.shape == (3, 1, SIDE, SIDE)
    assert made.overview_hole.shape == (3, 1, COARSE_SIDE, COARSE_SIDE)
    assert made.sketch.shape == (3, 4, SIDE, SIDE)
    assert made.indices.shape == (3, BUCKET)
    assert made.indices.dtype == torch.int64
    assert made.overview_positions.shape == (3, COARSE_GRID**2, 2)
    for picture in (made.window, made.overview):
        assert -1 <= picture.min() < picture.max() <= 1
    assert np.array_equal(made.window_positions[0].numpy(), tokens.window_positions(GRID, GRID))


def test_what_the_encoder_sees_tells_nothing_of_what_is_under_the_hole() -> None:
    made = make(3)
    view = masked_view(made.window, made.hole)
    hole = made.hole.expand(-1, 3, -1, -1)

    assert view.shape == (3, 4, SIDE, SIDE)
    assert torch.equal(view[:, :3][~hole], made.window[~hole])
    assert torch.equal(view[:, 3:].bool(), made.hole)
    assert torch.equal(masked_view(torch.where(hole, 0.7, made.window), made.hole), view)


@pytest.mark.usefixtures("outlines_only")
def test_the_object_is_in_the_hole_and_nowhere_else() -> None:
    painted, removed = with_and_without_target()
    changed = ((painted.window - removed.window).abs() > 0.06).any(dim=1, keepdim=True)

    assert torch.equal(painted.hole, removed.hole)
    assert not (changed & ~painted.hole).any()
    assert (changed & painted.hole).flatten(1).any(
        1
    ).float().mean() > 0.9  # but for an object of its ground's colour


def test_every_kind_of_hole_lies_over_its_object() -> None:
    painted, removed = with_and_without_target()
    changed = ((painted.window - removed.window).abs() > 0.06).any(dim=1, keepdim=True)
    covered = (changed & painted.hole).flatten(1).sum(1) / changed.flatten(1).sum(1).clamp_min(1)

    assert painted.hole.flatten(1).any(1).all()
    assert covered.median() > 0.95
    assert (covered > 0.05).float().mean() > 0.9


@pytest.mark.usefixtures("outlines_only")
def test_the_overview_does_not_give_away_what_the_window_hides(where: list[tuple[Tensor, Tensor]]) -> None:
    painted, removed = with_and_without_target()
    changed = ((painted.overview - removed.overview).abs() > 0.02).any(dim=1)
    shown = changed & ~painted.overview_hole[:, 0]

    # What may be seen of the object is what lies beyond the window.
    places = torch.stack([overview_px_in_window(*place) for place in where])
    inside = ((places >= 0) & (places < SIDE)).all(-1)
    assert not (shown & inside).any()
    assert (changed & inside).flatten(1).any(1).float().mean() > 0.9


def overview_px_in_window(extent: Tensor, offset: Tensor) -> Tensor:
    """(y, x) of the centre of each overview px in window px, (side, side, 2)."""
    line = (torch.arange(COARSE_SIDE) + 0.5) * extent * SIDE / COARSE_SIDE
    return torch.stack(torch.meshgrid(line - offset[0], line - offset[1], indexing="ij"), dim=-1)


def test_removal_hides_background_under_an_empty_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "SLOTS", ())
    removed = make(removal=1.0, sketched=1.0)
    bare = maker(removal=1.0, sketched=1.0)
    bare.bank.pixels.zero_()  # nothing to paint: what is left is the background
    background = bare.make(24, BUCKET)

    assert (removed.sprites == -1).all()
    assert (removed.sketch == 0).all()
    assert torch.equal(removed.window, background.window)
    assert torch.equal(removed.overview, background.overview)
    assert removed.hole.flatten(1).any(1).all()


def test_shares_are_as_stated() -> None:
    made = SceneMaker(tiny.bank(), 4, 2, torch.Generator().manual_seed(0)).make(250, 8)
    removal = made.sprites < 0
    sketched = (made.sketch[:, 3] > 0).flatten(1).any(1)

    assert removal.float().mean() == pytest.approx(Shares().removal, abs=0.05)
    assert sketched[~removal].float().mean() == pytest.approx(Shares().sketched, abs=0.08)
    assert not sketched[removal].any()
    assert made.sprites.max() == 11


def test_sketches_are_drawn_in_the_hole_only() -> None:
    made = make(removal=0.0, sketched=1.0)

    assert (made.sketch[:, 3] > 0).flatten(1).any(1).float().mean() > 0.9
    assert (made.sketch[~made.hole.expand(-1, 4, -1, -1)] == 0).all()
    assert made.sketch.abs().max() <= 1


def distances(padding: list[int], inside: list[int]) -> list[int]:
    """Squared distance of each padding token to the nearest hidden one, sorted: which of equals comes is open."""
    here = np.array([divmod(index, GRID) for index in inside])
    return sorted(int(((here - divmod(index, GRID)) ** 2).sum(axis=1).min()) for index in padding)


def test_the_tokens_are_those_that_an_edit_would_have() -> None:
    """Hidden ones first, padded with the nearest visible ones, as tokens.pad_with_nearest pads them."""
    made = make(60)
    fit = 0
    for hole, indices in zip(made.hole[:, 0].numpy(), made.indices.tolist(), strict=True):
        hidden = tokens.hidden_tokens(hole.astype(np.float32), PATCH, GRID, GRID)
        inside = np.flatnonzero(hidden).tolist()
        assert len(set(indices)) == BUCKET
        if len(inside) > BUCKET:
            assert set(indices) <= set(inside)
            continue
        fit += 1
        expected = tokens.pad_with_nearest(hidden, BUCKET).tolist()
        assert set(indices[: len(inside)]) == set(expected[: len(inside)]) == set(inside)
        assert distances(indices[len(inside) :], inside) == distances(expected[len(inside) :], inside)
    assert fit > 30


@pytest.mark.parametrize(("canvas", "x", "y"), [(128, 0, 0), (256, 100, 3), (640, 0, 512), (704, 333, 271)])
def test_overview_positions_are_those_of_an_edit(canvas: int, x: int, y: int) -> None:
    ours = maker()._overview_positions(torch.tensor([canvas / SIDE]), torch.tensor([[float(y), float(x)]]))
    theirs = geometry.overview_positions(
        (canvas, canvas), Box(x, y, SIDE, SIDE), PATCH, (COARSE_GRID, COARSE_GRID)
    )

    assert np.allclose(ours[0].numpy(), theirs, atol=1e-4)


def overview_holes(near_border: bool) -> tuple[Tensor, Tensor]:
    """(found, expected) for 300 boxes in windows on canvases of 1 to 6 window sides."""
    generator = torch.Generator().manual_seed(0)
    count, margin = 300, 0 if near_border else 8

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    extent = 1 + 5 * random(count)
    offset = (extent[:, None] - 1) * SIDE * random(count, 2)
    size = 1 + (39 * random(count, 2)).long()
    start = margin + ((SIDE + 1 - 2 * margin - size) * random(count, 2)).long()
    line = torch.arange(SIDE)
    rows, cols = ((line >= start[:, i, None]) & (line < (start + size)[:, i, None]) for i in (0, 1))
    found = maker()._overview_hole(rows[:, :, None] & cols[:, None, :], extent, offset)[:, 0]
    px = extent * SIDE / COARSE_SIDE  # window px per overview px
    edge = torch.arange(COARSE_SIDE)
    touched = [
        ((start[:, i] + offset[:, i])[:, None] < (edge + 1) * px[:, None] - 1e-3)
        & ((start + size)[:, i, None] + offset[:, i, None] > edge * px[:, None] + 1e-3)
        for i in (0, 1)
    ]
    return found, touched[0][:, :, None] & touched[1][:, None, :]


def test_the_overviews_hole_covers_all_that_the_hole_touches() -> None:
    found, expected = overview_holes(near_border=False)

    assert not (expected & ~found).any()
    assert found.sum() < 3 * expected.sum()  # and not much more


def test_the_overviews_hole_covers_it_at_the_windows_border_too() -> None:
    found, expected = overview_holes(near_border=True)

    assert not (expected & ~found).any()


def test_both_views_show_one_canvas(where: list[tuple[Tensor, Tensor]]) -> None:
    """Looked up where an overview px lies in the window, both have the same colours but at edges."""
    made = make(40)
    places = torch.stack([overview_px_in_window(*place) for place in where])
    inside = ((places >= 0) & (places < SIDE)).all(-1)
    there = torch.nn.functional.grid_sample(made.window, places.flip(-1) / SIDE * 2 - 1, align_corners=False)
    difference = (there - made.overview).abs().mean(1)[inside]

    assert inside.flatten(1).any(1).all()
    assert difference.mean() < 0.05
    assert difference.median() < 0.01


def test_companions_are_mostly_of_the_targets_own_set() -> None:
    target = torch.zeros(2000, dtype=torch.long)  # a sprite of the first of two sets
    own = maker().bank.sets[maker()._alike(target)] == 0

    share = Shares().same_set
    assert own.float().mean() == pytest.approx(share + (1 - share) / 2, abs=0.03)
