"""FLUX.2-klein with weights of eight bits: smaller, filling as before, and near what full weights make."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.small_flux2_edits import SOME, prepared, steps_of
from tests.tiny_flux2 import tiny_flux2, tiny_klein

from lazydiffusion.devices import FP8, INT8, choose_device
from lazydiffusion.engines.choose import load_engine
from lazydiffusion.engines.flux2_klein import Flux2KleinEngine, Flux2KleinOptions
from lazydiffusion.engines.flux2_memory import Need
from lazydiffusion.engines.flux2_weights import shrink
from lazydiffusion.errors import BadInput
from lazydiffusion.pipelines.flux2_graphs import GraphedVelocity
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline
from lazydiffusion.pipelines.flux2_placement import STREAMED, TURNS, stored_bytes

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]


def in_half_precision() -> LazyFlux2KleinPipeline:
    klein = tiny_klein()
    for network in (klein.transformer, klein.vae, klein.text_encoder):
        torch.nn.Module.to(network, dtype=torch.bfloat16)  # ModelMixin's own `to` warns
    return klein


@pytest.fixture
def torchao() -> None:
    pytest.importorskip("torchao", reason="torchao is not installed (extra `small`)")


@pytest.mark.usefixtures("torchao")
@pytest.mark.parametrize("weights", [INT8, FP8])
def test_eight_bits_take_less_and_fill_nearly_the_same(weights: str) -> None:
    full, small = in_half_precision(), in_half_precision()
    shrink(small, weights)
    assert Need.of(small).whole < 0.8 * Need.of(full).whole
    (wanted, colours), (found, others) = (steps_of(klein, prepared(klein, SOME)) for klein in (full, small))
    off = (found[-1] - wanted[-1]).abs().mean() / wanted[-1].abs().mean()
    assert 0 < off < 0.2
    assert np.abs(others.astype(int) - colours).mean() < 12  # of 255 levels
    block, outside = small.transformer.transformer_blocks[0], small.transformer.proj_out
    assert stored_bytes(block.attn.to_q) < 0.8 * stored_bytes(
        full.transformer.transformer_blocks[0].attn.to_q
    )
    assert stored_bytes(outside) == stored_bytes(full.transformer.proj_out)


@pytest.mark.usefixtures("torchao")
def test_they_may_be_moved_and_moves_are_noticed() -> None:
    klein = in_half_precision()
    shrink(klein, INT8)
    wanted, _ = steps_of(klein, prepared(klein, SOME))
    graphed = GraphedVelocity(klein.transformer)
    assert graphed.is_of(klein.transformer)
    weight = klein.transformer.transformer_blocks[0].attn.to_q.weight
    klein.transformer.transformer_blocks[0].attn.to_q.weight = torch.nn.Parameter(
        weight.clone(), requires_grad=False
    )
    assert not graphed.is_of(klein.transformer)
    for placement in (TURNS, STREAMED):
        klein.placement = placement
        klein.place(torch.device("cpu"))
        found, _ = steps_of(klein, prepared(klein, SOME))
        assert torch.equal(found[-1], wanted[-1])


@pytest.mark.usefixtures("torchao")
def test_the_engine_loads_them(tmp_path: Path) -> None:
    where = tiny_flux2(tmp_path / "klein", is_distilled=True)
    options = Flux2KleinOptions(window_tokens=6, text_length=24)
    full, small = (
        Flux2KleinEngine.load(where, replace(choose_device("cpu"), weights=weights), options).pipeline
        for weights in ("full", INT8)
    )
    assert stored_bytes(small.transformer) < stored_bytes(full.transformer)
    assert stored_bytes(small.text_encoder) < stored_bytes(full.text_encoder)


def test_without_torchao_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(BadInput, match=r"int8 needs torchao, .* `pip install 'lazydiffusion\[small\]'`"):
        shrink(tiny_klein(), INT8)


def test_other_bits_and_other_engines_are_refused() -> None:
    with pytest.raises(BadInput, match="The weights are 'int4'; they must be full, int8 or fp8"):
        choose_device("cpu", "int4")
    with pytest.raises(BadInput, match="--weights fp8 is for flux2-klein"):
        load_engine("clipart", choose_device("cpu", FP8))
