"""The context encoder: what it may see, any grid, and tokens kept at no cost to the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.tiny import encoder
from torch import Tensor

from lazydiffusion.geometry import plan
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.patches import gather
from lazydiffusion.training.scenes import masked_view

pytestmark = pytest.mark.unit


@dataclass
class Edit:
    """Random pictures and the plan of a hole in a canvas of rows x cols tokens, twice."""

    window: Tensor
    hole: Tensor
    overview: Tensor
    overview_hole: Tensor
    window_positions: Tensor
    overview_positions: Tensor
    indices: Tensor

    def context(self, model: ContextEncoder, move: tuple[float, float] = (0, 0)) -> Tensor:
        return model(  # type: ignore[no-any-return]
            masked_view(self.window, self.hole),
            masked_view(self.overview, self.overview_hole),
            self.window_positions + torch.tensor(move),
            self.overview_positions + torch.tensor(move),
            self.indices,
        )


def edit(rows: int = 4, cols: int = 4) -> Edit:
    generator = torch.Generator().manual_seed(2)
    size = (cols * 16, rows * 16)
    hole = torch.zeros(rows * 16, cols * 16)
    hole[10:40, 20:45] = 1
    planned = plan(size, hole.numpy(), window_tokens=16, overview_tokens=4)
    rows, cols = planned.grid
    height, width = rows * 16, cols * 16
    hidden = torch.zeros(2, 1, height, width, dtype=torch.bool)
    hidden[..., 10:40, 20:45] = True
    overview_rows, overview_cols = planned.overview_grid
    overview_hole = torch.zeros(2, 1, overview_rows * 16, overview_cols * 16, dtype=torch.bool)
    overview_hole[..., 8:30, 8:30] = True
    return Edit(
        window=torch.rand(2, 3, height, width, generator=generator) * 2 - 1,
        hole=hidden,
        overview=torch.rand(2, 3, *overview_hole.shape[2:], generator=generator) * 2 - 1,
        overview_hole=overview_hole,
        window_positions=torch.from_numpy(planned.window_positions).expand(2, -1, -1),
        overview_positions=torch.from_numpy(planned.overview_positions).expand(2, -1, -1),
        indices=torch.from_numpy(planned.indices).expand(2, -1),
    )


def test_what_lies_under_the_hole_never_changes_the_context() -> None:
    model, given = encoder(), edit()
    before = given.context(model)

    given.window = torch.where(given.hole, 0.9, given.window)
    given.overview = torch.where(given.overview_hole, -0.3, given.overview)

    assert torch.equal(given.context(model), before)


def test_a_single_visible_pixel_changes_it() -> None:
    model, given = encoder(), edit()
    before = given.context(model)
    given.window[:, :, 0, 0] = 1

    assert not torch.equal(given.context(model), before)


def test_a_hole_is_told_from_a_picture_that_looks_like_its_extension() -> None:
    """By the channel that marks the hole."""
    model, given = encoder(), edit()
    before = given.context(model)
    given.window = masked_view(given.window, given.hole)[:, :3]
    assert torch.allclose(given.context(model), before, atol=1e-5)
    given.hole = torch.zeros_like(given.hole)

    assert not torch.allclose(given.context(model), before, atol=1e-3)


def test_only_the_kept_tokens_are_computed_and_are_what_the_full_block_gives() -> None:
    model, given = encoder(), edit()
    kept = given.context(model)
    few, given.indices = given.indices, torch.arange(given.window_positions.shape[1]).expand(2, -1)
    full = given.context(model)

    assert kept.shape == (2, few.shape[1], 32)
    assert torch.allclose(kept, gather(full, few), atol=1e-5)


@pytest.mark.parametrize("grid", [(8, 8), (16, 16), (5, 20)])
def test_the_same_weights_read_any_grid(grid: tuple[int, int]) -> None:
    given = edit(*grid)
    context = given.context(encoder())

    assert context.shape == (2, given.indices.shape[1], 32)
    assert context.isfinite().all()


@pytest.mark.parametrize("move", [(0.5, -3.0), (40.0, 25.0)])
def test_only_distances_count_not_places(move: tuple[float, float]) -> None:
    model, given = encoder(), edit()

    assert torch.allclose(given.context(model, move), given.context(model), atol=1e-3)


def test_positions_count() -> None:
    model, given = encoder(), edit()
    before = given.context(model)
    given.overview_positions = given.overview_positions * 2

    assert not torch.allclose(given.context(model), before, atol=1e-3)


def test_the_order_in_which_tokens_are_asked_for_is_that_of_the_answer() -> None:
    model, given = encoder(), edit()
    before = given.context(model)
    given.indices = given.indices.flip(1)

    assert torch.allclose(given.context(model), before.flip(1), atol=1e-5)


def test_an_item_does_not_depend_on_its_batch() -> None:
    model, given = encoder(), edit()
    given.window[1] = 0.5
    both = given.context(model)
    given.window, given.hole = given.window[:1], given.hole[:1]
    given.overview, given.overview_hole = given.overview[:1], given.overview_hole[:1]
    given.window_positions, given.overview_positions = (
        given.window_positions[:1],
        given.overview_positions[:1],
    )
    given.indices = given.indices[:1]

    assert torch.allclose(given.context(model), both[:1], atol=1e-5)


def test_it_is_saved_and_loaded_whole(tmp_path: Path) -> None:
    model, given = encoder(), edit()
    model.save_pretrained(tmp_path)

    again = ContextEncoder.from_pretrained(tmp_path).requires_grad_(False)

    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    assert torch.equal(given.context(again), given.context(model))
