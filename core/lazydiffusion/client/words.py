"""What editors say in the same words: the core's state, progress, names of layers (standard library, Python 3.9).

Every text goes through `tr`, the one translate function of the plugins; an editor sets its own by `translate_with`.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from lazydiffusion.client.controller import State
from lazydiffusion.client.modes import Mode
from lazydiffusion.events import Event, Loading, Queued, Retrying, Started, Stepped

NAME_LENGTH = 48
"""Characters of a prompt that a layer's name shows."""
EDITORS = {"krita": "Krita", "gimp": "GIMP", "command-line": "the command line"}
"""What a client's name begins with, and what it is called."""


def _unchanged(text: str) -> str:
    return text


_translate: Callable[[str], str] = _unchanged


def translate_with(function: Callable[[str], str]) -> None:
    """Use the editor's translations. Until then texts are English."""
    global _translate
    _translate = function


def tr(text: str) -> str:
    """The text in the artist's language."""
    return _translate(text)


def mode_name(mode: Mode) -> str:
    """What the mode is called on its button."""
    return {Mode.FILL: tr("Fill"), Mode.ADD: tr("Add object"), Mode.REMOVE: tr("Remove")}[mode]


def layer_name(prompt: str, seed: int) -> str:
    """The name of a fill's layer: its prompt, shortened, and its seed."""
    words = " ".join(prompt.split()) or tr("Fill")
    if len(words) > NAME_LENGTH:
        words = words[: NAME_LENGTH - 1].rstrip() + "…"
    return tr("%s (seed %d)") % (words, seed)


def nothing_selected() -> str:
    """What an artist is told who has selected nothing."""
    return tr("Nothing is selected. Select what is to be filled, or fill the whole canvas.")


def core_state(info: Optional[dict[str, Any]], client: str = "") -> str:
    """The core's state in plain words. `info`: as `Core.info` gave it, None when no core runs. `client`: who asks."""
    if info is None:
        return tr("Not running. It starts with the first edit.")
    state = info.get("state")
    if state == "loading":
        return tr("Starting…")
    if state == "busy":
        running = str((info.get("queue") or {}).get("client", ""))
        if running and running != client:
            return tr("Busy with %s") % _editor(running)
        return tr("Busy")
    if info.get("problem"):
        return str(info["problem"])
    device = info.get("device") or {}
    if device.get("type") == "cpu":
        return tr("Ready on the CPU")
    return tr("Ready on %s") % (device.get("name") or device.get("type") or tr("an unknown device"))


def edit_state(state: State) -> str:
    """What an edit is doing, before the core tells more of it; empty after its end."""
    return {
        State.STARTING_CORE: tr("Starting the core…"),
        State.QUEUED: tr("Waiting…"),
        State.RUNNING: tr("Working…"),
    }.get(state, "")


def progress(event: Event, variations: int) -> str:
    """What an event means for somebody who waits; empty where it tells nothing new."""
    if isinstance(event, Queued):
        if event.position == 0:
            return tr("Waiting: next in line")
        return tr("Waiting: %d edits before this one") % event.position
    if isinstance(event, Started):
        return tr("Working…")
    if isinstance(event, Loading):
        return tr("Loading %s…") % event.model
    if isinstance(event, Retrying):
        return event.message
    if isinstance(event, Stepped):
        step = tr("Step %d of %d") % (event.step, event.steps)
        if variations > 1:
            step = tr("Fill %d of %d, step %d of %d") % (event.fill + 1, variations, event.step, event.steps)
        return "%s · %s" % (step, time_left(event.seconds_left))
    return ""


def share_done(event: Stepped, variations: int) -> float:
    """How much of an edit is done after a step, 0..1."""
    return (event.fill + event.step / event.steps) / variations


def time_left(seconds: float) -> str:
    """How long it will take, for a person."""
    if seconds < 1.5:
        return tr("1 s left")
    if seconds < 90:
        return tr("%d s left") % round(seconds)
    return tr("%d min left") % round(seconds / 60)


def size(count: int) -> str:
    """Bytes for a person."""
    if count >= 10**10:
        return tr("%d GB") % round(count / 1e9)
    if count >= 10**9:
        return tr("%.1f GB") % (count / 1e9)
    return tr("%d MB") % max(round(count / 1e6), min(count, 1))


def _editor(client: str) -> str:
    name = client.rpartition("-")[0] or client
    return EDITORS.get(name, name)
