"""A real core as a process of its own, with a tiny model, in folders of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil

from lazydiffusion.client import places
from lazydiffusion.client.core import Core
from lazydiffusion.client.transport import Transport
from lazydiffusion.protocol import EditRequest, EditSettings, ImageData

START_SECONDS = 60.0
MODEL = "tiny"


class CoreProcess:
    """`lazydiffusion serve` and what belongs to it. Its runtime folder and its history outlive it."""

    def __init__(
        self,
        folder: Path,
        model: Path,
        *,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "lazydiffusion"),
    ):
        """`model`: a checkpoint's folder. `environment`: what is set beside this process's own."""
        self.folder, self.model, self.program = folder, model, program
        self.runtime, self.history = folder / "run", folder / "history"
        self.log = folder / "log.txt"
        self.environment = {
            **os.environ, places.RUNTIME_VARIABLE: str(self.runtime), "OMP_NUM_THREADS": "1",
            "XDG_DATA_HOME": str(folder / "data"), **(environment or {}),
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def command(self, *options: str) -> list[str]:
        return [
            sys.executable, *self.program, "serve", "--model", str(self.model), "--device", "cpu",
            "--history", str(self.history), *options,
        ]  # fmt: skip

    def start(self, *options: str, until: str = "ready") -> Core:
        """Start it and wait until it listens, and unless `until` is "loading", until its model is loaded."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(*options), env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self._process.poll() is None, f"the core has ended: {self.said()}"
            assert time.monotonic() < deadline, f"the core is not ready: {self.said()}"
            found = places.RuntimeFile.read(self.runtime / places.RUNTIME_FILE)
            if found is not None and found.pid == self._process.pid:
                core = Core(Transport(found.address, found.token), "test")
                if until == "loading" or core.info()["state"] != "loading":
                    return core
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def said(self) -> str:
        return self.log.read_text(encoding="utf8", errors="replace") if self.log.exists() else ""

    def token(self) -> str:
        found = places.RuntimeFile.read(self.runtime / places.RUNTIME_FILE)
        assert found is not None
        return found.token

    def address(self) -> str:
        found = places.RuntimeFile.read(self.runtime / places.RUNTIME_FILE)
        assert found is not None
        return found.address

    def client(self) -> Core:
        """A client of the core."""
        return Core(Transport(self.address(), self.token()), "test")

    def kill(self) -> None:
        """As the system does when memory is short: no last words."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end by a signal; its exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(by)
        return self._process.wait(timeout=20)

    def wait(self, seconds: float) -> int:
        """Its exit status, when it ends by itself."""
        assert self._process is not None
        return self._process.wait(timeout=seconds)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def edit_request(
    width: int = 200,
    height: int = 120,
    box: tuple[int, int, int, int] = (50, 30, 60, 50),
    *,
    client: str = "",
    **settings: object,
) -> EditRequest:
    """A canvas of noise with a box to fill."""
    x, y, w, h = box
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + h, x : x + w] = 255
    return EditRequest(
        EditSettings(**{"prompt": "a cat", "seed": 7, "model": MODEL, **settings}),
        (width, height),
        ImageData("rgb8", (width, height), picture(width, height).tobytes()),
        ImageData("grey8", (width, height), mask.tobytes()),
        client=client,
    )


def long_request(**settings: object) -> EditRequest:
    """An edit that takes many seconds, of very many steps."""
    return edit_request(**{"steps": 200, "variations": 16, **settings})
