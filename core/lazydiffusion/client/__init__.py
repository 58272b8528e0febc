"""The core's client, which the editors' plugins carry: standard library only, valid Python 3.9.

    core = connect(client="krita-4711")     starts the core where it is not running
    edit = core.submit(EditRequest(...))
    for event in edit.events(): ...
    pixels = edit.fill(0)

An editor lets an `EditController` do this in a thread of its own.
"""

from __future__ import annotations

from lazydiffusion.client.controller import EditController, EditRunning, State
from lazydiffusion.client.core import Core, connect, look
from lazydiffusion.client.edit import Edit, FillPixels
from lazydiffusion.client.errors import (
    CoreError,
    CoreFailedToStart,
    CoreLost,
    CoreNotInstalled,
    CoreTooOld,
    EditFailed,
    EditRejected,
    GaveUp,
)
from lazydiffusion.client.history import HistoryEntry, HistoryFill

__all__ = [
    "Core",
    "CoreError",
    "CoreFailedToStart",
    "CoreLost",
    "CoreNotInstalled",
    "CoreTooOld",
    "Edit",
    "EditController",
    "EditFailed",
    "EditRejected",
    "EditRunning",
    "FillPixels",
    "GaveUp",
    "HistoryEntry",
    "HistoryFill",
    "State",
    "connect",
    "look",
]
