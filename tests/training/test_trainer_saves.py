"""What a training run leaves when it is short, when it is ended while it saves, and when its loss is no number."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tests.training_data import disc_data
from tests.training_data import run_settings as settings

from lazydiffusion.errors import BadInput
from lazydiffusion.training.settings import Data
from lazydiffusion.training.trainer import Trainer

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return disc_data(tmp_path_factory.mktemp("data"), buckets=(6, 10))


def teardown_module() -> None:
    """What accelerate keeps for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)


def weights(folder: Path, part: str) -> dict[str, torch.Tensor]:
    return load_file(folder / part / "diffusion_pytorch_model.safetensors")


def test_the_averaged_weights_of_a_short_run_are_near_the_last_ones(data: Data, tmp_path: Path) -> None:
    wanted = settings(data, tmp_path, steps=6)
    wanted = dataclasses.replace(wanted, optimiser=dataclasses.replace(wanted.optimiser, ema=0.999))
    trainer = Trainer(wanted, say=lambda text: None)
    first = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.run()

    last, average = list(trainer.model.parameters()), list(trainer.average.parameters())

    @torch.no_grad()
    def apart(some: list[torch.Tensor], others: list[torch.Tensor]) -> float:
        return (
            sum(float((one - other).square().sum()) for one, other in zip(some, others, strict=True)) ** 0.5
        )

    assert apart(average, last) < 0.5 * apart(first, last)
    told = json.loads((tmp_path / "ema" / "decoder" / "config.json").read_text("utf8"))
    assert told["trained_tokens"] == 10, "the larger bucket: a pipeline plans no more"


@pytest.mark.parametrize("cut", ["ema", "state"])
def test_a_run_that_ends_while_it_saves_leaves_what_it_saved_before(
    cut: str, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(settings(data, tmp_path), say=lambda text: None)
    trainer.run(until=1)
    trainer.save()
    saved = {path: path.read_bytes() for path in (tmp_path / "ema").rglob("*") if path.is_file()}
    trainer.run(until=2)

    def torn(folder: str | Path, **_: object) -> None:
        """As a writer that is ended: some files whole, one cut off, the others as they were."""
        for path in Path(folder).rglob("*.safetensors"):
            path.write_bytes(path.read_bytes()[:99])
        raise KeyboardInterrupt

    if cut == "ema":
        monkeypatch.setattr(trainer.average.decoder, "save_pretrained", torn)
    else:
        monkeypatch.setattr(trainer.accelerator, "save_state", torn)
    with pytest.raises(KeyboardInterrupt):
        trainer.save()

    if cut == "ema":
        assert saved == {path: path.read_bytes() for path in (tmp_path / "ema").rglob("*") if path.is_file()}
    else:  # the averaged weights, which are what is wanted of a lease, come first
        assert (
            saved[tmp_path / "ema/decoder/diffusion_pytorch_model.safetensors"]
            != (tmp_path / "ema/decoder/diffusion_pytorch_model.safetensors").read_bytes()
        )
    resumed = Trainer(settings(data, tmp_path), resume=True, say=lambda text: None)
    assert resumed.clock.step == 1
    resumed.run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ema", "log", "samples", "state"]


def test_a_run_whose_loss_is_no_number_ends_and_keeps_what_it_saved(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(settings(data, tmp_path), say=lambda text: None)
    trainer.run(until=1)
    trainer.save()
    before = weights(tmp_path / "ema", "decoder")
    monkeypatch.setattr(trainer.model, "forward", lambda *_: torch.tensor(torch.nan, requires_grad=True))

    with pytest.raises(BadInput, match=r"loss is nan at step 2: lower `muon_rate`.*/ema"):
        trainer.run()

    after = weights(tmp_path / "ema", "decoder")
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
