"""The networks of a run: tried without numbers, compiled once for each kind of block, and given other weights."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tests import tiny

from lazydiffusion.checkpoints import locate
from lazydiffusion.errors import BadInput, BadModel
from lazydiffusion.training.captions import LENGTH
from lazydiffusion.training.networks import (
    WORD_CHANNELS,
    WORDS,
    compile_blocks,
    load_weights,
    make_networks,
    try_networks,
)
from lazydiffusion.training.objective import LazyObjective, Objective
from lazydiffusion.training.scenes import SceneMaker
from lazydiffusion.training.settings import Settings, find_settings, load_settings

pytestmark = pytest.mark.unit


def test_networks_are_tried_with_the_shapes_of_a_step() -> None:
    assert (WORDS, WORD_CHANNELS) == (LENGTH, tiny.TEXT)
    try_networks(tiny.ENCODER, tiny.DECODER, 4, 2, Objective())
    with pytest.raises(BadInput, match=r"no networks can be made of \[encoder\] and \[decoder\]: .*\d"):
        try_networks(tiny.ENCODER | {"patch": 8}, tiny.DECODER, 4, 2, Objective())
    with pytest.raises(BadInput, match="unexpected keyword argument 'chanels'"):
        try_networks({"chanels": 3}, tiny.DECODER, 4, 2, Objective())


def networks(settings: Settings) -> LazyObjective:
    data = settings.data
    return make_networks(
        settings.engine, settings.encoder, settings.decoder,
        data.window_tokens, data.overview_tokens, settings.objective,
    )  # fmt: skip


def test_weights_that_are_not_there_or_do_not_fit_are_refused(tmp_path: Path) -> None:
    fitting = LazyObjective(tiny.encoder(), tiny.decoder(), Objective())
    with pytest.raises(BadModel, match=r"is no checkpoint.*context_encoder/ and decoder/"):
        load_weights(fitting, tmp_path)
    for name, part in (("context_encoder", fitting.encoder), ("decoder", fitting.decoder)):
        part.save_pretrained(tmp_path / name)
    deeper = LazyObjective(tiny.encoder(layers=3), tiny.decoder(), Objective())
    with pytest.raises(
        BadModel, match=r"not fit the configured context_encoder: it has no `blocks.2\..*`\. Give"
    ):
        load_weights(deeper, tmp_path)
    shallower = LazyObjective(tiny.encoder(), tiny.decoder(layers=1), Objective())
    with pytest.raises(BadModel, match=r"not fit the configured decoder: it has a `blocks.1\..*`, which"):
        load_weights(shallower, tmp_path)
    file = tmp_path / "decoder" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BadModel, match="cannot be read as safetensors"):
        load_weights(fitting, tmp_path)


def test_the_first_weight_of_another_shape_is_named_and_no_other() -> None:
    """The model in the package is of the recipe `clipart`, which `cpu` is not."""
    packaged = locate("clipart")
    model = networks(load_settings(find_settings("cpu")))
    with pytest.raises(BadModel) as refusal:
        load_weights(model, packaged)
    message = str(refusal.value)
    assert "its `view` is 2 x 320, and the configuration's is 2 x 160. Give the configuration" in message
    assert len(message) < 400
    load_weights(networks(load_settings(find_settings("clipart"))), packaged)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own
def test_blocks_of_a_kind_are_compiled_once_for_each_number_of_tokens() -> None:
    model = LazyObjective(tiny.encoder(layers=3), tiny.decoder(layers=3), Objective()).requires_grad_(True)
    plain = copy.deepcopy(model)
    compiled: list[int] = []

    def count(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        compiled.append(len(graph.graph.nodes))
        return graph.forward

    compile_blocks(model, backend=count)
    maker = SceneMaker(tiny.bank(), 4, 2, torch.Generator().manual_seed(0))
    text, mask = torch.rand(4, 16, tiny.TEXT), torch.ones(4, 16, dtype=torch.bool)
    seen = []
    for bucket in (6, 10, 6, 10):
        scenes = maker.make(4, bucket)
        loss, expected = (m(scenes, text, mask, torch.Generator().manual_seed(1)) for m in (model, plain))
        assert torch.allclose(loss, expected)
        seen.append(len(compiled))
    # An encoder's block, its last one, a decoder's block, the text; then the two that depend on the bucket.
    assert seen == [4, 6, 6, 6]
    torch.compiler.reset()
