"""What .ci/gpu does on a lent machine: a run that is cut, a contest's shares of the time, a whole contest, tiny."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from tests import tiny
from tests.training_data import disc_data
from torch import Tensor

from lazydiffusion import checkpoints
from lazydiffusion.engines.names import OWN, engine_of
from lazydiffusion.training.settings import Optimiser, Output, Settings
from lazydiffusion.training.shards import find_shards, write_shards
from lazydiffusion.training.sprites import load_bank
from lazydiffusion.training.trainer import Trainer

SCRIPTS = Path(__file__).resolve().parents[2] / ".ci" / "gpu"

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The scripts as they import each other on that machine: from one folder, by their bare names."""
    sys.path.insert(0, str(SCRIPTS))
    path = list(sys.path)
    import contest
    import fetching
    import gpu
    import pack

    yield {"contest": contest, "fetching": fetching, "gpu": gpu, "pack": pack}
    sys.path[:] = path
    sys.path.remove(str(SCRIPTS))
    for name in ("contest", "fetching", "gpu", "pack"):
        del sys.modules[name]


def teardown_module() -> None:
    """What accelerate keeps for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)


def tiny_run(data: Path, optimiser: Optimiser, output: Output) -> Settings:
    """Of tiny networks, on discs that are drawn into a new folder."""
    data.mkdir()
    return Settings(
        encoder=tiny.ENCODER | {"window_tokens": 4, "overview_tokens": 2},
        decoder=tiny.DECODER,
        data=disc_data(data, buckets=(6, 10)),
        optimiser=optimiser,
        output=output,
        compile=False,
    )


def test_as_many_steps_are_taken_as_fit_beside_the_saving(scripts: dict[str, ModuleType]) -> None:
    steps_in = scripts["contest"].steps_in
    assert steps_in(10 + 62.5, 0.5, 10, kept=80) == 100
    assert steps_in(10 + 62.4, 0.5, 10, kept=80) == 99
    assert steps_in(10 + 0.7, 0.5, 10, kept=80) == 1
    for seconds in (10.5, 9.0, -60.0):
        with pytest.raises(ValueError, match="give more minutes"):
            steps_in(seconds, 0.5, 10, kept=80)


def test_the_sprites_that_travel_are_those_that_a_training_would_choose(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = scripts["pack"]
    words = tmp_path / "words.toml"
    words.write_text("\n".join(f'"thing {number}" = []' for number in (0, 1, 4, 6, 7)))
    data = disc_data(tmp_path, buckets=(6,))
    few = replace(data, sets=("first",), vocabulary=str(words))
    (tmp_path / "kept").mkdir()
    write_shards(tmp_path / "kept", pack.drawn(find_shards(Path(data.shards)), few))
    chosen = load_bank(Path(data.shards), side=32, workers=1).of_sets(few.sets)
    chosen = chosen.subset(
        torch.tensor([captions[0] in ("thing 0", "thing 4", "thing 6") for captions in chosen.captions])
    )
    travelled = load_bank(tmp_path / "kept", side=32, workers=1)
    assert travelled.captions == chosen.captions == [["thing 0"], ["thing 4"], ["thing 6"]]
    assert torch.equal(travelled.pixels, chosen.pixels)
    assert torch.equal(travelled.held_out(), chosen.held_out())

    # In parts, and together again on the other side.
    monkeypatch.setattr(pack, "OUT", tmp_path / "parts")
    monkeypatch.setattr(pack, "PART", 100)
    (tmp_path / "parts").mkdir()
    pack.sprites(find_shards(tmp_path / "kept"))
    assert len(list((tmp_path / "parts").iterdir())) > 1
    gpu = scripts["gpu"]
    monkeypatch.setattr(gpu, "TMP", tmp_path)
    (tmp_path / "shards").rename(tmp_path / "all")
    for _ in range(2):  # a second process finds them there
        gpu.unpack()
    [there], [here] = find_shards(tmp_path / "shards"), find_shards(tmp_path / "kept")
    assert there.read_bytes() == here.read_bytes()


def test_a_folder_is_packed_in_parts_that_can_be_fetched(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(bytes(range(256)) * 100)
    parts = scripts["fetching"].pack(tmp_path / "model", tmp_path / "out", part_bytes=10_000)
    assert [part.name for part in parts] == [f"model.tar.{number:02d}" for number in range(len(parts))]
    assert {part.stat().st_size for part in parts[:-1]} == {10_000}
    (tmp_path / "all.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(tmp_path / "all.tar") as tar:
        tar.extractall(tmp_path / "again", filter="data")
    assert (tmp_path / "again" / "model" / "weights").read_bytes() == bytes(range(256)) * 100


def test_a_poll_waits_for_the_training_and_fetches_what_it_made_only_at_its_end(tmp_path: Path) -> None:
    there, out = tmp_path / "machine", tmp_path / "out"
    for folder in (there / "running", there / "run" / "samples", there / "fetch", out):
        folder.mkdir(parents=True)
    shutil.copy(SCRIPTS / "poll.sh", there)
    (there / "train.log").write_text("Loading weights\nstep 20\n")
    (there / "run" / "samples" / "step-20.png").write_bytes(b"a picture")
    (there / "fetch" / "exported.tar.00").write_bytes(b"weights")

    def poll(seconds: int) -> str:
        command = ["bash", str(there / "poll.sh"), str(seconds), str(there / "fetch")]
        environment = os.environ | {"OUT": str(out)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    training = subprocess.Popen(["sleep", "60"])
    try:
        (there / "running" / str(training.pid)).touch()
        assert poll(1) == f"== {there}/train.log\nstep 20\n"
        assert sorted(path.name for path in out.iterdir()) == ["1-step-20.png"]
    finally:
        training.kill()
        training.wait()
    assert poll(60).endswith("All has ended.\n")
    assert sorted(path.name for path in out.iterdir()) == ["1-step-20.png", "exported.tar.00"]


def test_a_training_that_is_cut_has_left_a_checkpoint_where_it_comes_back(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = scripts["gpu"]
    output = Output(folder=str(tmp_path / "run"), samples=4, sample_steps=2, samples_every=1e-6)
    wanted = tiny_run(tmp_path / "data", Optimiser(batch=4, steps=100, warm_up=1), output)
    monkeypatch.setattr(gpu, "TMP", tmp_path)
    monkeypatch.setattr(gpu, "unpack", lambda: None)
    monkeypatch.setattr(gpu, "settings", lambda *_: wanted)
    step = Trainer._step

    def cut(self: Trainer, *arguments: Any) -> Tensor:
        if self.clock.step == 2:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", cut)
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        gpu.train("9", "", str(tmp_path / "out"))

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["exported.tar.00", "samples.png"]
    with tarfile.open(tmp_path / "out" / "exported.tar.00") as tar:
        tar.extractall(tmp_path / "here", filter="data")
    checkpoints.verify(tmp_path / "here" / "exported", required=True)
    last = (tmp_path / "run" / "samples" / "step-0000002.png").read_bytes()
    assert (tmp_path / "out" / "samples.png").read_bytes() == last


class Ticking:
    """A clock on which a quarter of a second passes from each look at it to the next."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 0.25
        return self.seconds


@pytest.mark.slow
def test_a_contest_trains_all_for_the_same_steps_beside_each_other(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    contest = scripts["contest"]
    optimiser = Optimiser(batch=4, minutes=25, warm_up=1, ema=0.5)
    wanted = tiny_run(tmp_path / "data", optimiser, Output(log_every=1, samples=4, sample_steps=2))
    folder = tmp_path / "contest"
    # 5 looks at the clock until the time is shared:
    # (0.96 * (2.1 - 4 * 0.25) - 0.25) / (0.25 / 2 + 0.25 / 4) = 4.3 steps.
    plan = contest.Plan(0.035, warm=1, measured=2, stride=3, kept=4)
    contest.contest(wanted, plan, folder, now=Ticking())

    fetched = folder / "fetch"
    facts = json.loads((fetched / "contest.json").read_text())
    assert (facts["steps"], facts["scenes"], facts["noisy_samples"], facts["seed"]) == (7, 28, 112, 0)
    assert list(facts["engines"]) == list(OWN)
    for engine in OWN:
        about = facts["engines"][engine]
        assert about["parameters"] >= about["decoder_parameters"] > 0
        assert set(about["gflop_a_sample"]) <= {"6", "10"}
        checkpoints.verify(folder / "exported" / engine, required=True)
        assert engine_of(folder / "exported" / engine) == engine
        assert [part.name for part in (fetched / engine).iterdir()] == [f"{engine}.tar.00"]
        last = (folder / "runs" / engine / "samples" / "step-0000007.png").read_bytes()
        assert (fetched / f"{engine}.png").read_bytes() == last

    # The next lease: from these weights, on other scenes.
    contest.contest(wanted, plan, tmp_path / "next", init=folder / "exported", now=Ticking())
    facts = json.loads((tmp_path / "next" / "fetch" / "contest.json").read_text())
    assert (facts["steps"], facts["steps_in_this_run"], facts["seed"]) == (14, 7, 7)


def fail() -> None:
    """What a process of a contest may meet before it begins."""
    raise OSError("the disk is full")


def fail_later() -> None:
    """What it may meet at the eighth step."""
    step = Trainer._step

    def failing(self: Trainer, *arguments: Any) -> Tensor:
        if self.clock.step == 7 and self.settings.engine == "regenerate-image":
            raise RuntimeError("unspecified launch failure")
        return step(self, *arguments)

    Trainer._step = failing  # type: ignore[method-assign]


@pytest.mark.slow
def test_a_contest_says_which_engine_failed_and_leaves_no_process(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    contest = scripts["contest"]
    wanted = tiny_run(tmp_path / "data", Optimiser(batch=4), Output(samples=4))
    with pytest.raises(RuntimeError, match="Training lazy failed: the disk is full"):
        contest.contest(wanted, contest.Plan(0.03), tmp_path / "contest", prepare=fail)
    assert not multiprocessing.active_children()
    assert not (tmp_path / "contest" / "fetch").exists()


@pytest.mark.slow
def test_what_all_had_saved_before_one_failed_is_handed_over(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    contest = scripts["contest"]
    output = Output(log_every=1, samples=4, sample_steps=2)
    wanted = tiny_run(tmp_path / "data", Optimiser(batch=4, warm_up=1), output)
    folder = tmp_path / "contest"
    plan = contest.Plan(1.0, warm=1, measured=2, stride=1, kept=2)
    with pytest.raises(RuntimeError, match="regenerate-image failed: unspecified launch failure"):
        contest.contest(wanted, plan, folder, now=Ticking(), prepare=fail_later)
    assert not multiprocessing.active_children()
    facts = json.loads((folder / "fetch" / "contest.json").read_text())
    assert (facts["steps"], facts["engines"]) == (7, dict.fromkeys(OWN))
    for engine in OWN:
        checkpoints.verify(folder / "exported" / engine, required=True)
        assert (folder / "fetch" / engine / f"{engine}.tar.00").is_file()
        last = (folder / "runs" / engine / "samples" / "step-0000007.png").read_bytes()
        assert (folder / "fetch" / f"{engine}.png").read_bytes() == last
