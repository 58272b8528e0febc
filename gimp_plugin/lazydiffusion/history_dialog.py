"""The dialog "History": the fills that the core keeps, also those of other editors, to be made layers."""

from __future__ import annotations

from functools import partial
from typing import Any, Optional

from lazydiffusion.client import CoreError, FillPixels, connect
from lazydiffusion.client.kept import Kept
from lazydiffusion.client.placing import placement
from lazydiffusion.client.words import layer_name
from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import EditSettings

from .background import in_background, in_main
from .gtk import SPACE, GLib, Gtk, column, dialog, tr
from .image import NewLayer, Picture
from .notice import Notice
from .pixbufs import PIXBUF, decoded, fitted, pixbuf_of, scaled
from .questions import may_convert, may_forget
from .snapshot import CLIENT

LIMIT = 100
"""Edits that are listed; the core keeps more."""
SIDE = 64
"""Side of a thumbnail, px."""
FORGET, REUSE = 1, 2


class HistoryDialog:
    """One run of the dialog."""

    def __init__(self, picture: Picture, parent: Optional[Any] = None) -> None:
        """`parent`: the dialog that it is opened from."""
        self.picture, self._parent = picture, parent
        self.layers: list[Any] = []
        """Those that were made, the newest first."""
        self.reuse: Optional[EditSettings] = None
        """What is to be used again; the dialog ends when that is chosen."""
        self._kept: list[Kept] = []
        self._open = True
        self.window = dialog(picture.titled(tr("Fills Made Before")), "lazyHistoryDialog")
        self.window.set_default_size(460, 520)
        if parent is not None:
            self.window.set_transient_for(parent)
            self.window.set_modal(True)
        self._buttons = {
            response: self.window.add_button(text, response)
            for response, text in (
                (FORGET, tr("_Forget")),
                (REUSE, tr("_Use settings")),
                (Gtk.ResponseType.CLOSE, tr("_Close")),
                (Gtk.ResponseType.APPLY, tr("_Apply")),
            )
        }
        names = {FORGET: "lazyForget", REUSE: "lazyReuse", Gtk.ResponseType.CLOSE: "lazyHistoryClose"}
        for response, made in self._buttons.items():
            made.set_name(names.get(response, "lazyHistoryApply"))
        self._store = Gtk.ListStore.new([PIXBUF, str])
        self.list = Gtk.TreeView(model=self._store, headers_visible=False)
        self.list.set_name("lazyHistory")
        picture_cell, text_cell = (
            Gtk.CellRendererPixbuf(width=SIDE + 8, height=SIDE + 4),
            Gtk.CellRendererText(),
        )
        text_cell.set_property("ellipsize", 3)
        self.list.append_column(Gtk.TreeViewColumn("", picture_cell, pixbuf=0))
        self.list.append_column(Gtk.TreeViewColumn("", text_cell, text=1))
        self.list.get_selection().connect("changed", lambda selection: self._enable())
        self.list.connect("row-activated", lambda *_: self.apply())
        scrolled = Gtk.ScrolledWindow(shadow_type=Gtk.ShadowType.IN, hscrollbar_policy=Gtk.PolicyType.NEVER)
        scrolled.set_vexpand(True)
        scrolled.add(self.list)
        self.notice = Notice("lazyHistoryNotice", Gtk.MessageType.OTHER)
        content = self.window.get_content_area()
        content.set_border_width(2 * SPACE)
        content.pack_start(column(self.notice.widget, scrolled), True, True, 0)
        self._enable()

    @property
    def current(self) -> Optional[Kept]:
        """The chosen one."""
        store, line = self.list.get_selection().get_selected()
        return self._kept[store.get_path(line).get_indices()[0]] if line is not None else None

    def run(self) -> None:
        """Show it until it is closed."""
        self.window.show_all()
        self.load()
        loop = GLib.MainLoop()
        self.window.connect("response", self._answered, loop)
        loop.run()
        self._open = False
        if self._parent is not None:  # takes the keyboard before this one goes, or GIMP's window may get it
            self.window.set_modal(False)
            self._parent.present()
        self.window.destroy()

    def load(self) -> None:
        """Ask the core, which is started if need be."""
        self.tell(tr("Asking the core…"))

        def ask() -> list[Kept]:
            core = connect(client=CLIENT)
            kept = [Kept(entry, fill) for entry in core.history(LIMIT) for fill in entry.fills]
            in_main(lambda: self._list(kept))
            for number, it in enumerate(kept):
                png = core.thumbnail(it.entry.id, it.fill.fill)
                in_main(partial(self._picture, number, it, png))
            return kept

        in_background(ask, lambda kept: None, lambda error: self.tell(str(error)))

    def apply(self) -> None:
        """Fetch the chosen fill and make it a layer."""
        it = self.current
        if it is None:
            return

        def made(fill: FillPixels) -> None:
            if not self._open:
                return
            try:
                if self.picture.is_open and self.picture.is_indexed and not may_convert(self.window):
                    return
                self.picture.check_ready()
                place = placement(fill.box, it.entry.canvas_size, self.picture.size)
                layer = NewLayer(layer_name(it.entry.settings.prompt, fill.seed), fill.box, fill.rgba)
                [new] = self.picture.add_layers([layer], it.entry.settings.feather > 0)
                self.layers.insert(0, new)
                self.notice.tell_of_layer(self.picture, new, place)
            except CoreError as error:
                self.tell(str(error))

        in_background(lambda: connect(client=CLIENT).edit(it.entry.id).fill(it.fill.fill), made, self._failed)

    def forget(self) -> None:
        """Have the core forget the chosen edit, after a question where it has other fills as well."""
        it = self.current
        if it is None:
            return
        count = len(it.entry.fills)
        if count > 1 and not may_forget(self.window, count):
            return
        in_background(
            lambda: connect(client=CLIENT).delete_history(it.entry.id),
            lambda nothing: self.load(),
            self._failed,
        )

    def tell(self, text: str) -> None:
        """Say something above the list."""
        if self._open:
            self.notice.tell(text)

    def _failed(self, error: Exception) -> None:
        self.tell(str(error))

    def _list(self, kept: list[Kept]) -> None:
        if not self._open:
            return
        self._kept = kept
        self._store.clear()
        blank = pixbuf_of(bytes(4 * SIDE * SIDE), (SIDE, SIDE))
        for it in kept:
            self._store.append([blank, it.caption])
        self.tell("" if kept else tr("No fills yet. Each one that is made will be here."))
        self._enable()

    def _picture(self, number: int, it: Kept, png: bytes) -> None:
        if self._open and number < len(self._kept) and self._kept[number] is it:
            picture = decoded(png)
            size = fitted((picture.get_width(), picture.get_height()), SIDE)
            self._store[number][0] = scaled(picture, size)

    def _enable(self) -> None:
        for response in (FORGET, REUSE, Gtk.ResponseType.APPLY):
            self._buttons[response].set_sensitive(self.current is not None)

    def _answered(self, window: Any, response: int, loop: Any) -> None:
        if response == Gtk.ResponseType.APPLY:
            self.apply()
        elif response == FORGET:
            self.forget()
        elif response == REUSE and self.current is not None:
            try:
                self.reuse = self.current.settings_again()
            except BadInput as error:  # a later fill of an edit with the largest seed
                self.tell(str(error))
            else:
                loop.quit()
        else:
            loop.quit()
