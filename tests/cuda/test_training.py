"""The training loop on a CUDA device, in bfloat16: a few steps of a tiny run, uncompiled and compiled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tests import tiny

from lazydiffusion.training.settings import Data, Optimiser, Output, Settings
from lazydiffusion.training.shards import write_shards
from lazydiffusion.training.sprites import load_bank
from lazydiffusion.training.trainer import Progress, Trainer

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Twelve discs in shards, decoded already; three of them are held out."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "shards").mkdir()
    write_shards(folder / "shards", tiny.shard_sprites())
    load_bank(folder / "shards", side=32, workers=1, cache=folder / "cache")
    return Data(
        shards=str(folder / "shards"), cache=str(folder / "cache"), sprite_side=32, captions=2,
        window_tokens=4, overview_tokens=2, buckets=(8,), bucket_weights=(1.0,),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def global_state() -> Iterator[None]:
    """What accelerate and the trainer set for the whole process."""
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.compiler.reset()


@pytest.mark.parametrize(
    "compiled",
    [pytest.param(False, id="eager"), pytest.param(True, id="compiled", marks=pytest.mark.slow)],
)
def test_three_steps_change_the_weights(
    data: Data, tmp_path: Path, device: torch.device, compiled: bool
) -> None:
    reports: list[Progress] = []
    settings = Settings(
        encoder=tiny.ENCODER | {"window_tokens": 4, "overview_tokens": 2},
        decoder=tiny.DECODER,
        data=data,
        optimiser=Optimiser(batch=4, steps=3, warm_up=1, ema=0.5),
        output=Output(folder=str(tmp_path), log_every=1, samples=4, sample_steps=2),
        compile=compiled,
    )
    trainer = Trainer(settings, report=reports.append, say=lambda text: None)
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.run()
    assert [report.step for report in reports] == [1, 2, 3]
    assert all(0 < report.loss < 100 for report in reports)
    for name, weight in trainer.model.named_parameters():
        assert weight.device.type == device.type
        assert weight.dtype == torch.float32
        assert weight.isfinite().all(), name
    changed = [name for name, weight in trainer.model.named_parameters() if not weight.equal(before[name])]
    assert {"decoder.to_out.weight", "decoder.embed.0.weight"} <= set(changed)
    averaged = load_file(tmp_path / "ema" / "decoder" / "diffusion_pytorch_model.safetensors")
    assert averaged["to_out.weight"].any()
    assert (tmp_path / "samples" / "step-0000003.png").is_file()
