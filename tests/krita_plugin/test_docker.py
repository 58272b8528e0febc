"""What the plugin gives to Krita: a docker in each window, and actions that work in their own window."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from krita_plugin.lazydiffusion import docker
from PyQt6 import QtCore
from pytestqt.qtbot import QtBot
from tests.krita_plugin.conftest import Bench, layers
from tests.krita_plugin.fake_krita import DockWidgetFactoryBase, Krita
from tests.service.installed import Installed

from lazydiffusion.client import connect

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


class DockedBench(Bench):
    """A window whose docker and actions were made as Krita makes them."""

    def __init__(self, qtbot: QtBot) -> None:
        super().__init__(qtbot)
        self.panel.close_down()
        for old in self.window.widget.findChildren(docker.DockWidget):
            self.window.widget.removeDockWidget(old)
            old.setParent(None)
        krita = Krita.instance()
        if not krita.factories:
            docker.register()
        [factory], [extension] = krita.factories, krita.extensions
        made = factory.kind()
        self.window.widget.addDockWidget(QtCore.Qt.DockWidgetArea.RightDockWidgetArea, made)
        self.docker, self.panel = made, made.panel
        extension.setup()
        extension.createActions(self.window)

    def trigger(self, name: str) -> None:
        self.window.actions[f"lazydiffusion_{name}"].trigger()


@pytest.fixture
def two(qtbot: QtBot, core: Installed) -> tuple[DockedBench, DockedBench]:
    return DockedBench(qtbot), DockedBench(qtbot)


def test_it_gives_one_docker_and_one_set_of_actions(krita: Krita) -> None:
    docker.register()
    [factory] = krita.factories
    assert (factory.name, factory.place) == ("lazydiffusion", DockWidgetFactoryBase.DockRight)
    assert factory.kind is docker.LazyDiffusionDocker
    [extension] = krita.extensions
    assert isinstance(extension, docker.LazyDiffusionActions)


def test_the_actions_are_those_of_the_action_file(two: tuple[DockedBench, DockedBench]) -> None:
    tree = ET.parse(ROOT / "krita_plugin" / "lazydiffusion.action")
    listed = {action.get("name"): action.findtext("text") for action in tree.iter("Action")}
    shortcuts = [action.findtext("shortcut") for action in tree.iter("Action")]
    made = {name: action.text() for name, action in two[0].window.actions.items()}
    assert made == listed
    assert len(listed) == 6
    assert all(shortcuts)
    assert len(set(shortcuts)) == 6


def test_each_action_works_in_its_own_window(two: tuple[DockedBench, DockedBench]) -> None:
    left, right = two
    documents = left.open(), right.open()
    for bench in two:
        bench.panel.settings.variations.setValue(2)
    left.trigger("generate")
    assert (left.panel.session.busy, right.panel.session.busy) == (True, False)
    left.finish()
    right.trigger("generate")
    assert (left.panel.session.busy, right.panel.session.busy) == (False, True)
    right.finish()

    (first, second), others = left.panel.results.results, right.panel.results.results
    left.trigger("next")
    assert left.panel.results.current is second
    left.trigger("next")
    left.trigger("previous")
    assert left.panel.results.current is second
    left.trigger("previous")
    assert left.panel.results.current is first
    assert right.panel.results.current is others[0]

    right.trigger("apply")
    right.wait_until(lambda: not right.panel.applying.busy)
    assert [len(layers(document)) for document in documents] == [1, 2]
    assert not left.panel.applying.busy

    for bench in two:
        bench.panel.settings.steps.setValue(200)
        bench.trigger("generate")
    left.trigger("cancel")
    left.finish()
    assert right.panel.session.busy
    right.trigger("cancel")
    right.finish()


def test_actions_without_anything_to_do_do_nothing(two: tuple[DockedBench, DockedBench]) -> None:
    for name in ("cancel", "apply", "next", "previous"):
        two[0].trigger(name)
    assert two[0].notice == ""
    assert not two[0].panel.session.busy


def test_actions_of_a_window_without_the_docker_do_nothing(qtbot: QtBot, core: Installed) -> None:
    bench = DockedBench(qtbot)
    bench.panel.close_down()
    bench.window.widget.removeDockWidget(bench.docker)
    bench.docker.setParent(None)
    for name in docker.ACTIONS:
        bench.trigger(name)


def test_krita_tells_the_docker_that_another_picture_is_shown(
    two: tuple[DockedBench, DockedBench], qtbot: QtBot
) -> None:
    bench = two[0]
    bench.open()
    bench.generate()
    assert bench.overlay is not None
    bench.open()
    bench.docker.canvasChanged(None)
    bench.wait_until(lambda: bench.overlay is None)
    assert bench.docker.windowTitle() == "LazyDiffusion"


def test_a_docker_that_goes_with_its_window_ends_its_edit_and_no_other(
    two: tuple[DockedBench, DockedBench],
) -> None:
    left, right = two
    for bench in two:
        bench.open()
    going = Krita.instance().factories[0].kind()
    left.window.widget.addDockWidget(QtCore.Qt.DockWidgetArea.RightDockWidgetArea, going)
    session, heard = going.panel.session, []
    session.ended.connect(heard.append)
    going.panel.settings.variations.setValue(8)
    going.panel.settings.steps.setValue(200)
    going.panel.generate()
    left.wait_until(lambda: session.share)
    right.panel.generate()
    with left.qtbot.waitSignal(session.destroyed):
        going.setParent(None)
        going.deleteLater()
    right.finish()
    assert len(right.panel.results.results) == 1
    left.wait_until(lambda: not connect(start=False).info()["queue"]["running"])
    left_over = [entry for entry in connect(start=False).history(2) if entry.settings.variations == 8]
    assert all(len(entry.fills) < 8 for entry in left_over)
    assert heard == [], "nobody is told any more"


def test_outside_of_krita_the_package_does_nothing() -> None:
    script = (
        "import sys; sys.path.insert(0, %r)\n"
        "import krita_plugin.lazydiffusion as package\n"
        "print(sorted(name for name in sys.modules if 'PyQt' in name or name.startswith(package.__name__)))"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", script % str(ROOT)], capture_output=True, text=True, timeout=60
    )
    assert ran.stderr == ""
    assert ran.stdout.strip() == "['krita_plugin.lazydiffusion']"
