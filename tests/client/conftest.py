"""A runtime folder of a test's own, and a stand-in for the core in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.stand_in import StandIn, announce, stand_in

from lazydiffusion.client import places, start
from lazydiffusion.protocol import EditRequest, EditSettings, ImageData


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty runtime folder; no core is installed."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv(places.RUNTIME_VARIABLE, str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    # Those that other tests of this process have started, and still use, are none of this one's business.
    monkeypatch.setattr(start, "_started", [])
    monkeypatch.delenv(start.COMMAND_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return folder


@pytest.fixture
def core(runtime: Path) -> Iterator[StandIn]:
    """A stand-in that clients find."""
    with stand_in("unix:%s" % (runtime / places.SOCKET)) as server:
        announce(server, runtime)
        yield server


@pytest.fixture
def request_16() -> EditRequest:
    """A small edit."""
    grey = ImageData("grey8", (16, 16), bytes(range(256)))
    return EditRequest(EditSettings(prompt="ä cat"), (16, 16), ImageData("rgb8", (16, 16), bytes(768)), grey)
