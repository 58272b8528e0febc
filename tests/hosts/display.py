"""A screen of its own for the tests, with a window manager, a mouse and a keyboard."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.hosts.chroots import ENDS_WITH_PARENT

WIDTH, HEIGHT = 1600, 1000

# Windows without frames, so that they are where they say; no shortcuts that would take the editors' own.
OPENBOX = """<?xml version="1.0" encoding="UTF-8"?>
<openbox_config xmlns="http://openbox.org/3.4/rc">
  <focus><focusNew>yes</focusNew></focus>
  <keyboard/>
  <mouse>
    <context name="Client">
      <mousebind button="Left" action="Press"><action name="Focus"/><action name="Raise"/></mousebind>
    </context>
  </mouse>
  <applications><application class="*"><decor>no</decor></application></applications>
</openbox_config>
"""


class Display:
    """An Xvfb with openbox. Events are real X events, made by xdotool; x and y are px of the whole screen."""

    def __init__(self, folder: Path) -> None:
        """Start it; `folder` takes its configuration and logs."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        reader, writer = os.pipe()
        screen = ["-screen", "0", f"{WIDTH}x{HEIGHT}x24"]
        # Without -noreset it starts anew whenever its last client goes, and drops who connects meanwhile.
        command = ["Xvfb", "-displayfd", str(writer), *screen, "-nolisten", "tcp", "-noreset"]
        try:
            self._server = self._start(command, pass_fds=(writer,))
        finally:
            os.close(writer)
        with os.fdopen(reader) as answer:  # ends when Xvfb has written the number, or is gone
            number = answer.readline().strip()
        if not number:
            raise RuntimeError(f"Xvfb did not start: {self._log('Xvfb')}")
        self.name = f":{number}"
        (folder / "openbox.xml").write_text(OPENBOX)
        self._manager = self._start(["openbox", "--sm-disable", "--config-file", str(folder / "openbox.xml")])
        self._wait_for_manager()

    def move(self, x: int, y: int) -> None:
        self.xdotool("mousemove", str(x), str(y))

    def click(self, x: int, y: int, button: int = 1, times: int = 1) -> None:
        """Click as a hand does: the pointer is there before the button goes down."""
        self.xdotool("mousemove", str(x), str(y), "sleep", "0.05")
        self.xdotool("click", "--repeat", str(times), "--delay", "80", str(button))

    def drag(self, x: int, y: int, to_x: int, to_y: int) -> None:
        """Press the left button, move in eight steps, let go where a hand has rested: a busy editor skips moves."""
        self.xdotool("mousemove", str(x), str(y), "sleep", "0.05", "mousedown", "1")
        for step in range(1, 9):
            there = (str(x + (to_x - x) * step // 8), str(y + (to_y - y) * step // 8))
            self.xdotool("mousemove", *there, "sleep", "0.03")
        self.xdotool("sleep", "0.3", "mousemove", str(to_x), str(to_y), "mouseup", "1")

    def key(self, *keys: str) -> None:
        """Press keys, one after the other, each as xdotool names it: ctrl+z, shift+Return, Escape."""
        self.xdotool("key", "--delay", "40", *keys)

    def type(self, text: str) -> None:
        self.xdotool("type", "--delay", "20", "--", text)

    def screenshot(self, path: Path) -> Path:
        subprocess.run(
            ["import", "-window", "root", path], env=self._environment(), check=True, capture_output=True
        )
        return path

    def close(self) -> None:
        for process in (self._manager, self._server):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def xdotool(self, *arguments: str) -> None:
        subprocess.run(
            ["xdotool", *arguments], env=self._environment(), check=True, capture_output=True, timeout=60
        )

    def _wait_for_manager(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                self.xdotool("get_num_desktops")  # a window manager's answer
                return
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline or self._manager.poll() is not None:
                    self.close()
                    raise RuntimeError(f"openbox did not start: {self._log('openbox')}") from None
                time.sleep(0.05)

    def _start(self, command: list[str], pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        with (self._folder / f"{command[0]}.log").open("wb") as log:
            return subprocess.Popen(
                [*ENDS_WITH_PARENT, *command],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=pass_fds,
            )

    def _environment(self) -> dict[str, str]:
        # A home of its own: nobody's openbox menus or imagemagick policies.
        named = {"DISPLAY": self.name} if hasattr(self, "name") else {}
        return {"PATH": os.environ["PATH"], "HOME": str(self._folder), "LANG": "C.UTF-8", **named}

    def _log(self, program: str) -> str:
        return (self._folder / f"{program}.log").read_text(errors="replace")[-2000:]
