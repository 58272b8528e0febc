"""What an editor knows of the core, asked in the background (standard library only, valid Python 3.9)."""

from __future__ import annotations

import time
from typing import Any, Callable, Optional

from lazydiffusion.client.core import connect, look
from lazydiffusion.client.model_choice import Download, ModelChoice, downloads, model_choices, window_tokens
from lazydiffusion.client.words import core_state, tr

AGAIN_AFTER = 30.0
"""Seconds after a start that failed in which it is not tried again by itself. An edit always tries."""

Background = Callable[[Callable[[], Any], Callable[[Any], None], Callable[[Exception], None]], None]
"""`background(work, done, failed)` does `work` in a thread, then `done(result)` or `failed(error)` in the editor's."""


class CoreView:
    """Looks at the core without keeping it from ending when it is idle, and starts it ahead of the first edit."""

    def __init__(
        self,
        changed: Callable[[], Any],
        background: Background,
        client: str = "",
        news: Callable[[str, bool], Any] = lambda text, bad: None,
    ) -> None:
        """`changed()` is called when `info`, `problem` or `starting` may have changed. `client`: who asks.

        `news(text, bad)`: a sentence for the artist about a download, and whether that failed.
        """
        self._changed, self._background, self._client, self._news = changed, background, client, news
        self._looking = False
        self._answers = 0
        """How often the artist has started or stopped a download."""
        self._awaited: set[str] = set()
        """Models whose download runs, or was just started: its end is news."""
        self.info: Optional[dict[str, Any]] = None
        """What the core says about itself; None where none is running."""
        self.problem = ""
        """Why none can be used: a sentence."""
        self.starting = False
        self._failure = ""
        """Why the last start came to nothing; told until a core answers."""
        self._failed_at = 0.0

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

    @property
    def downloads(self) -> list[Download]:
        """The models that there could be, as buttons."""
        return downloads(self.info or {})

    def window_tokens(self, model: str) -> int:
        """Side of a model's window, tokens."""
        return window_tokens(self.info or {}, model)

    def look(self) -> None:
        """Ask once; nothing happens while an earlier question is not answered."""
        if not self._looking:
            self._looking = True
            answers = self._answers
            self._background(
                look,
                lambda info: self._told(info, "", answers),
                lambda error: self._told(None, str(error), answers),
            )

    def answer(self, download: Download) -> None:
        """Start a model's download, or stop it where it was running when the artist was asked."""
        client = self._client

        def do() -> dict[str, Any]:
            core = connect(client=client)
            if download.running:
                core.stop_download(download.name)
            else:
                core.download_model(download.name)
            return core.info()

        def done(info: dict[str, Any]) -> None:
            self._answers += 1
            self._awaited.add(download.name)  # it may have failed by now, and no look has ever seen it run
            self._set(info, "")

        self._background(do, done, lambda error: self._news(str(error), True))

    def warm(self) -> None:
        """Start the core where it is not running, so that the first edit need not wait for it.

        Not again at once where that has failed: it is called with every key that the artist types.
        """
        failed = self._failure and time.monotonic() - self._failed_at < AGAIN_AFTER
        if self.info is None and not self.starting and not failed:
            self.starting = True
            self._changed()
            client = self._client
            self._background(
                lambda: connect(client=client).info(),
                lambda info: self._started(info, ""),
                lambda error: self._started(None, str(error)),
            )

    def _told(self, info: Optional[dict[str, Any]], problem: str, answers: int) -> None:
        self._looking = False
        if answers == self._answers:  # else what it tells may be older than the artist's answer
            self._set(info, problem)

    def _started(self, info: Optional[dict[str, Any]], problem: str) -> None:
        self.starting = False
        self._failure, self._failed_at = problem, time.monotonic()
        self._set(info, problem)

    def _set(self, info: Optional[dict[str, Any]], problem: str) -> None:
        if info is not None:
            self._failure = ""
        self.info, self.problem = info, problem or self._failure
        self._changed()
        if info is not None:
            self._tell_ends()

    def _tell_ends(self) -> None:
        left = {it.name: it for it in self.downloads}
        here = [choice.name for choice in self.choices if choice.usable]
        awaited, self._awaited = self._awaited, {name for name, it in left.items() if it.running}
        for name in sorted(awaited - self._awaited):
            if name in here:
                self._news(tr("%s is here. It can be chosen as the model now.") % name, False)
            elif name in left and left[name].problem:
                self._news(left[name].problem, True)
