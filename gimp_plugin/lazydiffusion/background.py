"""Work in threads of its own, with the outcome back in GTK's."""

from __future__ import annotations

import threading
from typing import Any, Callable

from .gtk import GLib


def in_background(
    work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None]
) -> None:
    """Do `work` in a thread, then `done(result)` or `failed(error)` in GTK's."""

    def body() -> None:
        try:
            result = work()
        except Exception as error:
            told = error
            in_main(lambda: failed(told))
        else:
            in_main(lambda: done(result))

    threading.Thread(target=body, name="lazydiffusion-background", daemon=True).start()


def in_main(function: Callable[[], Any]) -> None:
    """Have it called in GTK's thread, in order."""

    def once() -> bool:
        function()
        return False

    GLib.idle_add(once, priority=GLib.PRIORITY_DEFAULT)
