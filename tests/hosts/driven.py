"""What tests ask of a real editor: snippets of Python that a driver inside it runs, and a process that ends well."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.hosts.display import Display

LONGEST_SOCKET_PATH = 107

# Of the runtime file alone, so that it needs no plugin.
CORE_PID = """
import json, os, pathlib
try:
    return json.loads(pathlib.Path(os.environ["XDG_RUNTIME_DIR"], "lazydiffusion", "core.json").read_text())["pid"]
except FileNotFoundError:
    return None
"""


class Driven(ABC):
    """A process with a driver in it, which listens on a Unix socket.

    A request is one line of JSON: {"kind", "snippet", "values"}; the answer is {"value"} or {"error": a traceback}.
    """

    name: ClassVar[str]
    failed: ClassVar[type[Exception]]
    """What it raises when something goes wrong inside."""

    def __init__(self, path: Path) -> None:
        if len(str(path)) > LONGEST_SOCKET_PATH:
            raise ValueError(f"The path of the socket {path} is too long. Give a folder with a shorter name.")
        self._socket = path

    def ask(self, snippet: str, timeout: float = 60, /, **values: object) -> Any:
        """Run a snippet and give what it returns. Raises `failed` with its traceback, or after `timeout` s."""
        return self._request("ask", snippet, timeout, values)

    def later(self, snippet: str, /, **values: object) -> None:
        """Run a snippet without waiting for its end; what it raises counts as uncaught."""
        self._request("later", snippet, 60, values)

    def wait_for(self, snippet: str, timeout: float = 60, /, **values: object) -> Any:
        """Run a snippet every 50 ms until what it gives is true; that is the answer."""
        deadline = time.monotonic() + timeout
        while not (value := self.ask(snippet, max(30, timeout), **values)):
            if time.monotonic() > deadline:
                raise self.failed(
                    f"Not true within {timeout:g} s, but {value!r} at the end:\n{snippet}{self._evidence()}"
                )
            time.sleep(0.05)
        return value

    @abstractmethod
    def _check_running(self) -> None:
        """Raise `failed` if the process has ended."""

    @abstractmethod
    def _evidence(self) -> str:
        """Where to look after a failure."""

    def _request(self, kind: str, snippet: str, timeout: float, values: Mapping[str, object]) -> Any:
        request = json.dumps({"kind": kind, "snippet": snippet, "values": values}) + "\n"
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout)
                connection.connect(str(self._socket))
                connection.sendall(request.encode())
                with connection.makefile(encoding="utf8") as stream:
                    line = stream.readline()
        except TimeoutError:
            raise self.failed(
                f"No answer within {timeout:g} s to:\n{snippet or kind}{self._evidence()}"
            ) from None
        except OSError as error:
            self._check_running()
            raise self.failed(
                f"{self.name}'s driver cannot be reached ({error}).{self._evidence()}"
            ) from None
        if not line:
            self._check_running()
            raise self.failed(f"{self.name} gave no answer to:\n{snippet or kind}{self._evidence()}")
        answer = json.loads(line)
        if "error" in answer:
            raise self.failed(answer["error"])
        return answer["value"]


class DrivenEditor(Driven):
    """An editor in a host, with what it leaves in its folder: the log, and what nobody caught inside."""

    def __init__(self, folder: Path, display: Display | None) -> None:
        self.folder = folder.resolve()
        self.display = display
        self.home = self.folder / "home"
        self.start_seconds = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._uncaught = self.folder / "uncaught.jsonl"
        self._log = self.folder / f"{self.name.lower()}.log"
        super().__init__(self.folder / "driver.sock")

    def core_pid(self) -> int | None:
        """The core's that was started inside, as processes inside see it. None when the runtime file names none."""
        pid = self.ask(CORE_PID)
        return None if pid is None else int(pid)

    def kill_core(self) -> int:
        """End the core as kill -9 does; the pid that it had."""
        return self._signal_core("SIGKILL")

    @contextmanager
    def held_core(self) -> Iterator[None]:
        """Within it the core stands still, so that a busy editor can be looked at for as long as that takes."""
        self._signal_core("SIGSTOP")
        try:
            yield
        finally:
            self._signal_core("SIGCONT")

    def _signal_core(self, name: str) -> int:
        pid = self.core_pid()
        if pid is None:
            raise self.failed("There is no core: the runtime file names none.")
        self.ask("import os, signal; os.kill(pid, getattr(signal, name))", pid=pid, name=name)
        return pid

    def kill(self) -> None:
        """End the editor and all that it started, at once. Harmless when it has ended."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def take_uncaught(self) -> list[str]:
        """The tracebacks that nobody caught, in threads too, since the last call; `quit` will not complain of them."""
        if not self._uncaught.exists():
            return []
        lines = self._uncaught.read_text(encoding="utf8").splitlines()
        self._uncaught.unlink()
        return [json.loads(line) for line in lines]

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the editor wrote to stdout and stderr."""
        return self._log.read_text(encoding="utf8", errors="replace") if self._log.exists() else ""

    def _wait_for_socket(self, deadline: float) -> None:
        started = time.monotonic()
        while not self._socket.exists():
            self._check_running(0)
            if time.monotonic() > deadline:
                seconds = time.monotonic() - started
                raise self.failed(
                    f"{self.name}'s driver did not answer within {seconds:.0f} s.{self._evidence()}"
                )
            time.sleep(0.1)

    def _wait_for_end(self, timeout: float) -> int:
        """The status that it ended with."""
        process = self._running_process()
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            evidence = self._evidence()
            self.kill()
            raise self.failed(f"{self.name} did not quit within {timeout:g} s.{evidence}") from None
        self._process = None
        return status

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise self.failed(f"{self.name} is not running: it was not started, or it has quit.")
        return self._process

    def _check_running(self, patience: float = 1) -> None:
        process = self._running_process()
        try:
            status = process.wait(patience)  # a socket breaks a moment before its process is gone
        except subprocess.TimeoutExpired:
            return
        raise self.failed(f"{self.name} ended with status {status}.\n{self.log[-3000:]}")

    def _evidence(self) -> str:
        seen = ""
        if self.display:
            seen = f"\nThe screen: {self.display.screenshot(self.folder / 'failure.png')}."
        return f"{seen}\nThe end of {self.name}'s log:\n{self.log[-2000:]}"
