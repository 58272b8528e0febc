"""Questions that must be answered before something is done."""

from __future__ import annotations

from typing import Any, Optional

from .gtk import Gtk, start_windows, tr


def may_convert(parent: Optional[Any]) -> bool:
    """Whether an indexed image may be converted to RGB."""
    more = tr(
        "It is indexed: with its palette the fill's colours would be lost. The conversion and the new layer are one "
        "undo step."
    )
    yes = tr("Convert to _RGB")
    return _is_answered(
        parent, "lazyConvert", tr("Convert the image to RGB?"), more, yes, Gtk.ResponseType.OK
    )


def may_forget(parent: Optional[Any], count: int) -> bool:
    """Whether all `count` fills of an edit may be forgotten."""
    text = tr("Forget all %d fills of this edit?") % count
    more = tr("The core keeps or forgets an edit as a whole. Layers that were made of its fills stay.")
    return _is_answered(parent, "lazyForgetAll", text, more, tr("_Forget"), Gtk.ResponseType.CANCEL)


def _is_answered(parent: Optional[Any], name: str, text: str, more: str, yes: str, default: Any) -> bool:
    """Whether the button `yes` is the answer. `default`: the response that Enter gives. Raises NoScreen."""
    start_windows()
    asked = Gtk.MessageDialog(
        transient_for=parent,
        modal=True,
        message_type=Gtk.MessageType.QUESTION,
        text=text,
        secondary_text=more,
    )
    asked.set_name(name)
    asked.add_button(tr("_Cancel"), Gtk.ResponseType.CANCEL)
    asked.add_button(yes, Gtk.ResponseType.OK).set_name(name + "Yes")
    asked.set_default_response(default)
    answer = asked.run()
    asked.destroy()
    return bool(answer == Gtk.ResponseType.OK)
