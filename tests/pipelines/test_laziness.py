"""The cost follows the mask, by counted operations: the embedded model's own sizes, on the meta device.

There attention is computed by matrix products, which the counter knows; the CPU's fused attention it does not count.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lazydiffusion.geometry import EditPlan, plan
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.lazy_decoder import Conditions, LazyDecoder
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit
META = torch.device("meta")
WORDS = 32


@cache
def models() -> tuple[ContextEncoder, LazyDecoder]:
    with META:
        return ContextEncoder(), LazyDecoder()


@cache
def an_edit(hole: Box, side: int = 256) -> EditPlan:
    mask = np.zeros((side, side), np.float32)
    mask[hole.slices()] = 1
    return plan((side, side), mask)


EVERYTHING = Box(0, 0, 256, 256)
TENTH = Box(96, 80, 80, 80)  # 25 of 256 tokens


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device=META)


@cache
def encoder_flops(hole: Box, side: int = 256) -> int:
    edit = an_edit(hole, side)
    (width, height), (coarse_width, coarse_height) = edit.working_size, edit.overview_size
    with FlopCounterMode(display=False) as counter:
        models()[0](
            empty(1, 4, height, width),
            empty(1, 4, coarse_height, coarse_width),
            empty(1, *edit.window_positions.shape),
            empty(1, *edit.overview_positions.shape),
            torch.from_numpy(edit.indices)[None].to(META),
        )
    return counter.get_total_flops()


@cache
def decoder_flops(hole: Box, side: int = 256) -> tuple[int, int]:
    """(once per edit, for each step)."""
    decoder, count = models()[1], len(an_edit(hole, side).indices)
    mask = torch.ones(1, WORDS, dtype=torch.bool, device=META)
    with FlopCounterMode(display=False) as once:
        conditions: Conditions = decoder.prepare(
            empty(1, count, 320), empty(1, WORDS, 384), mask, empty(1, count, 2), empty(1, count, 1024)
        )
    with FlopCounterMode(display=False) as each:
        decoder.step(empty(1, count, 768), empty(1), conditions)
    return once.get_total_flops(), each.get_total_flops()


def test_the_counter_counts_attention() -> None:
    """Linear maps and attention of one decoder step, by hand."""
    k, c, blocks = len(an_edit(TENTH).indices), 448, 6
    hidden = 64 * round(c * 8 / 3 / 64)
    once_a_step = 256 * c + c * c + c * 6 * c
    each_token = 768 * 128 + 128 * c + c * 768 + blocks * (4 * c * c + 2 * c * c + 3 * c * hidden)
    attention = blocks * 2 * k * (k + WORDS) * c

    assert decoder_flops(TENTH)[1] == 2 * (once_a_step + k * each_token + attention)


def test_a_step_at_a_tenth_of_the_window_costs_a_tenth() -> None:
    lazy, full = decoder_flops(TENTH), decoder_flops(EVERYTHING)

    assert an_edit(TENTH).hidden_count == 25
    assert an_edit(EVERYTHING).hidden_count == 256
    assert lazy[1] <= 0.12 * full[1]
    assert lazy[0] < full[0] < full[1] / 20  # what is prepared once is small beside a single step


def test_a_step_does_not_know_the_canvas() -> None:
    """The same hole in a canvas of 256, 1024 and 4096 px a side."""
    steps = [
        decoder_flops(TENTH),
        decoder_flops(Box(500, 300, 80, 80), 1024),
        decoder_flops(Box(3000, 777, 80, 80), 4096),
    ]

    assert steps[0] == steps[1] == steps[2]


def test_the_encoder_does_not_know_the_canvas_either() -> None:
    assert encoder_flops(Box(3000, 777, 80, 80), 4096) == encoder_flops(TENTH)


def test_the_encoders_cost_hardly_depends_on_the_mask_and_never_rises_for_a_smaller_one() -> None:
    """Its last block asks for the hidden tokens only, which spares up to a tenth."""
    holes = [Box(128, 128, 1, 1), TENTH, Box(64, 64, 128, 128), Box(32, 32, 192, 192), EVERYTHING]
    costs = [encoder_flops(hole) for hole in holes]

    assert costs == sorted(costs)
    assert costs[0] >= 0.9 * costs[-1]


def test_an_edit_costs_a_fraction_of_regenerating_the_window() -> None:
    """Encoder once and twenty guided steps, against the same for everything."""

    def total(hole: Box) -> int:
        once, each = decoder_flops(hole)
        return encoder_flops(hole) + 2 * once + 40 * each

    assert total(TENTH) < 0.13 * total(EVERYTHING)
