"""GIMP's libraries by their versions. GTK is not among them: a run without a dialog needs no screen."""

from __future__ import annotations

import gi

gi.require_version("Gegl", "0.4")
gi.require_version("Gimp", "3.0")

from gi.repository import Gegl, Gimp, GLib, GObject  # noqa: E402 - after their versions

__all__ = ["GLib", "GObject", "Gegl", "Gimp"]
