"""A real Krita on the tests' display, asked by snippets and worked by mouse and keyboard."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.hosts.chroots import Host
from tests.hosts.display import Display
from tests.hosts.driven import DrivenEditor

DRIVER = Path(__file__).with_name("driver")
KRITARC = "[python]\nenable_lazydriver=true\n"

# Where the mouse must go to hit a widget: what a click would not reach is an error, not a click on something else.
POINT = """
widget = find(name)
if not widget.isVisible():
    raise LookupError(f'The widget "{name}" is not visible.')
if not widget.isEnabled():
    raise LookupError(f'The widget "{name}" is disabled: a click would do nothing.')
inside = QtCore.QPoint(int((widget.width() - 1) * fx), int((widget.height() - 1) * fy))
there = widget.mapToGlobal(inside)
hit = QtWidgets.QApplication.widgetAt(there)
if hit is None or not (hit == widget or widget.isAncestorOf(hit)):
    over = "nothing" if hit is None else f'{type(hit).__name__} "{hit.objectName()}"'
    raise LookupError(f'A click on "{name}" at {there.x()}, {there.y()} would hit {over}: scroll, or close that.')
return there.x(), there.y()
"""

LAYER_LIST = 1.2
"""Seconds after which Krita 5.1's list of layers has taken the last change in; a document closed before may crash it
(KisNodeModel::processUpdateQueue, seen in 5.1.5 without any plugin at work)."""

CLOSE_DOCUMENTS = """
for document in app.documents():
    document.setBatchmode(True)
    document.setModified(False)
    document.close()
"""


class KritaFailed(Exception):
    """A snippet raised, Krita ended or did not answer; the message has what it said."""


class RealKrita(DrivenEditor):
    """One run of Krita.

        krita = RealKrita(host, tmp_path, display, install=put_the_plugin_there)   # does not start it yet
        krita.start()                                     # until its window is there
        krita.ask("app.version()")                        # an expression, or statements with return
        krita.ask("return find(name).text()", name="prompt")    # values become names of the snippet
        krita.click("generate")                           # a real click on the widget with that objectName
        krita.type_into("prompt", "a red apple")
        krita.key("ctrl+z")
        krita.wait_for("find('apply').isEnabled()", timeout=60)
        krita.quit()                                      # fails if an exception went uncaught inside Krita

    A snippet runs on the GUI thread and has in scope: `app` (Krita's), `window` (the main window as QWidget, or None),
    `find(objectName)`, `keep` (a dict that lasts from snippet to snippet), `heartbeat`, the modules `krita`, `QtCore`,
    `QtGui` and `QtWidgets`, and the values given by name. What it returns must be JSON. `ask` waits for the answer;
    `later` does not, and is for what opens a modal dialog: Krita goes on answering behind it.

    `folder` becomes Krita's world: `home` in it is HOME and has the same path inside the host and outside, so tests
    read and write files there; the rest of the machine but for the repository and its Python is not to be seen.
    `install(home)` is called before the start, when home is there. `profile` is a home to start from: one that a Krita
    has already used starts in half the time.
    Process ids inside the host are not the machine's: kill what the plugin started by a snippet, os.kill(pid, 9), as
    `kill_core` does. All of it ends with Krita.
    """

    name = "Krita"
    failed = KritaFailed
    display: Display

    def __init__(
        self,
        host: Host,
        folder: Path,
        display: Display,
        install: Callable[[Path], object] | None = None,
        environment: Mapping[str, str] | None = None,
        profile: Path | None = None,
    ) -> None:
        super().__init__(folder, display)
        self.host = host
        self.environment = dict(environment or {})
        self._prepare_home(profile)
        if install:
            install(self.home)

    def start(self, timeout: float = 120) -> RealKrita:
        """Start Krita with its window at 1590 x 990 px, which is nearly the whole screen."""
        self._socket.unlink(missing_ok=True)
        started = time.monotonic()
        with self._log.open("ab") as log:
            self._process = self.host.popen(
                ["krita", "--nosplash"],
                self._environment(),
                [self.folder],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = started + timeout
        self._wait_for_socket(deadline)
        self.wait_for("window is not None and window.isVisible()", deadline - time.monotonic())
        self.ask("window.setGeometry(0, 0, 1590, 990); window.activateWindow()")
        self.settle()
        self.start_seconds = time.monotonic() - started
        return self

    def click(self, object_name: str, button: int = 1, times: int = 1) -> None:
        """Click in the middle of a widget. Raises KritaFailed if a click there would not reach it."""
        self.click_at(object_name, 0.5, 0.5, button, times)

    def click_at(self, object_name: str, fx: float, fy: float, button: int = 1, times: int = 1) -> None:
        """Click in a widget, at fractions of its width and height."""
        self.display.click(*self.point(object_name, fx, fy), button, times)
        self.settle()

    def point(self, object_name: str, fx: float = 0.5, fy: float = 0.5) -> tuple[int, int]:
        """Where a click hits a widget, px of the screen. Looking for it keeps Krita's window waiting for some 80 ms.

        Raises KritaFailed if a click there would not reach it.
        """
        x, y = self.ask(POINT, name=object_name, fx=fx, fy=fy)
        return x, y

    def type_into(self, object_name: str, text: str) -> None:
        """Click on a widget and type. Raises KritaFailed if the click does not give it the keyboard."""
        self.click(object_name)
        self.wait_for(
            "focus = QtWidgets.QApplication.focusWidget(); widget = find(name)\n"
            "return focus is not None and (focus == widget or widget.isAncestorOf(focus))",
            5,
            name=object_name,
        )
        self.display.type(text)
        self.settle()

    def key(self, *keys: str) -> None:
        """Press keys (ctrl+z, shift+Return) where the keyboard is."""
        self.display.key(*keys)
        self.settle()

    def settle(self) -> None:
        """Give Krita the time to take the events that were sent; what follows from them may take longer."""
        self._request("settle", "", 30, {})

    def reset_heartbeat(self) -> None:
        self.ask("heartbeat.reset()")

    def longest_stall_ms(self) -> float:
        """The longest time since the reset in which the GUI thread did not come back to its event loop."""
        return float(self.ask("heartbeat.read()")["longest_ms"])

    def grab(self, object_name: str, path: Path) -> Path:
        """Save what a widget looks like as PNG."""
        inside = self.folder / "grab.png"  # where Krita can write; `path` need not be
        if not self.ask("find(name).grab().save(path)", name=object_name, path=str(inside)):
            raise KritaFailed(f'The widget "{object_name}" could not be saved as {inside}.')
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(inside, path)
        return path

    def screenshot(self, path: Path) -> Path:
        """Save the whole screen as PNG."""
        return self.display.screenshot(path)

    def quit(self, timeout: float = 60) -> None:
        """Close the documents without asking and quit. Raises KritaFailed unless all went well to the end."""
        time.sleep(LAYER_LIST)
        self.ask(CLOSE_DOCUMENTS)
        self.later("app.action('file_quit').trigger()")
        status = self._wait_for_end(timeout)
        if uncaught := self.take_uncaught():
            raise KritaFailed("Nobody caught this inside Krita:\n" + "\n".join(uncaught))
        if status:
            raise KritaFailed(f"Krita ended with status {status}.\n{self.log[-3000:]}")

    def _prepare_home(self, profile: Path | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if profile:
            shutil.copytree(profile, self.home, symlinks=True)
        (self.folder / "run").mkdir(mode=0o700, exist_ok=True)
        plugins = self.home / ".local/share/krita/pykrita"
        shutil.copytree(DRIVER, plugins, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        settings = self.home / ".config/kritarc"
        if not settings.exists():
            settings.parent.mkdir(parents=True, exist_ok=True)
            settings.write_text(KRITARC)

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "DISPLAY": self.display.name,
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "PYTHONFAULTHANDLER": "1",  # where a crash came from is in the log then
            "LAZYDRIVER_SOCKET": str(self._socket),
            "LAZYDRIVER_UNCAUGHT": str(self._uncaught),
            **self.environment,
        }
