"""A core that is installed as an editor finds it: a program named by LAZYDIFFUSION_CORE, here with a tiny model."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lazydiffusion.client import connect, places, start
from lazydiffusion.client.errors import CoreError


class Installed:
    """The program, its runtime folder and its history; `environment` is what an editor's process would have."""

    def __init__(self, folder: Path, model: Path, *options: str):
        self.folder, self.runtime, self.history = folder, folder / "run", folder / "history"
        folder.mkdir(parents=True, exist_ok=True)
        self.program = folder / "lazy core"
        words = ["--model", str(model), "--device", "cpu", "--history", str(self.history), *options]
        self.program.write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lazydiffusion "$@" {shlex.join(words)}\n',
            encoding="utf8",
        )
        self.program.chmod(stat.S_IRWXU)
        self.environment = {
            start.COMMAND_VARIABLE: shlex.quote(str(self.program)),
            places.RUNTIME_VARIABLE: str(self.runtime),
            "XDG_DATA_HOME": str(folder / "data"),  # no models of the user who runs the tests
        }

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process find it."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    def pid(self) -> int:
        """Of the core that the runtime file names."""
        found = places.RuntimeFile.read(self.runtime / places.RUNTIME_FILE)
        assert found is not None
        return found.pid

    def kill(self) -> int:
        """As the system does when memory is short; the pid that it had."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        return pid

    def cores(self) -> list[int]:
        """The pids of all cores that were started by the program."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                if "serve" in command and str(self.history) in command and process.status() != "zombie":
                    found.append(process.pid)
        return found

    def run(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """Python in another process, as a client."""
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> None:
        """Stop what is running."""
        with contextlib.suppress(CoreError):
            connect(start=False).stop()
        deadline = time.monotonic() + 15
        while self.cores() and time.monotonic() < deadline:
            time.sleep(0.05)
        start.reap()
        for pid in self.cores():
            os.kill(pid, signal.SIGKILL)
