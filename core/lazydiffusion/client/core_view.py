"""What an editor knows of the core, asked in the background (standard library only, valid Python 3.9)."""

from __future__ import annotations

from typing import Any, Callable, Optional

from lazydiffusion.client.core import connect, look
from lazydiffusion.client.model_choice import ModelChoice, model_choices
from lazydiffusion.client.words import core_state, tr

Background = Callable[[Callable[[], Any], Callable[[Any], None], Callable[[Exception], None]], None]
"""`background(work, done, failed)` does `work` in a thread, then `done(result)` or `failed(error)` in the editor's."""


class CoreView:
    """Looks at the core without keeping it from ending when it is idle, and starts it ahead of the first edit."""

    def __init__(self, changed: Callable[[], Any], background: Background, client: str = "") -> None:
        """`changed()` is called when `info`, `problem` or `starting` may have changed. `client`: who asks."""
        self._changed, self._background, self._client = changed, background, client
        self._looking = False
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
    def choices(self) -> list[ModelChoice]:
        """The models that there are, and those that there could be."""
        return model_choices(self.info or {})

    def window_tokens(self, model: str, default: int) -> int:
        """Side of a model's window, tokens; `default` as long as the core has not said."""
        for known in (self.info or {}).get("models", []):
            if known.get("name") == model:
                return int(known.get("window_tokens") or default)
        return default

    def look(self) -> None:
        """Ask once; nothing happens while an earlier question is not answered."""
        if not self._looking:
            self._looking = True
            self._background(
                look, lambda info: self._told(info, ""), lambda error: self._told(None, str(error))
            )

    def warm(self) -> None:
        """Start the core where it is not running, so that the first edit need not wait for it."""
        if self.info is None and not self.starting:
            self.starting = True
            self._changed()
            client = self._client
            self._background(
                lambda: connect(client=client).info(),
                lambda info: self._started(info, ""),
                lambda error: self._started(None, str(error)),
            )

    def _told(self, info: Optional[dict[str, Any]], problem: str) -> None:
        self._looking = False
        self._set(info, problem)

    def _started(self, info: Optional[dict[str, Any]], problem: str) -> None:
        self.starting = False
        self._set(info, problem)

    def _set(self, info: Optional[dict[str, Any]], problem: str) -> None:
        self.info, self.problem = info, problem
        self._changed()
