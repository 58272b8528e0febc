"""Real editors for the tests: a screen, the hosts, and Kritas that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest
from tests.hosts import chroots
from tests.hosts.display import Display
from tests.hosts.krita.real_krita import RealKrita


class StartKrita(Protocol):
    """Starts a Krita, in a home of its own, that a Krita without the plugin has used before."""

    def __call__(
        self,
        install: Callable[[Path], object] | None = None,
        environment: Mapping[str, str] | None = None,
        home: Path | None = None,
    ) -> RealKrita:
        """See RealKrita; `home` is one to start from in place of the usual: a Krita's that has quit."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "krita_host" not in metafunc.fixturenames:
        return
    names = metafunc.config.getoption("host") or list(chroots.RECIPES)
    if unknown := sorted(set(names) - set(chroots.RECIPES)):
        raise pytest.UsageError(f"--host {unknown[0]}: there are {', '.join(chroots.RECIPES)}")
    metafunc.parametrize("krita_host", names, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests of no host to the first one's run, when each host has a run of its own."""
    names = config.getoption("host")
    if names and next(iter(chroots.RECIPES)) not in names:
        here = Path(__file__).parent
        others = [it for it in items if here in it.path.parents and "krita_host" not in it.fixturenames]  # type: ignore[attr-defined]
        config.hook.pytest_deselected(items=others)
        items[:] = [it for it in items if it not in others]


@pytest.fixture(scope="session")
def display(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Display]:
    screen = Display(tmp_path_factory.mktemp("display"))
    yield screen
    screen.close()


@pytest.fixture(scope="session")
def krita_host(request: pytest.FixtureRequest) -> chroots.Host:
    """Each Krita that we test with, in turn."""
    try:
        return chroots.host(request.param)
    except chroots.HostUnavailable as error:
        if chroots.RECIPES[request.param].required:
            raise
        pytest.skip(f"HOST UNAVAILABLE: {error}")


@pytest.fixture(scope="session")
def krita_profile(
    krita_host: chroots.Host, display: Display, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A home in which this Krita has made its resource database, which takes it ten seconds."""
    krita = RealKrita(krita_host, tmp_path_factory.mktemp("profile"), display)
    try:
        krita.start()
        krita.quit()
    finally:
        krita.kill()
    return krita.home


@pytest.fixture
def start_krita(
    krita_host: chroots.Host, display: Display, krita_profile: Path, tmp_path: Path
) -> Iterator[StartKrita]:
    """Starts Kritas that quit with the test, which fails then if an exception was not caught inside."""
    with _kritas(krita_host, display, krita_profile, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def start_shared_krita(
    krita_host: chroots.Host, display: Display, krita_profile: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartKrita]:
    """As `start_krita`, for Kritas that a whole module shares."""
    with _kritas(krita_host, display, krita_profile, tmp_path_factory.mktemp("krita")) as start:
        yield start


@contextmanager
def _kritas(host: chroots.Host, display: Display, profile: Path, folder: Path) -> Iterator[StartKrita]:
    started: list[RealKrita] = []

    def start(
        install: Callable[[Path], object] | None = None,
        environment: Mapping[str, str] | None = None,
        home: Path | None = None,
    ) -> RealKrita:
        place = folder / f"krita-{len(started)}"
        started.append(RealKrita(host, place, display, install, environment, home or profile))
        return started[-1].start()

    try:
        yield start
        for krita in started:
            if krita.running:
                krita.quit()
    finally:
        for krita in started:
            krita.kill()
