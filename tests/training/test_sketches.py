"""Sketches of a finished picture: coarse colours or dark outlines, and nothing where nothing is drawn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lazydiffusion.training.sketches import BLOBS, DABS, colour_blobs, outlines, random_sketches

pytestmark = pytest.mark.unit
SIDE = 128


def a_picture(colour: tuple[float, float, float] = (0.8, -0.4, -1.0)) -> tuple[Tensor, Tensor]:
    """A disc of one colour on white, and its alpha."""
    line = torch.arange(SIDE) + 0.5 - SIDE / 2
    alpha = (30 - torch.hypot(line[:, None], line[None])).clamp(0, 1)[None]
    picture = torch.tensor(colour)[None, :, None, None] * alpha[:, None] + (1 - alpha[:, None])
    return picture, alpha


@pytest.mark.parametrize("make", [colour_blobs, outlines])
def test_nothing_is_drawn_far_from_the_object(make: object) -> None:
    assert callable(make)
    picture, alpha = a_picture()
    sketch = make(picture, alpha)
    near = torch.nn.functional.max_pool2d(alpha[:, None], 9, 1, 4) > 0

    assert sketch.shape == (1, 4, SIDE, SIDE)
    assert sketch.isfinite().all()
    assert sketch.abs().max() <= 1
    drawn = sketch[:, 3:]
    assert set(drawn.unique().tolist()) == {0, 1}
    assert not (drawn.bool() & ~near).any()
    assert (sketch[:, :3] * (1 - drawn) == 0).all()


def test_blobs_are_dabs_of_the_objects_own_colour() -> None:
    picture, alpha = a_picture()
    sketch = colour_blobs(picture, alpha)
    drawn = sketch[0, 3].bool()

    # Of four levels a channel: -1, -1/3, 1/3, 1; the white around it does not bleed in.
    colours = sketch[0, :3, drawn].T.unique(dim=0)
    assert torch.allclose(colours, torch.tensor([[1.0, -1 / 3, -1.0]]), atol=1e-5)
    assert (drawn & (alpha[0] > 0.5)).sum() > 0.9 * (alpha[0] > 0.5).sum()
    dabs = sketch.unfold(2, SIDE // (2 * DABS), SIDE // (2 * DABS))
    assert (dabs == dabs[..., :1]).all()


def test_outlines_are_black_and_thin() -> None:
    picture, alpha = a_picture()
    sketch = outlines(picture, alpha)
    drawn = sketch[0, 3].bool()
    line = torch.arange(SIDE) + 0.5 - SIDE / 2
    distance = (torch.hypot(line[:, None], line[None]) - 29.5).abs()

    assert (sketch[0, :3, drawn] == -1).all()
    assert drawn[distance < 0.5].all()  # the whole rim,
    assert not drawn[distance > 3].any()  # and nothing inside one colour


def test_outlines_show_edges_inside_the_object() -> None:
    picture, alpha = a_picture((0.9, 0.9, 0.9))
    picture[:, :, :, SIDE // 2 :] = torch.where(alpha[:, None] > 0, -0.9, 1.0)[:, :, :, SIDE // 2 :]
    inside = outlines(picture, alpha)[0, 3, SIDE // 2 - 10 : SIDE // 2 + 10]

    assert inside[:, SIDE // 2 - 1 : SIDE // 2 + 1].all()
    assert not inside[:, SIDE // 2 - 15 : SIDE // 2 - 5].any()


def test_some_are_blobs_and_some_outlines() -> None:
    picture, alpha = (part.expand(80, *[-1] * (part.ndim - 1)) for part in a_picture())
    sketches = random_sketches(picture, alpha, torch.Generator().manual_seed(0))
    is_blob = (sketches == colour_blobs(picture[:1], alpha[:1])).flatten(1).all(1)
    is_outline = (sketches == outlines(picture[:1], alpha[:1])).flatten(1).all(1)

    assert (is_blob ^ is_outline).all()
    assert is_blob.float().mean() == pytest.approx(BLOBS, abs=0.15)
    assert torch.equal(sketches, random_sketches(picture, alpha, torch.Generator().manual_seed(0)))
