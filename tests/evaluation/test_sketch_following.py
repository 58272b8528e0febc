"""Fills that follow a sketch, and fills that do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lazydiffusion.evaluation.sketch_following import colour_error, edge_precision, edge_recall, edges
from lazydiffusion.training.sketches import colour_blobs, outlines

pytestmark = pytest.mark.unit
SIDE = 128


def disc(shift: int = 0, colour: tuple[float, float, float] = (1.0, -1 / 3, -1.0)) -> tuple[Tensor, Tensor]:
    """A disc of one colour that a blob sketch can show exactly, on grey; and its alpha (1, h, w)."""
    line = torch.arange(SIDE) + 0.5 - SIDE / 2
    alpha = (30 - torch.hypot(line[:, None], line[None] - shift)).clamp(0, 1)[None]
    return torch.tensor(colour)[None, :, None, None] * alpha[:, None] + 0.2 * (1 - alpha[:, None]), alpha


def everywhere() -> Tensor:
    return torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool)


def test_a_fill_of_the_sketched_colours_has_no_colour_error() -> None:
    picture, alpha = disc()
    sketch = colour_blobs(picture, alpha)
    hole = everywhere()
    hole[..., :] = alpha[:, None] == 1  # but for its soft rim
    assert colour_error(picture, sketch, hole).tolist() == pytest.approx([0], abs=1e-3)
    assert colour_error(picture + 10 / 127.5, sketch, hole).tolist() == pytest.approx([10], abs=1e-3)


def test_fine_structure_is_no_colour_error_and_another_colour_is() -> None:
    picture, alpha = disc()
    sketch = colour_blobs(picture, alpha)
    striped = picture + torch.where(torch.arange(SIDE) % 2 == 0, 0.3, -0.3)  # 38 levels
    other, _ = disc(colour=(-1.0, 1.0, 1.0))
    errors = [float(colour_error(fill, sketch, everywhere())) for fill in (striped, other)]
    assert errors[0] < 15
    assert errors[1] > 200


def test_only_what_is_drawn_in_the_hole_counts() -> None:
    picture, alpha = disc()
    sketch, hole = colour_blobs(picture, alpha), everywhere()
    hole[..., SIDE // 2 :] = False
    counted = hole & (sketch[:, 3:] > 0.5)
    elsewhere = torch.where(counted, picture, torch.rand(1, 3, SIDE, SIDE))
    assert torch.equal(colour_error(elsewhere, sketch, hole), colour_error(picture, sketch, hole))
    lines = outlines(picture, alpha)
    kept_half = torch.where(hole, picture, torch.zeros(()))
    assert edge_recall(kept_half, lines, hole).tolist() == [1]
    assert edge_recall(kept_half, lines, everywhere()).item() < 0.7


def test_a_scene_where_nothing_is_drawn_has_no_value() -> None:
    picture, _ = disc()
    blank = torch.zeros(1, 4, SIDE, SIDE)
    for measure in (colour_error, edge_recall):
        assert measure(picture, blank, everywhere()).isnan().all()
    flat = torch.zeros(1, 3, SIDE, SIDE)
    assert edge_precision(flat, outlines(*disc()), everywhere()).isnan().all()


def test_a_picture_follows_its_own_outlines() -> None:
    picture, alpha = disc()
    sketch = outlines(picture, alpha)
    assert edge_recall(picture, sketch, everywhere()).item() == 1
    assert edge_precision(picture, sketch, everywhere()).item() == 1


def test_a_shifted_fill_follows_where_it_still_touches_the_lines() -> None:
    sketch = outlines(*disc())
    recalls = [edge_recall(disc(shift)[0], sketch, everywhere()).item() for shift in (2, 10, 25)]
    assert recalls[0] == 1
    assert recalls[0] > recalls[1] > recalls[2] > 0


def test_noise_follows_every_line_and_lines_do_not_explain_it() -> None:
    sketch = outlines(*disc())
    noise = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert edge_recall(noise, sketch, everywhere()).item() == 1
    assert edge_precision(noise, sketch, everywhere()).item() < 0.2


@pytest.mark.parametrize("away", range(-6, 6))
def test_an_edge_three_px_from_a_line_follows_it_and_one_further_away_does_not(away: int) -> None:
    fill, sketch = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1, 4, SIDE, SIDE)
    sketch[:, 3, :, 60] = 1
    fill[..., 61 + away :] = 1
    columns = [60 + away, 61 + away]  # on both sides of the step
    near = [abs(column - 60) <= 3 for column in columns]
    assert edge_recall(fill, sketch, everywhere()).item() == any(near)
    assert edge_precision(fill, sketch, everywhere()).item() == sum(near) / 2


def test_each_scene_is_measured_by_itself() -> None:
    scenes = [disc(), disc(4, (-1.0, 1.0, 1.0)), disc(12)]
    fills = torch.cat([scenes[index][0] for index in (0, 2, 1)])
    pictures, alphas = (torch.cat([scene[part] for scene in scenes]) for part in (0, 1))
    hole = everywhere().repeat(3, 1, 1, 1)
    hole[1, ..., : SIDE // 2] = False
    for measure, sketch in (
        (colour_error, colour_blobs(pictures, alphas)),
        (edge_recall, outlines(pictures, alphas)),
        (edge_precision, outlines(pictures, alphas)),
    ):
        alone = [measure(fills[i : i + 1], sketch[i : i + 1], hole[i : i + 1]) for i in range(3)]
        assert len(set(map(float, alone))) == 3
        assert torch.allclose(measure(fills, sketch, hole), torch.cat(alone), rtol=1e-4)


@pytest.mark.parametrize("channel", range(3))
def test_a_step_of_a_quarter_in_one_channel_is_an_edge(channel: int) -> None:
    picture = torch.zeros(1, 3, 16, 16)
    picture[:, channel, :, 8:] = 0.26
    expected = torch.zeros(16, dtype=torch.bool)
    expected[7:9] = True
    assert (edges(picture)[0, 0] == expected).all()
    assert not edges(picture * 0.9).any()
