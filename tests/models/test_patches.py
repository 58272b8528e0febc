"""Pixels to tokens and back: exact for every size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lazydiffusion.models.patches import gather, patchify, scatter, unpatchify

pytestmark = pytest.mark.unit
small = st.integers(1, 4)


def random_tokens(batch: int, count: int, width: int = 3) -> Tensor:
    return torch.randn(batch, count, width, generator=torch.Generator().manual_seed(0))


@given(small, small, small, small, st.sampled_from([1, 2, 8, 16]))
@settings(max_examples=30)
def test_tokens_give_their_picture_back(batch: int, channels: int, rows: int, cols: int, side: int) -> None:
    image = torch.randn(batch, channels, rows * side, cols * side)

    tokens = patchify(image, side)

    assert tokens.shape == (batch, rows * cols, side * side * channels)
    assert torch.equal(unpatchify(tokens, (rows, cols), side), image)


def test_tokens_are_in_reading_order_and_a_pixels_channels_lie_together() -> None:
    image = torch.arange(2 * 2 * 4).reshape(1, 2, 2, 4).float()

    tokens = patchify(image, 2)

    assert tokens[0, 0].tolist() == [0, 8, 1, 9, 4, 12, 5, 13]  # top left: px (0,0), (0,1), (1,0), (1,1)
    assert tokens[0, 1].tolist() == [2, 10, 3, 11, 6, 14, 7, 15]


@pytest.mark.parametrize("size", [(33, 32), (32, 40)])
def test_a_picture_that_is_no_whole_number_of_patches_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{size[1]} x {size[0]} px cannot be cut into patches of 16 px"):
        patchify(torch.zeros(1, 3, *size), 16)


@given(st.integers(1, 3), st.integers(1, 12), st.data())
@settings(max_examples=30)
def test_what_is_gathered_goes_back_where_it_came_from(batch: int, count: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, count))
    indices = torch.stack([torch.randperm(count)[:kept] for _ in range(batch)])
    tokens = random_tokens(batch, count)

    picked = gather(tokens, indices)

    assert picked.shape == (batch, kept, 3)
    for item in range(batch):
        assert torch.equal(picked[item], tokens[item, indices[item]])
    assert torch.equal(scatter(tokens, indices, picked), tokens)


def test_scatter_changes_a_copy_at_the_indices_and_nowhere_else() -> None:
    tokens = random_tokens(1, 5)
    before = tokens.clone()
    values = torch.full((1, 2, 3), 9.0)

    changed = scatter(tokens, torch.tensor([[3, 1]]), values)

    assert torch.equal(tokens, before)
    assert torch.equal(changed[0, [1, 3]], values[0])
    assert torch.equal(changed[0, [0, 2, 4]], before[0, [0, 2, 4]])
    assert torch.equal(gather(changed, torch.tensor([[3, 1]])), values)
