"""The bottlenecks that a training from scratch begins with."""

from __future__ import annotations

import pytest
import torch
from tests import tiny

from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.masked_patches import MaskedPatches
from lazydiffusion.training.first_weights import principal_directions, start_from_patches
from lazydiffusion.training.framing import every_token
from lazydiffusion.training.objective import LazyObjective, Objective
from lazydiffusion.training.scenes import SceneMaker

pytestmark = pytest.mark.unit


def test_principal_directions_keep_what_the_patches_are_made_of() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 3, generator=generator)).Q.T  # (3, 12)
    patches = torch.randn(500, 3, generator=generator) * torch.tensor([3.0, 2.0, 1.0]) @ basis
    found = principal_directions(patches, 3)
    torch.testing.assert_close(found @ found.T, torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(patches @ found.T @ found, patches, atol=1e-4, rtol=0)
    strength = (patches @ found.T).square().mean(0)
    assert strength[0] > strength[1] > strength[2]


def test_more_directions_than_values_are_refused() -> None:
    with pytest.raises(ValueError, match="4 values have no 5 directions"):
        principal_directions(torch.zeros(2, 4), 5)


def test_both_bottlenecks_lose_less_of_a_patch_than_random_ones() -> None:
    torch.manual_seed(0)
    maker = SceneMaker(tiny.bank(), 4, 2, torch.Generator().manual_seed(0))
    model = LazyObjective(
        ContextEncoder(**(tiny.ENCODER | {"window_tokens": 4, "overview_tokens": 2})),
        LazyDecoder(**tiny.DECODER),
        Objective(),
    )
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    start_from_patches(model, (maker.make(8, 6) for _ in range(3)))
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == {"encoder.embed.0.weight", "decoder.embed.0.weight"}
    assert shapes == {name: weight.shape for name, weight in model.named_parameters()}
    for name in changed:
        weight = dict(model.named_parameters())[name]
        torch.testing.assert_close(weight @ weight.T, torch.eye(len(weight)), atol=1e-4, rtol=0)


def test_a_baseline_has_no_encoder_to_start() -> None:
    maker = SceneMaker(tiny.bank(), 4, 2, torch.Generator().manual_seed(0))
    patches = MaskedPatches(window_tokens=4, overview_tokens=2)
    model = LazyObjective(
        patches, LazyDecoder(**(tiny.DECODER | {"context_channels": patches.channels})), Objective()
    )
    before = model.decoder.embed[0].weight.clone()  # type: ignore[index]
    start_from_patches(model, [every_token(maker.make(8, 6))])
    assert not torch.equal(model.decoder.embed[0].weight, before)  # type: ignore[index]
