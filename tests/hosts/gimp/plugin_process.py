"""The plug-in as it runs beside a real GIMP: asked by snippets in its own process, worked by mouse and keyboard."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hosts.driven import Driven

if TYPE_CHECKING:
    from tests.hosts.gimp.real_gimp import RealGimp

# Where the mouse must go to hit a widget: what a click would not reach is an error, not a click on something else.
POINT = """
widget = find(name)
if not widget.get_mapped():
    raise LookupError(f'The widget "{name}" is not visible.')
if not widget.is_sensitive():
    raise LookupError(f'The widget "{name}" is disabled: a click would do nothing.')
size = widget.get_allocation()
x, y = int((size.width - 1) * fx), int((size.height - 1) * fy)
if not visible_part(widget, x, y):
    raise LookupError(f'The widget "{name}" is scrolled out of view.')
window = widget.get_toplevel()
grab = window.get_group().get_current_grab() if isinstance(window, Gtk.Window) else None
if grab is not None and grab != widget and not widget.is_ancestor(grab):
    raise LookupError(f'A click on "{name}" would do nothing: {type(grab).__name__} "{grab.get_name()}" has the input.')
x, y = window.get_window().get_root_coords(*widget.translate_coordinates(window, x, y))
screen = widget.get_screen()
if not (0 <= x < screen.get_width() and 0 <= y < screen.get_height()):
    raise LookupError(f'The widget "{name}" is at {x}, {y}, which is not on the screen.')
return x, y
"""

# With the pointer there: what is wrong with a click.
MISS = """
widget = find(name)
hit = hit_of(widget)
if hit is None:
    return f'A click on "{name}" would hit the window of another program: activate this one.'
if not (hit == widget or hit.is_ancestor(widget) or (widget.is_ancestor(hit) and not has_windows(widget))):
    return f'A click on "{name}" would hit {type(hit).__name__} "{hit.get_name()}".'
"""

PLACING = 3
"""Seconds in which the window manager has put a new window where it stays."""

SHOWN = "any(widget.get_name() == name and widget.get_mapped() for widget in widgets())"

FOCUSED = """
widget = find(name)
window = widget.get_toplevel()
focus = window.get_focus()
return window.has_toplevel_focus() and focus is not None and (focus == widget or focus.is_ancestor(widget))
"""

GRAB = """
import cairo
windows = [widget for widget in widgets() if isinstance(widget, Gtk.Window) and widget.get_mapped()]
widget = find(name) if name else max(windows, key=lambda window: window.has_toplevel_focus())
window = widget.get_toplevel()
x, y = widget.translate_coordinates(window, 0, 0)
size = widget.get_allocation()
picture = cairo.ImageSurface(cairo.FORMAT_RGB24, size.width, size.height)
context = cairo.Context(picture)
context.translate(-x, -y)
window.draw(context)
picture.write_to_png(path)
"""

TITLE = """
windows = [widget for widget in widgets() if isinstance(widget, Gtk.Window) and widget.get_mapped()]
windows = [window for window in windows if window.get_title()]
return max(windows, key=lambda window: window.has_toplevel_focus()).get_title() if windows else None
"""


class GimpFailed(Exception):
    """A snippet raised, GIMP or the plug-in ended or did not answer; the message has what it said."""


class Plugin(Driven):
    """One process of the plug-in, while its main loop runs.

        plugin = gimp.plugin()
        plugin.ask("find('prompt').get_text()")
        plugin.click("generate")
        plugin.type_into("prompt", "a red apple")
        plugin.wait_for("find('apply').is_sensitive()", 60)

    A snippet runs on the main loop and has in scope: `Gimp`, `Gtk`, `Gdk`, `GLib` (None where the plug-in has not
    imported it), `find(name)` (the widget that has this name by Gtk.Widget.set_name), `widgets()`, and `keep`.
    """

    name = "The plug-in"
    failed = GimpFailed

    def __init__(self, gimp: RealGimp, path: Path) -> None:
        super().__init__(path)
        self.gimp = gimp
        self.pid = int(path.stem.partition("-")[2])
        """As processes inside the host see it."""

    @property
    def socket(self) -> Path:
        return self._socket

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self._socket))
            except (ConnectionRefusedError, FileNotFoundError):
                return True
        return False

    def wait_until_ended(self, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while not self.ended:
            if time.monotonic() > deadline:
                raise GimpFailed(f"The plug-in has not ended within {timeout:g} s.{self._evidence()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End the process as kill -9 does."""
        self.gimp.ask("import os; os.kill(pid, 9)", pid=self.pid)
        self.wait_until_ended()

    def click(self, name: str, button: int = 1, times: int = 1) -> None:
        """Click in the middle of a widget. Raises GimpFailed if a click there would not reach it."""
        self.click_at(name, 0.5, 0.5, button, times)

    def click_at(self, name: str, fx: float, fy: float, button: int = 1, times: int = 1) -> None:
        """Click in a widget, at fractions of its width and height."""
        deadline = time.monotonic() + PLACING
        self.settle()  # what was shown a moment ago has its place only after the next redrawing
        while True:
            x, y = self.ask(POINT, name=name, fx=fx, fy=fy)
            self.gimp.screen.move(x, y)
            self.settle()
            if [x, y] != self.ask(POINT, name=name, fx=fx, fy=fy):
                continue
            if not (miss := self.ask(MISS, name=name)):
                break
            if time.monotonic() > deadline:
                raise GimpFailed(miss)
        self.gimp.screen.click(x, y, button, times)
        self.settle_unless_ended()

    def type_into(self, name: str, text: str) -> None:
        """Click on a widget and type. Raises GimpFailed if the click does not give it the keyboard."""
        self.click(name)
        self.wait_for(FOCUSED, 10, name=name)
        self.gimp.screen.type(text)
        self.settle()

    def key(self, *keys: str) -> None:
        """Press keys (ctrl+z, shift+Return) where the keyboard is."""
        self.gimp.screen.key(*keys)
        self.settle_unless_ended()

    def activate(self, title: str | None = None, timeout: float = 60) -> None:
        """Raise the window with that title, or the one that `title` gives, and give it the keyboard."""
        self.gimp.activate_window(title or self.title or "", timeout)
        self.settle()

    def settle(self) -> None:
        """Give the plug-in the time to take the events that were sent; what follows from them may take longer."""
        self._request("settle", "", 60, {})

    def settle_unless_ended(self) -> None:
        """As `settle`, after what may have ended the process."""
        try:
            self.settle()
        except GimpFailed:
            if not self.ended:
                raise

    @property
    def title(self) -> str | None:
        """Of the window with the keyboard, else of another on the screen."""
        found: str | None = self.ask(TITLE)
        return found

    def exists(self, name: str) -> bool:
        """Whether a widget with that name is on the screen, even if covered or scrolled away."""
        return bool(self.ask(SHOWN, name=name))

    def wait_until_shown(self, name: str, timeout: float = 60) -> None:
        """Wait until a widget with that name is there and on the screen, even if covered or scrolled away."""
        self.wait_for(SHOWN, timeout, name=name)

    def grab(self, path: Path, name: str | None = None) -> Path:
        """Save what the window, or one widget in it, looks like as PNG, whatever covers it."""
        inside = self.gimp.folder / "grab.png"  # where the plug-in can write; `path` need not be
        self.ask(GRAB, name=name, path=str(inside))
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(inside, path)
        return path

    def _check_running(self) -> None:
        for _ in range(20):  # a connection breaks a moment before its process is gone
            if self.ended:
                raise GimpFailed(f"The plug-in's process has ended.{self._evidence()}")
            time.sleep(0.05)

    def _evidence(self) -> str:
        return self.gimp._evidence()
