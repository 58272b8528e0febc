"""Questions that must be answered before something is done."""

from __future__ import annotations

from typing import Any, Optional

from .gtk import ROLE, GimpUi, Gtk, tr


def may_convert(parent: Optional[Any]) -> bool:
    """Whether an indexed image may be converted to RGB."""
    GimpUi.init(ROLE)
    asked = Gtk.MessageDialog(
        transient_for=parent,
        modal=True,
        message_type=Gtk.MessageType.QUESTION,
        text=tr("Convert the image to RGB?"),
        secondary_text=tr(
            "It is indexed: with its palette the fill's colours would be lost. The conversion and the new layer are "
            "one undo step."
        ),
    )
    asked.set_name("lazyConvert")
    asked.add_button(tr("_Cancel"), Gtk.ResponseType.CANCEL)
    asked.add_button(tr("Convert to _RGB"), Gtk.ResponseType.OK).set_name("lazyConvertYes")
    asked.set_default_response(Gtk.ResponseType.OK)
    answer = asked.run()
    asked.destroy()
    return bool(answer == Gtk.ResponseType.OK)
