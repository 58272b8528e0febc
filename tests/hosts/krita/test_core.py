"""What runs in a real Krita finds and starts the real core of this repository, which ends with Krita."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.hosts.chroots import REPOSITORY
from tests.hosts.conftest import StartKrita
from tests.hosts.installing import MODEL
from tests.hosts.krita.artist import with_plugin
from tests.hosts.krita.real_krita import RealKrita

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Krita's own Python runs the client: in a thread, because to start a core takes seconds.
ASK = """
import sys, threading
if core not in sys.path:
    sys.path.insert(0, core)
from lazydiffusion.client import connect
keep.pop("info", None)
def ask():
    keep["info"] = connect(client="test").info()
threading.Thread(target=ask).start()
"""


def asked_in(krita: RealKrita) -> dict[str, Any]:
    krita.ask(ASK, core=str(REPOSITORY / "core"))
    info: dict[str, Any] = krita.wait_for("keep.get('info')", 90)
    return info


def processes_of(folder: Path) -> list[list[str]]:
    """The machine's processes whose command names that folder: those inside a host are among them."""
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [command for command in commands if any(str(folder / "core") in word for word in command)]


def test_krita_starts_a_core_and_again_after_its_death(start_krita: StartKrita, tiny_model: Path) -> None:
    krita = start_krita(install=with_plugin(tiny_model, own=False))
    assert krita.core_pid() is None
    info = asked_in(krita)
    assert info["default_model"] == MODEL
    first = krita.core_pid()
    assert first == info["pid"]
    assert any("serve" in command for command in processes_of(krita.folder))

    assert krita.kill_core() == first
    second = asked_in(krita)["pid"]
    assert second == krita.core_pid() != first

    krita.quit()
    assert processes_of(krita.folder) == []
