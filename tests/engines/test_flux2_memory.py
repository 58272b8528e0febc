"""Where FLUX.2-klein lies on GPUs of every size, and what is said where it does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel
from tests.tiny_flux2 import tiny_klein
from transformers import Qwen3Config, Qwen3ForCausalLM

from lazydiffusion.engines import flux2_klein
from lazydiffusion.engines.flux2_memory import WORKING_BYTES, Need, choose_placement, free_bytes
from lazydiffusion.errors import OutOfMemory
from lazydiffusion.evaluation.klein_bench.sizes import KLEIN_4B
from lazydiffusion.pipelines import flux2_placement
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline
from lazydiffusion.pipelines.flux2_placement import PLACEMENTS, STREAMED, TURNS, WHOLE
from lazydiffusion.pipelines.flux2_text import drop_unread_layers

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def need() -> Need:
    """Of FLUX.2-klein-4B in bfloat16."""
    with torch.device("meta"):
        transformer = Flux2Transformer2DModel(**KLEIN_4B.transformer).to(torch.bfloat16)
        vae = AutoencoderKLFlux2(**KLEIN_4B.vae).to(torch.bfloat16)
        text_encoder = Qwen3ForCausalLM(Qwen3Config(**KLEIN_4B.text_encoder)).to(torch.bfloat16)
    drop_unread_layers(text_encoder)
    scheduler: Any = FlowMatchEulerDiscreteScheduler()
    return Need.of(LazyFlux2KleinPipeline(scheduler, vae, text_encoder, None, transformer))


@pytest.mark.parametrize(
    ("card", "placement"),
    [(80, WHOLE), (24, WHOLE), (16, TURNS), (12, STREAMED), (8, STREAMED)],
    ids=["80 GB", "24 GB", "16 GB", "12 GB", "8 GB"],
)
def test_the_fastest_placement_that_fits_is_taken(need: Need, card: int, placement: str) -> None:
    assert choose_placement(need, int(0.93 * card * 2**30)) == placement  # the desktop has the rest


def test_where_nothing_fits_it_is_said_what_would(need: Need) -> None:
    with pytest.raises(OutOfMemory) as told:
        choose_placement(need, int(4.2e9))
    assert str(told.value) == (
        "FLUX.2-klein needs about 6.4 GB of GPU memory even with most of its weights in the computer's memory; this "
        "GPU has 4.2 GB free. Close other programs that use it, or use --device cpu."
    )


def test_a_placement_is_taken_from_just_as_much_as_it_needs() -> None:
    need = Need(whole=30, turns=20, streamed=10)
    limits = [WORKING_BYTES + weights for weights in (30, 20, 10)]
    assert [choose_placement(need, limit) for limit in limits] == [WHOLE, TURNS, STREAMED]
    assert [choose_placement(need, limit - 1) for limit in limits[:2]] == [TURNS, STREAMED]


def test_on_a_cpu_nothing_moves() -> None:
    assert free_bytes(torch.device("cpu")) is None


def test_blocks_come_on_a_stream_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(
        flux2_placement, "apply_group_offloading", lambda model, **how: asked.append((model, how))
    )
    klein, device = tiny_klein(), torch.device("cuda")
    monkeypatch.setattr(klein.vae, "to", lambda device: asked.append((klein.vae, {"device": device})))
    klein.placement = STREAMED
    klein.place(device)
    (vae, moved), (transformer, how), (words, again) = asked
    assert (vae, moved) == (klein.vae, {"device": device})
    assert (transformer, words) == (klein.transformer, klein.text_encoder.model)
    assert how == again
    assert how == {
        "onload_device": device, "offload_device": torch.device("cpu"), "offload_type": "block_level",
        "num_blocks_per_group": 1, "use_stream": True, "low_cpu_mem_usage": False,
    }  # fmt: skip


def test_the_engine_asks_how_much_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Need.of(tiny_klein())
    placed: list[str] = []
    monkeypatch.setattr(flux2_klein, "load_pipeline", lambda where, choice: tiny_klein())
    monkeypatch.setattr(LazyFlux2KleinPipeline, "place", lambda self, device: placed.append(self.placement))
    cpu = flux2_klein.Choice(torch.device("cpu"), torch.float32, "asked for")
    for free in (None, *(WORKING_BYTES + weights for weights in (need.whole, need.turns, need.streamed))):
        monkeypatch.setattr(flux2_klein, "free_bytes", lambda device, free=free: free)
        flux2_klein.Flux2KleinEngine.load("anywhere", cpu)
    assert placed == [WHOLE, *PLACEMENTS]
    monkeypatch.setattr(flux2_klein, "free_bytes", lambda device: 10**9)
    with pytest.raises(OutOfMemory, match=r"this GPU has 1\.0 GB free"):
        flux2_klein.Flux2KleinEngine.load("anywhere", cpu)
