"""Real editors for the tests: a screen, the hosts, and Kritas that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest
from PIL import Image
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


HOST_FIXTURES = {"krita_host": "krita", "gimp_host": "gimp", "any_host": None}
"""The editor that each is of."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for a host in each that there is of its editor, or in those that --host names."""
    for fixture, editor in HOST_FIXTURES.items():
        if fixture in metafunc.fixturenames:
            fitting = [name for name in chroots.RECIPES if editor in (None, chroots.RECIPES[name].editor)]
            chosen = [name for name in _chosen(metafunc.config) if name in fitting]
            # One that fits no chosen host is left out below, not skipped.
            metafunc.parametrize(fixture, chosen or fitting[:1], indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of other hosts than the chosen, and those of no host in all but the first host's run."""
    here, chosen = Path(__file__).parent, _chosen(config)

    def is_other(item: pytest.Item) -> bool:
        given: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
        hosts = [value for fixture, value in given.items() if fixture in HOST_FIXTURES] or [
            next(iter(chroots.RECIPES))
        ]
        return here in item.path.parents and not set(hosts) <= set(chosen)

    others = [item for item in items if is_other(item)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def _chosen(config: pytest.Config) -> list[str]:
    """The hosts that --host names, or all. Raises UsageError for one that is none."""
    names: list[str] = config.getoption("host") or list(chroots.RECIPES)
    if unknown := sorted(set(names) - set(chroots.RECIPES)):
        raise pytest.UsageError(f"--host {unknown[0]}: there are {', '.join(chroots.RECIPES)}")
    return names


@pytest.fixture(scope="session")
def display(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Display]:
    screen = Display(tmp_path_factory.mktemp("display"))
    yield screen
    screen.close()


@pytest.fixture(scope="session")
def krita_host(request: pytest.FixtureRequest) -> chroots.Host:
    """Each Krita that we test with, in turn."""
    return _host(request.param)


@pytest.fixture(scope="session")
def gimp_host(request: pytest.FixtureRequest) -> chroots.Host:
    """Each GIMP that we test with, in turn."""
    return _host(request.param)


@pytest.fixture(scope="session")
def any_host(request: pytest.FixtureRequest) -> chroots.Host:
    """Each host, in turn."""
    return _host(request.param)


def _host(name: str) -> chroots.Host:
    """Skips the test where a host that is not required cannot be made."""
    try:
        return chroots.host(name)
    except chroots.HostUnavailable as error:
        if chroots.RECIPES[name].required:
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


@pytest.fixture
def keep_picture(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Image.Image, str], None]:
    """Keeps a picture where --screenshots says, or in the test's own folder."""
    folder = Path(request.config.getoption("screenshots") or tmp_path)

    def keep(picture: Image.Image, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        picture.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
            folder / f"{name}.png", optimize=True
        )

    return keep
