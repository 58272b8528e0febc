"""An edit from its beginning to its end in one call, for programs without an event loop."""

from __future__ import annotations

import queue
from typing import Callable, Optional

from lazydiffusion.client.controller import ENDED, EditController, State
from lazydiffusion.client.edit import FillPixels
from lazydiffusion.client.errors import EditFailed
from lazydiffusion.client.words import edit_state, progress, share_done, tr
from lazydiffusion.events import Event, Stepped
from lazydiffusion.protocol import EditRequest


def run(
    request: EditRequest, told: Callable[[str, Optional[float]], None], client: str = ""
) -> list[FillPixels]:
    """All fills of an edit, which is run to its end.

    `told(text, share)` is called in this thread with what is happening, as words ("" where they stay as they were), and
    how much of it is done (0..1, None while nobody knows). Raises what went wrong, a CoreError; also when the core was
    asked by somebody else to cancel the edit.
    """
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    errors: list[Exception] = []
    fills: list[FillPixels] = []
    variations = request.settings.variations

    def hear(event: Event) -> None:
        share = share_done(event, variations) if isinstance(event, Stepped) else None
        text = progress(event, variations)
        if text or share is not None:
            told(text, share)

    controller = EditController(
        on_state=lambda state: told(edit_state(state), None) if state not in ENDED else None,
        on_event=hear,
        on_fill=fills.append,
        on_error=errors.append,
        call=calls.put,
        client=client,
    )
    controller.start(request)
    while controller.state not in ENDED or not calls.empty():
        try:
            calls.get(timeout=0.1)()
        except queue.Empty:
            continue
    # The last that is told comes after the state has changed.
    controller.wait()
    while not calls.empty():
        calls.get()()
    if errors:
        raise errors[0]
    if controller.state is State.CANCELLED:
        raise EditFailed(tr("The edit was cancelled. What it had finished is in the history."), "cancelled")
    return fills
