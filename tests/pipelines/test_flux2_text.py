"""The words of FLUX.2-klein are diffusers' own, with less of the text encoder run."""

from __future__ import annotations

import pytest
import torch
from diffusers import Flux2KleinInpaintPipeline
from tests.small_flux2_edits import calls_of
from tests.tiny_flux2 import tiny_klein
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen3Config, Qwen3ForCausalLM

from lazydiffusion.evaluation.klein_bench.sizes import KLEIN_4B
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline
from lazydiffusion.pipelines.flux2_text import USED_LAYERS, drop_unread_layers

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]
LAYERS = 33


@pytest.fixture
def klein() -> LazyFlux2KleinPipeline:
    """With a text encoder that has more layers than are read."""
    klein = tiny_klein()
    config = klein.text_encoder.config.to_dict() | {"num_hidden_layers": LAYERS, "layer_types": None}
    klein.text_encoder = Qwen3ForCausalLM(Qwen3Config(**config)).eval().requires_grad_(False)
    return klein


def test_words_are_those_of_all_layers(klein: LazyFlux2KleinPipeline) -> None:
    encoder = klein.text_encoder
    with torch.no_grad(), calls_of(encoder.model.layers[USED_LAYERS - 1]) as last, calls_of(
        encoder.model.layers[USED_LAYERS]
    ) as unread, calls_of(encoder.lm_head) as scores:  # fmt: skip
        found, ids = klein.encode_prompt("a cat", max_sequence_length=40)
        assert (len(last), len(unread), len(scores)) == (1, 0, 0)
        expected, their_ids = Flux2KleinInpaintPipeline.encode_prompt(
            _own(klein), "a cat", max_sequence_length=40
        )
        assert (len(last), len(unread), len(scores)) == (2, 1, 1)
    assert torch.equal(found, expected)
    assert torch.equal(ids, their_ids)
    assert encoder.config.num_hidden_layers == LAYERS


def test_unread_layers_may_be_dropped(klein: LazyFlux2KleinPipeline) -> None:
    with torch.no_grad():
        before, _ = klein.encode_prompt("a cat", max_sequence_length=40)
        drop_unread_layers(klein.text_encoder)
        after, _ = klein.encode_prompt("a cat", max_sequence_length=40)
    assert len(klein.text_encoder.model.layers) == USED_LAYERS
    assert torch.equal(before, after)


def test_at_the_real_size_three_tenths_of_the_work_and_more_than_a_gigabyte_are_saved() -> None:
    with torch.device("meta"):
        encoder = Qwen3ForCausalLM(Qwen3Config(**KLEIN_4B.text_encoder)).to(torch.bfloat16)
        words = torch.zeros(1, 512, dtype=torch.long)

    def flops(module: nn.Module) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(input_ids=words, attention_mask={"full_attention": None}, use_cache=False)
        return int(counter.get_total_flops())

    whole, weights = flops(encoder), _bytes(encoder)
    drop_unread_layers(encoder)
    assert 0.65 < flops(encoder.model) / whole < 0.75
    assert weights - _bytes(encoder) > 1.5e9


def _own(klein: LazyFlux2KleinPipeline) -> Flux2KleinInpaintPipeline:
    parts = {name: part for name, part in klein.components.items() if name != "is_distilled"}
    return Flux2KleinInpaintPipeline(**parts, is_distilled=True)


def _bytes(module: nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in module.parameters())
