"""What an edit has made: its fills, their thumbnails, and the view of the window that they lie in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from lazydiffusion.client.edit import FillPixels
from lazydiffusion.client.words import layer_name, tr
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import Box, Size

from .gtk import Gtk
from .image import NewLayer
from .pixbufs import cut, decoded, fitted, levels_scaled, on_white, over, pixbuf_of, scaled, with_alpha
from .snapshot import Snapshot

VIEW = 340
"""Longer side of the view, px."""
THUMBNAIL = 84
HIGHLIGHT = (58, 134, 255)
"""What lies over the selection as long as there is no fill: RGB."""
HIGHLIGHT_SHARE = 0.45
"""How much of it covers what is there."""
SURROUNDINGS = 0.15
"""How much of the canvas a thumbnail shows around the fill, as a share of the fill's longer side."""


class View:
    """What an edit is shown of the canvas, small, with a fill over it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        region = snapshot.region
        self.size = fitted(snapshot.size, VIEW)
        self.scale = self.size[0] / region.w
        whole = on_white(pixbuf_of(snapshot.canvas, snapshot.size))
        self.canvas = scaled(whole, self.size)
        self.empty = self._highlighted()
        """The view without a fill: what would be painted is marked."""
        box = snapshot.box
        around = box.enlarged(round(SURROUNDINGS * max(box.w, box.h))).overlap(region)
        self._around = around
        self._ground = cut(whole, around.moved(-region.x, -region.y))

    def with_fill(self, fill: FillPixels) -> Any:
        """The view with a fill."""
        return over(self.canvas, _picture(fill), self._in_region(fill.box), self.scale)

    def with_preview(self, png: bytes, box: Box) -> Any:
        """The view with what a fill looks like so far, where the selection is."""
        picture = decoded(png)
        size = (picture.get_width(), picture.get_height())
        inside = self._in_region(box)
        alpha = levels_scaled(self.snapshot.mask, self.snapshot.size, inside, size)
        return over(self.canvas, with_alpha(picture, alpha), inside, self.scale)

    def thumbnail(self, fill: FillPixels) -> Any:
        """A fill in its surroundings."""
        size = fitted((self._around.w, self._around.h), THUMBNAIL)
        ground = scaled(self._ground, size)
        inside = fill.box.moved(-self._around.x, -self._around.y)
        return over(ground, _picture(fill), inside, size[0] / self._around.w)

    def _highlighted(self) -> Any:
        area = Box(0, 0, *self.snapshot.size)
        levels = levels_scaled(self.snapshot.mask, self.snapshot.size, area, self.size)
        alpha = levels.translate(bytes(round(HIGHLIGHT_SHARE * level) for level in range(256)))
        colour = pixbuf_of(bytes((*HIGHLIGHT, 255)) * (self.size[0] * self.size[1]), self.size)
        return over(self.canvas, with_alpha(colour, alpha), area, self.scale)

    def _in_region(self, box: Box) -> Box:
        return box.moved(-self.snapshot.region.x, -self.snapshot.region.y)


def _picture(fill: FillPixels) -> Any:
    return pixbuf_of(fill.rgba, (fill.box.w, fill.box.h))


@dataclass(eq=False)
class Result:
    """A fill that can be looked at and applied."""

    fill: FillPixels
    settings: EditSettings
    canvas_size: Size
    view: View
    applied: bool = False
    """Whether a layer was made of it."""

    @property
    def layer(self) -> NewLayer:
        """What Apply makes of it."""
        return NewLayer(layer_name(self.settings.prompt, self.fill.seed), self.fill.box, self.fill.rgba)


class ResultList:
    """Thumbnails in a row that scrolls; one is chosen at most."""

    def __init__(self, chosen: Callable[[Optional[Result]], None], activated: Callable[[], None]) -> None:
        """`chosen(result)` is told of each choice, `activated()` of a double click."""
        self._results: list[Result] = []
        self._store = Gtk.ListStore.new([pixbuf_of(bytes(4), (1, 1)).__gtype__, str, str])
        self.icons = Gtk.IconView(model=self._store, pixbuf_column=0, text_column=1, tooltip_column=2)
        self.icons.set_name("lazyResults")
        self.icons.set_selection_mode(Gtk.SelectionMode.SINGLE)
        self.icons.set_item_width(THUMBNAIL)
        for what in ("margin", "row_spacing", "column_spacing", "item_padding"):
            self.icons.set_property(what, 3)
        self.icons.connect("selection-changed", lambda icons: chosen(self.current))
        self.icons.connect("item-activated", lambda icons, path: activated())
        scrolled = Gtk.ScrolledWindow(shadow_type=Gtk.ShadowType.IN, hscrollbar_policy=Gtk.PolicyType.NEVER)
        scrolled.set_size_request(VIEW, THUMBNAIL + 44)
        scrolled.add(self.icons)
        self._hint = Gtk.Label(label=tr("Fills come here. Choose one, then Apply."), wrap=True)
        self._hint.get_style_context().add_class("dim-label")
        self.widget = Gtk.Overlay(vexpand=True)
        self.widget.add(scrolled)
        self.widget.add_overlay(self._hint)
        self.widget.set_overlay_pass_through(self._hint, True)

    @property
    def results(self) -> list[Result]:
        """All, in the order in which they came."""
        return list(self._results)

    @property
    def current(self) -> Optional[Result]:
        """The chosen one."""
        chosen = self.icons.get_selected_items()
        return self._results[chosen[0].get_indices()[0]] if chosen else None

    def add(self, result: Result, choose: bool) -> None:
        """Put one at the end."""
        self._results.append(result)
        self._hint.hide()
        self._store.append(
            [result.view.thumbnail(result.fill), _caption(result), _escaped(result.layer.name)]
        )
        if choose:
            self.choose(result)
        self.icons.scroll_to_path(Gtk.TreePath.new_from_indices([len(self._results) - 1]), False, 0, 0)

    def choose(self, result: Optional[Result]) -> None:
        """Make one the chosen one, or none."""
        self.icons.unselect_all()
        if result is not None:
            path = Gtk.TreePath.new_from_indices([self._results.index(result)])
            self.icons.set_cursor(path, None, False)
            self.icons.select_path(path)

    def mark_applied(self, result: Result) -> None:
        """Show that a layer was made of it."""
        result.applied = True
        self._store[self._results.index(result)][1] = _caption(result)


def _caption(result: Result) -> str:
    seed = str(result.fill.seed)
    return tr("%s ✓") % seed if result.applied else seed


def _escaped(text: str) -> str:
    """For a tooltip, which is markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
