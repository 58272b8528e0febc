"""What a dialog says in place: a sentence, and a button below it where it can be answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from lazydiffusion.client import CoreError

from .gtk import Gtk, button, column, see_through, tr, wrapping
from .image import Picture


class Notice:
    """`widget` is hidden while there is nothing to say."""

    def __init__(self, name: str, kind: Gtk.MessageType) -> None:
        """`name`: of the sentence; its button is NAMEAnswer, and the whole NAMEPart."""
        self._label = wrapping(name)
        self._button = button("", name + "Answer")
        self._button.connect("clicked", lambda button: self._answered())
        self._answer: Optional[Callable[[], None]] = None
        """What the button does."""
        told = column(self._label, self._button)
        see_through(told, self._label)
        told.show_all()
        self.widget = Gtk.InfoBar(message_type=kind, no_show_all=True)
        self.widget.set_name(name + "Part")
        self.widget.get_content_area().pack_start(told, True, True, 0)
        self.tell("")

    @property
    def text(self) -> str:
        """What it says."""
        return str(self._label.get_text())

    def tell(self, text: str, answer: Optional[tuple[str, Callable[[], None]]] = None) -> None:
        """Say something; "" takes it away. `answer`: what a button below it says, and does."""
        self._label.set_text(text)
        self.widget.set_visible(bool(text))
        self._button.set_visible(answer is not None)
        if answer is not None:
            self._button.set_label(answer[0])
        self._answer = answer[1] if answer is not None else None

    def tell_of_layer(self, picture: Picture, layer: Any, place: str) -> None:
        """Say what the artist should know of a new layer. `place`: about where it lies, or ""."""
        if not picture.is_covered(layer):
            self.tell(place)
            return
        above = tr("Layers above this one, or a group that it is in, cover it or change its look.")
        to_top = tr("_Move it to the top"), lambda: self._raise(picture, layer)
        self.tell("%s %s" % (place, above) if place else above, to_top)

    def _raise(self, picture: Picture, layer: Any) -> None:
        try:
            picture.raise_to_top(layer)
        except CoreError as error:
            self.tell(str(error))

    def _answered(self) -> None:
        answer = self._answer
        self.tell("")
        if answer is not None:
            answer()
