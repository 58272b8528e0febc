"""Which optimiser moves which weights, and how their learning rates rise and fall."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tests import tiny

from lazydiffusion.training.objective import LazyObjective, Objective
from lazydiffusion.training.optimisers import (
    averaging_decay,
    learning_rate_share,
    make_optimisers,
    set_learning_rates,
)
from lazydiffusion.training.settings import Optimiser

pytestmark = pytest.mark.unit


def a_model() -> LazyObjective:
    return LazyObjective(tiny.encoder(), tiny.decoder(), Objective()).requires_grad_(True)


@pytest.mark.parametrize("muon", [True, False])
def test_every_weight_has_exactly_one_optimiser(muon: bool) -> None:
    model = a_model()
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    optimisers = make_optimisers(model, Optimiser(muon=muon))

    moved = [[names[id(p)] for group in o.param_groups for p in group["params"]] for o in optimisers]
    assert sorted(moved[0] + moved[1]) == sorted(names.values())
    assert isinstance(optimisers[0], torch.optim.Muon) == muon
    assert isinstance(optimisers[1], torch.optim.AdamW)
    assert {
        "encoder.blocks.0.attention.to_q.weight",
        "decoder.blocks.1.feed_forward.to_hidden.weight",
    } <= set(moved[0])
    assert {"encoder.embed.0.weight", "decoder.to_out.weight", "decoder.modulation.weight"} <= set(moved[1])
    assert "decoder.blocks.0.modulation_offset" in moved[1]  # six vectors, not a matrix


@pytest.mark.parametrize("muon", [True, False])
def test_both_optimisers_take_steps(muon: bool) -> None:
    model, settings = a_model(), Optimiser(muon=muon)
    optimisers = make_optimisers(model, settings)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)

    set_learning_rates(optimisers, 0.5, settings)
    for optimiser in optimisers:
        optimiser.step()

    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_the_rate_rises_over_the_warm_up_and_falls_to_the_end() -> None:
    settings = Optimiser(warm_up=10)

    assert learning_rate_share(0, 0.0, settings) == pytest.approx(0.1)
    assert learning_rate_share(9, 0.0, settings) == 1
    assert learning_rate_share(500, 0.75, settings) == pytest.approx(0.25)
    assert learning_rate_share(500, 1.0, settings) == 0
    assert learning_rate_share(500, 1.2, settings) == 0
    assert learning_rate_share(0, 0.0, Optimiser(warm_up=0)) == 1
    assert learning_rate_share(500, 0.5, dataclasses.replace(settings, rate_at_start=0.3)) == pytest.approx(
        0.15
    )


@pytest.mark.parametrize(("muon", "expected"), [(True, [0.5e-3, 0.1e-3]), (False, [0.1e-3, 0.1e-3])])
def test_each_optimiser_has_its_own_rate(muon: bool, expected: list[float]) -> None:
    settings = Optimiser(muon=muon, muon_rate=1e-3, adamw_rate=2e-4)
    optimisers = make_optimisers(a_model(), settings)

    set_learning_rates(optimisers, 0.5, settings)

    assert [group["lr"] for o in optimisers for group in o.param_groups] == pytest.approx(expected)


@pytest.mark.parametrize("steps", [4, 300, 1560, 7000])
def test_an_average_forgets_where_its_run_began(steps: int) -> None:
    settings, beginning, age = Optimiser(ema=0.999), 1.0, 0.0

    for step in range(steps):
        decay = averaging_decay(step, settings)
        beginning, age = beginning * decay, (age + 1) * decay

    assert beginning < 0.01
    assert age < 0.11 * steps + 1  # what it holds is of the last steps, not of all


def test_a_long_runs_average_has_the_decay_that_was_set() -> None:
    assert averaging_decay(100_000, Optimiser(ema=0.999)) == 0.999
    assert averaging_decay(0, Optimiser(ema=0.0)) == 0
