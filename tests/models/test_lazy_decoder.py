"""The lazy decoder: a set of tokens and their conditions in, the same set out."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import DECODER, TEXT, decoder
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lazydiffusion.models.layers import Family
from lazydiffusion.models.lazy_decoder import Conditions, LazyDecoder

pytestmark = pytest.mark.unit
FAMILIES: list[Family] = ["modern", "pixart"]
K, L = 6, 5
families = pytest.mark.parametrize("family", FAMILIES)
KINDS: list[dict[str, Any]] = [*({"family": family} for family in FAMILIES), {"pooled_text": True}]
kinds = pytest.mark.parametrize("kind", KINDS, ids=["modern", "pixart", "pooled text"])


@dataclass
class Inputs:
    """Two edits of K tokens and L words, the last two of which are padding."""

    tokens: Tensor
    timestep: Tensor
    context: Tensor
    text: Tensor
    text_mask: Tensor
    positions: Tensor
    sketch: Tensor | None

    def run(self, model: LazyDecoder, **changes: Any) -> Tensor:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return model(**(values | changes))  # type: ignore[no-any-return]

    def conditions(self, model: LazyDecoder) -> Conditions:
        return model.prepare(self.context, self.text, self.text_mask, self.positions, self.sketch)


@pytest.fixture
def inputs() -> Inputs:
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return Inputs(
        tokens=random(2, K, 768),
        timestep=torch.tensor([900.0, 40.0]),
        context=random(2, K, 32),
        text=random(2, L, TEXT),
        text_mask=torch.tensor([True, True, True, False, False]).expand(2, -1),
        positions=random(2, K, 2) * 5,
        sketch=random(2, K, 1024),
    )


@kinds
def test_a_fresh_decoder_answers_zero(inputs: Inputs, kind: dict[str, Any]) -> None:
    fresh = LazyDecoder(**DECODER, **kind)

    assert inputs.run(fresh).abs().max() == 0


@kinds
def test_conditions_prepared_once_serve_every_step(inputs: Inputs, kind: dict[str, Any]) -> None:
    model = decoder(**kind)
    conditions = inputs.conditions(model)

    assert torch.equal(model.step(inputs.tokens, inputs.timestep, conditions), inputs.run(model))
    later = torch.tensor([500.0, 500.0])
    assert torch.equal(model.step(inputs.tokens, later, conditions), inputs.run(model, timestep=later))


def test_the_texts_keys_and_values_are_made_once(inputs: Inputs) -> None:
    model, calls = decoder(), []
    for block in model.blocks:
        block.text_attention.to_k.register_forward_hook(lambda *_: calls.append("k"))
        block.text_attention.to_v.register_forward_hook(lambda *_: calls.append("v"))
    model.embed_text.register_forward_hook(lambda *_: calls.append("text"))

    conditions = inputs.conditions(model)
    assert sorted(calls) == ["k", "k", "text", "v", "v"]
    for timestep in (900.0, 500.0, 100.0):
        model.step(inputs.tokens, torch.full((2,), timestep), conditions)
    assert len(calls) == 5


@kinds
def test_every_condition_counts(inputs: Inputs, kind: dict[str, Any]) -> None:
    model = decoder(**kind)
    before = inputs.run(model)
    assert inputs.sketch is not None

    for change in (
        {"context": inputs.context.flip(1)},
        {"text": inputs.text * 2},
        {"positions": inputs.positions * 2},
        {"sketch": inputs.sketch * 2},
        {"timestep": inputs.timestep + 50},
        {"text_mask": torch.ones(2, L, dtype=torch.bool)},
    ):
        assert not torch.allclose(inputs.run(model, **change), before, atol=1e-3), change.keys()


class Launched(TorchDispatchMode):
    """Counts what a GPU would be given to do, which views and metadata are not."""

    FREE = frozenset(
        [
            "view",
            "expand",
            "transpose",
            "t",
            "unsqueeze",
            "slice",
            "split",
            "unbind",
            "_unsafe_view",
            "alias",
            "detach",
        ]
    )

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        if name not in self.FREE:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_further_block_is_given_few_kernels(inputs: Inputs, dtype: torch.dtype) -> None:
    """What takes a step of few tokens its time (docs/bench). Of PixArt's kind, whose norms are one kernel here too."""
    counts = []
    for layers in (2, 3):
        model = LazyDecoder(**(DECODER | {"layers": layers, "family": "pixart"})).to(dtype)
        given = {
            field.name: getattr(inputs, field.name).to(dtype)
            for field in dataclasses.fields(inputs)
            if field.name not in ("timestep", "text_mask")
        }
        moved = dataclasses.replace(inputs, **given)
        conditions = moved.conditions(model)
        with Launched() as launched:
            model.step(moved.tokens, moved.timestep, conditions)
        counts.append(launched.counts)
    further = counts[1] - counts[0]
    attention = "_scaled_dot_product_flash_attention_for_cpu"
    assert further == {
        "addmm": 8, attention: 2, "native_layer_norm": 2, "addcmul": 4, "add": 1, "gelu": 1
    }  # fmt: skip


@kinds
def test_padding_of_the_text_does_not_count(inputs: Inputs, kind: dict[str, Any]) -> None:
    model = decoder(**kind)
    before = inputs.run(model)
    other = torch.where(inputs.text_mask[..., None], inputs.text, 100.0)

    assert torch.allclose(inputs.run(model, text=other), before, atol=1e-5)
    assert torch.allclose(inputs.run(model, text=inputs.text[:, :3], text_mask=None), before, atol=1e-4)


@kinds
def test_tokens_are_a_set(inputs: Inputs, kind: dict[str, Any]) -> None:
    """Permuted together with their places and contexts, the answers are permuted likewise."""
    model, order = decoder(**kind), torch.tensor([4, 0, 5, 2, 1, 3])
    assert inputs.sketch is not None

    permuted = inputs.run(
        model,
        tokens=inputs.tokens[:, order],
        context=inputs.context[:, order],
        positions=inputs.positions[:, order],
        sketch=inputs.sketch[:, order],
    )

    assert torch.allclose(permuted, inputs.run(model)[:, order], atol=1e-4)


def test_no_sketch_is_an_empty_sketch(inputs: Inputs) -> None:
    model = decoder()

    assert torch.equal(inputs.run(model, sketch=None), inputs.run(model, sketch=torch.zeros(2, K, 1024)))


def test_places_are_relative(inputs: Inputs) -> None:
    model = decoder()
    moved = inputs.run(model, positions=inputs.positions + torch.tensor([3.0, -20.0]))

    assert torch.allclose(moved, inputs.run(model), atol=1e-3)


@kinds
def test_an_item_does_not_depend_on_its_batch(inputs: Inputs, kind: dict[str, Any]) -> None:
    model = decoder(**kind)
    first = {field.name: getattr(inputs, field.name)[:1] for field in dataclasses.fields(inputs)}

    assert torch.allclose(model(**first), inputs.run(model)[:1], atol=1e-4)


@kinds
def test_it_computes_in_bfloat16(inputs: Inputs, kind: dict[str, Any]) -> None:
    model = decoder(**kind)
    exact = inputs.run(model)
    half = copy.deepcopy(model).to(torch.bfloat16)
    names = ("tokens", "context", "text", "sketch")

    rough = inputs.run(half, **{name: getattr(inputs, name).bfloat16() for name in names})

    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).square().mean() < 0.003 * exact.square().mean()


def test_it_can_answer_in_other_channels(inputs: Inputs) -> None:
    """A PixArt decoder predicts a variance beside the noise: twice as many channels."""
    assert inputs.run(decoder(out_channels=1536)).shape == (2, K, 1536)


def test_no_prompt_is_one_learned_word(inputs: Inputs) -> None:
    model = decoder()
    text, mask = model.without_prompt(2, L)

    assert text.shape == (2, L, TEXT)
    assert mask.tolist() == [[True, False, False, False, False]] * 2
    alone = inputs.run(model, text=model.no_prompt.expand(2, 1, -1), text_mask=None)
    assert torch.allclose(inputs.run(model, text=text, text_mask=mask), alone, atol=1e-5)


@kinds
def test_stacked_conditions_are_two_edits_in_one_batch(inputs: Inputs, kind: dict[str, Any]) -> None:
    model = decoder(**kind)
    prompted = inputs.conditions(model)
    plain = model.prepare(inputs.context, *model.without_prompt(2, L), inputs.positions, inputs.sketch)

    both = model.step(inputs.tokens.repeat(2, 1, 1), inputs.timestep.repeat(2), prompted.stacked(plain))

    assert torch.allclose(both[:2], model.step(inputs.tokens, inputs.timestep, prompted), atol=1e-4)
    assert torch.allclose(both[2:], model.step(inputs.tokens, inputs.timestep, plain), atol=1e-4)


def test_the_pooled_text_says_what_the_words_say_even_without_attention(inputs: Inputs) -> None:
    """Two texts whose words are the same in another order have the same mean; others have not."""
    model, without = decoder(pooled_text=True), decoder()
    for each in (model, without):
        for block in each.blocks:
            torch.nn.init.zeros_(block.text_attention.to_out.weight)
    before = inputs.run(model)
    turned = inputs.text[:, [2, 0, 1, 3, 4]]

    assert torch.allclose(inputs.run(model, text=turned), before, atol=1e-4)
    other = inputs.text.flip(0)
    assert not torch.allclose(inputs.run(model, text=other), before, atol=1e-2)
    assert torch.equal(inputs.run(without, text=other), inputs.run(without))


def test_a_decoder_without_pooled_text_has_none_of_its_weights() -> None:
    """Checkpoints from before there was one are loaded as they are."""
    assert not [name for name in decoder().state_dict() if "pooled" in name]
    assert len([name for name in decoder(pooled_text=True).state_dict() if "pooled" in name]) == 4


def test_conditions_with_and_without_a_mask_cannot_be_stacked(inputs: Inputs) -> None:
    model = decoder()
    unmasked = model.prepare(inputs.context, inputs.text, None, inputs.positions)

    with pytest.raises(ValueError, match="cannot be stacked"):
        inputs.conditions(model).stacked(unmasked)


@families
def test_it_is_saved_and_loaded_whole(inputs: Inputs, family: Family, tmp_path: Path) -> None:
    model = decoder(family=family)
    model.save_pretrained(tmp_path)

    again = LazyDecoder.from_pretrained(tmp_path).requires_grad_(False)

    assert again.config.family == family
    assert torch.equal(inputs.run(again), inputs.run(model))
