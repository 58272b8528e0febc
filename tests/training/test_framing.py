"""The same scenes, framed for each engine's model."""

from __future__ import annotations

import pytest
import torch
from tests import tiny

from lazydiffusion.engines.names import LAZY, REGENERATE_CROP, REGENERATE_IMAGE
from lazydiffusion.training.framing import FRAMING, tight_crop
from lazydiffusion.training.scenes import SceneMaker, Scenes, Shares
from lazydiffusion.window import CROP_SHARE, PATCH

pytestmark = pytest.mark.unit
GRID = 8
SIDE = GRID * PATCH


@pytest.fixture
def made() -> Scenes:
    shares = Shares(sketched=1.0, removal=0.0)
    return SceneMaker(tiny.bank(), GRID, 4, torch.Generator().manual_seed(0), shares).make(24, 16)


def test_the_lazy_models_scenes_are_as_they_were_made(made: Scenes) -> None:
    assert FRAMING[LAZY](made) is made


@pytest.mark.parametrize("engine", [REGENERATE_IMAGE, REGENERATE_CROP])
def test_a_baseline_makes_every_token(made: Scenes, engine: str) -> None:
    framed = FRAMING[engine](made)
    assert framed.indices.tolist() == [list(range(GRID * GRID))] * 24
    assert torch.equal(framed.sprites, made.sprites)


def test_the_image_is_shown_as_it_is(made: Scenes) -> None:
    framed = FRAMING[REGENERATE_IMAGE](made)
    for name in ("window", "hole", "sketch"):
        assert torch.equal(getattr(framed, name), getattr(made, name))


def extents(hole: torch.Tensor) -> torch.Tensor:
    """Longer side of each hole's box, px."""
    return torch.stack([hole[:, 0].any(axis).sum(1) for axis in (1, 2)]).amax(0)


def test_a_hole_takes_its_share_of_the_crop(made: Scenes) -> None:
    before, after = extents(made.hole), extents(tight_crop(made).hole)
    enlarged = (before > SIDE / 4 * CROP_SHARE) & (before < SIDE * CROP_SHARE)
    assert enlarged.sum() > 12
    assert ((after[enlarged] / SIDE - CROP_SHARE).abs() < 0.06).all()
    small = before <= SIDE / 4 * CROP_SHARE  # enlarged at most four times
    assert (after[small] <= 4 * before[small] + 4).all()


def test_a_crop_shows_what_the_window_shows_there() -> None:
    """A ramp across the window is a slower ramp across the crop, and the hole's middle stays its middle."""
    ramp = torch.linspace(-1, 1, SIDE).expand(2, 3, SIDE, SIDE).clone()
    hole = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.bool)
    hole[0, :, 40:72, 32:64] = True
    hole[1, :, 0:40, 0:20] = True  # in the corner: the crop is moved into the window
    scenes = SceneMaker(tiny.bank(), GRID, 4, torch.Generator().manual_seed(0)).make(2, 16)
    scenes.window, scenes.hole, scenes.alpha = ramp, hole, ramp[:, :1]
    scenes.sketch = torch.cat([ramp, hole.float()], dim=1)
    crop = tight_crop(scenes)

    lengths = torch.tensor([32, 40]) / CROP_SHARE
    starts = torch.tensor([48 - 20, 0.0])
    columns = starts[:, None] + lengths[:, None] * (torch.arange(SIDE) + 0.5) / SIDE
    expected = ((columns - 0.5) / (SIDE - 1) * 2 - 1).clamp(-1, 1)
    for shown in (crop.window, crop.alpha):
        assert torch.allclose(shown[:, 0, 64], expected, atol=2e-3)
    assert torch.allclose(crop.sketch[:, 0, 64], expected, atol=2e-2)  # the nearest px
    rows = crop.hole[0, 0].any(1).nonzero()
    assert (rows.min() + rows.max()).item() == pytest.approx(SIDE - 1, abs=2)


def test_no_hidden_colour_leaks_into_the_kept_pixels_of_a_crop(made: Scenes) -> None:
    repainted = Scenes(**{**vars(made), "window": torch.where(made.hole, 1 - made.window, made.window)})
    first, second = tight_crop(made), tight_crop(repainted)
    kept = ~first.hole.expand(-1, 3, -1, -1)
    assert torch.equal(first.hole, second.hole)
    assert torch.equal(first.window[kept], second.window[kept])
    assert not torch.equal(first.window, second.window)
