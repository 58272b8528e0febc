"""What all tests share: no network, no surprises between runs, and no GPU tests where there is no GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from tests.loopback_hub import Hub, files_of, serving
from tests.service.installed import Installed

# Before any test imports a hub client: a test that needs a download shall fail, not wait.
os.environ["HF_HUB_OFFLINE"] = "1"
# Before torch is imported, and for the cores that tests start: its threads would wait for each other spinning, which on
# cores that others use too makes an edit several times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Two busy cores say nothing about an example's time; in CI a failure must show again when it is run again.
# Without the last phase, which lists the lines that only failing examples ran: pages of NumPy's and torch's own.
phases = [phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain]
hypothesis.settings.register_profile("local", deadline=None, phases=phases)
hypothesis.settings.register_profile("ci", deadline=None, phases=phases, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hosts", "real editors")
    group.addoption(
        "--hosts", action="store_true", help="run tests/hosts too: real editors, see `make test-hosts`"
    )
    group.addoption(
        "--host", action="append", metavar="NAME", help="only with this editor; may be given again"
    )
    group.addoption("--screenshots", metavar="DIR", help="keep the pictures of the editors there")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave tests/hosts out unless it is asked for: its tests take root, gigabytes and minutes."""
    is_hosts = collection_path == Path(__file__).with_name("hosts")
    return True if is_hosts and not config.getoption("hosts") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests marked `gpu` when torch sees no CUDA device."""
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return  # without asking torch, which takes seconds to import
    import torch

    if not torch.cuda.is_available():
        config.hook.pytest_deselected(items=gpu_items)
        items[:] = [item for item in items if item not in gpu_items]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tensors as small as those of tiny models are computed sooner than threads are woken, on busy cores above all."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights that fills in a fraction of a second."""
    from tests.checkpoint_files import tiny_checkpoint  # imports torch, which takes seconds

    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve sprites, three of them held out."""
    from tests.tiny import shard_sprites  # imports torch, which takes seconds

    from lazydiffusion.training.shards import write_shards

    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, shard_sprites())
    return folder


@pytest.fixture
def installed(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """A core that is installed for one test, which finds it as editors do, and is not running yet."""
    core = Installed(
        tmp_path / "Zoë's künstler 家", tiny_model
    )  # spaces, quotes and other scripts on the way
    core.use(monkeypatch)
    yield core
    core.end()


@pytest.fixture(scope="session")
def klein_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the hub has of a FLUX.2-klein, here a tiny one, by path."""
    from tests.tiny_flux2 import tiny_flux2  # imports torch, which takes seconds

    return files_of(tiny_flux2(tmp_path_factory.mktemp("published") / "flux2-klein"))


@pytest.fixture
def klein_hub(klein_files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub on loopback that has it; its `environment` is for the process that is to ask it."""
    with serving(klein_files) as hub:
        yield hub
