"""A whole training run, tiny, on the CPU: what it leaves behind, going on from it, and several processes."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests import tiny
from tests.training_data import disc_data
from tests.training_data import run_settings as settings
from typer.testing import CliRunner

from lazydiffusion.cli import app
from lazydiffusion.engines.names import engine_of
from lazydiffusion.errors import BadInput, BadModel, CannotWrite
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.masked_patches import MaskedPatches
from lazydiffusion.training.scenes import Scenes, Shares
from lazydiffusion.training.settings import Data, Output, Settings
from lazydiffusion.training.trainer import NOISE_SEED, Progress, Trainer

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return disc_data(tmp_path_factory.mktemp("data"), buckets=(6, 10))


def train(wanted: Settings, **options: bool | Path) -> tuple[Trainer, list[Progress]]:
    reports: list[Progress] = []
    trainer = Trainer(wanted, report=reports.append, say=lambda text: None, **options)  # type: ignore[arg-type]
    assert trainer.run() == Path(wanted.output.folder) / "ema"
    return trainer, reports


@dataclasses.dataclass
class Finished:
    """A run of four steps."""

    settings: Settings
    folder: Path
    trainer: Trainer
    reports: list[Progress]


@pytest.fixture(scope="module")
def finished(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("run")
    wanted = settings(data, folder)
    return Finished(wanted, folder, *train(wanted))


def weights(folder: Path, part: str) -> dict[str, torch.Tensor]:
    return load_file(folder / part / "diffusion_pytorch_model.safetensors")


def test_every_interval_is_reported(finished: Finished) -> None:
    assert [report.step for report in finished.reports] == [1, 2, 3, 4]
    assert [report.share for report in finished.reports] == [0, 0.25, 0.5, 0.75]
    for report in finished.reports:
        assert 0 < report.loss < 100
        assert report.scenes_per_second > 0
        assert report.utilisation > 0
        assert report.seconds > 0


def test_the_averaged_weights_can_be_used(finished: Finished) -> None:
    encoder = ContextEncoder.from_pretrained(finished.folder / "ema" / "context_encoder")
    decoder = LazyDecoder.from_pretrained(finished.folder / "ema" / "decoder")

    assert encoder.config.channels == decoder.config.context_channels == 32
    assert encoder.config.window_tokens == 4
    trained = dict(finished.trainer.model.named_parameters())
    average = decoder.state_dict()["to_out.weight"]
    assert average.any()  # it starts at zero
    assert not torch.equal(average, trained["decoder.to_out.weight"])  # the average lags behind
    assert not list(finished.folder.glob("ema/**/*.bin"))


def test_the_noise_levels_shift_is_kept_beside_the_weights(
    finished: Finished, data: Data, tmp_path: Path
) -> None:
    """A sampler that steps otherwise than the training did makes mush."""
    kept = FlowMatchEulerDiscreteScheduler.from_pretrained(finished.folder / "ema" / "scheduler")
    assert kept.config.shift == 1
    wanted = settings(data, tmp_path)
    wanted = dataclasses.replace(wanted, objective=dataclasses.replace(wanted.objective, shift=4.0))
    trainer, _ = train(wanted)
    kept = FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path / "ema" / "scheduler")
    assert kept.config.shift == 4
    assert not torch.equal(trainer.model.decoder.to_out.weight, finished.trainer.model.decoder.to_out.weight)


def test_a_sample_grid_is_painted(finished: Finished) -> None:
    with Image.open(finished.folder / "samples" / "step-0000004.png") as sheet:
        assert sheet.mode == "RGB"
        width, height = sheet.size  # one row of four scenes: hole, fill and truth side by side
    assert (width, height) == (4 * (3 * 64 + 8), 64 + 8)


def test_sample_grids_of_the_same_weights_are_the_same(finished: Finished) -> None:
    assert torch.equal(finished.trainer.sample_grid(), finished.trainer.sample_grid())


def test_tensorboard_shows_the_loss_and_the_samples(finished: Finished) -> None:
    events = EventAccumulator(str(next(finished.folder.glob("log/**/events*")).parent))
    events.Reload()

    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]
    assert events.Scalars("loss")[-1].value == pytest.approx(finished.reports[-1].loss)
    assert len(events.Images("samples")) == 1


def test_a_run_goes_on_where_it_stopped(finished: Finished, data: Data, tmp_path: Path) -> None:
    first, _ = train(settings(data, tmp_path, steps=2))
    seconds = first.clock.seconds
    resumed = Trainer(settings(data, tmp_path, steps=5), resume=True, say=lambda text: None)

    assert resumed.clock.step == 2
    assert resumed.clock.seconds == pytest.approx(seconds)
    for name, parameter in resumed.model.named_parameters():
        assert torch.equal(parameter, dict(first.model.named_parameters())[name]), name
    for name, parameter in resumed.average.named_parameters():
        assert torch.equal(parameter, dict(first.average.named_parameters())[name]), name
    for kind in ("scenes", "noise"):
        generator, before = (getattr(trainer.generators, kind) for trainer in (resumed, first))
        assert torch.equal(generator.get_state(), before.get_state())
    for optimiser, before in zip(resumed.optimisers, first.optimisers, strict=True):
        assert str(optimiser.state_dict()) == str(before.state_dict())

    reports: list[Progress] = []
    resumed.report = reports.append
    resumed.run()
    assert [report.step for report in reports] == [3, 4, 5]
    assert resumed.clock.seconds > seconds


def test_a_state_from_before_the_noise_had_its_own_generator_is_resumed(data: Data, tmp_path: Path) -> None:
    first, _ = train(settings(data, tmp_path, steps=2))
    scenes = first.generators.scenes.get_state()
    torch.save({"state": scenes}, tmp_path / "state" / "custom_checkpoint_2.pkl")

    resumed = Trainer(settings(data, tmp_path, steps=3), resume=True, say=lambda text: None)

    assert torch.equal(resumed.generators.scenes.get_state(), scenes)
    assert resumed.generators.noise.initial_seed() == NOISE_SEED
    resumed.run()
    assert resumed.clock.step == 3


def test_a_state_of_another_configuration_is_refused_with_a_sentence(data: Data, tmp_path: Path) -> None:
    train(settings(data, tmp_path, steps=1))
    deeper = dataclasses.replace(settings(data, tmp_path), decoder=tiny.DECODER | {"layers": 3})
    with pytest.raises(BadModel, match=r"does not fit this configuration .*--init-from and --out") as refusal:
        Trainer(deeper, resume=True, say=lambda text: None)
    assert len(str(refusal.value)) < 500


def test_a_finished_run_is_not_written_over(finished: Finished) -> None:
    before = {path: path.read_bytes() for path in finished.folder.glob("ema/**/*.safetensors")}
    with pytest.raises(
        BadInput, match=r"holds a run already \(ema/, state/\).*give --resume, or another folder"
    ):
        Trainer(finished.settings, say=lambda text: None)
    assert before == {path: path.read_bytes() for path in finished.folder.glob("ema/**/*.safetensors")}


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nothing = Data(shards=str(tmp_path / "no sprites"))
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(CannotWrite, match=r"folder .*file.* cannot be made: .* Choose another --out"):
            Trainer(settings(nothing, folder), say=lambda text: None)


def test_a_run_starts_from_averaged_weights_alone(finished: Finished, data: Data, tmp_path: Path) -> None:
    trainer = Trainer(settings(data, tmp_path), init_from=finished.folder / "ema", say=lambda text: None)

    assert trainer.clock.step == 0
    for part in ("context_encoder", "decoder"):
        module = trainer.model.encoder if part == "context_encoder" else trainer.model.decoder
        for name, tensor in weights(finished.folder / "ema", part).items():
            assert torch.equal(module.state_dict()[name], tensor), name


def test_nothing_to_resume_is_said(data: Data, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"nothing to resume.*without --resume"):
        Trainer(settings(data, tmp_path), resume=True, say=lambda text: None)


def test_a_run_ends_when_its_time_is_up(data: Data, tmp_path: Path) -> None:
    wanted = settings(data, tmp_path, steps=100_000)
    wanted = dataclasses.replace(
        wanted, optimiser=dataclasses.replace(wanted.optimiser, minutes=1 / 60, muon=False)
    )

    trainer, reports = train(wanted)

    assert 0 < trainer.clock.step < 100_000
    assert trainer.clock.seconds >= 1
    assert reports[-1].share <= 1
    assert (tmp_path / "samples" / f"step-{trainer.clock.step:07d}.png").is_file()


SCRIPT = """
import hashlib, json, sys
from pathlib import Path
import torch
from lazydiffusion.training.settings import load_settings
from lazydiffusion.training.trainer import Trainer

torch.set_num_threads(1)
trainer = Trainer(load_settings(Path(sys.argv[1])), say=lambda text: None)
trainer.run(until=2)
trainer.save()
resumed = Trainer(load_settings(Path(sys.argv[1])), resume=True, say=lambda text: None)
same = all(
    torch.equal(getattr(trainer.generators, kind).get_state(), getattr(resumed.generators, kind).get_state())
    for kind in ("scenes", "noise")
)
trainer.run()
model = trainer.accelerator.unwrap_model(trainer.model)
digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()
seen = {"processes": trainer.accelerator.num_processes, "steps": trainer.clock.step, "weights": digest,
        "scenes": hashlib.sha256(trainer.generators.scenes.get_state().numpy().tobytes()).hexdigest(), "resumed": same}
Path(sys.argv[2], f"process-{trainer.accelerator.process_index}.json").write_text(json.dumps(seen))
"""


@pytest.mark.slow
def test_two_processes_train_one_model(data: Data, tmp_path: Path) -> None:
    """Each makes scenes of its own, and both end with the same weights.

    Started by what `accelerate launch` starts several GPUs with: for a CPU it would need MPI.
    """
    (tmp_path / "script.py").write_text(SCRIPT)
    tables = dataclasses.asdict(settings(data, tmp_path / "run", steps=3))
    lines = ["compile = false"]
    for table in ("encoder", "decoder", "data", "optimiser", "output"):
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in tables[table].items())]
    (tmp_path / "run.toml").write_text("\n".join(lines))

    launched = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
            str(tmp_path / "script.py"), str(tmp_path / "run.toml"), str(tmp_path),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True, text=True, timeout=550, check=False,
    )  # fmt: skip

    assert launched.returncode == 0, launched.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"process-{number}.json").read_text()) for number in (0, 1))
    assert first["processes"] == 2
    assert first["steps"] == second["steps"] == 3
    assert first["weights"] == second["weights"]
    assert first["scenes"] != second["scenes"]
    assert [first["resumed"], second["resumed"]] == [True, True]  # each goes on with its own scenes
    assert (tmp_path / "run" / "samples" / "step-0000003.png").is_file()


def teardown_module() -> None:
    """What accelerate keeps for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("engine", ["regenerate-image", "regenerate-crop"])
def test_a_baseline_is_trained_on_every_token_and_becomes_a_checkpoint(
    data: Data, tmp_path: Path, engine: str
) -> None:
    wanted = settings(data, tmp_path / "run", steps=2).for_engine(engine)
    assert wanted.output.folder == str(tmp_path / "run") + f"-{engine}"
    trainer, reports = train(wanted)
    assert len(reports) == 2
    assert isinstance(trainer.average.encoder, MaskedPatches)
    folder = Path(wanted.output.folder)
    assert json.loads((folder / "ema" / "context_encoder" / "config.json").read_text())["window_tokens"] == 4
    assert weights(folder / "ema", "decoder")["embed_context.weight"].shape == (32, 16 * 16 * 4)
    made = tmp_path / "made"
    result = CliRunner().invoke(app, ["export", str(folder / "ema"), str(made), "--engine", engine])
    assert result.exit_code == 0, result.output
    assert engine_of(made) == engine
    result = CliRunner().invoke(app, ["export", str(folder / "ema"), str(tmp_path / "other")])
    assert result.exit_code == 2
    assert "was not trained for the engine lazy" in result.output
    resumed = Trainer(
        dataclasses.replace(wanted, output=Output(folder=str(tmp_path / "next"))),
        init_from=folder / "ema", say=lambda text: None,
    )  # fmt: skip
    assert torch.equal(
        resumed.accelerator.unwrap_model(resumed.model).decoder.to_out.weight,
        weights(folder / "ema", "decoder")["to_out.weight"],
    )


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 3])
def test_runs_of_the_same_number_of_steps_see_the_same_scenes(
    data: Data, tmp_path: Path, at_once: int
) -> None:
    """Only the framing differs, though each loss draws as much noise as its tokens need.

    So it is with other weights to begin with, and when a run was stopped and resumed, also amidst scenes that were
    made together.
    """
    seen: dict[str, list[tuple[torch.Tensor, ...]]] = {}
    data = dataclasses.replace(data, at_once=at_once)

    def record(name: str, wanted: Settings, **options: bool | Path) -> None:
        trainer = Trainer(wanted, say=lambda text: None, **options)  # type: ignore[arg-type]
        take = trainer.supply.take

        def taken(step: int) -> tuple[Scenes, torch.Tensor, torch.Tensor]:
            scenes, *text = take(step)
            seen.setdefault(name, []).append((*vars(scenes).values(), *text))
            return scenes, *text

        trainer.supply.take = taken  # type: ignore[method-assign]
        trainer.run()

    for engine in ("lazy", "regenerate-image", "regenerate-crop"):
        record(engine, settings(data, tmp_path / "run", steps=5).for_engine(engine))
    record("later", settings(data, tmp_path / "later", steps=5), init_from=tmp_path / "run-lazy" / "ema")
    record("stopped", settings(data, tmp_path / "stopped", steps=2))
    record("stopped", settings(data, tmp_path / "stopped", steps=5), resume=True)

    first, *others = seen.values()
    assert len(first) == 5
    assert not torch.equal(first[0][0], first[1][0])
    for other in others:
        for one, same in zip(first, other, strict=True):
            assert all(torch.equal(*parts) for parts in zip(one, same, strict=True))


def test_a_run_can_be_halted_and_given_another_end(data: Data, tmp_path: Path) -> None:
    trainer = Trainer(settings(data, tmp_path, steps=1000), say=lambda text: None)
    trainer.run(until=2)
    assert trainer.clock.step == 2
    assert not (tmp_path / "ema").exists()
    trainer.settings = trainer.settings.ending_after(3)
    trainer.run()
    assert trainer.clock.step == 3
    assert (tmp_path / "samples" / "step-0000003.png").is_file()


def test_a_run_may_see_some_sets_only(data: Data, tmp_path: Path) -> None:
    everything = Trainer(settings(data, tmp_path / "all"), say=lambda text: None)
    names = everything.bank.set_names
    counts = everything.bank.sets.bincount(minlength=len(names)).tolist()
    assert len(names) > 1
    some = Trainer(
        settings(dataclasses.replace(data, sets=(names[0],)), tmp_path / "some"), say=lambda text: None
    )
    assert len(some.bank) == counts[0] < len(everything.bank)
    assert set(some.supply.maker.make(8, 6).sprites.tolist()) <= set(range(counts[0]))
    assert set(some.held_out.keys) <= set(everything.held_out.keys)


def test_a_run_may_be_taught_a_vocabulary_and_scenes_of_one_kind(data: Data, tmp_path: Path) -> None:
    everything = Trainer(settings(data, tmp_path / "all"), say=lambda text: None)
    names = sorted({captions[0] for captions in everything.bank.captions})
    held = {captions[0] for captions in everything.held_out.captions}
    words = tmp_path / "words.toml"
    words.write_text("".join(f'"{name}" = ["ball"]\n' for name in [*names[:2], *held]), "utf8")
    wanted = settings(dataclasses.replace(data, vocabulary=str(words)), tmp_path / "some")
    scenes = Shares(removal=1.0, tilted=0.0, mirrored=0.0)
    some = Trainer(dataclasses.replace(wanted, scenes=scenes), say=lambda text: None)

    assert {captions[0] for captions in some.bank.captions} == set(names[:2])
    assert all(called == [called[0], f"a {called[0]}", "ball"] for called in some.bank.captions)
    assert some.supply.maker.shares == scenes
    some.save()
    taught = json.loads((tmp_path / "some" / "ema" / "vocabulary.json").read_text())
    assert taught == {name: ["ball"] for name in [*names[:2], *held]}
    assert (some.supply.maker.make(8, 6).sprites == -1).all()


def test_another_engine_than_those_is_refused(data: Data, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('engine = "diffusers"\n')
    result = CliRunner().invoke(app, ["train", str(file)])
    assert result.exit_code == 2
    assert "No model can be trained for the engine 'diffusers'" in result.output


def test_the_command_takes_a_time_and_tells_how_it_goes(data: Data, tmp_path: Path) -> None:
    tables = dataclasses.asdict(settings(data, tmp_path / "run", steps=100_000))
    tables["optimiser"] |= {"minutes": 60.0, "muon": False}
    lines = ["compile = false"]
    for table in ("encoder", "decoder", "data", "optimiser", "output"):
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in tables[table].items())]
    (tmp_path / "run.toml").write_text("\n".join(lines))

    result = CliRunner().invoke(app, ["train", str(tmp_path / "run.toml"), "--minutes", "0.01"])
    assert result.exit_code == 0, result.output
    assert re.search("The first step with (6|10) tokens took", result.output)
    assert "% of the device's matrix products" in result.output
    assert (tmp_path / "run" / "ema" / "decoder" / "config.json").is_file()

    for none in ("0", "-1", "nan"):
        result = CliRunner().invoke(app, ["train", str(tmp_path / "run.toml"), "--minutes", none])
        assert result.exit_code == 2
        assert "give a number above 0" in result.output

    again = ["train", str(tmp_path / "run.toml"), "--steps", "1"]
    result = CliRunner().invoke(app, again)
    assert result.exit_code == 2
    assert "holds a run already" in result.output
    result = CliRunner().invoke(app, [*again, "--out", str(tmp_path / "another")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "another" / "ema" / "decoder" / "config.json").is_file()
