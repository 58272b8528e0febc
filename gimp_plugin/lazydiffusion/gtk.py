"""GTK, for the modules that show something."""

from __future__ import annotations

import gi

gi.require_version("GimpUi", "3.0")
gi.require_version("Gtk", "3.0")
gi.require_version("Gdk", "3.0")

from gi.repository import Gdk, GimpUi, GLib, Gtk  # noqa: E402 - after their versions

from lazydiffusion.client.words import tr  # noqa: E402

ROLE = "lazydiffusion"
"""What GIMP and the window manager know the dialogs by."""
SPACE = 6
"""Px between widgets."""


def dialog(title: str, name: str) -> GimpUi.Dialog:
    """An empty dialog of GIMP's, above the image's window."""
    GimpUi.init(ROLE)
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
    "button",
    "column",
    "dialog",
    "fold",
    "row",
    "see_through",
    "tr",
    "wrapping",
]
