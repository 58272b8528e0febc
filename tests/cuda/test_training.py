"""The training loop on a CUDA device, in bfloat16: a few steps of a tiny run, uncompiled and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tests import tiny
from tests.training_data import disc_data
from torch import Tensor, nn

from lazydiffusion.training.batched_muon import BatchedMuon
from lazydiffusion.training.scenes import SceneMaker, Scenes
from lazydiffusion.training.settings import Data, Optimiser, Output, Settings
from lazydiffusion.training.trainer import Progress, Trainer

pytestmark = pytest.mark.integration


@pytest.fixture
def waits_are_errors() -> Iterator[None]:
    """Whatever makes the host wait for the device raises."""
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return disc_data(tmp_path_factory.mktemp("data"), buckets=(8,))


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


@pytest.mark.usefixtures("waits_are_errors")
def test_scenes_are_made_without_waiting_for_the_device(device: torch.device) -> None:
    maker = SceneMaker(tiny.bank().to(device), 8, 4, torch.Generator(device).manual_seed(0))
    maker.make(6, 20)  # levels of the sprites and the slots' values are made once
    torch.cuda.set_sync_debug_mode("error")
    made = maker.make(6, 20)
    torch.cuda.set_sync_debug_mode("default")
    assert made.window.isfinite().all()
    assert made.hole.flatten(1).any(1).all()


@pytest.mark.parametrize("engine", ["regenerate-image", "regenerate-crop"])
def test_a_baseline_sees_the_lazy_models_scenes(data: Data, tmp_path: Path, engine: str) -> None:
    """Though its loss draws more noise on the device."""
    seen = {}
    for name in ("lazy", engine):
        settings = Settings(
            engine=name,
            encoder=tiny.ENCODER | {"window_tokens": 4, "overview_tokens": 2},
            decoder=tiny.DECODER,
            data=data,
            optimiser=Optimiser(batch=4, steps=3, warm_up=1),
            output=Output(folder=str(tmp_path / name), samples=4, sample_steps=2),
            compile=False,
        )
        trainer = Trainer(settings, say=lambda text: None)
        make, windows = trainer.supply.maker.make, []

        def recorded(
            batch: int,
            bucket: int,
            make: Callable[[int, int], Scenes] = make,
            windows: list[Tensor] = windows,
        ) -> Scenes:
            scenes = make(batch, bucket)
            windows.append(scenes.window.cpu())
            return scenes

        trainer.supply.maker.make = recorded  # type: ignore[method-assign]
        trainer.run()
        seen[name] = torch.stack(windows)
    assert len(seen["lazy"]) == 3
    assert torch.equal(seen["lazy"], seen[engine])


@pytest.mark.usefixtures("waits_are_errors")
def test_our_muon_takes_torchs_steps_without_waiting(device: torch.device) -> None:
    shapes = [(64, 64), (128, 64), (64, 96), (64, 64)]
    start = [torch.randn(shape, device=device) * 0.1 for shape in shapes]
    ours, theirs = ([nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    optimisers = (
        BatchedMuon(ours, lr=1e-2, weight_decay=0.1),
        torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for our, their in zip(ours, theirs, strict=True):
            our.grad = torch.randn_like(our)
            their.grad = our.grad.clone()
        optimisers[1].step()
        torch.cuda.set_sync_debug_mode("error")
        optimisers[0].step()
        torch.cuda.set_sync_debug_mode("default")
    for our, their, before in zip(ours, theirs, start, strict=True):
        assert (our - their).norm() < 0.02 * (their - before).norm()
