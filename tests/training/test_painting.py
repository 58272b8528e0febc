"""Sprites painted into views: where they should be, as large and as tilted, with nothing else touched."""

from __future__ import annotations

import math

import pytest
import torch
from tests import tiny
from torch import Tensor

from lazydiffusion.training.painting import SPAN, Placed, grid, level_for, steps, tiles, upright_grid

pytestmark = pytest.mark.unit
SIDE, TILE = 64, 32


def placed(count: int, largest: float, seed: int = 0) -> Placed:
    """Sprites of any place, tilt and sort, each in a scene of its own."""
    generator = torch.Generator().manual_seed(seed)
    y, x, size, angle, flip = torch.rand(5, count, generator=generator)
    return Placed(
        scenes=torch.randperm(count, generator=generator),
        sprites=torch.randint(12, (count,), generator=generator),
        centre=torch.stack([y, x], dim=1) * 1.5 * SIDE - 0.25 * SIDE,
        steps=steps(size * largest, (angle - 0.5) * math.pi / 6, torch.where(flip < 0.5, -1.0, 1.0)),
    )


def views(count: int) -> Tensor:
    return 255 * torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_a_tile_shows_all_that_the_whole_view_would() -> None:
    """Also of sprites that reach over the border, where tiles are moved in."""
    bank, sprites = tiny.bank(side=16), placed(40, (TILE - 4) / SPAN)
    on_tiles, on_views, before = views(40), views(40), views(40)
    tiles(bank, sprites, TILE, SIDE).over(on_tiles)
    tiles(bank, sprites, SIDE, SIDE).over(on_views)
    assert torch.allclose(on_tiles, on_views, atol=0.01)
    assert ((on_tiles - before).abs() > 1).flatten(1).any(1).float().mean() > 0.5


def test_a_sprite_is_where_and_as_large_as_it_should_be() -> None:
    view = torch.zeros(1, 3, SIDE, SIDE)
    none = torch.zeros(1)
    sprite = Placed(
        torch.tensor([0]), torch.tensor([3]), torch.tensor([[20.0, 41.0]]), steps(none + 24, none, none + 1)
    )
    tiles(tiny.bank(), sprite, TILE, SIDE).over(view)
    line = torch.arange(SIDE) + 0.5
    distance = torch.hypot(line[:, None] - 20, line - 41)
    colour = torch.tensor([60.0, 255 - 60, 90])[:, None]
    assert torch.allclose(view[0][:, distance < 11], colour, atol=0.5)
    assert (view[0][:, distance > 13] == 0).all()


def test_tilt_and_mirror_move_the_sprites_own_corner() -> None:
    bank = tiny.bank(1, 16)
    bank.pixels.zero_()
    bank.pixels[0, :, :4, :4] = 255  # white in its upper left corner
    for angle, flip, corner in ((0.0, 1.0, (20, 20)), (0.0, -1.0, (20, 44)), (math.pi / 2, 1.0, (20, 44))):
        view = torch.zeros(1, 3, SIDE, SIDE)
        turned = steps(torch.tensor([32.0]), torch.tensor([angle]), torch.tensor([flip]))
        here = Placed(torch.tensor([0]), torch.tensor([0]), torch.full((1, 2), 32.0), turned)
        tiles(bank, here, 48, SIDE).over(view)
        y, x = (view[0, 0] > 128).nonzero().float().mean(dim=0) + 0.5
        assert (y.item(), x.item()) == pytest.approx(corner, abs=1), (angle, flip)


def test_nothing_is_painted_without_a_size_or_outside() -> None:
    sprites = placed(6, 20)
    for away in (
        Placed(sprites.scenes, sprites.sprites, sprites.centre, steps(*torch.zeros(2, 6), torch.ones(6))),
        Placed(sprites.scenes, sprites.sprites, sprites.centre + 500, sprites.steps),
    ):
        view = views(6)
        tiles(tiny.bank(), away, TILE, SIDE).over(view)
        assert torch.equal(view, views(6))


def test_another_view_shows_the_same_at_its_scale() -> None:
    bank, sprites = tiny.bank(), placed(8, 60)
    offset, scale = torch.full((8, 2), 16.0), torch.full((8,), 0.5)
    large, small = torch.zeros(8, 3, 128, 128), torch.zeros(8, 3, SIDE, SIDE)
    moved = Placed(sprites.scenes, sprites.sprites, sprites.centre + 16, sprites.steps)
    tiles(bank, moved, 128, 128).over(large)
    tiles(bank, sprites.elsewhere(offset, scale), SIDE, SIDE).over(small)
    difference = (torch.nn.functional.avg_pool2d(large, 2) - small).abs()
    assert difference.mean() < 0.05 * small.mean()


def test_parts_are_painted_one_over_the_other() -> None:
    bank, sprites = tiny.bank(), placed(10, 30)
    together, apart = views(10), views(10)
    for layer in tiles(bank, sprites, TILE, SIDE).split([6, 4]):
        layer.over(together)
    for start, end in ((0, 6), (6, 10)):
        tiles(bank, sprites.part(start, end), TILE, SIDE).over(apart)
    assert torch.equal(together, apart)


def test_grids_are_those_of_affine_grid() -> None:
    theta = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.affine_grid(theta, [3, 1, 8, 8], align_corners=False)
    down, along = theta[:, :, 1] / 4, theta[:, :, 0] / 4
    first = theta[:, :, 2] - 3.5 * (down + along)
    assert torch.allclose(grid(first, down, along, 8), expected, atol=1e-5)
    step = torch.tensor([0.5, 0.1, 0.2])
    upright = upright_grid(torch.tensor([[1.0, 2.0]] * 3), step, 8)
    assert torch.allclose(upright[1, 3, 5], torch.tensor([2 + 0.5, 1 + 0.3]))


@pytest.mark.parametrize(
    ("tile", "level"), [(256, 256), (200, 256), (128, 128), (96, 128), (64, 64), (9, 16)]
)
def test_a_tile_is_sampled_from_the_smallest_level_that_has_its_px(tile: int, level: int) -> None:
    assert level_for(tile, 256) == level
