"""What the core is doing, looked at every other second while a dialog is open."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Optional

from lazydiffusion.client import connect, look
from lazydiffusion.client.words import core_state, tr

from .gtk import GLib

INTERVAL = 2000
"""Milliseconds between two looks."""


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


class CoreWatch:
    """Looks at the core without keeping it from ending when it is idle, and starts it ahead of the first edit."""

    def __init__(self, changed: Callable[[], None], client: str) -> None:
        self._changed, self._client = changed, client
        self._looking = False
        self._timer = 0
        self.info: Optional[dict[str, Any]] = None
        """What the core says about itself; None where none is running."""
        self.problem = ""
        """Why none can be used: a sentence."""
        self.starting = False

    @property
    def text(self) -> str:
        """The core's state in plain words."""
        if self.problem:
            return self.problem
        if self.info is None and self.starting:
            return tr("Starting…")
        return core_state(self.info, self._client)

    @property
    def models(self) -> list[str]:
        """The models that an edit may name."""
        return [str(model.get("name")) for model in (self.info or {}).get("models", [])]

    def window_tokens(self, model: str, default: int) -> int:
        """Side of a model's window, tokens; `default` as long as the core has not said."""
        for known in (self.info or {}).get("models", []):
            if known.get("name") == model:
                return int(known.get("window_tokens") or default)
        return default

    def start(self) -> None:
        """Begin to look; a core that is not running is started, so that the first edit need not wait for it."""
        self._timer = GLib.timeout_add(INTERVAL, self._tick)
        self.starting = True
        client = self._client
        in_background(lambda: connect(client=client).info(), self._started, self._not_started)

    def stop(self) -> None:
        """Look no more."""
        if self._timer:
            GLib.source_remove(self._timer)
            self._timer = 0

    def look(self) -> None:
        """Ask once."""
        if not self._looking:
            self._looking = True
            in_background(look, lambda info: self._told(info, ""), lambda error: self._told(None, str(error)))

    def _tick(self) -> bool:
        self.look()
        return True

    def _told(self, info: Optional[dict[str, Any]], problem: str) -> None:
        self._looking = False
        self._set(info, problem)

    def _started(self, info: dict[str, Any]) -> None:
        self.starting = False
        self._set(info, "")

    def _not_started(self, error: Exception) -> None:
        self.starting = False
        self._set(None, str(error))

    def _set(self, info: Optional[dict[str, Any]], problem: str) -> None:
        self.info, self.problem = info, problem
        if self._timer:
            self._changed()
