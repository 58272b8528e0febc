"""What an edit has made: its fills, their thumbnails, and the view of the window that they lie in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Optional

from lazydiffusion.client.edit import FillPixels
from lazydiffusion.client.words import layer_name, tr
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import Box, Size

from .gtk import Gtk
from .image import NewLayer
from .pixbufs import (
    PIXBUF,
    cut,
    decoded,
    fitted,
    levels_scaled,
    on_white,
    over,
    pixbuf_of,
    scaled,
    ticked,
    with_alpha,
)
from .snapshot import Snapshot

VIEW = 340
"""Longer side of the view, px."""
THUMBNAIL = 92
COLUMNS = 3
HIGHLIGHT = (58, 134, 255)
"""What lies over the selection as long as there is no fill: RGB."""
HIGHLIGHT_SHARE = 0.45
"""How much of it covers what is there."""
MOST_BYTES = 1 << 29
"""Of the fills that a dialog holds."""
SURROUNDINGS = 0.15
"""How much of the canvas a thumbnail shows around the fill, as a share of the fill's longer side."""


class View:
    """What an edit is shown of the canvas, small, with a fill over it."""

    def __init__(self, snapshot: Snapshot) -> None:
        region = self._region = snapshot.region
        self._mask = snapshot.mask
        self._alpha: tuple[Any, bytes] = (None, b"")
        """The mask of the last preview's box and size, and these: the same for all previews of an edit."""
        self.size = fitted(snapshot.size, VIEW)
        self.scale = self.size[0] / region.w
        whole = pixbuf_of(snapshot.canvas, snapshot.size)
        self.canvas = on_white(scaled(whole, self.size))
        self.empty = self._highlighted()
        """The view without a fill: what would be painted is marked."""
        box = snapshot.box
        around = box.enlarged(round(SURROUNDINGS * max(box.w, box.h))).overlap(region)
        self._around = around
        part = cut(whole, around.moved(-region.x, -region.y))
        self._ground = on_white(scaled(part, fitted((around.w, around.h), THUMBNAIL)))

    def with_fill(self, fill: FillPixels) -> Any:
        """The view with a fill."""
        return over(self.canvas, _picture(fill), self._in_region(fill.box), self.scale)

    def with_preview(self, png: bytes, box: Box) -> Any:
        """The view with what a fill looks like so far, where the selection is."""
        picture = decoded(png)
        size = (picture.get_width(), picture.get_height())
        inside = self._in_region(box)
        if self._alpha[0] != (inside, size):
            levels = levels_scaled(self._mask, (self._region.w, self._region.h), inside, size)
            self._alpha = ((inside, size), levels)
        return over(self.canvas, with_alpha(picture, self._alpha[1]), inside, self.scale)

    def let_go(self) -> None:
        """After the last preview: of a large selection, the mask is large too."""
        self._mask, self._alpha = b"", (None, b"")

    def thumbnail(self, fill: FillPixels) -> Any:
        """A fill in its surroundings."""
        inside = fill.box.moved(-self._around.x, -self._around.y)
        return over(self._ground, _picture(fill), inside, self._ground.get_width() / self._around.w)

    def _highlighted(self) -> Any:
        area = Box(0, 0, self._region.w, self._region.h)
        levels = levels_scaled(self._mask, (area.w, area.h), area, self.size)
        alpha = levels.translate(bytes(round(HIGHLIGHT_SHARE * level) for level in range(256)))
        colour = pixbuf_of(bytes((*HIGHLIGHT, 255)) * (self.size[0] * self.size[1]), self.size)
        return over(self.canvas, with_alpha(colour, alpha), area, self.scale)

    def _in_region(self, box: Box) -> Box:
        return box.moved(-self._region.x, -self._region.y)


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

    def __init__(
        self, chosen: Callable[[Optional[Result], bool], None], activated: Callable[[], None]
    ) -> None:
        """`chosen(result, by_artist)` is told of each choice, `activated()` of a double click."""
        self._results: list[Result] = []
        self._by_artist = True
        """Whether a choice that is made now is the artist's."""
        self._store = Gtk.ListStore.new([PIXBUF, str])
        self.icons = Gtk.IconView(model=self._store, pixbuf_column=0, tooltip_column=1)
        self.icons.set_name("lazyResults")
        self.icons.set_selection_mode(Gtk.SelectionMode.SINGLE)
        self.icons.set_columns(COLUMNS)
        for what in ("margin", "row_spacing", "column_spacing", "item_padding"):
            self.icons.set_property(what, 3)
        self.icons.connect("selection-changed", lambda icons: chosen(self.current, self._by_artist))
        self.icons.connect("item-activated", lambda icons, path: activated())
        scrolled = Gtk.ScrolledWindow(shadow_type=Gtk.ShadowType.IN, hscrollbar_policy=Gtk.PolicyType.NEVER)
        scrolled.set_size_request(VIEW, THUMBNAIL + 26)
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
        """Put one at the end. Where memory gets too full, the oldest go: they are in the history."""
        self._results.append(result)
        self._hint.hide()
        self._store.append([result.view.thumbnail(result.fill), _escaped(result.layer.name)])
        if choose:
            self.choose(result)
        with self._by_program():
            while len(self._results) > 1 and sum(len(it.fill.rgba) for it in self._results) > MOST_BYTES:
                del self._results[0], self._store[0]
        self.icons.scroll_to_path(Gtk.TreePath.new_from_indices([len(self._results) - 1]), False, 0, 0)

    def choose(self, result: Optional[Result]) -> None:
        """Make one the chosen one, or none."""
        with self._by_program():
            self.icons.unselect_all()
            if result is not None:
                path = Gtk.TreePath.new_from_indices([self._results.index(result)])
                self.icons.set_cursor(path, None, False)
                self.icons.select_path(path)

    def mark_applied(self, result: Result) -> None:
        """Show that a layer was made of it."""
        result.applied = True
        self._store[self._results.index(result)][0] = ticked(result.view.thumbnail(result.fill))

    @contextmanager
    def _by_program(self) -> Iterator[None]:
        self._by_artist = False
        try:
            yield
        finally:
            self._by_artist = True


def _escaped(text: str) -> str:
    """For a tooltip, which is markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
