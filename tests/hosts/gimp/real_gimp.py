"""A real GIMP, with or without a screen, asked by snippets and worked by mouse and keyboard."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.hosts.chroots import Host
from tests.hosts.display import Display
from tests.hosts.driven import DrivenEditor
from tests.hosts.gimp.plugin_process import GimpFailed, Plugin

DRIVER = Path(__file__).with_name("driver")
PLUGIN = "lazydiffusion/lazydiffusion.py"

# Without the version, GIMP takes itself for new and shows its Welcome, which covers everything.
GIMPRC = """(config-version "{version}")
(show-welcome-dialog no)
(check-updates no)
"""

IMAGE_WINDOW = "(– GIMP|GNU Image Manipulation Program)$"
WIDTH, HEIGHT = 1590, 990
SEARCH_WINDOW = "Search Actions"

COMPLAINTS = (
    r"^Traceback \(most recent call last\)",  # of any Python plug-in
    r"-CRITICAL( \*\*)?:",  # GLib's word for a call that was wrong, by GIMP or a plug-in
    r"\(lazydiffusion\.py:\d+\): .*-WARNING \*\*:",
    r"/lazydiffusion/\S+\.py:\d+: \w*Warning: ",  # Python's, and GLib's that PyGObject makes Python's
    r"^Fatal Python error",
    r"[Pp]lug-in crashed",
)
"""Lines of a log that `quit` does not let pass."""

HARMLESS = (
    r"gimp_flush\(\): error: Broken pipe",  # GIMP ends before its plug-ins
    r"\(lazydiffusion\.py:\d+\): \S+-WARNING \*\*: \S+ cannot open display",  # asked what it offers without a screen
    r"\(gimp:\d+\): GLib-GObject-CRITICAL \*\*: \S+ g_object_unref: assertion 'G_IS_OBJECT",  # 3.0.4, at its end
    # GTK 3, now and then, in any window: drawn a frame too early after a change of its size, and right in the next.
    r"Gtk-CRITICAL \*\*: \S+ gtk_widget_draw: assertion '!widget->priv->alloc_needed' failed",
    # 3.2.6, which does not know the pointer of an Xvfb when it starts.
    r"^gimp: Gimp-Widgets-CRITICAL: gimp_device_info_\w+: assertion 'GIMP_IS_DEVICE_INFO ",
    r"\(gimp:\d+\): Gdk-CRITICAL \*\*: \S+ gdk_\w+: assertion 'GDK_IS_DEVICE ",
)
"""Those of them that are GIMP's own noise. More of it, which is in every run but fits no complaint: "Zombie plug-in"
and Glycin without bwrap (3.2), "list of contexts not empty upon exit", "Cannot spawn a message bus", warnings of
script-fu."""

numbers = itertools.count(1)


class RealGimp(DrivenEditor):
    """One run of GIMP.

        gimp = RealGimp(host, tmp_path, display, install=put_the_plugin_there)   # does not start it yet
        gimp.start()                                     # until its window is there
        gimp.ask("Gimp.version()")                       # an expression, or statements with return
        gimp.ask("return len(Gimp.get_images()) == number", number=0)    # values become names of the snippet
        plugin = gimp.open_plugin("Lazy Fill")           # by GIMP's search for actions, as an artist does
        plugin.click("generate")                         # a real click on the widget with that name
        gimp.activate_image_window()
        gimp.key("ctrl+z")
        gimp.quit()                                      # fails if an exception went uncaught in the plug-in

    A snippet runs in GIMP's Python, which is a process beside GIMP's own, and has in scope: `Gimp`, `Gegl`, `Gio`,
    `GLib`, `GObject`, `pdb`, `keep` (a dict that lasts from snippet to snippet), and the values given by name. What it
    returns must be JSON. One runs at a time: `ask` of a procedure that takes long waits for it, and so does the next;
    GIMP's window and the plug-in go on. For what goes on in the plug-in see Plugin.

    Without a display it is gimp-console, which has no windows. `folder` becomes GIMP's world: `home` in it is HOME and
    has the same path inside the host and outside. `install(home)` is called before the start; plug-ins go to
    home/gimp/plug-ins/NAME/NAME.py. `profile` is a home to start from: one that a GIMP has already used starts in half
    the time. Process ids inside the host are not the machine's: kill by a snippet, as `kill_core` does. All of it ends
    with GIMP.
    """

    name = "GIMP"
    failed = GimpFailed

    def __init__(
        self,
        host: Host,
        folder: Path,
        display: Display | None = None,
        install: Callable[[Path], object] | None = None,
        environment: Mapping[str, str] | None = None,
        profile: Path | None = None,
    ) -> None:
        super().__init__(folder, display)
        self.host = host
        self.environment = dict(environment or {})
        self.harmless = list(HARMLESS)
        self._class = f"realgimp{os.getpid()}n{next(numbers)}"  # of its windows, and of the plug-ins'
        self._log_read = 0
        self._prepare_home(profile)
        if install:
            install(self.home)

    def start(self, timeout: float = 120) -> RealGimp:
        """Start GIMP; its window, if there is a display, is 1590 x 990 px, which is nearly the whole screen."""
        self._socket.unlink(missing_ok=True)
        for left in self.folder.glob("plugin-*.sock"):
            left.unlink()
        self._log_read = len(self.log)
        started = time.monotonic()
        program = ["gimp", "--no-splash", f"--class={self._class}"] if self.display else ["gimp-console"]
        with self._log.open("ab") as log:
            self._process = self.host.popen(
                [
                    *program,
                    "--batch-interpreter=python-fu-eval",
                    "-b",
                    f"exec(open({str(DRIVER / 'server.py')!r}).read())",
                    "--quit",
                ],
                self._environment(),
                [self.folder],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = started + timeout
        self._wait_for_socket(deadline)
        self.ask("True", deadline - time.monotonic())
        if self.display:
            self._place(self._image_window(deadline - time.monotonic()))
            self.activate_image_window()
        self.start_seconds = time.monotonic() - started
        return self

    def plugin(self, timeout: float = 60, other_than: Plugin | None = None) -> Plugin:
        """The youngest process of the plug-in that is not `other_than`, once its main loop answers."""
        old = {other_than.socket} if other_than else set()
        return self._plugin_beyond(old, time.monotonic() + timeout)

    def plugins(self) -> list[Plugin]:
        """The plug-in's processes, the youngest first; whether they answer or not."""
        made: dict[Path, float] = {}
        for path in self.folder.glob("plugin-*.sock"):
            with contextlib.suppress(FileNotFoundError):
                made[path] = path.stat().st_mtime_ns
        found = [Plugin(self, path) for path in sorted(made, key=made.__getitem__, reverse=True)]
        return [plugin for plugin in found if not plugin.ended]

    def open_plugin(self, action: str, timeout: float = 60) -> Plugin:
        """Run an action by its label, see `run_action`, and give the plug-in's process that it started."""
        old = {plugin.socket for plugin in self.plugins()}
        deadline = time.monotonic() + timeout
        self.run_action(action)
        return self._plugin_beyond(old, deadline)

    def run_action(self, text: str, timeout: float = 60) -> None:
        """Type into GIMP's search for actions and run the first that it finds.

        Raises GimpFailed if the search stays open: it found nothing, or what it found cannot be run now.
        """
        deadline = time.monotonic() + timeout
        while True:
            self.activate_image_window()
            self.screen.key("slash")
            search = self._window_named(re.compile(f"^{SEARCH_WINDOW}$"), 5)
            if search:
                break
            if time.monotonic() > deadline:
                raise GimpFailed(f"GIMP's search for actions did not open.{self._evidence()}")
        self._xdotool("windowactivate", "--sync", search)
        self.screen.type(text)
        self.screen.key("Return")
        end = time.monotonic() + 10
        while self._window_named(re.compile(f"^{SEARCH_WINDOW}$"), 0):
            if time.monotonic() > end:
                evidence = self._evidence()
                self.screen.key("Escape")
                raise GimpFailed(f'GIMP finds no action "{text}" that can be run now.{evidence}')
            time.sleep(0.05)

    @property
    def screen(self) -> Display:
        """The display, which must be there."""
        if self.display is None:
            raise GimpFailed("This GIMP has no display: start it with one.")
        return self.display

    def activate_image_window(self, title: str = "", timeout: float = 60) -> None:
        """Raise GIMP's main window, once it has these words in its title, and give it the keyboard."""
        self._xdotool("windowactivate", "--sync", self._image_window(timeout, title))
        self.settle()

    def activate_window(self, title: str, timeout: float = 60) -> None:
        """Raise GIMP's window, or a plug-in's, that has this title."""
        window = self._window_named(re.compile(f"^{re.escape(title)}$"), timeout)
        if not window:
            raise GimpFailed(f'There is no window "{title}" on the screen.{self._evidence()}')
        self._xdotool("windowactivate", "--sync", window)

    def window_titles(self) -> list[str]:
        """Of GIMP's windows and the plug-ins' on the screen."""
        return [title for _, title in self._windows()]

    def key(self, *keys: str) -> None:
        """Press keys (ctrl+z, shift+Return) where the keyboard is."""
        self.screen.key(*keys)
        self.settle()

    def settle(self) -> None:
        """Give GIMP the time to take the events that were sent; what follows from them may take longer."""
        time.sleep(0.04)
        self.ask("Gimp.displays_flush(); Gimp.get_images(); return None")  # GIMP answers when it comes to it

    def screenshot(self, path: Path) -> Path:
        """Save the whole screen as PNG."""
        return self.screen.screenshot(path)

    def quit(self, timeout: float = 60) -> None:
        """Quit without asking. Raises GimpFailed unless all went well to the end, as its log tells."""
        self._request("quit", "", timeout, {})
        status = self._wait_for_end(timeout)
        if uncaught := self.take_uncaught():
            raise GimpFailed("Nobody caught this inside GIMP:\n" + "\n".join(uncaught))
        if status:
            raise GimpFailed(f"GIMP ended with status {status}.\n{self.log[-3000:]}")
        if complaints := self.complaints():
            raise GimpFailed("GIMP's log has:\n" + "\n".join(complaints) + f"\nIts end:\n{self.log[-3000:]}")

    def complaints(self) -> list[str]:
        """The lines in the log of this run that should not be there."""
        lines = self.log[self._log_read :].splitlines()
        bad = [line for line in lines if any(re.search(pattern, line) for pattern in COMPLAINTS)]
        return [line for line in bad if not any(re.search(pattern, line) for pattern in self.harmless)]

    def _prepare_home(self, profile: Path | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if profile:
            shutil.copytree(profile, self.home, symlinks=True)
        (self.folder / "run").mkdir(mode=0o700, exist_ok=True)
        (self.home / "gimp/plug-ins").mkdir(parents=True, exist_ok=True)
        settings = self.home / "gimp/gimprc"
        if not settings.exists():
            settings.write_text(GIMPRC.format(version=installed_version(self.host)))
        session = self.home / "gimp/sessionrc"
        if not session.exists():
            # GIMP's own, but for the size, which GIMP gives its window anew when the first image comes into it.
            usual = (self.host.root / "etc/gimp/3.0/sessionrc").read_text(encoding="utf8")
            placed = re.sub(r"\(position \d+ \d+\)", "(position 0 0)", usual)
            session.write_text(re.sub(r"\(size \d+ \d+\)", f"(size {WIDTH} {HEIGHT})", placed))

    def _environment(self) -> dict[str, str]:
        screen = {"DISPLAY": self.display.name} if self.display else {}
        return {
            "HOME": str(self.home),
            "GIMP3_DIRECTORY": str(self.home / "gimp"),
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "NO_AT_BRIDGE": "1",
            "PYTHONPATH": str(DRIVER / "inject"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LAZYDRIVER_SOCKET": str(self._socket),
            "LAZYDRIVER_UNCAUGHT": str(self._uncaught),
            "LAZYDRIVER_FOLDER": str(self.folder),
            "LAZYDRIVER_PLUGIN": PLUGIN,
            **screen,
            **self.environment,
        }

    def _plugin_beyond(self, old: set[Path], deadline: float) -> Plugin:
        while True:
            for plugin in [plugin for plugin in self.plugins() if plugin.socket not in old][:1]:
                try:
                    plugin.ask("None", max(1, deadline - time.monotonic()))
                except GimpFailed:
                    if not plugin.ended:
                        raise
                else:
                    return plugin
            self._check_running(0)
            if time.monotonic() > deadline:
                raise GimpFailed(f"No process of the plug-in listens.{self._evidence()}")
            time.sleep(0.05)

    def _image_window(self, timeout: float, title: str = "") -> str:
        pattern = re.compile(f"{re.escape(title)}.*{IMAGE_WINDOW}")
        window = self._window_named(pattern, timeout)
        if not window:
            found = ", ".join(self.window_titles()) or "none"
            raise GimpFailed(
                f"GIMP's window is not there after {timeout:g} s, but {found}.{self._evidence()}"
            )
        return window

    def _place(self, window: str) -> None:
        """Give it the whole screen, again if GIMP, which is still coming up, takes that back."""
        kept = 0
        for _ in range(100):
            found = self._xdotool("getwindowgeometry", "--shell", window)
            there = re.search(
                rf"\nX=[0-2]\nY=[0-2]\nWIDTH={WIDTH}\nHEIGHT={HEIGHT}\n", found
            )  # openbox adds some px
            kept = kept + 1 if there else 0
            if kept == 8:
                return
            if not kept:
                self._xdotool("windowmove", window, "0", "0", "windowsize", window, str(WIDTH), str(HEIGHT))
            time.sleep(0.1)
        raise GimpFailed(f"GIMP's window does not take its place, but {found}.{self._evidence()}")

    def _window_named(self, title: re.Pattern[str], timeout: float) -> str | None:
        """The newest window with such a title, as xdotool names it, as soon as it is on the screen."""
        deadline = time.monotonic() + timeout
        while True:
            if found := [window for window, name in self._windows() if title.search(name)]:
                return found[-1]
            self._check_running(0)
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)

    def _windows(self) -> list[tuple[str, str]]:
        found = self._xdotool("search", "--onlyvisible", "--class", f"^{self._class}$", check=False)
        # One that has closed in the meantime has no name.
        return [(window, self._xdotool("getwindowname", window, check=False)) for window in found.split()]

    def _xdotool(self, *arguments: str, check: bool = True) -> str:
        """As Display's, with what it says."""
        try:
            run = subprocess.run(
                ["xdotool", *arguments],
                env={"PATH": os.environ["PATH"], "DISPLAY": self.screen.name},
                check=check,
                capture_output=True,
                text=True,
                timeout=60,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise GimpFailed(f"{error} {error.stderr or ''}{self._evidence()}") from None
        return run.stdout.strip()


def installed_version(host: Host) -> str:
    """GIMP's in the host, as 3.0.4."""
    listed = (host.root / "var/lib/dpkg/status").read_text(encoding="utf8")
    found = re.search(r"^Package: gimp\n(?:.+\n)*?Version: (?:\d+:)?(\d+\.\d+\.\d+)", listed, re.MULTILINE)
    if not found:
        raise GimpFailed(f"The host {host.recipe.name} has no package gimp.")
    return found[1]
