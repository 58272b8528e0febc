"""Real GIMPs that end with the test, or with the tests of a file; and the dialog in one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest
from tests.hosts.chroots import Host
from tests.hosts.display import Display
from tests.hosts.gimp.dialog import BOX, fresh
from tests.hosts.gimp.painter import Painter, picture, with_plugin
from tests.hosts.gimp.plugin_process import Plugin
from tests.hosts.gimp.real_gimp import RealGimp

# The topmost dialog first, because the one below waits for it.
CLOSE = """
dialogs = [widget for widget in widgets() if isinstance(widget, Gtk.Dialog) and widget.get_mapped()]
for widget in sorted(dialogs, key=lambda widget: widget.get_transient_for() is None):
    widget.response(Gtk.ResponseType.CLOSE)
"""
CRASHED = "GIMP Message"


class StartGimp(Protocol):
    """Starts a GIMP, in a home of its own, that a GIMP without the plug-in has used before."""

    def __call__(
        self,
        install: Callable[[Path], object] | None = None,
        environment: Mapping[str, str] | None = None,
        home: Path | None = None,
        gui: bool = True,
    ) -> RealGimp:
        """See RealGimp; `home` is one to start from in place of the usual: a GIMP's that has quit."""


@pytest.fixture(scope="session")
def gimp_profile(gimp_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which this GIMP has asked its own plug-ins what they offer, which takes it some five seconds."""
    gimp = RealGimp(gimp_host, tmp_path_factory.mktemp("profile"))
    try:
        gimp.start()
        gimp.quit()
    finally:
        gimp.kill()
    return gimp.home


@pytest.fixture
def start_gimp(gimp_host: Host, display: Display, gimp_profile: Path, tmp_path: Path) -> Iterator[StartGimp]:
    """Starts GIMPs that quit with the test, which fails then if an exception was not caught in the plug-in."""
    with _gimps(gimp_host, display, gimp_profile, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def start_shared_gimp(
    gimp_host: Host, display: Display, gimp_profile: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartGimp]:
    """As `start_gimp`, for GIMPs that a whole module shares."""
    with _gimps(gimp_host, display, gimp_profile, tmp_path_factory.mktemp("gimp")) as start:
        yield start


@pytest.fixture(scope="module")
def shown_gimp(start_shared_gimp: StartGimp, tiny_model: Path) -> RealGimp:
    return start_shared_gimp(install=with_plugin(tiny_model))


@pytest.fixture
def painter(shown_gimp: RealGimp) -> Iterator[Painter]:
    found = Painter(shown_gimp)
    yield found
    for plugin in shown_gimp.plugins():
        plugin.later(CLOSE)
        plugin.wait_until_ended()
    if CRASHED in shown_gimp.window_titles():  # GIMP's word on a plug-in that was killed
        shown_gimp.activate_window(CRASHED)
        shown_gimp.key("Escape")
    found.delete()
    assert "inconsistent state" not in shown_gimp.log


@pytest.fixture(scope="module")
def scripted_gimp(start_shared_gimp: StartGimp, tiny_model: Path) -> RealGimp:
    return start_shared_gimp(install=with_plugin(tiny_model), gui=False)


@pytest.fixture
def scripted_painter(scripted_gimp: RealGimp) -> Iterator[Painter]:
    """In a GIMP without a window."""
    found = Painter(scripted_gimp)
    yield found
    found.delete()
    # GIMP says so when a plug-in leaves an undo group open.
    assert "inconsistent state" not in scripted_gimp.log


@pytest.fixture
def plugin(painter: Painter) -> Plugin:
    """The dialog, opened on a small picture with a selection; its fields are as at first."""
    painter.create(picture(), show=True)
    painter.select(*BOX)
    return fresh(painter.open_dialog())


@contextmanager
def _gimps(host: Host, display: Display, profile: Path, folder: Path) -> Iterator[StartGimp]:
    started: list[RealGimp] = []

    def start(
        install: Callable[[Path], object] | None = None,
        environment: Mapping[str, str] | None = None,
        home: Path | None = None,
        gui: bool = True,
    ) -> RealGimp:
        place = folder / f"gimp-{len(started)}"
        screen = display if gui else None
        started.append(RealGimp(host, place, screen, install, environment, home or profile))
        return started[-1].start()

    try:
        yield start
        for gimp in started:
            if gimp.running:
                gimp.quit()
    finally:
        for gimp in started:
            gimp.kill()
