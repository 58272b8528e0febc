"""Real cores with a tiny model: one for the tests that leave it as it was, and fresh ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.service.core_process import CoreProcess

from lazydiffusion.client.core import Core


@pytest.fixture(scope="session")
def process(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreProcess]:
    """A core that many tests share; it is running."""
    shared = CoreProcess(tmp_path_factory.mktemp("core"), tiny_model)
    shared.start()
    yield shared
    assert shared.end() == 0, shared.said()


@pytest.fixture(scope="session")
def tcp_process(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreProcess]:
    """As `process`, but where web pages could reach it: at a port of this machine."""
    shared = CoreProcess(tmp_path_factory.mktemp("tcp-core"), tiny_model)
    shared.start("--tcp", "127.0.0.1:0")
    yield shared
    assert shared.end() == 0, shared.said()


@pytest.fixture
def core(process: CoreProcess) -> Core:
    """The shared core, as a client has it."""
    from lazydiffusion.client import places
    from lazydiffusion.client.transport import Transport

    found = places.RuntimeFile.read(process.runtime / places.RUNTIME_FILE)
    assert found is not None, process.said()
    return Core(Transport(found.address, found.token), "test")


@pytest.fixture
def new_process(tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., CoreProcess]]:
    """Makes cores, not yet started, that end with the test."""
    made: list[CoreProcess] = []

    def make(folder: Path | None = None, **options: object) -> CoreProcess:
        made.append(CoreProcess(folder or tmp_path / f"core-{len(made)}", tiny_model, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for process in made:
        if process.running:
            process.end()
