"""GTK, for the modules that show something."""

from __future__ import annotations

import gi

gi.require_version("GimpUi", "3.0")
gi.require_version("Gtk", "3.0")
gi.require_version("Gdk", "3.0")

from gi.repository import Gdk, GimpUi, GLib, Gtk  # noqa: E402 - after their versions

from lazydiffusion.client.words import tr  # noqa: E402
from lazydiffusion.errors import LazyDiffusionError  # noqa: E402

ROLE = "lazydiffusion"
"""What GIMP and the window manager know the dialogs by."""
SPACE = 6
"""Px between widgets."""
TITLE_BAR = 40
"""Px that a window manager may add to a window's height."""


class NoScreen(LazyDiffusionError):
    """A window was asked for where there is no screen for one."""


def start_windows() -> None:
    """Before the first window. Raises NoScreen: GTK itself would end the process."""
    if Gdk.Display.get_default() is None:
        raise NoScreen(
            tr(
                "A dialog was asked for, but there is no screen. In a script, set run-mode to NONINTERACTIVE and give "
                "the arguments."
            )
        )
    GimpUi.init(ROLE)


def dialog(title: str, name: str) -> GimpUi.Dialog:
    """An empty dialog of GIMP's, above the image's window. Raises NoScreen."""
    start_windows()
    settings = Gtk.Settings.get_default()
    header = settings is not None and settings.get_property("gtk-dialogs-use-header")
    made = GimpUi.Dialog(title=title, role="%s-%s" % (ROLE, name), use_header_bar=int(header))
    made.set_name(name)
    GimpUi.window_set_transient(made)
    return made


def button(text: str, name: str, tip: str = "") -> Gtk.Button:
    """A button; the letter after an underscore is its key with Alt."""
    made = Gtk.Button.new_with_mnemonic(text)
    made.set_name(name)
    if tip:
        made.set_tooltip_text(tip)
    return made


def fold(text: str, child: Gtk.Widget, name: str) -> Gtk.Expander:
    """A heading that unfolds what is below it; folded, it is hidden: an expander alone leaves some children mapped."""
    made = Gtk.Expander.new_with_mnemonic(text)
    made.set_name(name)
    child.show_all()
    child.set_no_show_all(True)
    child.set_visible(False)
    made.add(child)
    made.connect("notify::expanded", lambda expander, what: child.set_visible(expander.get_expanded()))
    return made


def column(*widgets: Gtk.Widget, space: int = SPACE) -> Gtk.Box:
    """Widgets below each other."""
    return _packed(Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=space), widgets)


def row(*widgets: Gtk.Widget, space: int = SPACE) -> Gtk.Box:
    """Widgets beside each other."""
    return _packed(Gtk.Box(orientation=Gtk.Orientation.HORIZONTAL, spacing=space), widgets)


def _packed(box: Gtk.Box, widgets: tuple[Gtk.Widget, ...]) -> Gtk.Box:
    for widget in widgets:
        box.pack_start(widget, widget.get_vexpand() or widget.get_hexpand(), True, 0)
    return box


class Scrolling:
    """Scrolls what is in it where that is higher than it may be; else it is as high, and its window grows with it."""

    def __init__(self, child: Gtk.Widget, name: str) -> None:
        self._child, self._most = child, -1
        self.widget = Gtk.ScrolledWindow(hscrollbar_policy=Gtk.PolicyType.NEVER)
        self.widget.set_name(name)
        self.widget.add(child)
        self.widget.get_child().set_shadow_type(Gtk.ShadowType.NONE)
        child.set_focus_vadjustment(self.widget.get_vadjustment())  # what has the keyboard is always in sight
        child.connect("size-allocate", lambda *_: GLib.idle_add(self._fit))

    def limit(self, height: int) -> None:
        """The height that it may have, px."""
        self._most = height
        self._fit()

    def _fit(self) -> None:
        # As its least height: a window grows for nothing else.
        height = self._child.get_preferred_height().natural_height
        least = min(height, self._most) if self._most >= 0 else height
        self.widget.set_vexpand(height > least)  # into what the window has left
        if self.widget.get_min_content_height() != least:
            self.widget.set_min_content_height(least)


def room_for(window: Gtk.Window) -> int:
    """The height that its screen has for it, px: without panels and its own title bar."""
    display, place = window.get_display(), window.get_window()
    monitor = display.get_monitor_at_window(place) if place is not None else display.get_monitor(0)
    return int(monitor.get_workarea().height) - TITLE_BAR


def wrapping(name: str) -> Gtk.Label:
    """A label of as many lines as its text needs."""
    label = Gtk.Label(xalign=0, wrap=True, max_width_chars=36)
    label.set_name(name)
    return label


def see_through(*widgets: Gtk.Widget) -> None:
    """Let them show what is behind them: GIMP's light theme paints the window's colour behind every text."""
    style = Gtk.CssProvider()
    style.load_from_data(b"* { background-color: transparent; }")
    for widget in widgets:
        widget.get_style_context().add_provider(style, Gtk.STYLE_PROVIDER_PRIORITY_USER)


__all__ = [
    "GLib",
    "Gdk",
    "GimpUi",
    "Gtk",
    "NoScreen",
    "Scrolling",
    "button",
    "column",
    "dialog",
    "fold",
    "room_for",
    "row",
    "see_through",
    "start_windows",
    "tr",
    "wrapping",
]
